"""Pixel ranges: 8-bit pictures to the networks' floats and back; the only home of 255 and 127.5.

Reading, resizing and saving pictures belong to others.
"""

from keras import ops

#: The value ranges a network may read or write, by the name that recipes use.
RANGES = {"-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0)}


def from_8bit(pixels, value_range="-1..1"):
    """Scales pixels of an 8-bit picture to a network's value range.

    Args:
        pixels: tensor of any shape, values in [0, 255], uint8 or float.
        value_range: a name in `RANGES`. The tutorial uses [-1, 1] for LR and HR, Ledig et al.
            2017 use [0, 1] for LR.

    Returns:
        float32 tensor of the same shape with values in that range.
    """
    low, high = limits(value_range)
    return ops.cast(pixels, "float32") * ((high - low) / 255.0) + low


def to_8bit(images, value_range="-1..1"):
    """Turns a network's pictures into 8-bit pixels: scaled, clipped and rounded, never truncated.

    Args:
        images: float tensor of any shape; values outside `value_range` are clipped.
        value_range: a name in `RANGES`.

    Returns:
        uint8 tensor of the same shape.
    """
    low, high = limits(value_range)
    pixels = (ops.cast(images, "float32") - low) * (255.0 / (high - low))
    return ops.cast(ops.round(ops.clip(pixels, 0.0, 255.0)), "uint8")


def limits(value_range):
    """Returns (low, high) of a named range.

    Raises:
        ValueError: if `value_range` is not a name in `RANGES`.
    """
    if value_range not in RANGES:
        raise ValueError(f"value_range must be one of {list(RANGES)}. Received: {value_range!r}")
    return RANGES[value_range]
