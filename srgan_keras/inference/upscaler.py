"""A trained generator that enlarges pictures of any size.

A SavedModel says itself how it scales: for one, no model code is loaded.
"""

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from srgan_keras.common.errors import UserError
from srgan_keras.inference.interpolation import FILTERS, Interpolation


class Upscaler:
    """A trained generator that enlarges pictures.

    A large picture goes through in tiles. Each tile is cut out with as much around it as its result
    depends on, so the whole has no seams and is what the model makes of it in one piece. A picture
    that is not larger than that goes through at once, as any does in a network with instance
    normalisation, which depends on all of it.

    Args:
        source: folder that `inference.formats.export` wrote, a run folder, or whatever
            `load_generator` takes. Of a run folder its SavedModel is taken, unless there is none or
            its generator has changed since.
        blend: as for `load_generator`.
        tile: int, longest side of a tile in LR pixels, its surroundings not counted.

    Attributes:
        scale: int, by how much it enlarges.
        bits: int, how many of what `upscale_float` gives are meaningful: 8 of a SavedModel without
            the generator that it was made of, else 16.

    Raises:
        UserError: if there is no such generator.
    """

    def __init__(
        self,
        source: str | os.PathLike = "srgan",
        blend: float | None = None,
        *,
        tile: int = 256,
    ) -> None:
        folder = _find_saved_model(Path(source)) if blend is None else None
        model = _load_saved_model(folder) if folder else _serve(source, blend)
        self.scale, self.margin, self.tile = int(model.scale), int(model.margin), tile
        self._model = model  # owns the variables that its function reads
        self._source, self._blend = source, blend
        self.bits = 8 if folder and _is_alone(folder, Path(source)) else 16

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Enlarges `(h, w, 3)` uint8 into `(scale * h, scale * w, 3)` uint8.

        Raises:
            UserError: if memory does not suffice.
        """
        try:
            return self._enlarge(picture)
        except (tf.errors.ResourceExhaustedError, MemoryError) as error:
            height, width, _ = picture.shape
            way_out = f"Set a `tile` smaller than {self.tile}."
            if max(height, width) <= self.margin:
                way_out = "This network needs all of a picture at once: give it a smaller one."
            raise UserError(f"Out of memory on {width}x{height} pixels. {way_out}") from error

    def _enlarge(self, picture):
        height, width, _ = picture.shape
        scale, margin, tile = self.scale, self.margin, self.tile
        serve = self._serve_8_bits if picture.dtype == np.uint8 else self._serve_floats
        if max(height, width) <= margin:
            tile = max(height, width)  # Each tile would be computed from the whole picture.
        result = np.empty((scale * height, scale * width, 3), picture.dtype)
        for top in range(0, height, tile):
            for left in range(0, width, tile):
                bottom, right = min(top + tile, height), min(left + tile, width)
                outer_top, outer_left = max(top - margin, 0), max(left - margin, 0)
                piece = picture[outer_top : bottom + margin, outer_left : right + margin]
                sr = serve(piece)
                y, x = scale * (top - outer_top), scale * (left - outer_left)
                result[scale * top : scale * bottom, scale * left : scale * right] = sr[
                    y : y + scale * (bottom - top), x : x + scale * (right - left)
                ]
        return result

    def upscale_float(self, picture: np.ndarray) -> np.ndarray:
        """Enlarges a picture whose values lie between those of 8 bits, and rounds nothing.

        Args:
            picture: (h, w, 3) float32 in [0, 255].

        Returns:
            (scale * h, scale * w, 3) float32 in [0, 255].

        Raises:
            UserError: if memory does not suffice.
        """
        if self.bits == 8:
            return self(np.rint(picture).astype(np.uint8)).astype(np.float32)
        return self(picture)

    def _serve_8_bits(self, piece):
        return self._model.serve(tf.constant(piece[None]))["pixels"][0].numpy()

    def _serve_floats(self, piece):
        return self._generator(tf.constant(piece[None]))[0].numpy()

    @cached_property
    def _generator(self):
        return _trace(self._source, self._blend)


def load_method(
    name: str | os.PathLike, scale: int, tile: int = 256
) -> Callable[[np.ndarray], np.ndarray]:
    """Loads a method of enlarging, trained or not.

    Args:
        name: a name in `interpolation.FILTERS`, or what `Upscaler` takes.
        scale: int, what an interpolation enlarges by.
        tile: as for `Upscaler`.

    Returns:
        a function from `(h, w, 3)` uint8 to `(scale * h, scale * w, 3)` uint8.

    Raises:
        UserError: if there is no such method, or it has another scale.
    """
    if name in FILTERS:
        return Interpolation(name, scale)
    if not Path(name).exists():
        from srgan_keras.inference.pretrained import PRETRAINED

        if name not in PRETRAINED:
            names = ", ".join((*FILTERS, *PRETRAINED))
            raise UserError(f"`model` {name} is not a file or folder, nor one of {names}.")
    method = Upscaler(name, tile=tile)
    if method.scale != scale:
        raise UserError(f"`model` {name} enlarges {method.scale} times; `scale` is {scale}.")
    return method


def load_methods(
    names: list[str], scale: int, tile: int = 256
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Loads several methods, by name or by the name of their folder or file.

    Args:
        names: as `load_method` takes them.
        scale: as for `load_method`.
        tile: likewise.

    Raises:
        UserError: if one does not load, or they cannot be told apart.
    """
    methods = {Path(name).resolve().name: load_method(name, scale, tile) for name in names}
    if len(methods) < len(names):
        raise UserError(f"Two of the models have the same name: {', '.join(names)}.")
    return methods


def _find_saved_model(path: Path) -> Path | None:
    if (path / "saved_model.pb").is_file():
        return path
    from srgan_keras.run import GENERATOR, SAVED_MODEL

    exported, generator = path / SAVED_MODEL / "saved_model.pb", path / GENERATOR
    if not exported.is_file():
        return None
    if not generator.is_file():
        return exported.parent
    from srgan_keras.inference.formats import is_stale

    return None if is_stale(exported.parent, generator) else exported.parent


def _load_saved_model(folder: Path) -> Any:
    try:
        model = tf.saved_model.load(str(folder))
    except Exception as error:  # Whatever a damaged file makes TensorFlow raise.
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{folder} does not load ({reason}).") from error
    if not all(hasattr(model, name) for name in ("scale", "margin", "serve")):
        raise UserError(f"{folder} is not a SavedModel that srgan_keras.export wrote.")
    return model


def _serve(source: str | os.PathLike, blend: float | None) -> Any:
    # Here, because a SavedModel needs neither of them.
    from srgan_keras.inference.formats import serving_module
    from srgan_keras.inference.pretrained import load_generator

    return serving_module(load_generator(source, blend))


def _is_alone(folder: Path, source: Path) -> bool:
    """Whether a SavedModel is all that there is, without its generator."""
    if folder == source:
        return True
    from srgan_keras.run import GENERATOR

    return not (source / GENERATOR).is_file()


def _trace(source: str | os.PathLike, blend: float | None) -> Callable[[tf.Tensor], tf.Tensor]:
    """The generator as a function from and to float32 in [0, 255], clipped and not rounded."""
    from keras import layers

    from srgan_keras.common import pixels
    from srgan_keras.inference.formats import FreeUpSampling2D
    from srgan_keras.inference.graph import fold_batch_normalization, replace_layers
    from srgan_keras.inference.pretrained import load_generator

    generator = fold_batch_normalization(load_generator(source, blend))
    if any(isinstance(layer, layers.UpSampling2D) for layer in generator.layers):
        generator = replace_layers(generator, {layers.UpSampling2D: FreeUpSampling2D})

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])
    def serve(lr):
        sr = pixels.to_255(generator(pixels.from_8bit(lr), training=False))
        return tf.clip_by_value(sr, 0, 255)

    return serve
