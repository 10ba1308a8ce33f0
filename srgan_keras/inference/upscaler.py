"""A trained generator that enlarges pictures of any size.

Which runtime computes it is left to `runtimes`. A file that was exported says itself how it goes
with pictures: for one, no model code is loaded; and for OpenVINO and ONNX Runtime no TensorFlow.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from srgan_keras.common.errors import UserError
from srgan_keras.common.files import GENERATOR
from srgan_keras.common.pictures import open_picture
from srgan_keras.data import SAMPLE_IMAGES
from srgan_keras.inference import cache, runtimes
from srgan_keras.inference.interpolation import FILTERS, Interpolation
from srgan_keras.inference.pieces import SMALL, Box, choose_side
from srgan_keras.inference.runtimes import RUNTIMES, Stage
from srgan_keras.inference.sources import BESIDE, PRETRAINED, find_saved_model

CHOICES = ("auto", "tensorflow", "openvino", "onnx")
NEARLY_ALL = 0.999


class Upscaler:
    """A trained generator that enlarges pictures.

    A large picture goes through in tiles. Each tile is cut out with as much around it as its result
    depends on, so the whole has no seams and is what the model makes of it in one piece. Where the
    generator has two stages (`graph.split`), tiles are large, all of the picture if there is memory
    for it, and the second stage takes each in small ones. A network with instance normalisation
    depends on all of a picture, and never has less of it.

    Args:
        source: a name in `sources.PRETRAINED`; a run folder, or a generator's .keras file; or what
            `srgan_keras.export` wrote: a SavedModel, .onnx, .xml or .tflite file. TensorFlow takes
            a run folder's SavedModel, unless there is none or its generator has changed since; and
            one that it keeps of a name, as other runtimes keep their files (`cache`).
        blend: as for `load_generator`.
        tile: int, longest side of a tile in LR pixels, its surroundings not counted; or `"auto"`,
            as large as the memory there is. Halved where memory turns out to be short.
        runtime: in `CHOICES`; `"auto"` is OpenVINO where it is installed and no GPU is seen,
            otherwise TensorFlow, and for a file the one whose format it has.
        device: `"auto"`, `"cpu"`, `"gpu"` or `"gpu:1"`, as the runtime has them.
        precision: `"float32"` or `"bfloat16"`; `"auto"` is bfloat16 where the device computes in it
            and `NEARLY_ALL` values of a photograph come out within one grey level, which is said.

    Attributes:
        scale: int, by how much it enlarges.
        runtime: name of the runtime that computes.
        precision: that it computes in.
        margin: int, how many LR pixels around a tile it looks at.

    Raises:
        UserError: if there is no such generator, or the runtime is not there or cannot take it.
    """

    def __init__(
        self,
        source: str | os.PathLike = "srgan",
        blend: float | None = None,
        *,
        tile: int | str = "auto",
        runtime: str = "auto",
        device: str = "auto",
        precision: str = "float32",
    ) -> None:
        self.tile = tile
        first = "float32" if precision == "auto" else precision
        self.runtime, self._stages = _open(source, blend, runtime, device, first)
        self.precision = first
        if precision == "auto" and runtimes.has_bfloat16(self.runtime, device):
            self._take_bfloat16(source, blend, device)

    @property
    def scale(self) -> int:
        return self._stages[-1].extent.scale

    @property
    def margin(self) -> int:
        return sum(stage.extent.margin for stage in self._stages)

    @classmethod
    def of_stages(cls, runtime: str, stages: Sequence[Stage], tile: int | str = "auto") -> Self:
        """Makes an upscaler of a network that is open already."""
        upscaler = cls.__new__(cls)
        upscaler.tile, upscaler.runtime, upscaler._stages = tile, runtime, stages
        upscaler.precision = "float32"
        return upscaler

    def _take_bfloat16(self, source: Any, blend: float | None, device: str) -> None:
        """Computes in bfloat16 from now on, if a photograph comes out nearly the same."""
        if find_saved_model(Path(source)) == Path(source):
            return  # It computes in what it was exported with.
        picture, exact = load_sample(), self._stages
        expected = self(picture).astype(int)
        self.precision = "bfloat16"
        _, self._stages = _open(source, blend, self.runtime, device, self.precision)
        share = np.mean(np.abs(self(picture) - expected) <= 1)
        if share < NEARLY_ALL:
            self._stages, self.precision = exact, "float32"
        word = "within one grey level of float32 on"
        taken = "taken" if share >= NEARLY_ALL else f"not taken: {NEARLY_ALL:.1%} are asked"
        print(f"bfloat16 is {word} {share:.2%} of a photograph's values: {taken}.", file=sys.stderr)

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Enlarges `(h, w, 3)` uint8 into `(scale * h, scale * w, 3)` uint8.

        Raises:
            UserError: if memory does not suffice.
        """
        return self._fit_memory(picture, np.uint8)

    def upscale_float(self, picture: np.ndarray) -> np.ndarray:
        """Enlarges a picture whose values lie between those of 8 bits, and rounds nothing.

        Args:
            picture: (h, w, 3) float32 in [0, 255].

        Returns:
            (scale * h, scale * w, 3) float32 in [0, 255], of which `bits` are meaningful.

        Raises:
            UserError: if memory does not suffice.
        """
        result = self._fit_memory(picture, np.float32)
        return np.clip(result, 0, 255, out=result)

    def release(self) -> None:
        """Gives memory back that its runtime keeps for the next picture."""
        for stage in self._stages:
            stage.release()

    @property
    def bits(self) -> int:
        """How many bits of what `upscale_float` gives are meaningful: 16; but 8 in bfloat16, and of
        files that take and give 8 bits: .onnx, .xml, .tflite, and SavedModels of version 0.1.
        """
        exact = all(stage.dtype is np.float32 for stage in self._stages)
        return 16 if exact and self.precision == "float32" else 8

    def _fit_memory(self, picture: np.ndarray, dtype: type) -> np.ndarray:
        height, width, _ = picture.shape
        extents = [stage.extent for stage in self._stages]
        side = choose_side(extents, height, width) if self.tile == "auto" else self.tile
        side = min(side, max(height, width))
        while True:
            try:
                return self._enlarge(picture, side, dtype)
            except Exception as error:
                if not runtimes.is_short_of_memory(error):
                    raise
                said = f"Out of memory on {width}x{height} pixels"
                if side == 1 or max(height, width) <= self.margin:
                    need = "This network needs all of a picture at once: give it a smaller one."
                    raise UserError(f"{said}. {need}") from error
            print(f"{said} in tiles of {side}: on with {side // 2}.", file=sys.stderr, flush=True)
            side //= 2

    def _enlarge(self, picture: np.ndarray, side: int, dtype: type) -> np.ndarray:
        *first, last = self._stages
        whole = Box(0, 0, *picture.shape[:2])
        if max(whole) <= self.margin:
            side = max(whole)  # Each tile would be computed from the whole picture.
        result = np.empty((self.scale * whole.bottom, self.scale * whole.right, 3), dtype)
        for tile in whole.split(side):
            outer = tile.grow(self.margin, whole)
            x = picture[outer.within(whole)][None]
            for stage in first:
                x = _run(stage, x)
            for piece in tile.split(SMALL if first else side):
                inner = piece.grow(last.extent.margin, whole)
                sr = _run(last, x[:, *inner.within(outer)])[0]
                sr = _to(dtype, sr[piece.within(inner, self.scale)])
                result[piece.within(whole, self.scale)] = sr
        return result


def load_sample(side: int = 96) -> np.ndarray:
    """The middle of a photograph that ships with the package, `(side, side, 3)` uint8."""
    picture = open_picture(SAMPLE_IMAGES / "test" / "cat.jpg")
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def _run(stage: Stage, x: np.ndarray) -> np.ndarray:
    return stage.run(np.ascontiguousarray(_to(stage.dtype, x)))


def _to(dtype: type, pixels: np.ndarray) -> np.ndarray:
    """Pixels in [0, 255] as 8 bits, rounded, or as float32; features stay what they are."""
    if dtype is np.uint8 and pixels.dtype != np.uint8:
        pixels = np.clip(np.rint(pixels), 0, 255)
    return pixels.astype(dtype, copy=False)


def _open(
    source: str | os.PathLike, blend: float | None, runtime: str, device: str, precision: str
) -> tuple[str, list[Stage]]:
    """Chooses the runtime, and opens the generator with it."""
    if runtime not in CHOICES:
        raise UserError(f"`runtime` must be one of {', '.join(CHOICES)}. Received: {runtime!r}")
    runtimes.check_device(device)
    path = Path(source)
    suffixes = {suffix: name for name, (_, _, suffix) in RUNTIMES.items() if suffix}
    if path.suffix in suffixes and blend is None:
        if runtime not in ("auto", suffixes[path.suffix]):
            raise UserError(f"{path} is a file for {suffixes[path.suffix]}, not for {runtime}.")
        runtime = suffixes[path.suffix]
        return runtime, runtimes.open_files(runtime, [path], device, precision)
    saved = find_saved_model(path) if blend is None else None
    if runtime == "auto":
        # A SavedModel's own generator is beside it, unless it is of version 0.1.
        same = saved and saved != path and (saved / BESIDE).is_file()
        other = not saved or (same and (path / GENERATOR).is_file())
        if other and _prefers_openvino(device):
            try:
                return _open(source, blend, "openvino", device, precision)
            except runtimes.ConversionError as error:
                print(f"{error} On with TensorFlow.", file=sys.stderr, flush=True)
        runtime = "tensorflow"
    if runtime != "tensorflow":
        if saved == path:
            raise UserError(f"{path} is a SavedModel, which runs on `runtime` tensorflow alone.")
        runtimes.check_installed(runtime)
        files = cache.prepare(source, blend, runtime)
        return runtime, runtimes.open_files(runtime, files, device, precision)
    if saved and precision == "float32":
        return runtime, runtimes.open_files(runtime, [saved], device)
    if saved == path:
        raise UserError(f"{path} computes in the `precision` it was exported with: leave it away.")
    runtimes.check_installed(runtime)
    if precision == "float32" and str(source) in PRETRAINED and cache.can_keep():
        return runtime, runtimes.open_files(runtime, cache.prepare(source, blend, runtime), device)
    return runtime, _serve(source, blend, device, precision)


def _prefers_openvino(device: str) -> bool:
    """Whether OpenVINO is the fastest that is there: it is on CPUs."""
    if not runtimes.is_installed("openvino") or not cache.can_keep():
        return False
    return device == "cpu" or (device == "auto" and not runtimes.sees_gpu())


def _serve(
    source: str | os.PathLike, blend: float | None, device: str, precision: str
) -> list[Stage]:
    # Here, because files that were exported need none of them.
    runtimes.import_tensorflow()
    from srgan_keras.inference.formats import serving_module
    from srgan_keras.inference.pretrained import load_generator

    module = serving_module(load_generator(source, blend), precision)
    return runtimes.list_stages(module, device)


def load_method(
    name: str | os.PathLike, scale: int, tile: int | str = "auto"
) -> Callable[[np.ndarray], np.ndarray]:
    """Loads a method of enlarging, trained or not.

    A generator is computed by TensorFlow, with which published scores were measured.

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
    if not Path(name).exists() and name not in PRETRAINED:
        names = ", ".join((*FILTERS, *PRETRAINED))
        raise UserError(f"`model` {name} is not a file or folder, nor one of {names}.")
    own_format = Path(name).suffix in [suffix for _, _, suffix in RUNTIMES.values() if suffix]
    method = Upscaler(name, tile=tile, runtime="auto" if own_format else "tensorflow")
    if method.scale != scale:
        raise UserError(f"`model` {name} enlarges {method.scale} times; `scale` is {scale}.")
    return method


def load_methods(
    names: list[str], scale: int, tile: int | str = "auto"
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
