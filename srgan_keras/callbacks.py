"""What a training run leaves in its folder while it trains: logs, curves, pictures, checkpoints."""

import contextlib
import csv
import math
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import keras
import numpy as np
from matplotlib.figure import Figure

from data_prep.cli import UserError
from data_prep.pictures import replacing, write_png
from srgan_keras import pixels
from srgan_keras.interpolation import Interpolation
from srgan_keras.runs import CHECKPOINT, GENERATOR, LOG


class Checkpoint(keras.callbacks.Callback):
    """Saves the whole state of training, and the generator on its own.

    `checkpoints/latest.weights.h5` holds both networks and both optimizers, the step among them;
    `generator.keras` is the generator, `best_generator.keras` the one with the lowest content loss
    in validation so far. That is the distance that training minimises, in VGG19's features for a
    GAN; PSNR would choose the blurriest. A file is replaced only when its successor is complete,
    and never by networks whose loss is no longer a number.

    Args:
        run: path of the run folder.
        minutes: float, save at the first step after so many minutes, and at the end.

    Raises:
        UserError: (from `fit`) if the loss is not finite at the end of an epoch or when it saves,
            or if the disk is full.
    """

    def __init__(self, run, minutes=10.0):
        super().__init__()
        self.run = Path(run)
        self.seconds = 60 * minutes

    def on_train_begin(self, logs=None):
        self.saved_at = time.monotonic()
        past = (float(validation_loss(row)) for row in read_log(self.run))
        self.best = min(past, default=math.inf)

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self.saved_at >= self.seconds:
            self.save(logs)

    def on_epoch_end(self, epoch, logs=None):
        self.check(logs)
        loss = validation_loss(logs)
        if loss < self.best:
            self.best = loss
            with replacing(self.run / "best_generator.keras") as path:
                self.model.trained_generator.save(path)

    def on_train_end(self, logs=None):
        self.save(logs)

    def check(self, logs):
        """Stops training if the loss is not a number any more."""
        loss = (logs or {}).get("loss", 0.0)
        if not np.isfinite(loss):
            raise UserError(
                f"The loss is {loss}: training has diverged. Start again with a smaller "
                f"--learning-rate; what {self.run} holds is from before."
            )

    def check_disk(self):
        """Raises an error if the disk is too full, on which HDF5 would crash the interpreter."""
        model = self.model  # Its non-trainable variables include the discriminator's optimizer's.
        variables = model.trainable_variables + model.non_trainable_variables
        variables += model.optimizer.variables
        need = 1.2 * 4 * sum(math.prod(variable.shape) for variable in variables) + 1e6
        free = shutil.disk_usage(self.run).free
        if free < need:
            raise UserError(
                f"The disk of {self.run} has {free / 1e6:.0f} MB free and a checkpoint needs "
                f"{need / 1e6:.0f} MB. Make room, then go on with --resume {self.run}."
            )

    def save(self, logs):
        """Saves now."""
        self.check(logs)
        self.check_disk()
        with replacing(self.run / CHECKPOINT) as path:
            self.model.save_weights(path)
        with replacing(self.run / GENERATOR) as path:
            self.model.trained_generator.save(path)
        self.saved_at = time.monotonic()


class SamplePictures(keras.callbacks.Callback):
    """Writes LR, SR and HR side by side, pixel by pixel, one pair a row.

    LR is enlarged by repeating its pixels. The first picture, `samples/epoch-0000.png`, is what
    the untrained generator makes.

    Args:
        run: path of the run folder.
        pairs: `(lr, hr)` as `data.sample_pairs` gives them.
        recipe: `Recipe`.
    """

    def __init__(self, run, pairs, recipe):
        super().__init__()
        self.folder = Path(run) / "samples"
        self.lr, self.hr = pairs
        self.recipe = recipe

    def on_train_begin(self, logs=None):
        if not self.folder.exists():
            self.write(0)

    def on_epoch_end(self, epoch, logs=None):
        last = epoch + 1 == self.params["epochs"]
        if last or (epoch + 1) % self.recipe.sample_every == 0:
            self.write(epoch + 1)

    def write(self, epoch):
        """Writes the picture of this epoch."""
        enlarge = Interpolation("nearest", self.recipe.scale)
        rows = []
        for lr, hr in zip(self.lr, self.hr, strict=True):
            sr = self.model.trained_generator(lr[None], training=False)[0]
            lr = enlarge(np.asarray(pixels.to_8bit(lr, self.recipe.lr_range)))
            rows.append(np.hstack([lr, pixels.to_8bit(sr), pixels.to_8bit(hr)]))
        write_png(self.folder / f"epoch-{epoch:04d}.png", np.vstack(rows))


class LossCurves(keras.callbacks.Callback):
    """Draws the columns of `log.csv` over the epochs into `losses.png`, at every epoch's end.

    Args:
        run: path of the run folder.
    """

    def __init__(self, run):
        super().__init__()
        self.run = Path(run)

    def on_epoch_end(self, epoch, logs=None):
        rows = read_log(self.run)
        if self.model.discriminator is None:
            panels = {"loss": ["loss", "val_loss"]}
        else:
            panels = {
                "content loss": ["content_loss", "val_content_loss"],
                "adversarial and discriminator loss": ["adversarial_loss", "discriminator_loss"],
                "discriminator's output": ["d_hr", "d_sr"],
            }
        panels["PSNR, dB"] = ["psnr", "val_psnr"]
        figure = Figure(figsize=(10, 7), layout="constrained")
        grid = figure.subplots(len(panels) // 2, 2)
        for axes, (title, columns) in zip(grid.flat, panels.items(), strict=True):
            for column in columns:
                points = [
                    (int(row["epoch"]) + 1, float(row[column]))
                    for row in rows
                    if row.get(column, "NA") != "NA"
                ]
                if points:
                    axes.plot(*zip(*points, strict=True), ".-", label=column)
            axes.set(title=title, xlabel="epoch")
            axes.legend()
        with replacing(self.run / "losses.png") as path:
            figure.savefig(path)


def validation_loss(logs):
    """Returns the content loss of a row of logs; infinity if that epoch was not validated."""
    losses = [logs[name] for name in ("val_content_loss", "val_loss") if name in logs]
    return losses[0] if losses and losses[0] != "NA" else math.inf


def read_log(run):
    """Returns the rows of a run's log, dicts of strings; "NA" where there is no value.

    A row that a kill cut short, or that another joined on to, is left out.
    """
    path = run / LOG
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["epoch"].isdecimal() and None not in {*row, *row.values()}]


def rewind_log(run, epoch):
    """Drops what a killed run has logged after its last checkpoint: this epoch and later ones."""
    rows = [row for row in read_log(run) if int(row["epoch"]) < epoch]
    if rows:
        with replacing(run / LOG) as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        (run / LOG).unlink(missing_ok=True)


class TensorBoardLogs(keras.callbacks.Callback):
    """Writes every log as a TensorBoard scalar, one point an epoch.

    Keras' own callback needs the tensorboard package merely to write; this one needs TensorFlow.

    Args:
        run: path of the run folder; the event files go into `tensorboard/`.
    """

    def __init__(self, run):
        super().__init__()
        self.folder = str(Path(run) / "tensorboard")

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        self.writer = tf.summary.create_file_writer(self.folder)

    def on_epoch_end(self, epoch, logs=None):
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

    A second signal ends it at once.

    Raises:
        Stopped: (from `fit`) after that step.
    """

    def __init__(self):
        super().__init__()
        self.told = False
        self.previous = {}

    def on_train_begin(self, logs=None):
        # Python lets only the main thread handle signals.
        if threading.current_thread() is threading.main_thread():
            names = {"SIGINT", "SIGTERM", "SIGHUP"} & set(dir(signal))  # Windows has no SIGHUP.
            numbers = [getattr(signal, name) for name in names]
            self.previous = {number: signal.signal(number, self.stop) for number in numbers}

    def on_train_end(self, logs=None):
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def stop(self, number, frame):
        """The signal handler."""
        if self.told:
            raise KeyboardInterrupt
        self.told = True
        with contextlib.suppress(OSError):  # Whoever read the output may be gone.
            os.write(2, b"\nStopping after this step. Ctrl-C again stops without a checkpoint.\n")

    def on_train_batch_end(self, batch, logs=None):
        if self.told:
            raise Stopped

    on_test_batch_end = on_train_batch_end
