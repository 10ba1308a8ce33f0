"""Pairs whose LR is as bad as the photographs that people have: blurred, reduced, noisy, JPEG.

Sources: Zhang et al. 2021 (BSRGAN) and Wang et al. 2021 (Real-ESRGAN), whose rounds of blur,
reduction, noise and JPEG these are; how strong and how often is our choice, light more often than
they have it, so that clean pictures lose little.

All chance is drawn with NumPy, and all that follows from it is the same arithmetic on every
backend. Each picture has sizes, kernels and qualities of its own, yet all arrays have one shape:
a picture lies, mirrored at its borders, on a canvas that has room for the largest.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from srgan_keras.common import pixels
from srgan_keras.common.settings import setting
from srgan_keras.data.pairs import Pairs

KERNEL = 15  # side of the blurs' kernels, in pixels
BLOCK = 16  # pixels that JPEG takes at a time: two by two blocks of 8, whose chroma is one
LARGEST = 0.75  # size of a picture between two rounds, as a part of HR; the least is LR
RESAMPLINGS = ("area", "bilinear", "bicubic")
SINC_SHARE = 0.15  # of the degraded pictures, those that go through a sinc filter
NOISY_SHARE = 0.35  # of the rounds, for noise of either kind
GREY_SHARE = 0.4  # of the noise, that without colour

#: The quantisation tables of JPEG's quality 50 (ITU-T T.81, annex K), luma and chroma.
LUMA_TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
CHROMA_TABLE = np.full((8, 8), 99, np.float32)
CHROMA_TABLE[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

#: RGB to luma and the two chromas, without their offset of 128 (JFIF 1.02).
YCBCR = np.array(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)


class Round(NamedTuple):
    """What is drawn for one round of a batch, float32 arrays with a row for each picture.

    Attributes:
        kernels: `(batch, KERNEL, KERNEL)`, the blur before the reduction.
        rows: `(batch, canvas, height)`, the matrices that reduce pictures' height and lay them on a
            canvas.
        columns: `(batch, canvas, width)`, the same for their width.
        noise: `(batch, canvas, canvas, 3)`, drawn from N(0, 1); grey noise in three channels alike.
        deviations: `(batch, 2)`, the noise's standard deviation in black, in grey levels, and what
            of its variance grows with the light, in grey levels at 255.
        qualities: `(batch,)`, JPEG's quality, 1 to 100; 0: none.
    """

    kernels: Any
    rows: Any
    columns: Any
    noise: Any
    deviations: Any
    qualities: Any


@dataclass(frozen=True)
class Degraded(Pairs):
    """Pairs whose LR went through one or two rounds of blur, reduction, noise and JPEG.

    HR is as of `Pairs`, and so is the LR of the pictures that stay clean, but for its rounding.
    """

    clean_share: float = setting(0.15, "share of pictures whose LR stays clean", least=0, most=1)
    second_share: float = setting(
        0.15, "share of the others that go through two rounds and not one", least=0, most=1
    )
    jpeg_share: float = setting(0.85, "share of rounds that end in JPEG", least=0, most=1)
    least_quality: int = setting(30, "lowest quality of JPEG", least=1, most=95)
    most_blur: float = setting(
        1.5, "greatest standard deviation of blurs, in pixels of HR", least=0.1, most=7
    )
    most_noise: float = setting(6.0, "greatest standard deviation of noise, of 255", least=0)

    # What the rounds stand in place of.
    lr_blur_sigma: float = dataclasses.field(default=0.0, init=False)
    lr_rounding: bool = dataclasses.field(default=True, init=False)

    def draw(self, rng: np.random.Generator, batch: int, size: int) -> tuple[np.ndarray, ...]:
        """Draws all that `make` needs for a batch.

        Args:
            rng: where chance comes from.
            batch: int, number of pictures.
            size: int, HR's width and height.

        Returns:
            float32 arrays with a row for each picture: two `Round`s one after the other, and the
            two matrices that cut LR out of the second canvas.
        """
        small, largest = size // self.scale, max(size // self.scale, int(LARGEST * size))
        canvases = [BLOCK * math.ceil((side + BLOCK - 1) / BLOCK) for side in (largest, small)]
        rows = [self._draw_picture(rng, size, small, largest, canvases) for _ in range(batch)]
        arrays = [np.stack(values).astype(np.float32) for values in zip(*rows, strict=True)]
        for number, canvas in enumerate(canvases):
            index = number * len(Round._fields) + Round._fields.index("noise")
            noise = rng.standard_normal((batch, canvas, canvas, 3), np.float32)
            arrays[index] = np.where(arrays[index].astype(bool), noise[..., :1], noise)
        return tuple(arrays)

    def _draw_picture(self, rng, size, small, largest, canvases) -> list:
        """As `draw` for one picture; in place of noise it says whether that is to be grey.

        One round goes over both canvases: the first has no JPEG then, and the second has nothing
        but a sinc filter, sometimes, and JPEG.
        """
        degraded = rng.random() >= self.clean_share
        twice = degraded and rng.random() < self.second_share
        sides = (int(rng.integers(small, largest + 1)) if twice else small, small)
        drawn, worst = [], 95 - self.least_quality
        side, starts, width = size, (0, 0), size  # of the picture, on what it lies on so far
        for number, (smaller, canvas) in enumerate(zip(sides, canvases, strict=True)):
            here = twice if number else degraded
            kernel = gaussian_kernel(0.0, 0.0)
            if here:  # The second canvas has larger pixels.
                kernel = draw_gaussian(rng, self.most_blur * side / size)
            if number and degraded and rng.random() < SINC_SHARE:
                kernel = sinc_kernel(rng.uniform(math.pi / 3, math.pi))
            reduce = resampling_matrix(
                side, smaller, rng.choice(RESAMPLINGS) if here else "bicubic"
            )
            reduce = [on_canvas(reduce, start, width) for start in starts]
            starts, width, side = rng.integers(BLOCK, size=2), canvas, smaller
            noisy = here * (rng.random(2) < NOISY_SHARE)
            compressed = (degraded if number else twice) and rng.random() < self.jpeg_share
            drawn += Round(
                kernels=kernel,
                rows=reduce[0][mirrored(smaller, canvas, starts[0])],
                columns=reduce[1][mirrored(smaller, canvas, starts[1])],
                noise=np.full((1, 1, 1), rng.random() < GREY_SHARE),
                deviations=noisy * self.most_noise * rng.random(2) ** 2,
                qualities=compressed * np.round(95 - worst * rng.random() ** 1.5),
            )
        return drawn + [on_canvas(np.eye(small), start, width) for start in starts]

    def make(self, hr: Any, *drawn: Any) -> tuple[Any, Any]:
        """As `Pairs.make`, with what `draw` has drawn for these pictures, which are square."""
        hr = ops.cast(hr, "float32")
        lr = hr
        for first in (0, len(Round._fields)):
            lr = degrade(lr, Round(*drawn[first:][: len(Round._fields)]))
        lr = ops.round(resample(lr, *drawn[-2:]))
        return pixels.from_8bit(lr), pixels.from_8bit(hr)


def degrade(pictures: Any, drawn: Round) -> Any:
    """Sends pictures through one round.

    Args:
        pictures: `(batch, h, w, 3)` float32 in [0, 255].
        drawn: what was drawn for them.

    Returns:
        `(batch, canvas, canvas, 3)` float32 in [0, 255].
    """
    pictures = blur(pictures, drawn.kernels)
    pictures = ops.clip(resample(pictures, drawn.rows, drawn.columns), 0.0, 255.0)
    dark, light = (drawn.deviations[:, i, None, None, None] for i in (0, 1))
    deviation = ops.sqrt(ops.square(dark) + ops.square(light) * pictures / 255.0)
    pictures = ops.clip(pictures + deviation * drawn.noise, 0.0, 255.0)
    compressed = jpeg(pictures, ops.maximum(drawn.qualities, 1.0))
    return ops.where(drawn.qualities[:, None, None, None] > 0, compressed, pictures)


def resample(pictures: Any, rows: Any, columns: Any) -> Any:
    """Multiplies each picture's height and width with a matrix of its own.

    Args:
        pictures: `(batch, h, w, c)` float32.
        rows: `(batch, new h, h)` float32.
        columns: `(batch, new w, w)` float32.
    """
    return ops.einsum("bij,bkl,bjlc->bikc", rows, columns, pictures)


def blur(pictures: Any, kernels: Any) -> Any:
    """Filters each picture, mirrored at its borders, with a kernel of its own.

    By Fourier transform, which on JAX takes a quarter of the time of a convolution for each.

    Args:
        pictures: `(batch, h, w, c)` float32.
        kernels: `(batch, n, n)` float32, n odd, the same when turned by half.
    """
    around = kernels.shape[-1] - 1
    edge = [around // 2, around // 2]
    pictures = ops.transpose(
        ops.pad(pictures, [[0, 0], edge, edge, [0, 0]], "reflect"), (0, 3, 1, 2)
    )
    height, width = pictures.shape[2:]
    kernels = ops.pad(
        kernels[:, None], [[0, 0], [0, 0], [0, height - around - 1], [0, width - around - 1]]
    )
    (a, b), (c, d) = (ops.fft2((x, ops.zeros_like(x))) for x in (pictures, kernels))
    blurred, _ = ops.ifft2((a * c - b * d, a * d + b * c))
    return ops.transpose(blurred[:, :, around:, around:], (0, 2, 3, 1))


def jpeg(pictures: Any, qualities: Any) -> Any:
    """What is left of pictures in a JPEG file: 8x8 cosine transform, chroma halved (4:2:0).

    As libjpeg, which Pillow uses, compresses and decompresses with its defaults (ITU-T T.81).

    Args:
        pictures: `(batch, h, w, 3)` float32 in [0, 255], h and w multiples of 16.
        qualities: `(batch,)` float32 from 1 to 100, libjpeg's scale.

    Returns:
        pictures of the same shape, not rounded.
    """
    height, width = pictures.shape[1:3]
    ycc = ops.round(ops.einsum("bhwc,dc->dbhw", pictures, YCBCR))  # as the file's 8 bits
    luma = quantise(ycc[0] - 128.0, LUMA_TABLE, qualities) + 128.0
    chroma = [both_sides(halving(height), plane, halving(width)) for plane in (ycc[1], ycc[2])]
    chroma = [quantise(plane, CHROMA_TABLE, qualities) for plane in chroma]
    chroma = [both_sides(doubling(height), plane, doubling(width)) for plane in chroma]
    rgb = ops.einsum("dbhw,cd->bhwc", ops.stack([luma, *chroma]), np.linalg.inv(YCBCR))
    return ops.clip(rgb, 0.0, 255.0)


def quantise(planes: Any, table: np.ndarray, qualities: Any) -> Any:
    """Rounds the 8x8 cosine transform of planes to multiples of a table's entries.

    Args:
        planes: `(batch, h, w)` float32, h and w multiples of 8.
        table: `(8, 8)`, for a quality of 50.
        qualities: `(batch,)` float32.
    """
    percent = ops.where(qualities < 50, 5000.0 / qualities, 200.0 - 2.0 * qualities)
    steps = ops.floor((table * ops.floor(percent)[:, None, None] + 50.0) / 100.0)
    height, width = (side // 8 for side in planes.shape[1:])
    steps = ops.tile(ops.clip(steps, 1.0, 255.0), (1, height, width))
    rows, columns = (np.kron(np.eye(n), cosines()).astype(np.float32) for n in (height, width))
    frequencies = ops.round(both_sides(rows, planes, columns) / steps) * steps
    return both_sides(rows.T, frequencies, columns.T)


def both_sides(rows: np.ndarray, planes: Any, columns: np.ndarray) -> Any:
    """Multiplies planes `(batch, h, w)` with a matrix for their height and one for their width."""
    return ops.matmul(ops.matmul(rows, planes), columns.T)


def cosines() -> np.ndarray:
    """The orthonormal cosine transform of 8 values, `(8, 8)`."""
    n = np.arange(8)
    matrix = np.cos(np.pi * n[:, None] * (2 * n + 1) / 16) / 2
    matrix[0] /= math.sqrt(2)
    return matrix


def halving(side: int) -> np.ndarray:
    """The matrix that takes the means of two neighbours, `(side / 2, side)`."""
    return np.kron(np.eye(side // 2), [[0.5, 0.5]]).astype(np.float32)


def doubling(side: int) -> np.ndarray:
    """The matrix of libjpeg's "fancy upsampling", `(side, side / 2)`.

    Each value is three quarters of the nearest and one of the next nearest.
    """
    half = np.eye(side // 2)
    before, after = (half[np.clip(np.arange(side // 2) + i, 0, side // 2 - 1)] for i in (-1, 1))
    pairs = np.stack([0.75 * half + 0.25 * before, 0.75 * half + 0.25 * after], axis=1)
    return pairs.reshape(side, side // 2).astype(np.float32)


def resampling_matrix(side: int, smaller: int, method: str) -> np.ndarray:
    """The matrix that reduces a row of pixels, antialiased.

    Args:
        side: int, pixels of the row.
        smaller: int, pixels that it is to have.
        method: `"area"` takes the mean of what a new pixel covers, parts of pixels included;
            `"bilinear"` and `"bicubic"` (a = -0.5) are Pillow's and `reduce_pictures`'.

    Returns:
        `(smaller, side)` float64, whose rows have sum 1.
    """
    factor = side / smaller
    centres = (np.arange(smaller) + 0.5) * factor - 0.5
    x = np.abs(np.arange(side) - centres[:, None]) / factor
    if method == "area":
        # The share of each pixel that lies within half a new pixel of the centre.
        weights = np.clip((0.5 - x) * factor + 0.5, 0, min(1, factor))
    elif method == "bilinear":
        weights = np.clip(1 - x, 0, None)
    else:
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(axis=1, keepdims=True)


def on_canvas(matrix: np.ndarray, start: int, width: int) -> np.ndarray:
    """The matrix for a row of `width` pixels of which those from `start` on are `matrix`'s."""
    wider = np.zeros((len(matrix), width), np.float32)
    wider[:, start : start + matrix.shape[1]] = matrix
    return wider


def mirrored(side: int, canvas: int, place: int) -> np.ndarray:
    """Which of a row's pixels lie where on a canvas, if the first is at `place`.

    Returns:
        `(canvas,)` int64.
    """
    period = max(1, 2 * (side - 1))
    there = (np.arange(canvas) - place) % period
    return np.minimum(there, period - there)


def draw_gaussian(rng: np.random.Generator, most: float) -> np.ndarray:
    """Draws a blur: round, longer than wide, or of another shape than Gauss'; seldom a strong one.

    Args:
        rng: where chance comes from.
        most: greatest standard deviation, in pixels.
    """
    sigma = most * rng.random() ** 2
    kind, ratio, angle = rng.random(), rng.uniform(0.2, 1), rng.uniform(0, math.pi)
    if kind < 0.5:
        return gaussian_kernel(sigma, sigma)
    if kind < 0.8:
        return gaussian_kernel(sigma, ratio * sigma, angle)
    return gaussian_kernel(sigma, ratio * sigma, angle, rng.uniform(0.5, 2))


def gaussian_kernel(
    sigma: float, across: float, angle: float = 0.0, shape: float = 1.0
) -> np.ndarray:
    """Makes a Gaussian or generalised Gaussian kernel (Zhang et al. 2021; Wang et al. 2021).

    Args:
        sigma: standard deviation along its axis, in pixels; 0: no blur.
        across: the same across.
        angle: of the axis, in radians.
        shape: exponent of the squared distance: 1 is Gauss', less has longer tails, more is flat.

    Returns:
        `(KERNEL, KERNEL)` float64 with sum 1.
    """
    y, x = centred_grid()
    along, aside = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    # A pixel's own width is the least that a kernel can have.
    distance = (along / max(sigma, 0.1)) ** 2 + (aside / max(across, 0.1)) ** 2
    kernel = np.exp(-0.5 * distance**shape)
    return kernel / kernel.sum()


def sinc_kernel(cutoff: float) -> np.ndarray:
    """Makes the filter that cuts all frequencies above one, and rings at edges (Wang et al. 2021).

    Args:
        cutoff: that frequency, in radians a pixel, at most pi.

    Returns:
        `(KERNEL, KERNEL)` float64 with sum 1: J1(cutoff r) / r, J1 the Bessel function.
    """
    y, x = centred_grid()
    radius = np.maximum(np.hypot(x, y), 1e-6)
    t = (np.arange(200) + 0.5) * math.pi / 200
    bessel = np.cos(t - cutoff * radius[..., None] * np.sin(t)).mean(axis=-1)  # Bessel's integral
    kernel = bessel / radius
    return kernel / kernel.sum()


def centred_grid() -> np.ndarray:
    """Rows and columns of a kernel's places, counted from its middle, `(2, KERNEL, KERNEL)`."""
    return np.mgrid[:KERNEL, :KERNEL] - KERNEL // 2
