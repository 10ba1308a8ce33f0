"""The loop around the training step: a recipe and a folder of crops in, a run folder out."""

import contextlib
import hashlib
import itertools
import os
import shlex
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras

from srgan_keras import run as run_folder
from srgan_keras.common import cli, processes
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import SAVED_MODEL
from srgan_keras.data import batches
from srgan_keras.data.crops import Crops, first_unreadable, list_crops
from srgan_keras.inference.pretrained import load_generator, load_network
from srgan_keras.inference.sources import PRETRAINED
from srgan_keras.parts.content import choose_weights
from srgan_keras.recipe import Recipe
from srgan_keras.training import callbacks
from srgan_keras.training.devices import (
    choose_strategy,
    describe_devices,
    is_out_of_memory,
    on_jax,
    peak_memory,
    use_xla,
    warn_of_slow_bfloat16,
)
from srgan_keras.training.gan import SRGAN, TutorialSRGAN
from srgan_keras.training.health import Collapsed, Health
from srgan_keras.training.memory import check_weights, fit_into_memory

STEPS = {"joint": SRGAN, "tutorial": TutorialSRGAN}
SAMPLES_SHOWN = 4
ROLLBACKS = 3  # in a session
RATES = ("learning_rate", "discriminator_learning_rate")  # which a rollback halves


@dataclass(frozen=True)
class Data:
    """What a run trains on.

    Attributes:
        crops: for training.
        held_out: for validation; may be empty.
        samples: to look at.
        facts: how many there are and a checksum of their names, as JSON values.
    """

    crops: Crops
    held_out: Crops
    samples: Crops
    facts: dict[str, Any]


@dataclass(frozen=True)
class Session:
    """How a training is run; of what is learned it changes nothing while all is well.

    Attributes:
        strategy: a name that `choose_strategy` knows.
        checkpoint_minutes: minutes between two checkpoints.
        keep_checkpoints: how many of them are kept.
        steps_per_execution: steps between two looks at the clock and at signals; more than 1 keeps
            a fast GPU from waiting for Python.
        check_memory: refuse to start on a device that has less memory than training needs.
        on_collapse: of `ON_COLLAPSE`: whether a collapse is only said, ends training, or takes it
            back to the last checkpoint at which all was well, with half the learning rate.
    """

    strategy: str = "auto"
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 2
    steps_per_execution: int = 1
    check_memory: bool = True
    on_collapse: str = "warn"


def train(
    recipe: Recipe,
    data_folder: str | os.PathLike,
    run: str | os.PathLike,
    *,
    resume: bool = False,
    new_data: bool = False,
    init_generator: str | None = None,
    init_discriminator: str | None = None,
    vgg_weights: str | None = "imagenet",
    **options: Any,
) -> bool:
    """Trains a recipe on a folder of crops and leaves everything in a run folder.

    Args:
        recipe: what to train.
        data_folder: as for `list_crops`; a split `test` is held out for validation and samples.
        run: run folder; new or empty unless `resume`.
        resume: go on from the last checkpoint in `run`.
        new_data: go on although the crops are others than those that the run began with.
        init_generator: what the generator starts from, as for `load_generator`; None: from nothing.
        init_discriminator: likewise, a run folder or a .keras file.
        vgg_weights: as `VGGLoss` takes them.
        **options: the fields of `Session`.

    Returns:
        bool: whether training came to its end (it did not if a signal stopped it).

    Raises:
        UserError: if data, run folder, devices or memory do not allow it.
        VGGWeightsError: if the content loss needs VGG19's weights and they cannot be had.
    """
    run, session = Path(run), Session(**options)
    known = run_folder.read_settings(run) if resume else {}
    with run_folder.claimed(run, resume):
        vgg_weights = vgg_weights and absolute(choose_weights(vgg_weights))
        devices = choose_strategy(session.strategy)
        data = load_data(data_folder, recipe, devices.num_replicas_in_sync, run if resume else None)
        processes.check_same("trainings", [recipe.every_setting(), data.facts, resume, options])
        check_crops(data.facts, known.get("crops"), new_data, run)
        steps = recipe.steps_per_epoch or max(1, len(data.crops) // recipe.batch_size)
        steps = known.get("steps_per_epoch", steps)
        gan, recipe = build_to_fit(recipe, data, steps, devices, vgg_weights, session)
        unlogged = start(gan, recipe, run, steps, resume, init_generator, init_discriminator)
        processes.check_same("states of the run", [gan.step, bool(unlogged)])
        check_executions(steps, gan.step, session.steps_per_execution)
        facts = {
            "data": absolute(data_folder),
            "vgg_weights": vgg_weights,
            "init_generator": init_generator and absolute(init_generator),
            "init_discriminator": init_discriminator and absolute(init_discriminator),
            "steps_per_epoch": steps,
            "crops": data.facts,
            "devices": describe_devices(devices),
        }
        run_folder.write_settings(run, recipe, facts, resume)
        finished = fit_or_roll_back(gan, data, recipe, steps, run, session, unlogged)
        if finished:
            export_saved_model(gan, run)
    return finished


def load_data(
    folder: str | os.PathLike, recipe: Recipe, devices: int = 1, resumed: Path | None = None
) -> Data:
    """Lists the crops of a run, and looks whether those that are shown can be read.

    Held out are as many as divide between the devices.
    """
    if resumed and not Path(folder).exists():
        raise UserError(
            f"{folder}, from which {resumed} learns, is not there. If it has moved, go on by "
            f"`resume` {resumed} `data` FOLDER."
        )
    crops, held_out = (list_crops(folder, recipe.pairs.crop_size, s) for s in ("train", "test"))
    facts = describe_crops(crops, held_out, folder)
    held_out = held_out[: len(held_out) - len(held_out) % devices]
    samples = (held_out or crops)[:SAMPLES_SHOWN]
    if broken := first_unreadable(samples):
        raise UserError(f"{broken[0]} cannot be read: {broken[1]}. Remove it.")
    return Data(crops, held_out, samples, facts)


def describe_crops(crops: Crops, held_out: Crops, folder: str | os.PathLike) -> dict[str, Any]:
    """How many crops there are, and a checksum of their names, as JSON values."""
    paths = [path for some in (crops, held_out) for path in getattr(some, "paths", [])]
    here = f"{Path(folder)}{os.sep}"  # Crops are listed below it, and relpath is 20 times as slow.
    names = b"\0".join(os.fsencode(str(path).removeprefix(here)) for path in paths)
    return {
        "training": len(crops),
        "held out": len(held_out),
        "names": hashlib.sha256(names).hexdigest()[:8],
    }


def check_crops(now: dict, before: dict | None, new_data: bool, run: Path) -> None:
    """Says, or refuses, that a run goes on with other crops; `before` is None if nobody knows."""
    if before in (None, now):
        return
    words = [", ".join(f"{key} {value}" for key, value in each.items()) for each in (before, now)]
    changed = f"{run} began with other crops ({words[0]}) than there are ({words[1]})"
    if not new_data:
        raise UserError(
            f"{changed}. Put the former back, or go on with these by `resume` {run} `data` FOLDER."
        )
    print(f"{changed}. It goes on with these; an epoch keeps its number of steps.")


def build_to_fit(
    recipe: Recipe,
    data: Data,
    steps_per_epoch: int,
    devices: Any,
    vgg_weights: str | None,
    session: Session,
) -> tuple[SRGAN, Recipe]:
    """Builds what is trained, says what that is, and fits it into memory.

    Returns:
        (the `SRGAN`, the recipe with the `micro_batch` that it is trained with).
    """
    batch = divide_batch(recipe, devices.num_replicas_in_sync)
    check_weights(recipe, session.check_memory)
    with devices.scope():
        gan = build_gan(recipe, vgg_weights, use_xla(), session.steps_per_execution)
    where = f"{describe_devices(devices)}; batch of {recipe.batch_size}, {batch} on each"
    print_plan(recipe, gan, data, steps_per_epoch, where)
    micro_batch = fit_into_memory(gan, recipe, batch, session.check_memory)
    return gan, recipe.with_settings(micro_batch=micro_batch)  # A resumed run goes on with it.


def divide_batch(recipe: Recipe, devices: int) -> int:
    """Returns the crops of a batch on each device.

    Raises:
        UserError: if the batch does not divide between them.
    """
    if recipe.batch_size % devices:
        raise UserError(
            f"A batch of {recipe.batch_size} does not divide between {devices} devices. Set "
            f"`batch_size` to a multiple of {devices}, or `strategy` to default."
        )
    return recipe.batch_size // devices


@contextlib.contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Layers built inside compute in this precision; their weights are float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def build_gan(
    recipe: Recipe,
    vgg_weights: str | None = "imagenet",
    jit_compile: bool = False,
    steps_per_execution: int = 1,
) -> SRGAN:
    """Builds the recipe's networks and losses, and compiles them into an `SRGAN`.

    Args:
        recipe: `Recipe`.
        vgg_weights: as `VGGLoss` takes them, for what needs them.
        jit_compile: whether XLA compiles the training step.
        steps_per_execution: int, steps that TensorFlow takes between two callbacks.
    """
    with dtype_policy(recipe.precision):
        content_loss = recipe.content.build(vgg_weights)
        keras.utils.set_random_seed(recipe.seed)
        generator = recipe.generator.build(recipe.pairs.scale)
        part = recipe.discriminator
        discriminator = part and part.build(recipe.pairs.crop_size, vgg_weights)
        gan = STEPS[recipe.step](
            generator,
            discriminator,
            ema_momentum=recipe.ema_momentum,
            batch_statistics=recipe.batch_statistics,
            shift_period=recipe.shift_period,
            seed=recipe.seed,
        )
    losses, weights, second = [content_loss], [recipe.content.weight], None
    if recipe.adversarial:
        losses, weights = [*losses, recipe.adversarial], [*weights, recipe.adversarial.weight]
        second = recipe.discriminator_optimizer().build()
    gan.compile(
        optimizer=recipe.optimizer.build(),
        discriminator_optimizer=second,
        loss=losses,
        loss_weights=weights,
        jit_compile=jit_compile,
        steps_per_execution=steps_per_execution,
    )
    return gan


def print_plan(recipe: Recipe, gan: SRGAN, data: Data, steps_per_epoch: int, devices: str) -> None:
    """Prints what is going to be trained, on what, and with what."""
    settings = "  ".join(f"{name}={value}" for name, value in recipe.every_setting().items())
    print(f"{recipe.describe_parts()}:")
    print(textwrap.indent(textwrap.fill(settings, 96, break_on_hyphens=False), "  "))
    print(f"Devices: {devices}")
    print(
        f"Parameters: generator {gan.generator.count_params():,}"
        + (f", discriminator {gan.discriminator.count_params():,}" if gan.discriminator else "")
    )
    print(
        f"Data: {len(data.crops)} crops for training, {len(data.held_out)} held out for "
        f"validation; {steps_per_epoch} steps an epoch, {recipe.epochs * steps_per_epoch:,} in all"
    )
    if recipe.precision == "mixed_bfloat16":
        warn_of_slow_bfloat16(f"precision {recipe.precision}")


def start(
    gan: SRGAN,
    recipe: Recipe,
    run: Path,
    steps_per_epoch: int,
    resume: bool,
    init_generator: str | None,
    init_discriminator: str | None,
) -> bool:
    """Gives the networks the weights that training starts from, and says which.

    Returns:
        bool: whether the run was stopped at the end of an epoch that the log has no row of.
    """
    if resume:
        run_folder.load_checkpoint(run, gan)
        set_rates(gan, recipe)
        epoch, done = divmod(gan.step, steps_per_epoch)
        run_folder.rewind_log(run, epoch)
        print(f"Run folder: {run}, from step {gan.step}", flush=True)
        if gan.step >= recipe.epochs * steps_per_epoch:
            print(f"Training is complete; `epochs` above {recipe.epochs} goes on.")
        logged = {int(row["epoch"]) for row in run_folder.read_log(run)}
        # Checkpoints of earlier versions do not have the metrics.
        return not done and epoch - 1 not in logged and run_folder.metric_values(gan).any()
    if init_generator:
        load_generator_weights(gan, init_generator, recipe)
    elif gan.discriminator:
        print(
            "Generator: starts from random weights. Its colours come right sooner if it starts "
            "from one that has learned pixels (init_generator), such as srresnet."
        )
    if init_discriminator:
        load_discriminator_weights(gan, init_discriminator, recipe)
    print(f"Run folder: {run}", flush=True)
    return False


def check_executions(steps_per_epoch: int, step: int, steps_per_execution: int) -> None:
    """Raises a UserError if the steps of an epoch do not divide into executions."""
    if (steps_per_epoch - step % steps_per_epoch) % steps_per_execution:
        raise UserError(
            f"The {steps_per_epoch} steps of an epoch, or what is left of one, do not divide into "
            f"executions of {steps_per_execution}. Set another `steps_per_execution`."
        )


def make_reports(run: Path, recipe: Recipe, data: Data, session: Session) -> list:
    """The callbacks that write into the run folder."""
    pairs = batches.sample_pairs(data.samples, recipe.pairs)
    checkpoint = callbacks.Checkpoint(run, session.checkpoint_minutes, session.keep_checkpoints)
    pretrained = processes.is_first() and bool(run_folder.read_settings(run).get("init_generator"))
    # Of several processes all have what computes or decides.
    computing = [
        checkpoint,  # First: what fails later costs nothing.
        Health(pairs[0], recipe, session.on_collapse, checkpoint.all_is_well),
        *([] if on_jax() else [callbacks.TensorBoardLogs(run)]),
        callbacks.SamplePictures(run, pairs, recipe, pretrained),
    ]
    writing = [
        *([callbacks.KeepNetworks(run, recipe.save_every)] if recipe.save_every else []),
        callbacks.Log(run),
        callbacks.LossCurves(run),
    ]
    return [*computing, *(writing if processes.is_first() else []), callbacks.StopOnSignal()]


def load_generator_weights(gan: SRGAN, source: str, recipe: Recipe) -> None:
    """Gives a GAN's generator the weights of a trained one.

    Args:
        gan: `SRGAN` of the recipe.
        source: as `load_generator` takes it.
        recipe: `Recipe` of the run that starts.

    Raises:
        UserError: if there is no such generator, or it is another network.
    """
    trained, names = load_generator(source), [*recipe.generator.settings(), "scale"]
    if describe_network(trained) != describe_network(gan.generator):
        raise UserError(
            f"The generator of {source} does not fit this recipe. Give what it was trained with"
            f"{describe_difference(Path(source), names, recipe)}; or start from nothing: "
            "`init_generator` none."
        )
    for generator in (gan.generator, gan.averaged_generator):
        generator.set_weights(trained.get_weights())
    print(f"Generator: starts from {source}")


def load_discriminator_weights(gan: SRGAN, source: str, recipe: Recipe) -> None:
    """Gives a GAN's discriminator the weights of a run's, or of a .keras file.

    Args:
        gan: `SRGAN` of the recipe.
        source: a run folder or the file.
        recipe: `Recipe` of the run that starts.

    Raises:
        UserError: if there is no such discriminator, or it is another network.
    """
    if gan.discriminator is None:
        raise UserError(f"The recipe {recipe.name} has no discriminator: no `init_discriminator`.")
    file = Path(source)
    file = file if file.suffix == ".keras" else file / run_folder.DISCRIMINATOR
    if not file.is_file():
        raise UserError(
            f"There is no discriminator {file}. Give a run of srgan_keras.train that trained one, "
            "or a .keras file."
        )
    trained, names = load_network(file)[0], [*recipe.discriminator.settings(), "crop_size"]
    if describe_network(trained) != describe_network(gan.discriminator):
        raise UserError(
            f"The discriminator of {source} does not fit this recipe. Give what it was trained with"
            f"{describe_difference(Path(source), names, recipe)}; or begin with a new one, without "
            "`init_discriminator`."
        )
    gan.discriminator.set_weights(trained.get_weights())
    print(f"Discriminator: starts from {source}")


def describe_network(model: keras.Model) -> list[tuple]:
    """What each layer is, and the shapes of its weights."""
    return [
        (type(layer), [tuple(weight.shape) for weight in layer.weights]) for layer in model.layers
    ]


def describe_difference(source: Path, names: list[str], recipe: Recipe) -> str:
    """In which of these settings a run differs from a recipe, as far as its folder tells."""
    try:
        run = source.parent if source.suffix == ".keras" else source
        theirs = run_folder.read_settings(run)["recipe"].every_setting()
    except UserError:
        return ""
    ours = recipe.every_setting()
    differing = [f"`{n}` {theirs[n]}" for n in names if n in theirs and theirs[n] != ours[n]]
    return ": " + " ".join(differing) if differing else ""  # What it says need not be true.


def fit_or_roll_back(
    gan: SRGAN,
    data: Data,
    recipe: Recipe,
    steps_per_epoch: int,
    run: Path,
    session: Session,
    unlogged: bool,
) -> bool:
    """As `fit`, and after a collapse from where all was well, if the session wants it so."""
    for done in itertools.count():
        reports = make_reports(run, recipe, data, session)
        try:
            return fit(gan, data, recipe, steps_per_epoch, reports, unlogged)
        except Collapsed as error:
            checkpoint, *others = reports
            end_reports(others)
            if session.on_collapse != "rollback" or done == ROLLBACKS:
                raise
            print(cli.with_flags(str(error)))
            # Until here the first of several processes may be writing a checkpoint.
            processes.check_same("collapses", [str(error), checkpoint.well])
            run_folder.load_checkpoint(run, gan, latest=checkpoint.well)
            run_folder.rewind_log(run, gan.step // steps_per_epoch)
            values = recipe.every_setting()
            rates = {name: values[name] / 2 for name in RATES if values.get(name)}
            recipe = recipe.with_settings(**rates)
            run_folder.write_settings(run, recipe, {}, resume=True)
            set_rates(gan, recipe)
            unlogged = False
            words = " ".join(f"{name} {rate:g}" for name, rate in rates.items())
            print(f"Back to step {gan.step}, with {words}.", flush=True)


def set_rates(gan: SRGAN, recipe: Recipe) -> None:
    """Gives both optimizers the recipe's learning rates, whatever a checkpoint had."""
    optimizers = [(gan.optimizer, recipe.optimizer)]
    if recipe.adversarial:
        optimizers.append((gan.discriminator_optimizer, recipe.discriminator_optimizer()))
    for optimizer, part in optimizers:
        inner = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales the loss
        inner.learning_rate = part.rate()
    gan.train_function = None  # A traced step has the old course in it.


def fit(
    gan: SRGAN,
    data: Data,
    recipe: Recipe,
    steps_per_epoch: int,
    reports: list,
    unlogged: bool = False,
) -> bool:
    """Trains from the step that `gan` is at to the recipe's last.

    A run that was stopped in the middle of an epoch first ends that epoch. The held-out pictures
    validate as often as sample pictures are made.

    Returns:
        bool: whether it got there; not if it was told to stop.

    Raises:
        UserError: if memory runs out, or a crop cannot be read.
    """
    size = recipe.batch_size * recipe.batches_per_step
    started, before = time.monotonic(), gan.step
    finished, held_out = True, held_out_batches(gan, data, recipe)
    try:
        if unlogged:
            end_epoch(gan, recipe, steps_per_epoch, reports, held_out)
        while gan.step < recipe.epochs * steps_per_epoch:
            epoch, done = divmod(gan.step, steps_per_epoch)
            gan.fit(
                batches.training_batches(
                    data.crops, recipe.pairs, size, recipe.seed, first_batch=gan.step
                ),
                initial_epoch=epoch,
                epochs=recipe.epochs,
                steps_per_epoch=steps_per_epoch - done,
                shuffle=False,
                callbacks=[*([callbacks.RestOfEpoch(gan)] if done else []), *reports],
                verbose=1 if sys.stdout.isatty() else 2,
                validation_data=held_out,
                validation_freq=recipe.sample_every,
            )
    except callbacks.Stopped:
        end_reports(reports)
        finished = False
    except OSError:  # A report could not be written.
        end_reports(reports)
        raise
    except Exception as error:
        explain(error, data, recipe, reports)
        raise
    seconds = time.monotonic() - started
    rate = size * (gan.step - before) / seconds
    print(f"{gan.step} steps, {seconds:.0f} s, {rate:.1f} crops/s; peak memory {peak_memory()}")
    return finished


def held_out_batches(gan: SRGAN, data: Data, recipe: Recipe) -> Any:
    """The batches that validate; None if no crop is held out."""
    if not data.held_out:
        return None
    size = max(1, recipe.batch_size // gan.parts)
    return batches.validation_batches(data.held_out, recipe.pairs, size)


def end_epoch(
    gan: SRGAN, recipe: Recipe, steps_per_epoch: int, reports: list, held_out: Any
) -> None:
    """Ends an epoch whose last step is in the checkpoint, as `fit` would have."""
    epoch = gan.step // steps_per_epoch - 1
    listed = keras.callbacks.CallbackList(reports, model=gan, epochs=recipe.epochs)
    logs = dict(gan.get_metrics_result())
    listed.on_train_begin()
    if held_out is not None and (epoch + 1) % recipe.sample_every == 0:
        found = gan.evaluate(held_out, callbacks=listed, return_dict=True, verbose=0)
        logs |= {f"val_{name}": value for name, value in found.items()}
    listed.on_epoch_end(epoch, logs)
    listed.on_train_end()


def explain(error: Exception, data: Data, recipe: Recipe, reports: list) -> None:
    """Raises a UserError if training failed for want of memory or because of a broken crop."""
    if is_out_of_memory(error):
        raise UserError(
            f"Out of memory at a batch of {recipe.batch_size}. Set a smaller `micro_batch` or "
            "`crop_size`."
        ) from error
    crops = (data.crops, data.held_out)
    broken = next(filter(None, (batches.broken_crop(error, some) for some in crops)), None)
    if broken:
        end_reports(reports)
        raise UserError(f"{broken[0]} cannot be read: {broken[1]}. Remove it.") from error


def end_reports(reports: list) -> None:
    """Saves the checkpoint and closes the logs, as `fit` does when nothing stops it."""
    for report in reports:
        report.on_train_end()


def export_saved_model(gan: SRGAN, run: Path) -> None:
    """Writes the SavedModel; on JAX says how to have it."""
    if on_jax():
        print("The SavedModel needs TensorFlow. Where you have it:")
        print(f"  KERAS_BACKEND=tensorflow python -m srgan_keras.export {shlex.quote(str(run))}")
        return
    from srgan_keras.inference.formats import export

    export(gan.averaged_generator, run / SAVED_MODEL)


def absolute(path: str) -> str:
    """Returns a path as a string that holds in any folder; leaves names as they are."""
    return path if path in ("imagenet", *PRETRAINED) else os.path.abspath(path)
