"""HR pictures to (LR, HR) pairs, the same arithmetic on every backend.

Choosing and cutting the pictures belongs to `data`.
"""

import math

import numpy as np
from keras import ops

from srgan_keras import pixels


def make_pairs(hr, recipe):
    """Makes the LR pictures that belong to HR pictures, and scales both.

    Args:
        hr: `(batch, h, w, 3)` uint8, h and w multiples of `recipe.scale`.
        recipe: `Recipe`; its scale and its `lr_...` settings.

    Returns:
        `(lr, hr)`, float32, in the recipe's `lr_range` and in [-1, 1].
    """
    hr = ops.cast(hr, "float32")
    lr = gaussian_blur(hr, recipe.lr_blur_sigma) if recipe.lr_blur_sigma else hr
    lr = reduce_pictures(lr, recipe.scale)
    if recipe.lr_rounding:
        lr = ops.round(lr)
    return pixels.from_8bit(lr, recipe.lr_range), pixels.from_8bit(hr)


def reduce_pictures(pictures, scale):
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


def gaussian_blur(pictures, sigma):
    """Blurs pictures; their border is mirrored.

    Args:
        pictures: `(batch, h, w, c)` float32, sides longer than 3 sigma.
        sigma: float > 0, in pixels.
    """
    radius = math.ceil(3 * sigma)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    pictures = ops.pad(pictures, [[0, 0], [radius, radius], [radius, radius], [0, 0]], "reflect")
    return weigh(pictures, weights / weights.sum())


def weigh(pictures, weights):
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
