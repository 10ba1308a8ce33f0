"""Enlarging by interpolation, which SRGAN argues against, in place of a trained generator."""

import numpy as np
from PIL import Image

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


class Interpolation:
    """Enlarges pictures with one of Pillow's filters.

    Args:
        method: a name in `FILTERS`; bicubic has a = -0.5, Lanczos three lobes.
        scale: int >= 1.

    Raises:
        ValueError: if `method` is not a name in `FILTERS`.
    """

    def __init__(self, method: str, scale: int) -> None:
        if method not in FILTERS:
            raise ValueError(f"method must be one of {', '.join(FILTERS)}. Received: {method!r}")
        self.method = method
        self.scale = scale

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Enlarges `(h, w, 3)` uint8 into `(scale * h, scale * w, 3)` uint8."""
        height, width, _ = picture.shape
        size = (self.scale * width, self.scale * height)
        return np.asarray(Image.fromarray(picture).resize(size, FILTERS[self.method]))
