"""Trains an SRGAN, or another of the systems.

    python -m srgan_keras.train                    a demonstration on the photographs that ship
    python -m srgan_keras.train --data crops/      the tutorial's recipe on your crops
    python -m srgan_keras.train --resume RUN       goes on where a run stopped
    python -m srgan_keras.train --resume auto --run RUN ...    begins or goes on: for job scripts
    python -m srgan_keras.train --distributed ...  on several machines: see docs/machines.md

This is the command line; the training is `training.loop.train`.
"""

if __name__ == "__main__":  # In front of the imports, as `start` says.
    from srgan_keras.common import cli

    cli.start("srgan_keras.train")


import argparse
import contextlib
import dataclasses
import shlex
import sys
import time
from pathlib import Path

from srgan_keras import run as run_folder
from srgan_keras.common import cli, processes
from srgan_keras.common.errors import UserError
from srgan_keras.data import SAMPLE_IMAGES
from srgan_keras.parts.content import WEIGHTS_VARIABLE
from srgan_keras.recipe import Recipe
from srgan_keras.systems import get_recipe, recipes
from srgan_keras.training.devices import STRATEGIES, on_jax
from srgan_keras.training.health import ON_COLLAPSE
from srgan_keras.training.loop import Session, absolute, train

CHANGEABLE = ("epochs", "micro_batch", "sample_every", "save_every")  # when a run is resumed
AUTO = "auto"
CONNECTION = ("coordinator_address", "num_processes", "process_id")  # of several processes


def main(argv: list[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    if on_jax():  # There Keras imports TensorFlow all the same where it is installed, for seconds.
        sys.modules.setdefault("tensorflow", None)
    recipe, run, args, vgg_weights = parse_arguments(argv)
    connection = {name: getattr(args, name) for name in CONNECTION}
    if not args.distributed and all(value is None for value in connection.values()):
        return train_and_tell(recipe, run, args, vgg_weights)
    with processes.last_words():
        processes.connect(**connection)
        with processes.together():
            return train_and_tell(recipe, run, args, vgg_weights)


def train_and_tell(
    recipe: Recipe, run: Path, args: argparse.Namespace, vgg_weights: str | None
) -> int:
    """Trains, and says how to go on from there; returns the exit code."""
    data = args.data or SAMPLE_IMAGES
    finished = train(
        recipe,
        data,
        run,
        resume=args.resume is not None,
        new_data=args.new_data,
        init_generator=choose_start(recipe, args),
        init_discriminator=args.init_discriminator,
        vgg_weights=vgg_weights or "imagenet",
        **{field.name: getattr(args, field.name) for field in dataclasses.fields(Session)},
    )
    if not finished:
        with contextlib.suppress(OSError):  # Whoever read the output may be gone.
            print("Stopped, with a checkpoint. Go on with:")
            print(f"  python -m srgan_keras.train --resume {shlex.quote(str(run))}", flush=True)
        return 130
    photo = min(SAMPLE_IMAGES.glob("test/*")) if data == SAMPLE_IMAGES else "PHOTO"
    print(f"Pictures: {run / run_folder.SAMPLES}; curves: {run / run_folder.CURVES}")
    print("Upscale a picture with the result:")
    command = shlex.join(["--model", str(run), "--out", "upscaled"])
    print(f"  python -m srgan_keras.upscale {shlex.quote(str(photo))} {command}")
    return 0


def parse_arguments(argv: list[str] | None) -> tuple[Recipe, Path, argparse.Namespace, str | None]:
    """Parses the command line, whose settings are those of the chosen recipe.

    Returns:
        (the recipe with its settings, the run folder, the other arguments, VGG19's weights).

    Raises:
        UserError: if there is no such recipe or run, or a setting may not be changed.
    """
    # The recipe first, and the two settings that choose its parts: what else there is to set
    # follows from them.
    first = cli.Parser(add_help=False)
    for name in ("--recipe", "--data", "--run", "--resume", "--content-loss"):
        first.add_argument(name)
    first.add_argument("--adversarial-weight", type=float)
    chosen, _ = first.parse_known_args(argv)
    resumed = find_run(chosen)
    settings = read_run(resumed) if resumed else {}
    recipe = settings.get("recipe") or choose_recipe(chosen)

    refuse_settings_of_others(recipe, chosen, sys.argv[1:] if argv is None else argv)
    args = make_parser(recipe).parse_args(argv)
    changes = {name: getattr(args, name) for name in recipe.every_setting() if hasattr(args, name)}
    vgg_weights = args.vgg_weights or settings.get("vgg_weights")
    # A job script names the data each time; who names it for this resume means what is there now.
    args.new_data = args.data is not None and args.resume != AUTO
    args.resume = resumed
    if resumed:
        refuse_changes(args, changes, settings)
        args.data = args.data or Path(settings["data"])
    run = resumed or args.run or Path("runs", time.strftime(f"{recipe.name}-%Y%m%d-%H%M%S"))
    return recipe.with_settings(**changes), run, args, vgg_weights


def choose_start(recipe: Recipe, args: argparse.Namespace) -> str | None:
    """What the generator starts from: what is named, or what ships for the demonstration."""
    if args.init_generator is None and recipe.name == "demo" and not args.resume:
        return "srresnet"
    return None if args.init_generator == "none" else args.init_generator


def find_run(chosen: argparse.Namespace) -> Path | None:
    """The run that is to go on; None if one is to begin.

    Raises:
        UserError: if that depends on a run that is not named.
    """
    if chosen.resume != AUTO:
        return chosen.resume and Path(chosen.resume)
    if not chosen.run:
        raise UserError("`resume` auto needs `run` FOLDER: it goes on where there is a checkpoint.")
    run = Path(chosen.run)
    return run if run_folder.find_checkpoints(run) else None


def choose_recipe(chosen: argparse.Namespace) -> Recipe:
    """The recipe that the command line names, made of the parts that it chooses.

    Raises:
        UserError: if there is none, or it needs crops and none are given.
    """
    name = chosen.recipe or ("tutorial" if chosen.data else "demo")
    names = ("content_loss", "adversarial_weight")
    parts = {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}
    recipe = get_recipe(name, **parts)
    if not chosen.data and name != "demo":
        raise UserError(
            f"The recipe {name} needs crops: `data` FOLDER. Make them with "
            "python -m data_prep.coco or python -m data_prep.folder."
        )
    return recipe


def refuse_settings_of_others(recipe: Recipe, chosen: argparse.Namespace, argv: list[str]) -> None:
    """Raises a UserError for a setting that other recipes have and this one's parts do not."""
    others = {name for make in recipes().values() for name in make().every_option()}
    if chosen.adversarial_weight == 0:  # It has taken its own part out.
        others.remove("adversarial_weight")
    given = {word.split("=")[0].removeprefix("--").replace("-", "_") for word in argv}
    recipe.check_names(dict.fromkeys(given & others))


def make_parser(recipe: Recipe) -> cli.Parser:
    """The command's parser; settings of the recipe that are not given are left out."""
    parser = cli.Parser(
        prog="python -m srgan_keras.train",
        description="Trains a recipe. Without arguments: a short demonstration on the photographs "
        "that ship with the package.",
    )
    option = parser.add_argument
    option("--recipe", help=f"{', '.join(recipes())}; tutorial if --data is given")
    option("--data", type=Path, metavar="FOLDER", help="folder of crops, or COCO's own")
    option("--run", type=cli.folder, metavar="FOLDER", help="run folder; default: in runs/")
    option(
        "--resume",
        metavar="RUN",
        help="go on where this run stopped; auto: where that of --run did, or else begin it",
    )
    option(
        "--init-generator",
        metavar="RUN",
        help="start from the generator of this run, or from one that ships, such as srresnet (the "
        "recipe demo does, if this is not given); none: from nothing",
    )
    option(
        "--init-discriminator",
        metavar="RUN",
        help="start from the discriminator of this run; default: from nothing",
    )
    option(
        "--vgg-weights",
        metavar="FILE",
        help="file of VGG19's weights without top, or imagenet to download them; default: "
        f"${WEIGHTS_VARIABLE}, or else imagenet",
    )
    add_session(parser)
    add_connection(parser.add_argument_group("several machines, on JAX (docs/machines.md)"))
    settings = parser.add_argument_group(f"settings of the recipe {recipe.name} (its value)")
    for name, (field, value) in recipe.every_option().items():
        add_setting(settings, name, field, value)
    if recipe.adversarial is None:
        settings.add_argument("--adversarial-weight", default=0, help="0: no discriminator")
    return parser


def add_session(parser: cli.Parser) -> None:
    """Adds the options that are the fields of `Session`."""
    option = parser.add_argument
    option("--strategy", choices=STRATEGIES, default="auto", help="devices to use")
    positive = {"type": cli.positive_int, "metavar": "N"}
    option("--checkpoint-minutes", default=10, help="minutes between checkpoints", **positive)
    option("--keep-checkpoints", default=2, help="how many are kept, the last ones", **positive)
    option(
        "--steps-per-execution",
        default=1,
        help="steps between two looks at the clock; more than 1 pays on a fast GPU",
        **positive,
    )
    option(
        "--check-memory",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="refuse to start with too little memory",
    )
    option(
        "--on-collapse",
        choices=ON_COLLAPSE,
        default="warn",
        help="only say it, end training, or go back to where all was well with half the rate",
    )


def add_connection(group: argparse._ArgumentGroup) -> None:
    """Adds the options of several processes, named as `jax.distributed.initialize` names them."""
    option = group.add_argument
    option(
        "--distributed",
        action="store_true",
        help="one of several processes, which Slurm, Open MPI or a TPU pod has started; elsewhere "
        "give what follows",
    )
    option("--coordinator-address", metavar="HOST:PORT", help="a free port of the first one's host")
    option("--num-processes", type=cli.positive_int, metavar="N", help="how many there are")
    option("--process-id", type=int, metavar="K", help="which this is, from 0")


def add_setting(group: argparse._ArgumentGroup, name: str, field: dataclasses.Field, value) -> None:
    """Adds the option of a setting, which has no default: what is not given stays as it is."""
    kind = {"type": field.type, "metavar": field.type.__name__.upper()}
    if field.type is bool:
        kind = {"action": argparse.BooleanOptionalAction}
    flag = "--" + name.replace("_", "-")
    meaning = f"{field.metadata['meaning']} ({value})"
    group.add_argument(flag, default=argparse.SUPPRESS, help=meaning, **kind)


def read_run(run: Path) -> dict:
    """Reads the settings of a run that is to be resumed.

    Raises:
        UserError: if there is no run with a checkpoint.
    """
    settings = run_folder.read_settings(run)
    if not run_folder.find_checkpoints(run):
        raise UserError(f"{run} cannot be resumed. {run_folder.describe_folder(run)}")
    if assumed := run_folder.assumed_settings(run):
        values = ", ".join(f"{name} {value}" for name, value in assumed.items())
        print(f"{run} does not say, and takes what the recipe has today: {values}")
    return settings


def refuse_changes(args: argparse.Namespace, changes: dict, settings: dict) -> None:
    """Raises a UserError if more is changed on the way than may be."""
    values = settings["recipe"].every_setting()
    refused = [name for name, v in changes.items() if name not in CHANGEABLE and v != values[name]]
    others = {
        "recipe": (args.recipe, settings["recipe"].name),
        "run": (args.run, args.resume),
    }
    for name in ("init_generator", "init_discriminator"):
        start = getattr(args, name)
        others[name] = (start and absolute(start), settings.get(name))
    refused += [name for name, (given, own) in others.items() if given and given != own]
    if refused:
        raise UserError(
            f"--resume keeps the run's own settings; only {', '.join(CHANGEABLE)} and data can "
            f"change. Received: {', '.join(refused)}"
        )
