"""HR pictures to (LR, HR) pairs, the same arithmetic on every backend.

Choosing and cutting the pictures belongs to `batches`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops

from srgan_keras.common import pixels
from srgan_keras.common.errors import UserError
from srgan_keras.common.settings import Part, setting

SCALES = (2, 3, 4, 8)


@dataclass(frozen=True)
class Pairs(Part):
    """How pairs are made: the HR crops' size, the factor to LR, and what LR goes through."""

    scale: int = setting(4, "factor between LR and HR", choices=SCALES)
    crop_size: int = setting(384, "side of the HR crops, in pixels", least=24, most=4096)
    augment: bool = setting(False, "flip and turn crops at random")
    with_replacement: bool = setting(
        False, "draw crops with replacement, and not each once an epoch"
    )
    lr_blur_sigma: float = setting(
        0.0, "standard deviation of the Gaussian blur before HR is reduced, in pixels", least=0
    )
    lr_rounding: bool = setting(False, "round LR to 8 bits, as LR files are")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crop_size % self.scale:
            raise UserError(
                f"crop_size must be a multiple of the scale, {self.scale}. "
                f"Received: {self.crop_size}"
            )
        if math.ceil(3 * self.lr_blur_sigma) >= self.crop_size:
            raise UserError(
                f"lr_blur_sigma must be less than a third of crop_size, {self.crop_size}. "
                f"Received: {self.lr_blur_sigma}"
            )

    def draw(self, rng: np.random.Generator, batch: int, size: int) -> tuple[np.ndarray, ...]:
        """Draws what `make` needs for a batch of HR pictures of a size: here nothing."""
        return ()

    def make(self, hr: Any, *drawn: Any) -> tuple[Any, Any]:
        """Makes the LR pictures that belong to HR pictures, and scales both.

        Args:
            hr: `(batch, h, w, 3)` uint8, h and w multiples of `scale`.
            *drawn: what `draw` has drawn for them.

        Returns:
            `(lr, hr)`, `(batch, h / scale, w / scale, 3)` and `(batch, h, w, 3)` float32 in
            [-1, 1].
        """
        hr = ops.cast(hr, "float32")
        lr = gaussian_blur(hr, self.lr_blur_sigma) if self.lr_blur_sigma else hr
        lr = reduce_pictures(lr, self.scale)
        if self.lr_rounding:
            lr = ops.round(lr)
        return pixels.from_8bit(lr), pixels.from_8bit(hr)


def make_arrays(
    pictures: Sequence[np.ndarray], *, crop_size: int = 384, scale: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """Makes HR and LR arrays from a list of pictures, as the tutorial's functions do.

    Args:
        pictures: arrays `(h, w, 3)` uint8 of any sizes, at least `crop_size` wide and high.
        crop_size: int, side of the square that is cut out of the middle of each.
        scale: int, by how much LR is smaller.

    Returns:
        `(hr, lr)`: `(n, crop_size, crop_size, 3)` and `(n, crop_size / scale, crop_size / scale,
        3)` float32 in [-1, 1]. LR is rounded to 8 bits before it is scaled. `gan.fit(lr, hr)` takes
        them.

    Raises:
        UserError: if there is no picture, one is not of that kind or too small, or `crop_size` and
            `scale` do not go together.
    """
    pairs = Pairs(scale=scale, crop_size=crop_size, lr_rounding=True)
    if not len(pictures):
        raise UserError("make_arrays needs at least one picture. Received: none")
    for picture in pictures:
        shape, dtype = np.shape(picture), getattr(picture, "dtype", type(picture))
        if len(shape) != 3 or shape[2] != 3 or dtype != np.uint8 or min(shape[:2]) < crop_size:
            raise UserError(
                f"pictures must be uint8, (height, width, 3), and at least {crop_size} wide and "
                f"high. Received: {dtype}, {shape}"
            )
    # One by one, so that they need not all fit into an accelerator's memory.
    made = [pairs.make(cut(picture, crop_size, (0.5, 0.5))[None]) for picture in pictures]
    lr, hr = (
        np.concatenate([ops.convert_to_numpy(image) for image in images])
        for images in zip(*made, strict=True)
    )
    return hr, lr


def cut(picture: Any, size: int, place: Sequence[float]) -> Any:
    """Cuts a square out of a picture.

    Args:
        picture: `(h, w, c)` array or tensor, not smaller than the square.
        size: int, the square's side.
        place: two numbers in [0, 1): where it lies, from the top and from the left.
    """
    top, left = (int(x * (side - size + 1)) for x, side in zip(place, picture.shape, strict=False))
    return picture[top : top + size, left : left + size]


def reduce_pictures(pictures: Any, scale: int) -> Any:
    """Makes pictures `scale` times smaller, as LR pictures are made.

    With an antialiased bicubic kernel (a = -0.5, half-pixel centres), which is what MATLAB's
    imresize and Pillow do; values that it throws beyond 0 and 255 are clipped.

    Args:
        pictures: `(batch, h, w, 3)` float32 in [0, 255], h and w multiples of `scale`.
        scale: int.

    Returns:
        `(batch, h / scale, w / scale, 3)` float32 in [0, 255], not rounded.
    """
    size = (pictures.shape[1] // scale, pictures.shape[2] // scale)
    small = ops.image.resize(pictures, size, interpolation="bicubic", antialias=True)
    return ops.clip(small, 0.0, 255.0)


def gaussian_blur(pictures: Any, sigma: float) -> Any:
    """Blurs pictures; their border is mirrored.

    Args:
        pictures: `(batch, h, w, c)` float32, sides longer than 3 sigma.
        sigma: float > 0, in pixels.
    """
    radius = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    pictures = ops.pad(pictures, [[0, 0], [radius, radius], [radius, radius], [0, 0]], "reflect")
    return separable_filter(pictures, weights / weights.sum())


def separable_filter(pictures: Any, weights: np.ndarray) -> Any:
    """Takes weighted means around each pixel whose surroundings lie inside its picture.

    Args:
        pictures: `(batch, h, w, c)` float32.
        weights: `(n,)` array, applied down and across.

    Returns:
        `(batch, h - n + 1, w - n + 1, c)` float32.
    """
    for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
        kernel = np.repeat(weights.reshape(shape), pictures.shape[-1], axis=2).astype("float32")
        pictures = ops.depthwise_conv(pictures, kernel)
    return pictures
