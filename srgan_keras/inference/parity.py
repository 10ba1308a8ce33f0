"""Whether an exported generator gives what the Keras model gives, on a photograph."""

import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from srgan_keras.common import pixels
from srgan_keras.inference.upscaler import Upscaler, load_sample

SIDE = 128  # of the picture


def check_parity(generator: keras.Model, exported: Path) -> str:
    """Enlarges a photograph with a generator and with what was exported of it.

    Args:
        generator: as `formats.serving_module` takes it.
        exported: what `formats` wrote.

    Returns:
        a line that says how far apart the 8-bit results are, and how long each took.
    """
    picture = load_sample(SIDE)

    def with_keras(picture):
        sr = generator.predict_on_batch(np.asarray(pixels.from_8bit(picture[None])))
        return np.asarray(pixels.to_8bit(sr))[0]

    expected, keras_seconds = _time(with_keras, picture)
    result, seconds = _time(Upscaler(exported), picture)
    return f"{describe(result, expected)}; {seconds:.2f} s, Keras {keras_seconds:.2f} s"


def describe(result: np.ndarray, expected: np.ndarray) -> str:
    """Says in words how far apart two 8-bit pictures are."""
    difference = np.abs(result.astype(int) - expected)
    if not difference.any():
        return "the same picture as Keras' in all values"
    psnr = 10 * np.log10(255**2 / np.mean(difference**2))
    return (
        f"largest difference from Keras' picture {difference.max()} of 255, "
        f"{np.mean(difference == 0):.4%} of the values equal, PSNR {psnr:.1f} dB"
    )


def _time(function: Callable, picture: np.ndarray) -> tuple[np.ndarray, float]:
    function(picture)  # prepares it
    started = time.perf_counter()
    return function(picture), time.perf_counter() - started
