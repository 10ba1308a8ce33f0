"""File formats that need nothing of this package: the SavedModel.

Scaling, clipping and rounding are inside, so that whoever loads it gives and takes 8-bit pictures.
"""

import os
import re
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from srgan_keras.common import pixels
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import checksum, replacing
from srgan_keras.inference.graph import fold_batch_normalization, reach, replace_layers
from srgan_keras.run import GENERATOR

PRECISIONS = ("float32", "bfloat16")
#: The file of a SavedModel that says which generator was beside it when it was written.
BESIDE = "generator.sha256"
#: What the folder of a SavedModel holds.
OWN = re.compile(rf"(saved_model|fingerprint)\.pb|{BESIDE}|assets|variables(/variables\.[\w.-]+)?")


def serving_module(generator: keras.Model, precision: str = "float32") -> tf.Module:
    """Wraps a generator into a module that takes and gives 8-bit pictures.

    Args:
        generator: model from `(batch, h, w, 3)` to `(batch, scale * h, scale * w, 3)`, both float32
            in [-1, 1], of layers that `graph` knows.
        precision: `"float32"`, or `"bfloat16"`, which halves memory and file; it halves the time
            too on processors that compute in it (CPUs with AVX512-BF16 or AMX, recent GPUs).

    Returns:
        `tf.Module` with `serve`, a function of `pixels`, uint8 `(batch, h, w, 3)` of any size, that
        gives a dict of `pixels`, uint8 `(batch, scale * h, scale * w, 3)`; and with two numbers for
        programs that upscale piece by piece: `scale`, and `margin`, how far in LR pixels a result
        looks around. Batch normalisations are folded into the convolutions.

    Raises:
        ValueError: if the precision is unknown.
        UserError: if Keras does not run on TensorFlow, or the generator has an unknown layer.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}. Received: {precision!r}")
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UserError(
            f"A SavedModel needs Keras' TensorFlow backend. Received: KERAS_BACKEND={backend}"
        )
    folded = fold_batch_normalization(generator, precision)
    if any(isinstance(layer, layers.UpSampling2D) for layer in folded.layers):
        folded = replace_layers(folded, {layers.UpSampling2D: FreeUpSampling2D})

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="pixels")])
    def serve(lr):
        return {"pixels": pixels.to_8bit(folded(pixels.from_8bit(lr), training=False))}

    module = tf.Module()
    module.weights, module.serve = folded.weights, serve
    module.scale, module.margin = map(tf.Variable, reach(generator))
    return module


def export(generator: keras.Model, folder: str | os.PathLike, precision: str = "float32") -> None:
    """Writes a generator as a SavedModel: its module, with `serve` as serving signature.

    Args:
        generator: as for `serving_module`.
        folder: path of the SavedModel; replaced if it is one already.
        precision: as for `serving_module`.

    Raises:
        UserError: if `folder` is or holds anything else than a SavedModel, or cannot be written;
            and as `serving_module`.
    """
    folder = Path(os.path.realpath(folder))  # A link stays one.
    check_replaceable(folder)
    module = serving_module(generator, precision)
    with replacing(folder) as unfinished:
        try:
            tf.saved_model.save(module, unfinished, signatures={"serving_default": module.serve})
            if (folder.parent / GENERATOR).is_file():
                (unfinished / BESIDE).write_text(checksum(folder.parent / GENERATOR))
        except tf.errors.OpError as error:
            raise UserError(f"{folder} cannot be written: {error.message}") from error


def check_replaceable(folder: Path) -> None:
    """Looks whether a SavedModel can be written to a folder, and nothing else is lost.

    Raises:
        UserError: if `folder` is or holds anything else than a SavedModel.
    """
    if not folder.exists():
        return
    if not (folder / "saved_model.pb").is_file():
        raise UserError(f"{folder} exists and is not a SavedModel. Choose another folder.")
    for path in sorted(folder.rglob("*")):
        if not OWN.fullmatch(path.relative_to(folder).as_posix()):
            raise UserError(f"{path} is not of the SavedModel. Move it, or choose another folder.")


def is_stale(folder: Path, generator: Path) -> bool:
    """Whether a run's generator is another than when the SavedModel beside it was written.

    Args:
        folder: of the SavedModel.
        generator: the .keras file.
    """
    record = folder / BESIDE
    if record.is_file():
        return record.read_text() != checksum(generator)
    exported = folder / "saved_model.pb"
    return generator.stat().st_mtime > exported.stat().st_mtime  # It was written by version 0.1.


class FreeUpSampling2D(layers.UpSampling2D):
    """Keras' layer for pictures of any size.

    Where Keras' own interpolates, TensorFlow cannot trace it without the size: it asks in Python
    whether that is above 0.
    """

    def call(self, x: Any) -> Any:
        if self.interpolation == "nearest":
            return super().call(x)
        size = tf.shape(x)[1:3] * self.size
        return tf.cast(tf.image.resize(x, size, self.interpolation), x.dtype)
