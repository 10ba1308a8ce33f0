"""Enlarges whole photographs, one or a folder of them, with everything that their files carry.

The network stands in `upscaler`; which photographs, and where to, in `photos`.
"""

import dataclasses
import itertools
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from srgan_keras.common.errors import UserError
from srgan_keras.common.files import replacing
from srgan_keras.common.photograph import (
    WRITTEN,
    Photograph,
    check_size,
    missing,
    open_photograph,
    save_photograph,
)
from srgan_keras.common.pictures import PictureError
from srgan_keras.inference.choosing import Chooser
from srgan_keras.inference.photos import Finished

Task = TypeVar("Task")
#: How many photographs are decoded ahead of the network, and how many results wait to be written.
WAITING = 2


@dataclasses.dataclass(frozen=True)
class Size:
    """How large a result is asked for.

    Args:
        outscale: by how much to enlarge; None: by as much as the network does.
        width: of the result at most; None: whatever follows.
        height: likewise. The sides keep their ratio.
    """

    outscale: float | None = None
    width: int | None = None
    height: int | None = None

    def of(self, width: int, height: int, scale: int) -> tuple[int, int]:
        """The width and height of the result of a photograph, by a network that enlarges so."""
        factor = self.outscale or scale
        if self.width or self.height:
            factor = min(
                self.width / width if self.width else np.inf,
                self.height / height if self.height else np.inf,
            )
        return max(1, round(factor * width)), max(1, round(factor * height))

    def ending(self, scale: int) -> str:
        """What is added to the names of results, so that those of other sizes have others."""
        if self.width or self.height:
            return "_" + "x".join(str(side) for side in (self.width or "", self.height or ""))
        return f"_x{self.outscale or scale:g}"


@dataclasses.dataclass(frozen=True)
class Enlarged:
    """What is to be said of a photograph that has been enlarged.

    Attributes:
        before: its width and height.
        after: those of the result.
        notes: what its owner may want to know, in a few words each.
        seconds: how long the network took.
    """

    before: tuple[int, int]
    after: tuple[int, int]
    notes: list[str]
    seconds: float


def enlarge_files(
    tasks: list[tuple[Path, Path]],
    model: Callable | Chooser,
    size: Size,
    quality: int = 95,
    strip_metadata: bool = False,
    finished: Finished | None = None,
) -> Iterator[tuple[tuple[Path, Path], Enlarged | PictureError]]:
    """Enlarges files.

    Args:
        tasks: photographs, and where the result of each is written; its suffix says the format.
        model: as for `enlarge`; or a `Chooser`, which is asked for each photograph.
        size: how large the results are.
        quality: as for `save_photograph`.
        strip_metadata: as for `open_photograph`.
        finished: where results are recorded; None: nowhere.

    Yields:
        (task, what was done, or the error if it cannot be), in order. A result is there whole or
        not at all.

    Raises:
        UserError: if a generator that a `Chooser` has chosen does not load.
    """

    def read(task):
        photo, target = task
        photograph = open_photograph(photo, strip_metadata)
        wanted = size.of(*photograph.size, model.scale)
        check_size(photo, *wanted, WRITTEN[target.suffix.lower()])
        return photograph, wanted

    def compute(task, opened):
        photograph, wanted = opened
        network = _choose(model, photograph)
        started = time.perf_counter()
        try:
            result = enlarge(photograph, network, wanted)
        except UserError as error:
            raise PictureError(task[0], str(error)) from error
        except MemoryError as error:
            raise PictureError(task[0], "too large for this machine's memory") from error
        return photograph.size, result, time.perf_counter() - started

    def write(task, computed):
        (photo, target), (before, result, seconds) = task, computed
        format_ = WRITTEN[target.suffix.lower()]
        # There may be thousands, and they can be made again.
        with replacing(target, sync=False) as temporary:
            try:
                with temporary.open("wb") as file:
                    save_photograph(file, result, format_, quality)
            except (ValueError, MemoryError) as error:
                raise PictureError(photo, f"cannot be written as {format_} ({error})") from error
            if finished:
                finished.add(photo, target, temporary.stat().st_size)
        return Enlarged(before, result.size, result.notes + missing(result, format_), seconds)

    return work_off(tasks, read, compute, write)


def _choose(model: Callable | Chooser, photograph: Photograph) -> Callable:
    """The network for a photograph, among whose notes stands which, if it was chosen."""
    if not isinstance(model, Chooser):
        return model
    network, note = model.choose(photograph)
    photograph.notes.insert(0, note)
    return network


def enlarge(photograph: Photograph, model: Callable, size: tuple[int, int]) -> Photograph:
    """Enlarges a photograph by a network.

    Colours where it is clear are filled from around first, so that the network draws no edge there
    and nothing dark shows through at the border; alpha is enlarged by itself, bicubic. 16 bits go
    through the network in floats.

    Args:
        photograph: as from `open_photograph`.
        model: an `Upscaler`, or a function that enlarges `(h, w, 3)` uint8.
        size: width and height of the result; where that is another than the network gives, it is
            resized, antialiased (Lanczos).

    Returns:
        the enlargement, with all else that the photograph has, and what is to be said of its bits.
    """
    colours, alpha, notes = photograph.colours, photograph.alpha, list(photograph.notes)
    if alpha is not None:
        colours = fill_clear(colours, alpha)
    if photograph.bits == 16:
        large = model.upscale_float(colours.astype(np.float32) / 257)
        large = _to_16_bits(resize(large, size))
        notes.append("16 bits" if model.bits == 16 else f"16 bits, {model.bits} of them meaningful")
    else:
        large = resize(model(colours), size)
    if alpha is not None:
        alpha = resize(alpha, size, Image.Resampling.BICUBIC)
    return dataclasses.replace(photograph, colours=large, alpha=alpha, notes=notes)


def _to_16_bits(picture: np.ndarray) -> np.ndarray:
    """Rounds [0, 255] to 16 bits, row by row, since such pictures fill a memory."""
    result = np.empty(picture.shape, np.uint16)
    for target, row in zip(result, picture, strict=True):
        target[:] = np.rint(257 * row.clip(0, 255))
    return result


def resize(
    array: np.ndarray, size: tuple[int, int], method: Image.Resampling = Image.Resampling.LANCZOS
) -> np.ndarray:
    """Resizes a picture, antialiased.

    Args:
        array: (h, w) or (h, w, 3); uint8, uint16 or float32.
        size: width and height of the result.
        method: one of Pillow's filters.

    Returns:
        the same kind; integers are rounded, and clipped to their range.
    """
    height, width = array.shape[:2]
    if (width, height) == tuple(size):
        return array
    if array.dtype == np.uint8:
        return np.asarray(Image.fromarray(array).resize(size, method))
    planes = array.reshape(height, width, -1).astype(np.float32)
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(planes[..., i])).resize(size, method))
        for i in range(planes.shape[2])
    ]
    result = planes[0] if array.ndim == 2 else np.stack(planes, axis=-1)
    if array.dtype == np.uint16:
        return np.rint(result.clip(0, 65535)).astype(np.uint16)
    return result


def fill_clear(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Gives clear pixels the colours of what can be seen around them.

    From a pyramid of means, in which each pixel weighs as much as can be seen of it: what is
    clear takes the finest mean that holds anything (Gortler et al., The Lumigraph, 1996).

    Args:
        colours: (h, w, 3), of any dtype.
        alpha: (h, w), 0 where it is clear.

    Returns:
        the same as `colours`, changed where alpha is 0 alone; all of it if nothing can be seen.
    """
    clear = alpha == 0
    if not clear.any() or clear.all():
        return colours
    weights = alpha.astype(np.float32)[..., None]
    filled = _fill(colours.astype(np.float32) * weights, weights)
    if colours.dtype != np.float32:
        filled = np.rint(filled)
    return np.where(clear[..., None], filled.astype(colours.dtype), colours)


def _fill(sums: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means of what is seen; where nothing is, those of the next coarser picture."""
    means = sums / np.maximum(weights, 1e-6)
    if weights.all() or weights.size == 1:
        return means
    height, width, _ = means.shape
    coarse = _fill(_halve(sums), _halve(weights))
    # Blown up bilinearly, so that no blocks are left where a network would draw edges.
    smooth = resize(coarse, (width, height), Image.Resampling.BILINEAR)
    return np.where(weights > 0, means, smooth)


def _halve(array: np.ndarray) -> np.ndarray:
    """Means of two pixels by two; a last row or column alone counts twice."""
    height, width, _ = array.shape
    array = np.pad(array, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    array = array[::2] + array[1::2]
    return (array[:, ::2] + array[:, 1::2]) / 4


def work_off(
    tasks: Iterable[Task],
    read: Callable[[Task], Any],
    compute: Callable[[Task, Any], Any],
    write: Callable[[Task, Any], Any],
) -> Iterator[tuple[Task, Any]]:
    """Reads, computes and writes, the next and the last beside the present one.

    Whatever the number of tasks, at most `WAITING` that are read and `WAITING` that are computed
    wait, and one is in work in each of the three places.

    Args:
        tasks: taken one after the other.
        read: function of a task, in a thread of its own.
        compute: function of a task and what was read, in the caller's thread.
        write: function of a task and what was computed, in a third thread.

    Yields:
        (a task, what writing it returned or the PictureError that any of them raised), in order.
        Other exceptions end it, when what is being written has been.
    """
    tasks = iter(tasks)
    reading: deque[tuple[Task, Future]] = deque()
    writing: deque[tuple[Task, Future]] = deque()
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
    ):
        warnings.filterwarnings("ignore", module=r"PIL\.")  # Of large or odd files.
        try:
            while True:
                for task in itertools.islice(tasks, WAITING + 1 - len(reading)):
                    reading.append((task, reader.submit(read, task)))
                while writing and (not reading or len(writing) > WAITING or writing[0][1].done()):
                    task, done = writing.popleft()
                    yield task, _outcome(done)
                if not reading:
                    return
                task, ready = reading.popleft()
                writing.append((task, _compute(task, ready, compute, write, writer)))
        finally:
            for pool in (reader, writer):
                pool.shutdown(wait=False, cancel_futures=True)


def _compute(task, ready, compute, write, writer) -> Future:
    try:
        return writer.submit(write, task, compute(task, ready.result()))
    except PictureError as error:
        failed: Future = Future()
        failed.set_exception(error)
        return failed


def _outcome(done: Future) -> Any:
    try:
        return done.result()
    except PictureError as error:
        return error
