"""Trains recipes for the same budget and compares what they make.

    python -m srgan_keras.compare --data crops --sets Set5 Set14 --steps 2000 --out comparison

Run again, the same command goes on where it stopped. It leaves a table, the curves of all losses,
and a picture of some methods side by side. This is the command line; the comparison is `study`.
"""

if __name__ == "__main__":  # In front of the imports, as `start` says.
    from srgan_keras.common import cli

    cli.start("srgan_keras.compare")


import argparse
from pathlib import Path

from srgan_keras import study
from srgan_keras.common import cli
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import replacing
from srgan_keras.common.pictures import write_png
from srgan_keras.evaluation import tables
from srgan_keras.evaluation.metrics import load_lpips
from srgan_keras.inference.interpolation import Interpolation
from srgan_keras.training.devices import describe_session, require_tensorflow

#: The systems of the literature, with each of their content losses.
LITERATURE = (
    "srcnn vdsr srresnet srresnet-vgg22 srgan-mse srgan-vgg22 srgan-vgg54 srgan-5 wdrn".split()
)
SHOWN = ("srgan-5", "wdrn")  # in the picture, as in the article of WDRN


def main(argv: list[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    args = parse_arguments(argv)
    require_tensorflow("The comparison")
    lpips = load_lpips() if args.lpips else None
    sets = tables.find_sets(args.sets, [], args.scale)
    plan = choose_plan(args)
    shown, sample = choose_picture(args, plan, sets)
    for name, reason in plan.left_out.items():
        print(cli.with_flags(f"{name} is left out: {reason}"))
    if not study.train_runs(plan, args.out, args.data, args.vgg_weights):
        print("Stopped, with a checkpoint. The same command goes on.", flush=True)
        return 130
    for name, samples in sets.items():
        bicubic = Interpolation("bicubic", args.scale)
        if line := tables.self_check(name, samples, args.scale, bicubic):
            print(line)
    rows = study.measure_methods(plan, args.out, sets, args.scale, lpips)
    print(report(args, plan, sets, rows))
    with replacing(args.out / study.CURVES) as path:
        study.draw_curves(plan, args.out).savefig(path)
    own = [row for row in rows if row["set"] == sample[0]]
    picture = study.draw_picture(shown, sample[1], args.out, args.scale, own)
    write_png(args.out / study.PICTURE, picture)
    print(f"Written to {args.out}")
    return 0


def choose_plan(args: argparse.Namespace) -> study.Plan:
    """Plans what is trained, for how long, and keeps it in the folder.

    Raises:
        UserError: if the folder holds a study with other settings.
    """
    settings = dict(args.set)
    plan = study.make_plan(args.recipes, args.scale, args.seed, settings)
    if args.minutes is None:
        steps = dict.fromkeys(plan.recipes, args.steps)
    else:
        steps = study.choose_steps(plan, args.out, args.minutes, args.data, args.vgg_weights)
    plan = plan.shorten(steps, settings)
    facts = {
        "data": str(args.data.resolve()),
        "sets": [str(folder.resolve()) for folder in args.sets],
        "lpips": args.lpips,
        "minutes": args.minutes,
        "steps": steps,
    }
    study.keep_plan(args.out, plan, facts)
    return plan


def choose_picture(
    args: argparse.Namespace, plan: study.Plan, sets: dict[str, list[tables.Sample]]
) -> tuple[list[str], tuple[str, tables.Sample]]:
    """Chooses the runs and the picture that are shown: those asked for, or the last and the first.

    Returns:
        (names of runs, (name of the set, sample)).

    Raises:
        UserError: if there is no such run or picture.
    """
    runs = list(plan.recipes)
    shown = args.show or [name for name in SHOWN if name in runs] or runs[-2:]
    if unknown := [name for name in shown if name not in runs]:
        raise UserError(f"`show` must name runs of {', '.join(runs)}. Received: {unknown[0]}")
    every = {f"{name}/{one.name}": (name, one) for name, some in sets.items() for one in some}
    picture = args.picture or next(iter(every))
    if picture not in every:
        raise UserError(f"There is no `picture` {picture}. One is {next(iter(every))}.")
    return shown, every[picture]


def report(args: argparse.Namespace, plan: study.Plan, sets: dict, rows: list[dict]) -> str:
    """Writes the results; returns both tables."""
    summaries = {name: tables.summarise([r for r in rows if r["set"] == name]) for name in sets}
    table = f"{tables.format_table(summaries)}\n\n{study.format_runs(plan, args.out)}"
    budget = f"{args.steps} steps" if args.minutes is None else f"{args.minutes} minutes"
    about = {
        **describe_session(),
        "budget": f"{budget} a run, beside those of the run that it starts from",
        "seed": args.seed,
    }
    tables.write_results(args.out, about, summaries, rows, table)
    return table


def setting(text: str) -> tuple[str, str]:
    """Argument type: NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE. Received: {text}")
    return name.replace("-", "_"), value


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = cli.Parser(
        prog="python -m srgan_keras.compare",
        description="Trains recipes for the same budget and compares what they make. Run again, it "
        "goes on where it stopped.",
    )
    option = parser.add_argument
    folder = {"type": Path, "metavar": "FOLDER"}
    positive = {"type": cli.positive_int, "metavar": "N"}
    option("--data", required=True, help="crops, as for srgan_keras.train", **folder)
    option("--sets", nargs="+", required=True, help="as --data of srgan_keras.evaluate", **folder)
    written = {**folder, "type": cli.folder}
    option("--out", default="comparison", help="new, or that of the same command", **written)
    option(
        "--recipes",
        nargs="+",
        default=LITERATURE,
        help="what is trained; one with a discriminator starts from its generator trained on "
        "pixels, which is trained too where it is not among them",
    )
    option("--steps", default=2000, help="steps of each training", **positive)
    option("--minutes", help="in place of steps: as many as take so long here", **positive)
    option("--scale", default=4, help="factor between LR and HR", **positive)
    option("--seed", type=int, default=0, help="of all trainings")
    option(
        "--set",
        nargs="+",
        type=setting,
        default=[],
        metavar="NAME=VALUE",
        help="settings, changed in each recipe that has them, such as precision=mixed_bfloat16",
    )
    option("--vgg-weights", default="imagenet", metavar="FILE", help="as for srgan_keras.train")
    option("--lpips", action="store_true", help="measure LPIPS too; needs the extra lpips")
    option("--show", nargs="+", metavar="RUN", help="runs in the picture; default: srgan-5, wdrn")
    option("--picture", metavar="SET/NAME", help="which is shown; default: the first")
    return parser.parse_args(argv)
