"""Chooses the generator for a photograph: `photo` where its file or its pixels are spoilt.

The rule is `find_flaw`; it needs NumPy alone. What the two generators do with a photograph stands
in their cards, how often the rule is right in docs/upscaling.md.
"""

import functools
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from srgan_keras.common.photograph import Photograph
from srgan_keras.inference.sources import find_shipped
from srgan_keras.inference.upscaler import Upscaler

#: What `model` is called where each photograph gets the generator that suits it.
AUTO = "auto"
CLEAN, SPOILT = "srgan", "photo"

#: Side of the blocks that JPEG's cosine transform takes.
BLOCK = 8
#: Of a large photograph as many squares a side are looked at, of so many blocks a side.
SQUARES, BLOCKS = 4, 16
#: What a clean photograph has at most: by how much more of the coefficients are zero at one place
#: for blocks to begin than at most others; and the deviation of its flattest twentieth in the
#: highest frequencies, in grey levels (half of the standard deviation that white noise has).
MOST_ZEROS, MOST_NOISE = 0.1, 2.0
#: The ratio of that deviation to the one in the middle frequencies, from which on it is noise.
LEAST_WHITE = 0.4

_LUMA = np.float32([0.299, 0.587, 0.114])
_K = np.arange(BLOCK)
#: The orthonormal cosine transform: row k has the k-th frequency.
_COSINES = np.sqrt(2 / BLOCK) * np.cos(np.pi / BLOCK * np.outer(_K, _K + 0.5))
_COSINES[0] /= np.sqrt(2)
_COSINES = _COSINES.astype(np.float32)


class Chooser:
    """Holds a generator for clean photographs and one for others, each loaded when first needed.

    Args:
        blend: as for `Upscaler`: how much of the one that is chosen is mixed with its forerunner.
        **options: as for `Upscaler`.

    Attributes:
        scale: int, by how much both enlarge.

    Raises:
        UserError: if one of them is not what was shipped, or blend is out of range.
    """

    scale = 4

    def __init__(self, blend: float | None = None, **options: Any) -> None:
        for name in (CLEAN, SPOILT):
            find_shipped(name, blend)
        self._load = functools.partial(Upscaler, blend=blend, **options)
        self._loaded: dict[str, Upscaler] = {}

    def choose(self, photograph: Photograph) -> tuple[Upscaler, str]:
        """Chooses a generator.

        Returns:
            it, and what is to be said: its name, and why.

        Raises:
            UserError: as `Upscaler`.
        """
        flaw = find_flaw(photograph)
        name = SPOILT if flaw else CLEAN
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        for other in self._loaded.keys() - {name}:
            self._loaded[other].release()  # or memory for feature maps would be held twice
        return self._loaded[name], f"by {name}: {flaw or 'clean'}"


def load_model(
    source: str | os.PathLike = AUTO, blend: float | None = None, **options: Any
) -> Upscaler | Chooser:
    """Loads what enlarges photographs.

    Args:
        source: `"auto"` for a `Chooser`, or as for `Upscaler`.
        blend: as for `Upscaler`.
        **options: likewise.
    """
    return Chooser(blend, **options) if source == AUTO else Upscaler(source, blend, **options)


def find_flaw(photograph: Photograph) -> str | None:
    """Says what makes a photograph one for `photo`.

    - Its file is a JPEG, of whatever quality: one that lost next to nothing, too.
    - It was a JPEG. JPEG rounds the coefficients of its cosine transform, many of them to zero, and
      zeros they are in its own blocks alone. So all 8x8 pixels of luma are transformed, and of the
      64 places where the first block can begin one has a share of coefficients below half a grey
      level that is larger by `MOST_ZEROS` than the median of all. (Text in cells of 8 pixels looks
      the same; what WebP and JPEG 2000 lose does not.)
    - It has noise. In the twentieth of all 8x8 pixels that has least of it, the highest frequencies
      deviate by more than `MOST_NOISE`, and by more than `LEAST_WHITE` of what the middle ones do:
      noise is alike in all, and texture falls off. (A photograph of which more than a twentieth is
      plain, a border for example, is not found.)

    The limits are our choice, on 90 photographs of BSDS500 and COCO 2017, reduced by 2 to 4: the
    share of zeros was larger by 0.05 at most in clean ones, by 0.15 at least in JPEGs of quality
    95. Pictures of less than 32 pixels a side tell too little, and are taken for clean.

    Returns:
        a few words, or None of a clean photograph.
    """
    if photograph.is_jpeg:
        return "a JPEG"
    if min(photograph.size) < 4 * BLOCK:
        return None
    zeros, high, middle = [], [], []
    for square in _squares(photograph):
        coefficients = _transform(square)
        zeros.append(_share_of_zeros(coefficients))
        high.append(_deviation(coefficients[..., 5:, 5:]))
        middle.append(_deviation(coefficients[..., 2:4, 2:4]))
    zeros = np.mean(zeros, axis=0)
    if zeros.max() - np.median(zeros) > MOST_ZEROS:
        return "shows JPEG's blocks"
    high, middle = (np.percentile(np.concatenate(band), 5) for band in (high, middle))
    return "shows noise" if high > max(MOST_NOISE, LEAST_WHITE * middle) else None


def _squares(photograph: Photograph) -> Iterator[np.ndarray]:
    """Luma in [0, 255], (h, w) float32: all of a small photograph, or squares evenly over it.

    They overlap where it is not large, and begin where blocks can that begin in its corner.
    """
    side = BLOCK * (BLOCKS + 1) - 1  # BLOCKS * BLOCK places for a block to begin
    tops, lefts = (
        np.unique(np.linspace(0, max(length - side, 0), SQUARES).astype(int) // BLOCK * BLOCK)
        for length in photograph.colours.shape[:2]
    )
    for top in tops:
        for left in lefts:
            square = photograph.colours[top : top + side, left : left + side]
            yield square.astype(np.float32) @ _LUMA / (257 if photograph.bits == 16 else 1)


def _transform(luma: np.ndarray) -> np.ndarray:
    """Cosine transform of every 8x8 pixels: (h, w) -> (h - 7, w - 7, 8, 8)."""
    down = sliding_window_view(luma, BLOCK, axis=0) @ _COSINES.T
    return sliding_window_view(down, BLOCK, axis=1) @ _COSINES.T


def _share_of_zeros(coefficients: np.ndarray) -> np.ndarray:
    """Share of coefficients below half a grey level, by where blocks begin, (8, 8)."""
    zeros = np.mean(np.abs(coefficients) < 0.5, axis=(2, 3))
    return np.array([[zeros[y::BLOCK, x::BLOCK].mean() for x in _K] for y in _K])


def _deviation(band: np.ndarray) -> np.ndarray:
    """Root of the mean square of each block's coefficients in a band."""
    return np.sqrt(np.mean(np.square(band), axis=(2, 3))).ravel()
