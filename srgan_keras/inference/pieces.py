"""Pieces of pictures: how they are cut, and how large they may be for the memory there is."""

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from srgan_keras.inference.runtimes import Extent

#: LR pixels along the side of a piece in the second of two stages, the memory of which is so
#: bounded. Of 64 to 256 tried, 128 was the fastest.
SMALL = 128
#: The same in a network of one stage: each piece is computed with all that the network looks at.
MEDIUM = 256
#: Bytes that are held for a byte of feature maps, with a layer's intermediate results.
WORKSPACE = 3.0


class Box(NamedTuple):
    """A part of a picture, in pixels; `bottom` and `right` are the first outside."""

    top: int
    left: int
    bottom: int
    right: int

    def split(self, side: int) -> Iterator["Box"]:
        """Yields boxes of at most that side that make up this one."""
        for top in range(self.top, self.bottom, side):
            for left in range(self.left, self.right, side):
                yield Box(top, left, min(top + side, self.bottom), min(left + side, self.right))

    def grow(self, margin: int, within: "Box") -> "Box":
        """This box with as much around it, as far as there is."""
        top, left = max(self.top - margin, within.top), max(self.left - margin, within.left)
        bottom, right = self.bottom + margin, self.right + margin
        return Box(top, left, min(bottom, within.bottom), min(right, within.right))

    def within(self, other: "Box", scale: int = 1) -> tuple[slice, slice]:
        """Where this box lies in an array that holds another one, enlarged `scale` times."""
        rows = slice(scale * (self.top - other.top), scale * (self.bottom - other.top))
        return rows, slice(scale * (self.left - other.left), scale * (self.right - other.left))


def choose_side(extents: Sequence[Extent], height: int, width: int) -> int:
    """Chooses the side of the pieces that a picture's network is to have.

    Args:
        extents: of its stages.
        height: of the picture, in pixels.
        width: likewise.

    Returns:
        int, in LR pixels, surroundings not counted: for two stages as much of the picture as half
        of the free memory is enough for, in equal pieces; for one at most `MEDIUM`.
    """
    first, longest = extents[0], max(height, width)
    margin = sum(extent.margin for extent in extents)
    result = 3 * extents[-1].scale ** 2 * height * width
    bytes_left = max(free_memory() / 2 - result, 0)
    pixels = bytes_left / (WORKSPACE * first.memory)
    if len(extents) > 1 and height * width <= pixels:
        return longest
    side = max(int(math.sqrt(pixels)) - 2 * margin, SMALL if len(extents) > 1 else SMALL // 2)
    if len(extents) == 1:
        return min(side, MEDIUM)
    return math.ceil(longest / math.ceil(longest / side))


def free_memory() -> float:
    """Returns how many bytes of memory programs can still have; 4e9 where nothing tells."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvail"))
    except (OSError, StopIteration):  # not Linux
        try:
            return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2
        except (AttributeError, ValueError, OSError):
            return 4e9
    group = Path("/sys/fs/cgroup")  # a container's limit
    try:
        limit, used = (int((group / f"memory.{name}").read_text()) for name in ("max", "current"))
        rows = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return min(free, limit - used + int(rows["inactive_file"]))
    except (OSError, ValueError, KeyError):  # no container, or one without a limit ("max")
        return free
