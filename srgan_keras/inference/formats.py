"""File formats that need nothing of this package: SavedModel, ONNX, OpenVINO's and LiteRT's.

Scaling, clipping and rounding are inside, so that whoever loads it gives and takes 8-bit pictures.
"""

import contextlib
import functools
import json
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import layers

from srgan_keras.common import pixels
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import GENERATOR, SAVED_MODEL, checksum, replacing
from srgan_keras.inference.graph import fold_batch_normalization, reach, replace_layers, split
from srgan_keras.inference.runtimes import KEY, PRECISIONS, RUNTIMES, ConversionError, Extent
from srgan_keras.inference.sources import BESIDE

#: Of ONNX, understood by ONNX Runtime since 1.12 (2022).
OPSET = 17
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
        gives a dict of `pixels`, uint8 `(batch, scale * h, scale * w, 3)`. For programs that
        upscale piece by piece it has two numbers, `scale`, and `margin`, how far in LR pixels a
        result looks around; and what `serve` consists of: `stages`, functions from float32 to
        float32, pixels in [0, 255] not rounded, and `extents`, their `runtimes.Extent`s, int32
        `(stages, 3)`. Batch normalisations are folded into the convolutions.

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
    parts = split(fold_batch_normalization(generator, precision))
    models = [_free(model) for model, _ in parts]
    module = tf.Module()
    module.weights = [weight for model in models for weight in model.weights]
    module.scale, module.margin = map(tf.Variable, reach(generator))
    module.extents = tf.Variable([extent for _, extent in parts])
    module.stages = [
        _trace(model, first=model is models[0], last=model is models[-1]) for model in models
    ]

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="pixels")])
    def serve(lr):
        x = tf.cast(lr, tf.float32)
        for stage in module.stages:
            x = stage(x)
        return {"pixels": pixels.round_8bit(x)}

    module.serve = serve
    return module


def _free(model: keras.Model) -> keras.Model:
    if not any(isinstance(layer, layers.UpSampling2D) for layer in model.layers):
        return model
    return replace_layers(model, {layers.UpSampling2D: FreeUpSampling2D})


def _trace(model: keras.Model, first: bool, last: bool) -> Callable[[tf.Tensor], tf.Tensor]:
    """Makes a function of a stage: float32 in and out, and pixels in [0, 255], not rounded."""
    shape = (None, None, None, model.input.shape[-1])

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="x")])
    def stage(x):
        x = model(pixels.from_8bit(x) if first else x, training=False)
        return pixels.to_255(x) if last else tf.cast(x, tf.float32)

    return stage


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


def write_stages(
    generator: keras.Model, runtime: str, folder: Path, precision: str = "float32"
) -> list[Path]:
    """Writes the stages of a generator, float32 in and out, as files of a runtime.

    Args:
        generator: as for `serving_module`.
        runtime: `"tensorflow"`, `"openvino"` or `"onnx"`.
        folder: that is there, for a file of each stage, whose names sort as the stages run; of
            TensorFlow for one SavedModel, which holds them all.
        precision: as for `serving_module`; `"float32"` for other runtimes than TensorFlow.

    Returns:
        these files, or the SavedModel.

    Raises:
        ConversionError: if the runtime's converter does not know the network.
        UserError: as `serving_module`.
    """
    if runtime == "tensorflow":
        export(generator, folder / SAVED_MODEL, precision)
        return [folder / SAVED_MODEL]
    module = serving_module(generator)
    _, _, suffix = RUNTIMES[runtime]
    files = [folder / f"{index}{suffix}" for index in range(len(module.stages))]
    for stage, extent, file in zip(module.stages, module.extents.numpy(), files, strict=True):
        _convert(WRITERS[runtime], runtime, stage, Extent(*map(int, extent)), file)
    return files


def export_file(
    generator: keras.Model, file: str | os.PathLike, precision: str = "float32"
) -> None:
    """Writes a generator as one file, from `pixels`, uint8 `(batch, h, w, 3)` of any size, to
    `enlarged`, uint8 `(batch, scale * h, scale * w, 3)`.

    Args:
        generator: as for `serving_module`.
        file: its suffix is that of a runtime: .onnx, .tflite, or .xml, beside which a .bin is
            written.
        precision: `"float32"`, or for LiteRT `"int8"`: weights in 8 bits, and what convolutions
            read, too, in the range that each has at the time; sums stay float32. (With all feature
            maps in 8 bits, their ranges measured on the shipped training photographs before, SRGAN
            came within 37 dB of its float32 picture; this way within 44.)

    Raises:
        ConversionError: if the runtime's converter does not know the network.
        UserError: if the file cannot be replaced; and as `serving_module`.
    """
    file = Path(file)
    runtime = next(name for name, (_, _, suffix) in RUNTIMES.items() if suffix == file.suffix)
    if file.is_dir():
        raise UserError(f"{file} is a folder. Choose another file.")
    write = WRITERS[runtime]
    if precision == "int8":
        write = functools.partial(_write_litert, int8=True)
    module = serving_module(generator)

    @tf.function(input_signature=module.serve.input_signature)
    def enlarge(pixels):  # In ONNX, what goes in and what comes out have different names.
        return {"enlarged": module.serve(pixels)["pixels"]}

    memory = max(Extent(*extent).memory for extent in module.extents.numpy())
    whole = Extent(*(int(number) for number in (module.scale, module.margin, memory)))

    with contextlib.ExitStack() as stack:
        if runtime == "openvino":
            stack.enter_context(replacing(file.with_suffix(".bin")))
        unfinished = stack.enter_context(replacing(file))
        _convert(write, runtime, enlarge, whole, unfinished)


def _convert(write: Callable, runtime: str, function: Any, extent: Extent, path: Path) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The converters use what NumPy and Python deprecate.
            write(function, extent, path)
    except OSError:
        raise
    except Exception as error:  # Whatever a converter raises for an operation it lacks.
        reason = " ".join(str(error).split())
        reason = reason.split("Summary:")[-1].split("To facilitate")[0].strip(" -.")[:200]
        raise ConversionError(f"{runtime} cannot have this network: {reason}.") from error


def _write_openvino(function: Any, extent: Extent, path: Path) -> None:
    import openvino

    model = openvino.convert_model(function.get_concrete_function())
    model.set_rt_info(json.dumps(extent), KEY)
    openvino.save_model(model, path, compress_to_fp16=False)


def _write_onnx(function: Any, extent: Extent, path: Path) -> None:
    import tf2onnx

    model, _ = tf2onnx.convert.from_function(function, function.input_signature, opset=OPSET)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(extent)
    path.write_bytes(model.SerializeToString())


def _write_litert(function: Any, extent: Extent, path: Path, int8: bool = False) -> None:
    logging.getLogger("absl").setLevel(logging.ERROR)  # It warns of what it does itself.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    if int8:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    path.write_bytes(converter.convert())
    with zipfile.ZipFile(path, "a") as archive:  # behind its end, where its metadata belongs
        archive.writestr(KEY, json.dumps(extent))


WRITERS = {"openvino": _write_openvino, "onnx": _write_onnx, "litert": _write_litert}


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
