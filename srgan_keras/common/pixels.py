"""8-bit pixels to the networks' [-1, 1] and back, and luma; the only home of 127.5.

Reading, resizing and saving pictures belong to others.
"""

from typing import Any

from keras import ops

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: what of luma is red, green and blue


def from_8bit(pixels: Any) -> Any:
    """Scales the pixels of 8-bit pictures to [-1, 1].

    Args:
        pixels: tensor of any shape, values in [0, 255], uint8 or float.

    Returns:
        float32 tensor of the same shape, values in [-1, 1].
    """
    return ops.cast(pixels, "float32") / 127.5 - 1.0


def to_255(images: Any) -> Any:
    """Scales images in [-1, 1] to [0, 255], float32 and not rounded."""
    return (ops.cast(images, "float32") + 1.0) * 127.5


def to_8bit(images: Any) -> Any:
    """Turns networks' pictures into 8-bit pixels: scaled, clipped and rounded, never truncated.

    Args:
        images: float tensor of any shape; values outside [-1, 1] are clipped.

    Returns:
        uint8 tensor of the same shape.
    """
    return round_8bit(to_255(images))


def round_8bit(pixels: Any) -> Any:
    """Clips to [0, 255] and rounds to 8 bits what `to_255` gives."""
    return ops.cast(ops.round(ops.clip(pixels, 0.0, 255.0)), "uint8")


def luma(images: Any) -> Any:
    """Returns the luma of pictures, in the range that their channels have.

    Args:
        images: tensor or array `(..., 3)`, RGB, of floats.

    Returns:
        the same kind, `(..., 1)`.
    """
    red, green, blue = (images[..., i : i + 1] * LUMA[i] for i in range(3))
    return red + green + blue
