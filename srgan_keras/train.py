"""Trains an SRGAN.

    python -m srgan_keras.train                    a demonstration on the photographs that ship
    python -m srgan_keras.train --data crops/      the tutorial's recipe on your crops
    python -m srgan_keras.train --resume RUN       goes on where a run stopped

This module wires the others together: recipe -> networks, losses, batches -> `SRGAN.fit` -> a run
folder.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import sys
import textwrap
import time
import warnings
from pathlib import Path

import keras
from keras.losses import BinaryCrossentropy, MeanAbsoluteError, MeanSquaredError
from keras.optimizers.schedules import CosineDecay, PiecewiseConstantDecay

from data_prep import cli
from data_prep.pictures import remove_temporaries, replacing
from srgan_keras import callbacks, data, runs
from srgan_keras.crops import first_unreadable, list_crops, split_folder
from srgan_keras.devices import (
    STRATEGIES,
    choose_strategy,
    describe_devices,
    gigabytes,
    is_out_of_memory,
    list_gpus,
    machine_memory,
    on_jax,
    peak_memory,
    use_xla,
)
from srgan_keras.gan import SRGAN
from srgan_keras.losses import WEIGHTS_VARIABLE, VGGLoss, VGGWeightsError
from srgan_keras.memory import PROGRAM, training_memory
from srgan_keras.models import build_discriminator, build_generator
from srgan_keras.optimizers import FusedAdam
from srgan_keras.pretrained import PRETRAINED
from srgan_keras.recipes import RECIPES, Recipe, get_recipe

SAMPLE_IMAGES = Path(__file__).with_name("sample_images")
SAMPLES_SHOWN = 4


def build_content_loss(recipe, vgg_weights="imagenet"):
    """Builds the recipe's content loss.

    Args:
        recipe: `Recipe`.
        vgg_weights: as `VGGLoss` takes them.
    """
    if recipe.content_loss == "mse":
        return MeanSquaredError(name="mse")
    if recipe.content_loss == "mae":
        return MeanAbsoluteError(name="mae")
    with dtype_policy(recipe.precision):
        return VGGLoss(
            recipe.content_loss,
            vgg_weights,
            recipe.vgg_preprocessing,
            recipe.vgg_feature_scale,
            recipe.pixel_weight,
        )


@contextlib.contextmanager
def dtype_policy(name):
    """Layers built inside compute in this precision; their weights are float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_gan(recipe, content_loss, jit_compile=False, steps_per_execution=1):
    """Builds the recipe's networks and compiles them into an `SRGAN`.

    Args:
        recipe: `Recipe`.
        content_loss: a Keras loss, from `build_content_loss`.
        jit_compile: whether XLA compiles the training step.
        steps_per_execution: int, steps that TensorFlow takes between two callbacks.
    """

    def optimizer():
        rate, drop = recipe.learning_rate, recipe.learning_rate_drop_step
        if drop:
            rate = PiecewiseConstantDecay([drop - 1], [rate, rate / 10])
        elif recipe.learning_rate_decay_steps:
            rate = CosineDecay(rate, recipe.learning_rate_decay_steps)
        return FusedAdam(rate, recipe.beta_1, recipe.beta_2, recipe.epsilon)

    keras.utils.set_random_seed(recipe.seed)
    with dtype_policy(recipe.precision):
        generator = build_generator(
            scale=recipe.scale,
            filters=recipe.filters,
            residual_blocks=recipe.residual_blocks,
            upsampling=recipe.upsampling,
            batch_norm_momentum=recipe.batch_norm_momentum,
        )
        discriminator = None
        if recipe.adversarial_weight:
            discriminator = build_discriminator(
                image_size=recipe.crop_size,
                filters=recipe.discriminator_filters,
                dense_units=recipe.dense_units,
                head=recipe.discriminator_head,
                batch_norm_momentum=recipe.batch_norm_momentum,
            )
        gan = SRGAN(
            generator,
            discriminator,
            label_noise=recipe.label_noise,
            ema_momentum=recipe.ema_momentum,
            batch_statistics=recipe.batch_statistics,
            seed=recipe.seed,
        )
    losses = [content_loss, BinaryCrossentropy()]
    weights = [recipe.content_weight, recipe.adversarial_weight]
    gan.compile(
        optimizer=optimizer(),
        discriminator_optimizer=discriminator and optimizer(),
        loss=losses[: len(gan.outputs)],
        loss_weights=weights[: len(gan.outputs)],
        jit_compile=jit_compile,
        steps_per_execution=steps_per_execution,
    )
    return gan


def train(
    recipe,
    data_folder,
    run,
    *,
    resume=False,
    init_generator=None,
    strategy="auto",
    vgg_weights="imagenet",
    checkpoint_minutes=10.0,
    steps_per_execution=1,
    check_memory=True,
):
    """Trains a recipe on a folder of crops and leaves everything in a run folder.

    Args:
        recipe: `Recipe`.
        data_folder: folder of crops. With subfolders `train` and `test`, as `data_prep` writes
            them, `test` is held out for validation and sample pictures.
        run: run folder; new or empty unless `resume`.
        resume: go on from the checkpoint in `run`.
        init_generator: the generator to start from, as `load_generator` takes it; None starts from
            random weights.
        strategy: a name that `choose_strategy` knows.
        vgg_weights: as `VGGLoss` takes them.
        checkpoint_minutes: minutes between two checkpoints.
        steps_per_execution: int, steps between two looks at the clock and at signals. More than 1
            keeps a fast GPU from waiting for Python.
        check_memory: refuse to start on a CPU that has less memory than training needs.

    Returns:
        bool: whether training came to its end (it did not if a signal stopped it).

    Raises:
        cli.UserError: if data, run folder, devices or memory do not allow it.
        VGGWeightsError: if the content loss needs VGG19's weights and they cannot be had.
    """
    data_folder, run = Path(data_folder), Path(run)
    crops = list_crops(split_folder(data_folder, "train"), recipe.crop_size)
    test_folder = split_folder(data_folder, "test")
    held_out = list_crops(test_folder, recipe.crop_size) if test_folder else []
    samples = (held_out or crops)[:SAMPLES_SHOWN]
    if not resume and run.exists() and any(run.iterdir()):
        raise cli.UserError(f"{run} is not empty. {runs.describe_folder(run)}")
    broken = first_unreadable(samples)
    if broken:
        raise cli.UserError(f"{broken[0]} cannot be read: {broken[1]}. Remove it.")

    scope = choose_strategy(strategy)
    replicas = scope.num_replicas_in_sync
    if recipe.batch_size % replicas:
        raise cli.UserError(
            f"A batch of {recipe.batch_size} does not divide between {replicas} devices. Set "
            f"--batch-size to a multiple of {replicas}, or --strategy default."
        )
    with scope.scope():
        content_loss = build_content_loss(recipe, vgg_weights)
        gan = build_gan(recipe, content_loss, use_xla(), steps_per_execution)

    steps_per_epoch = recipe.steps_per_epoch or max(1, len(crops) // recipe.batch_size)
    print_plan(recipe, gan, crops, held_out, steps_per_epoch, scope)
    check_fit(gan, content_loss, recipe, replicas, check_memory)
    if resume:
        load_checkpoint(gan, run)
        callbacks.rewind_log(run, gan.step // steps_per_epoch)
    elif init_generator:
        load_generator_weights(gan, init_generator, recipe)
    elif gan.discriminator:
        print(
            "Generator: starts from random weights. Its colours come right sooner if it first "
            "learns with --content-loss mse: see --init-generator."
        )
    if (steps_per_epoch - gan.step % steps_per_epoch) % steps_per_execution:
        raise cli.UserError(
            f"The {steps_per_epoch} steps of an epoch, or what is left of one, do not divide into "
            f"executions of {steps_per_execution}. Set another --steps-per-execution."
        )
    facts = {
        "data": str(data_folder.resolve()),
        # VGGLoss knows what came of the environment variable.
        "vgg_weights": absolute(getattr(content_loss, "weights", vgg_weights)),
        "init_generator": absolute(init_generator) if init_generator else None,
        "devices": describe_devices(scope),
    }
    write_settings(run, recipe, facts, resume)

    reports = [
        callbacks.Checkpoint(run, checkpoint_minutes),  # First: what fails later costs nothing.
        keras.callbacks.CSVLogger(run / runs.LOG, append=True),
        *([] if on_jax() else [callbacks.TensorBoardLogs(run)]),
        callbacks.LossCurves(run),
        callbacks.SamplePictures(run, data.sample_pairs(samples, recipe), recipe),
        callbacks.StopOnSignal(),
    ]
    print(f"Run folder: {run}" + (f", from step {gan.step}" if resume else ""), flush=True)
    if gan.step >= recipe.epochs * steps_per_epoch:
        print(f"Training is complete; --epochs above {recipe.epochs} goes on.")
    started = time.monotonic()
    finished = fit(gan, crops, held_out, recipe, steps_per_epoch, reports)
    print(f"{gan.step} steps, {time.monotonic() - started:.0f} s; peak memory {peak_memory()}")
    if not finished:
        return False
    if gan.discriminator:
        with replacing(run / "discriminator.keras") as path:
            gan.discriminator.save(path)
    if on_jax():
        print("The SavedModel needs TensorFlow. Where you have it:")
        print(f"  KERAS_BACKEND=tensorflow python -m srgan_keras.export {shlex.quote(str(run))}")
    else:
        from srgan_keras.export import export

        export(gan.trained_generator, run / runs.SAVED_MODEL, recipe.lr_range)
    return True


def load_checkpoint(gan, run):
    """Restores the networks and optimizers of a run from its checkpoint."""
    path = run / runs.CHECKPOINT
    for folder in (run, path.parent):
        remove_temporaries(folder)
    try:
        with warnings.catch_warnings():
            # Keras only warns where a file lacks a part of the model.
            warnings.simplefilter("error", UserWarning)
            gan.load_weights(path)
    except (OSError, ValueError, KeyError, UserWarning) as error:
        reason = " ".join(str(error).split())[:200]
        raise cli.UserError(
            f"{path} does not load ({reason}). Start a new run; --init-generator "
            f"{run / runs.GENERATOR} keeps what the generator has learnt."
        ) from error


def load_generator_weights(gan, source, recipe):
    """Gives a GAN's generator the weights of a trained one.

    Args:
        gan: `SRGAN` of the recipe.
        source: as `load_generator` takes it.
        recipe: `Recipe` of the run that starts.

    Raises:
        cli.UserError: if there is no such generator, or it was trained for something else.
    """
    trained, its_recipe = runs.load_generator(source)
    names = ("scale", "filters", "residual_blocks", "upsampling", "lr_range")
    wrong = [name for name in names if getattr(recipe, name) != getattr(its_recipe, name)]
    if wrong:
        options = " ".join(f"--{n.replace('_', '-')} {getattr(its_recipe, n)}" for n in wrong)
        raise cli.UserError(
            f"{source} does not fit this recipe. Give what it was made with: {options}"
        )
    for generator in (gan.generator, gan.trained_generator):
        generator.set_weights(trained.get_weights())
    print(f"Generator: starts from {source}")


def fit(gan, crops, held_out, recipe, steps_per_epoch, reports):
    """Trains from the step that `gan` is at to the recipe's last.

    A run that was stopped in the middle of an epoch first ends that epoch. The held-out pictures
    validate as often as sample pictures are made.

    Returns:
        bool: whether it got there; not if it was told to stop.
    """
    validation = {}
    if held_out:
        batches = data.validation_batches(held_out, recipe)
        validation = {"validation_data": batches, "validation_freq": recipe.sample_every}
    try:
        while gan.step < recipe.epochs * steps_per_epoch:
            epoch, done = divmod(gan.step, steps_per_epoch)
            gan.fit(
                data.training_batches(crops, recipe, first_batch=gan.step),
                initial_epoch=epoch,
                epochs=epoch + 1 if done else recipe.epochs,
                steps_per_epoch=steps_per_epoch - done,
                shuffle=False,
                callbacks=reports,
                verbose=1 if sys.stdout.isatty() else 2,
                **validation,
            )
    except callbacks.Stopped:
        end_reports(reports)
        return False
    except OSError:  # A report could not be written.
        end_reports(reports)
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise cli.UserError(
                f"Out of memory at a batch of {recipe.batch_size}. Set a smaller --batch-size or "
                "--crop-size."
            ) from error
        broken = data.broken_crop(error, crops) or data.broken_crop(error, held_out)
        if broken is None:
            raise
        end_reports(reports)
        raise cli.UserError(f"{broken[0]} cannot be read: {broken[1]}. Remove it.") from error
    return True


def end_reports(reports):
    """Saves the checkpoint and closes the logs, as `fit` does when nothing stops it."""
    for report in reports:
        report.on_train_end()


def print_plan(recipe, gan, crops, held_out, steps_per_epoch, strategy):
    """Prints what is going to be trained, on what, and with what."""
    settings = dataclasses.asdict(recipe)
    print(f"Recipe {settings.pop('name')}:")
    lines = textwrap.wrap(
        "  ".join(f"{name}={value}" for name, value in settings.items()), 96, break_on_hyphens=False
    )
    print(textwrap.indent("\n".join(lines), "  "))
    print(f"Devices: {describe_devices(strategy)}")
    print(
        f"Parameters: generator {gan.generator.count_params():,}"
        + (f", discriminator {gan.discriminator.count_params():,}" if gan.discriminator else "")
    )
    print(
        f"Data: {len(crops)} crops for training, {len(held_out)} held out for validation; "
        f"{steps_per_epoch} steps an epoch, {recipe.epochs * steps_per_epoch:,} in all"
    )


def check_fit(gan, content_loss, recipe, replicas, check_memory):
    """Says how much memory training needs; on a CPU, refuses to start with less."""
    weights, outputs = training_memory(
        gan, content_loss, recipe.crop_size, recipe.batch_size // replicas
    )
    need, have = PROGRAM + weights + outputs, machine_memory()
    print(
        f"Memory: about {gigabytes(need)} on each device ({gigabytes(weights)} for weights "
        f"and their updates, {gigabytes(outputs)} for layers' outputs)"
        + (f"; this machine has {gigabytes(have)}" if have else "")
    )
    if check_memory and have and need > have and not list_gpus():
        fitting = (
            int((have - PROGRAM - weights) / (outputs / (recipe.batch_size // replicas))) * replicas
        )
        raise cli.UserError(
            f"Training needs about {gigabytes(need)} of memory and this machine has "
            f"{gigabytes(have)}. "
            + (
                f"Set --batch-size {fitting} or less"
                if fitting > 0
                else "Set a smaller --crop-size"
            )
            + ", or --no-check-memory to try all the same."
        )


def absolute(path):
    """Returns a path as a string that holds in any folder; leaves names as they are."""
    return path if path in ("imagenet", *PRETRAINED) else os.path.abspath(path)


def write_settings(run, recipe, facts, resume):
    """Writes `recipe.json`: all that it takes to run the same training again.

    Raises:
        cli.UserError: if another training has just started a run in the same folder.
    """
    settings = {"recipe": dataclasses.asdict(recipe), **facts, "versions": runs.versions()}
    if not resume:
        run.mkdir(parents=True, exist_ok=True)
        try:
            (run / runs.SETTINGS).touch(exist_ok=False)
        except FileExistsError:
            raise cli.UserError(f"Another training has just started in {run}.") from None
    with replacing(run / runs.SETTINGS) as path:
        path.write_text(json.dumps(settings, indent=2) + "\n")


def main(argv=None):
    """The command line; see the module's docstring."""
    args = parse_arguments(argv)
    changes = {
        field.name: getattr(args, field.name)
        for field in dataclasses.fields(Recipe)
        if hasattr(args, field.name)
    }
    vgg_weights = args.vgg_weights or "imagenet"
    if args.resume:
        recipe, data_folder, saved_weights = read_run(args, changes)
        vgg_weights, run = args.vgg_weights or saved_weights, args.resume
    else:
        demonstration = args.data is None and args.recipe in (None, "demo")
        recipe = get_recipe(args.recipe or ("demo" if demonstration else "tutorial"), **changes)
        if args.data is None and not demonstration:
            raise cli.UserError(
                f"The recipe {recipe.name} needs crops: --data FOLDER. Make them with "
                "python -m data_prep.coco or python -m data_prep.folder."
            )
        if demonstration and not args.vgg_weights:
            recipe = without_vgg_if_offline(recipe)
        data_folder = args.data or SAMPLE_IMAGES
        run = args.run or Path("runs", time.strftime(f"{recipe.name}-%Y%m%d-%H%M%S"))

    finished = train(
        recipe,
        data_folder,
        run,
        resume=args.resume is not None,
        init_generator=args.init_generator,
        strategy=args.strategy,
        vgg_weights=vgg_weights,
        checkpoint_minutes=args.checkpoint_minutes,
        steps_per_execution=args.steps_per_execution,
        check_memory=args.check_memory,
    )
    if not finished:
        with contextlib.suppress(OSError):  # Whoever read the output may be gone.
            print("Stopped, with a checkpoint. Go on with:")
            print(f"  python -m srgan_keras.train --resume {shlex.quote(str(run))}", flush=True)
        return 130
    photo = "PHOTO" if data_folder != SAMPLE_IMAGES else next(SAMPLE_IMAGES.glob("test/*"))
    print(f"Pictures: {run / 'samples'}; curves: {run / 'losses.png'}")
    print("Upscale a picture with the result:")
    command = shlex.join(["--model", str(run), "--out", "upscaled"])
    print(f"  python -m srgan_keras.upscale {shlex.quote(str(photo))} {command}")
    return 0


def parse_arguments(argv):
    """Parses the command line; recipe fields that are not given are left out."""
    parser = cli.Parser(
        prog="python -m srgan_keras.train",
        description="Trains an SRGAN. Without arguments: a short demonstration on the photographs "
        "that ship with the package.",
    )
    parser.add_argument("--recipe", help=f"{', '.join(RECIPES)}; tutorial if --data is given")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="folder of crops")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="run folder; default: in runs/")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="go on where this run stopped")
    parser.add_argument(
        "--init-generator",
        metavar="RUN",
        help="start from the generator of this run, or from srresnet or srgan",
    )
    parser.add_argument("--strategy", choices=STRATEGIES, default="auto", help="devices to use")
    parser.add_argument(
        "--vgg-weights",
        metavar="FILE",
        help=f"file of VGG19 weights without top, or imagenet to download them; default: "
        f"${WEIGHTS_VARIABLE}, or else imagenet",
    )
    parser.add_argument(
        "--checkpoint-minutes",
        type=cli.positive_int,
        default=10,
        help="minutes between checkpoints",
    )
    parser.add_argument(
        "--steps-per-execution",
        type=cli.positive_int,
        default=1,
        help="steps between two looks at the clock; more than 1 pays on a fast GPU",
    )
    parser.add_argument(
        "--check-memory",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="refuse to start with too little memory",
    )
    settings = parser.add_argument_group("settings of the recipe (tutorial's value)")
    for field in dataclasses.fields(Recipe):
        if field.name == "name":
            continue
        kind = (
            {"action": argparse.BooleanOptionalAction}
            if field.type is bool
            else {"type": field.type, "metavar": field.type.__name__.upper()}
        )
        settings.add_argument(
            "--" + field.name.replace("_", "-"),
            default=argparse.SUPPRESS,
            help=f"{field.metadata['help']} ({field.default})",
            **kind,
        )
    return parser.parse_args(argv)


def read_run(args, changes):
    """Reads what `--resume` goes on with from the run's `recipe.json`.

    Returns:
        (recipe, data folder, VGG19 weights).

    Raises:
        cli.UserError: if there is no run with a checkpoint, or the command changes more than may
            change on the way.
    """
    settings = runs.read_settings(args.resume)
    if not (args.resume / runs.CHECKPOINT).is_file():
        raise cli.UserError(f"{args.resume} cannot be resumed. {runs.describe_folder(args.resume)}")
    changeable = {"epochs", "sample_every"}
    refused = [name for name in changes if name not in changeable]
    refused += [name for name in ("recipe", "run", "init_generator") if getattr(args, name)]
    if refused:
        raise cli.UserError(
            f"--resume keeps the run's own settings; only {', '.join(sorted(changeable))} and data "
            f"can change. Received: {', '.join(refused)}"
        )
    recipe = dataclasses.replace(settings["recipe"], **changes)
    return recipe, args.data or Path(settings["data"]), settings["vgg_weights"]


def without_vgg_if_offline(recipe):
    """Returns the recipe, with pixel MSE as content loss if VGG19's weights cannot be had."""
    try:
        build_content_loss(recipe)
    except VGGWeightsError as error:
        print(f"{error}\nThe demonstration goes on with pixel MSE as its content loss.")
        return dataclasses.replace(recipe, content_loss="mse")
    return recipe


if __name__ == "__main__":
    cli.run(main)
