"""Times enlarging, beside the speed of a matrix product on the same machine.

The product is the limit: it is measured between the repeats of whatever is timed, since a machine's
speed drifts.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from srgan_keras.inference.formats import write_stages
from srgan_keras.inference.runtimes import open_files
from srgan_keras.inference.upscaler import Upscaler
from srgan_keras.systems.srgan import build_generator

MATRIX = 2048  # side of the matrices whose product is the limit
WARM_UP = 2


def measure(
    run: Callable[[], Any], repeats: int, flops: float = 0.0, precision: str = "float32"
) -> dict[str, Any]:
    """Times a function, and a matrix product beside it.

    Args:
        run: function without arguments; its work is done when what it returns can be read.
        repeats: int, how many times are taken, after `WARM_UP` more.
        flops: float, floating-point operations of one call; 0 if they are not counted.
        precision: `"float32"` or `"bfloat16"`, of the matrix product.

    Returns:
        dict: `seconds` (list), their `median`, `peak_gflops` (the product's speed) and, if flops
        are given, `gflop`, `gflops` and `share` (of the product's speed).
    """
    matrix = tf.cast(tf.random.stateless_normal((MATRIX, MATRIX), (0, 0)), precision)

    def product():
        return _square(matrix)

    times = {product: [], run: []}
    for function in [*times] * (WARM_UP + repeats):
        started = time.perf_counter()
        tf.nest.map_structure(np.asarray, function())
        times[function].append(time.perf_counter() - started)
    seconds = times[run][WARM_UP:]
    result = {
        "seconds": seconds,
        "median": float(np.median(seconds)),
        "peak_gflops": 2e-9 * MATRIX**3 / float(np.median(times[product][WARM_UP:])),
    }
    if flops:
        gflops = 1e-9 * flops / result["median"]
        share = gflops / result["peak_gflops"]
        result |= {"gflop": 1e-9 * flops, "gflops": gflops, "share": share}
    return result


@tf.function
def _square(matrix):
    return tf.matmul(matrix, matrix)[:1, :1]


def count_flops(model: keras.Model, size: int) -> tuple[float, float]:
    """Counts the operations of a network's convolutions and dense layers.

    Args:
        model: functional model of pictures.
        size: int, side of the square picture that goes in.

    Returns:
        (multiplications and additions forwards, those of the first layer alone). `NarrowConv2D`
        counts as the convolution that it stands for.
    """
    counted = [layer for layer in model.layers if isinstance(layer, (layers.Conv2D, layers.Dense))]
    outputs = keras.Model(model.input, [layer.output for layer in counted])
    shapes = outputs.compute_output_shape((1, size, size, 3))
    flops = [
        2.0 * np.prod(layer.kernel.shape) * np.prod(shape[1:-1])
        for layer, shape in zip(counted, shapes, strict=True)
    ]
    return sum(flops), flops[0]


def time_upscaling(
    repeats: int, side: int, precision: str, runtime: str = "tensorflow"
) -> dict[str, Any]:
    """Times the enlargement of a square picture by 4 with a pixel-shuffle generator.

    Args:
        repeats: int; above half a megapixel two are enough.
        side: of the picture, in pixels.
        precision: as for `formats.write_stages`.
        runtime: `"tensorflow"`, `"openvino"` or `"onnx"`.

    Returns:
        dict, as from `measure`.
    """
    generator = build_generator(upsampling="pixel_shuffle")
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    with tempfile.TemporaryDirectory() as name:
        files = write_stages(generator, runtime, Path(name), precision)
        model = Upscaler.of_stages(runtime, open_files(runtime, files))
        flops, _ = count_flops(generator, side)
        repeats = repeats if side < 512 else 2  # a megapixel takes long enough
        return measure(lambda: model(picture), repeats, flops, precision)
