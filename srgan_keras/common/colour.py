"""Colour profiles for pictures of 16 bits, which Pillow's colour management cannot hold.

Only profiles that are curves and a matrix, as those of cameras, screens and working spaces are
(Adobe RGB, Display P3, ProPhoto): format and arithmetic are those of the ICC's specification
(ICC.1:2022, sections 8.3, 10.6 and 10.18).
"""

import io
import struct
from collections.abc import Callable

import numpy as np
from PIL import ImageCms

#: From linear sRGB to XYZ as profiles have it, seen in D50 (IEC 61966-2-1, adapted by Bradford).
SRGB_TO_XYZ = np.array(
    [
        [0.4360747, 0.3850649, 0.1430804],
        [0.2225045, 0.7168786, 0.0606169],
        [0.0139322, 0.0971045, 0.7141733],
    ]
)
#: How many pixels are converted at once.
PIECE = 2**20


def profile_name(profile: bytes) -> str | None:
    """What a profile calls itself; None if it is none."""
    try:
        return ImageCms.getProfileDescription(io.BytesIO(profile)).strip() or "unnamed profile"
    except (ImageCms.PyCMSError, OSError):
        return None


def is_srgb(name: str) -> bool:
    """Whether a profile is sRGB by its name."""
    return name.lower().replace(" ", "").startswith(("srgb", "iec61966-2.1", "iec61966-2-1"))


def srgb_profile() -> bytes:
    """The profile of sRGB, always the same: of the day of its standard, not of this second."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return made[:24] + struct.pack(">6H", 1999, 10, 18, 0, 0, 0) + made[36:]


def convert_16_bits(picture: np.ndarray, profile: bytes) -> np.ndarray | None:
    """Converts a picture from its profile to sRGB.

    Args:
        picture: (h, w, 3) uint16; of a grey profile with three equal channels.
        profile: the file's ICC profile.

    Returns:
        (h, w, 3) uint16, colours outside of sRGB clipped; None if the profile is not of curves and
        a matrix.
    """
    try:
        curves, matrix = _read(profile)
    except (ValueError, KeyError, IndexError, struct.error):
        return None
    grid = np.linspace(0, 1, 65536)
    tables = [curve(grid).astype(np.float32) for curve in curves]
    flat = picture.reshape(-1, 3)
    result = np.empty_like(flat)
    for start in range(0, len(flat), PIECE):
        piece = flat[start : start + PIECE]
        linear = np.stack([table[piece[:, i]] for i, table in enumerate(tables)], axis=-1)
        linear = (linear @ matrix.T.astype(np.float32)).clip(0, 1)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        result[start : start + PIECE] = np.rint(65535 * encoded)
    return result.reshape(picture.shape)


def _read(profile: bytes) -> tuple[list[Callable], np.ndarray]:
    """The curves of the three channels, and the matrix from them to linear sRGB."""
    space, connection = profile[16:20], profile[20:24]
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = [struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(min(count, 100))]
    tags = {name: profile[offset : offset + size] for name, offset, size in entries}
    if connection != b"XYZ " or b"A2B0" in tags:
        raise ValueError("not of curves and a matrix")
    if space == b"GRAY":
        return [_curve(tags[b"kTRC"])] * 3, np.eye(3)
    if space != b"RGB ":
        raise ValueError("other channels")
    columns = [struct.unpack_from(">3i", tags[name], 8) for name in (b"rXYZ", b"gXYZ", b"bXYZ")]
    to_xyz = np.array(columns).T / 65536
    curves = [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return curves, np.linalg.inv(SRGB_TO_XYZ) @ to_xyz


def _curve(tag: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """A curve as function from [0, 1] to [0, 1]."""
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        if count == 0:
            return lambda x: x
        values = np.array(struct.unpack_from(f">{count}H", tag, 12))
        if count == 1:
            return lambda x: x ** (values[0] / 256)
        return lambda x: np.interp(x, np.linspace(0, 1, count), values / 65535)
    if tag[:4] != b"para":
        raise ValueError("an unknown kind of curve")
    (kind,) = struct.unpack_from(">H", tag, 8)
    g, a, b, c, d, e, f = [
        value / 65536 for value in struct.unpack_from(f">{(1, 3, 4, 5, 7)[kind]}i", tag, 12)
    ] + _REST[kind]
    if kind in (1, 2):
        d, e, f, c = -b / a, c, c, 0.0

    def curve(x):
        power = np.maximum(a * x + b, 0) ** g + e
        return np.where(x >= d, power, c * x + f).clip(0, 1)

    return curve


#: What the parameters (g, a, b, c, d, e, f) are that a kind of curve leaves away.
_REST = ([1.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0] * 4, [0.0] * 3, [0.0] * 2, [])
