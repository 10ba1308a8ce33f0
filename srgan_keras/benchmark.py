"""Times training steps on this machine.

    python -m srgan_keras.benchmark

Times the step alone, on one random batch; reading crops is not part of it.
"""

import dataclasses
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import keras
import numpy as np
import tensorflow as tf

from data_prep import cli
from srgan_keras.distribution import choose_strategy, describe_devices, use_xla
from srgan_keras.recipes import get_recipe
from srgan_keras.train import build_content_loss, build_gan, peak_memory

# Crop size and batch size, each with both of the tutorial's upsampling variants.
CASES = [
    (crop_size, batch_size, upsampling)
    for crop_size, batch_size in ((96, 4), (384, 1))
    for upsampling in ("pixel_shuffle", "nearest")
]


class StepTimer(keras.callbacks.Callback):
    """Notes the seconds that each step takes."""

    def on_train_begin(self, logs=None):
        self.times = [time.perf_counter()]

    def on_train_batch_end(self, batch, logs=None):
        self.times.append(time.perf_counter())

    def seconds(self, warm_up):
        """Returns the seconds of each step after the first `warm_up`."""
        return np.diff(self.times)[warm_up:]


def time_training_step(crop_size, batch_size, upsampling, steps, warm_up=2):
    """Times the tutorial's training step, VGG19 with random weights.

    Args:
        crop_size: side of HR, in pixels.
        batch_size: crops a step.
        upsampling: the generator's variant.
        steps: int, how many steps are timed.
        warm_up: int, steps before that.

    Returns:
        (seconds of each step, peak memory in words, devices in words).
    """
    recipe = dataclasses.replace(
        get_recipe("tutorial"), crop_size=crop_size, batch_size=batch_size, upsampling=upsampling
    )
    strategy = choose_strategy()
    with strategy.scope():
        gan = build_gan(recipe, build_content_loss(recipe, None), jit_compile=use_xla())
    shapes = (
        (batch_size, crop_size // recipe.scale, crop_size // recipe.scale, 3),
        (batch_size, crop_size, crop_size, 3),
    )
    batch = tuple(tf.random.stateless_uniform(shape, (0, 0), -1.0, 1.0) for shape in shapes)
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    timer = StepTimer()
    gan.fit(dataset, steps_per_epoch=warm_up + steps, shuffle=False, verbose=0, callbacks=[timer])
    return timer.seconds(warm_up), peak_memory(), describe_devices(strategy)


def main(argv=None):
    """The command line; see the module's docstring."""
    parser = cli.Parser(
        prog="python -m srgan_keras.benchmark", description="Times training steps on this machine."
    )
    parser.add_argument(
        "--steps", type=cli.positive_int, default=5, help="steps timed in each case"
    )
    args = parser.parse_args(argv)

    print(f"TensorFlow {tf.__version__}, Keras {keras.__version__}, {platform.platform()}")
    print("| crop | batch | upsampling | s/step (median) | least to most | memory | devices |")
    print("|---|---|---|---|---|---|---|")
    # A process for each case, so that the peak of its memory is its own.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        for case in CASES:
            seconds, memory, devices = pool.submit(time_training_step, *case, args.steps).result()
            cells = [*case, f"{np.median(seconds):.2f}"]
            cells += [f"{min(seconds):.2f} to {max(seconds):.2f}", memory, devices]
            print("|", " | ".join(map(str, cells)), "|", flush=True)


if __name__ == "__main__":
    cli.run(main)
