"""What a training run leaves in its folder while it trains: logs, curves, pictures, checkpoints."""

import contextlib
import math
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import keras
import numpy as np
from keras import ops
from matplotlib.figure import Figure

from srgan_keras.common import pixels, processes
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import replacing
from srgan_keras.common.pictures import open_picture, write_png
from srgan_keras.recipe import Recipe
from srgan_keras.run import (
    BEST_GENERATOR,
    CHECKPOINTS,
    CURVES,
    DISCRIMINATOR,
    GENERATOR,
    SAMPLES,
    TENSORBOARD,
    add_to_log,
    curve_of,
    find_checkpoints,
    metric_values,
    read_log,
    save_checkpoint,
    save_network,
    set_metric_values,
)
from srgan_keras.training.health import Collapsed


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole state of training, and the generator on its own.

    A checkpoint holds both networks and both optimizers, the step among them, and what the epoch's
    metrics have added up; `generator.keras` is the generator, `best_generator.keras` the one with
    the lowest content loss in validation so far. That is the distance that training minimises, in
    VGG19's features for a GAN; PSNR would choose the blurriest. A file is replaced only when its
    successor is complete, and never by networks whose loss is no longer a number. The first
    checkpoint is that of the start, so that a disk on which there is no room shows at once. Of
    several processes the first writes, and all check, so that they end alike.

    Args:
        run: path of the run folder.
        minutes: float, save at the first step after so many minutes, and at the end.
        keep: int, how many checkpoints are kept.

    Raises:
        Collapsed: (from `fit`) if the loss is not finite after a step, or a weight at the end.
        UserError: if the disk is full, or the folder has been removed.
    """

    def __init__(self, run: Path, minutes: float = 10.0, keep: int = 2) -> None:
        super().__init__()
        self.run = Path(run)
        self.seconds = 60 * minutes
        self.keep = keep
        self.metrics = None
        self.well = None

    def on_train_begin(self, logs=None):
        self.saved_at = time.monotonic()
        if self.well is None:
            self.all_is_well()
        if not processes.is_first():
            return
        self.folder = self.run.stat()
        past = curve_of(read_log(self.run), "val_content_loss")
        self.best = min((loss for _, loss in past), default=math.inf)
        if not find_checkpoints(self.run):
            self.check_disk()
            self.save_state()

    def on_epoch_begin(self, epoch, logs=None):
        self.metrics = None

    def on_test_begin(self, logs=None):
        # Validation adds up in the same metrics; what training has is kept for a checkpoint.
        self.metrics = metric_values(self.model)

    def on_train_batch_end(self, batch, logs=None):
        self.check_loss(logs)
        due = time.monotonic() - self.saved_at >= self.seconds
        # Weights that are no numbers show in the next step's loss, in all processes.
        if due and processes.is_first() and self.weights_are_finite():
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        self.check_loss(logs)
        if not processes.is_first():
            return
        self.check_folder()
        loss = (logs or {}).get("val_content_loss", math.inf)
        if loss < self.best:
            self.best = loss
            save_network(self.run / BEST_GENERATOR, self.model.averaged_generator)

    def on_train_end(self, logs=None):
        self.check_loss(logs if self.weights_are_finite() else {"loss": math.nan})
        if not processes.is_first():
            return
        self.check_folder()
        if self.model.discriminator is not None:
            save_network(self.run / DISCRIMINATOR, self.model.discriminator)
        self.save()

    def all_is_well(self) -> None:
        """Keeps the last checkpoint until now until this is called again."""
        self.well = self.model.step

    def check_folder(self) -> None:
        """Stops training if the run folder is gone."""
        if not self.run.is_dir() or not os.path.samestat(self.run.stat(), self.folder):
            raise UserError(f"{self.run} has been removed while it was trained in.")

    def weights_are_finite(self) -> bool:
        """Whether all weights are numbers."""
        variables = self.model.trainable_variables
        return all(np.isfinite(ops.convert_to_numpy(variable)).all() for variable in variables)

    def check_loss(self, logs: dict | None) -> None:
        """Stops training if the loss is not a number any more."""
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite(loss):
            raise Collapsed(
                f"The loss is {loss}: training has diverged. Start again with a smaller "
                f"`learning_rate`; what {self.run} holds is from before."
            )

    def check_disk(self) -> None:
        """Raises an error if the disk is too full, on which HDF5 would crash the interpreter."""
        model = self.model  # Its non-trainable variables include the discriminator's optimizer's.
        variables = model.trainable_variables + model.non_trainable_variables
        variables += model.optimizer.variables
        need = 1.2 * 4 * sum(math.prod(variable.shape) for variable in variables) + 1e6
        free = shutil.disk_usage(self.run).free
        if free < need:
            raise UserError(
                f"The disk of {self.run} has {free / 1e6:.0f} MB free and a checkpoint needs "
                f"{need / 1e6:.0f} MB. Make room, then go on with `resume` {self.run}."
            )

    def save(self) -> None:
        """Saves now: the networks first, so that what a checkpoint stands for is always there."""
        self.check_folder()
        self.check_disk()
        save_network(self.run / GENERATOR, self.model.averaged_generator)
        self.save_state()

    def save_state(self) -> None:
        """Saves the checkpoint alone."""
        metrics = metric_values(self.model) if self.metrics is None else self.metrics
        save_checkpoint(self.run, self.model, metrics, self.keep, self.well)
        self.saved_at = time.monotonic()


class RestOfEpoch(keras.callbacks.Callback):
    """Ends an epoch that was stopped, with what its metrics had added up when this was made.

    `fit` would start them anew, and give the epochs behind it no more steps than this one has left.

    Args:
        model: `SRGAN`.
    """

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self.metrics = metric_values(model)

    def on_epoch_begin(self, epoch, logs=None):
        set_metric_values(self.model, self.metrics)

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


class Log(keras.callbacks.Callback):
    """Adds a row to `log.csv` at every epoch's end.

    It comes behind all that an epoch leaves: the row says that the epoch is done, and a resumed run
    whose last epoch has none makes up for it. (Keras' own callback orders the columns by the first
    epoch after each start, and does not look what the file has.)

    Args:
        run: path of the run folder.
    """

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = Path(run)

    def on_epoch_end(self, epoch, logs=None):
        add_to_log(self.run, epoch, logs)


class KeepNetworks(keras.callbacks.Callback):
    """Keeps a copy of both networks every so many epochs, as `checkpoints/epoch-0500-*.keras`.

    Args:
        run: path of the run folder.
        every: int, epochs from one copy to the next.
    """

    def __init__(self, run: Path, every: int) -> None:
        super().__init__()
        self.folder, self.every = Path(run) / CHECKPOINTS, every

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        networks = {GENERATOR: self.model.averaged_generator}
        if self.model.discriminator is not None:
            networks[DISCRIMINATOR] = self.model.discriminator
        for name, network in networks.items():
            save_network(self.folder / f"epoch-{epoch + 1:04d}-{name}", network)


class SamplePictures(keras.callbacks.Callback):
    """Writes LR, SR and HR side by side, pixel by pixel, one pair a row.

    LR is enlarged by repeating its pixels. The first picture, `samples/epoch-0000.png`, is what
    the generator makes that training starts from. If that is a trained one, its SR stands between
    LR and SR in all later pictures.

    Args:
        run: path of the run folder.
        pairs: `(lr, hr)` as `data.sample_pairs` gives them.
        recipe: `Recipe`.
        pretrained: whether training starts from a trained generator.
    """

    def __init__(self, run: Path, pairs: tuple, recipe: Recipe, pretrained: bool = False) -> None:
        super().__init__()
        self.folder = Path(run) / SAMPLES
        self.lr, self.hr = pairs
        self.recipe = recipe
        self.pretrained = pretrained

    def on_train_begin(self, logs=None):
        if self.model.step == 0:
            self.write(0)

    def on_epoch_end(self, epoch, logs=None):
        last = epoch + 1 == self.recipe.epochs
        first = epoch == 0 and self.recipe.sample_first
        if first or last or (epoch + 1) % self.recipe.sample_every == 0:
            self.write(epoch + 1)

    def write(self, epoch: int) -> None:
        """Writes the picture of this epoch."""
        scale = self.recipe.pairs.scale
        first, rows = self.folder / "epoch-0000.png", []
        for lr, hr in zip(self.lr, self.hr, strict=True):
            sr = self.model.averaged_generator(lr[None], training=False)[0]
            blocks = np.asarray(pixels.to_8bit(lr)).repeat(scale, 0).repeat(scale, 1)
            rows.append(np.hstack([blocks, pixels.to_8bit(sr), pixels.to_8bit(hr)]))
        if not processes.is_first():  # Those of several have made it together.
            return
        picture = np.vstack(rows)
        if epoch and self.pretrained and first.exists():
            blocks, _, _ = np.hsplit(picture, 3)
            _, start, _ = np.hsplit(open_picture(first), 3)
            picture = np.hstack([blocks, start, picture[:, blocks.shape[1] :]])
        write_png(self.folder / f"epoch-{epoch:04d}.png", picture)


#: What the curves show: title, columns of the log. Those whose first is not logged are left out.
PANELS = {
    "content loss": ("content_loss", "val_content_loss"),
    "adversarial and discriminator loss": ("adversarial_loss", "discriminator_loss"),
    "discriminator's output": ("d_hr", "d_sr"),
    "Wasserstein estimate, D(HR) - D(SR)": ("wasserstein_estimate", "val_wasserstein_estimate"),
    "norm of the critic's gradient": ("gradient_norm", "val_gradient_norm"),
    "PSNR, dB": ("psnr", "val_psnr"),
}


class LossCurves(keras.callbacks.Callback):
    """Draws the columns of `log.csv` over the epochs into `losses.png`, at every epoch's end.

    Args:
        run: path of the run folder.
    """

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = Path(run)

    def on_epoch_end(self, epoch, logs=None):
        rows = read_log(self.run)
        logged = {metric.name for metric in self.model.metrics}
        panels = {title: columns for title, columns in PANELS.items() if columns[0] in logged}
        height = -(-len(panels) // 2)
        figure = Figure(figsize=(10, 3.5 * height), layout="constrained")
        # The last one stays empty where there is an odd number of them.
        grid = figure.subplots(height, 2, squeeze=False).flat
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        for axes, (title, columns) in zip(grid, panels.items(), strict=False):
            for column in columns:
                if points := curve_of(rows, column):
                    axes.plot(*zip(*points, strict=True), ".-", label=column)
            axes.set(title=title, xlabel="epoch")
            axes.legend()
        with replacing(self.run / CURVES) as path:
            figure.savefig(path)


class TensorBoardLogs(keras.callbacks.Callback):
    """Writes every log as a TensorBoard scalar, one point an epoch.

    It shows what `log.csv` has: where a run goes on, its points are written anew from there, so
    that none is missing or there twice. Keras' own callback needs the tensorboard package merely to
    write; this one needs TensorFlow.

    Args:
        run: path of the run folder; the event files go into `tensorboard/`.
    """

    def __init__(self, run: Path) -> None:
        super().__init__()
        self.run = Path(run)

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        folder = self.run / TENSORBOARD
        for events in folder.glob("events.*"):
            events.unlink()
        self.writer = tf.summary.create_file_writer(str(folder))
        for row in read_log(self.run):
            values = {name: float(row[name]) for name in row if row[name] != "NA"}
            self.write(int(values.pop("epoch")), values)

    def on_epoch_end(self, epoch, logs=None):
        self.write(epoch, logs)

    def write(self, epoch: int, logs: dict[str, float]) -> None:
        """Writes an epoch's points."""
        import tensorflow as tf

        metadata = tf.compat.v1.SummaryMetadata()
        metadata.plugin_data.plugin_name = "scalars"
        with self.writer.as_default(step=epoch + 1):
            for name, value in logs.items():
                tf.summary.write(name, tf.constant(value, tf.float32), metadata=metadata)
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()


class Stopped(Exception):
    """Training was told to stop."""


class StopOnSignal(keras.callbacks.Callback):
    """Ends training after the current step at Ctrl-C, SIGTERM or when the terminal closes.

    A second signal ends it at once. Where several processes train together, one that any of them
    gets ends it in all, after the same step: JAX passes SIGTERM on.

    Raises:
        Stopped: (from `fit`) after that step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told = False
        self.several = processes.own_process()[1] > 1
        self.previous = {}

    def on_train_begin(self, logs=None):
        # Python lets only the main thread handle signals.
        if threading.current_thread() is threading.main_thread():
            names = {"SIGINT", "SIGTERM", "SIGHUP"} & set(dir(signal))  # Windows has no SIGHUP.
            if self.several:
                names.remove("SIGTERM")
            numbers = [getattr(signal, name) for name in names]
            self.previous = {number: signal.signal(number, self.stop) for number in numbers}

    def on_train_end(self, logs=None):
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def stop(self, number: int, frame: object) -> None:
        """The signal handler."""
        if self.told:
            raise KeyboardInterrupt
        self.told = True
        with contextlib.suppress(OSError):  # Whoever read the output may be gone.
            os.write(2, b"\nStopping after this step. Ctrl-C again stops without a checkpoint.\n")
        if self.several:
            signal.raise_signal(signal.SIGTERM)

    def on_train_batch_end(self, batch, logs=None):
        if processes.told_to_stop() if self.several else self.told:
            raise Stopped

    on_test_batch_end = on_train_batch_end
