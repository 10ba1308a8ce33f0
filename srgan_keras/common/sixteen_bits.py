"""Pictures with 16 bits a channel, of which Pillow opens only grey ones whole and writes few.

Pillow can unpack the high byte of each value from a file of either byte order; taking one order for
the other gives the low bytes.
"""

import struct
import sys
import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

#: Pillow's name of what lies in a file, and under which names its high and its low bytes come out.
_SWAPPED = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}
#: TIFF's tags, and what they are set to: TIFF 6.0, its supplements, and ISO 12234-2 for XMP.
_DEFLATE, _DIFFERENCES = 8, 2
_STRIP = 2**20


def other_bytes(image: Image.Image) -> str | None:
    """Says how to unpack the low bytes of a picture of which Pillow would keep the high ones.

    Args:
        image: not yet decoded.

    Returns:
        Pillow's name for it, for `unpack_as`; None where the picture has no such bytes.
    """
    (raw, *more) = {_raw_mode(tile.args) for tile in image.tile} or {""}
    if more or not raw:
        return None
    if raw == "LA;16B":  # Grey and alpha, high and low: four bytes, which Pillow can give as RGBA.
        return "RGBA"
    channels, _, depth = raw.partition(";")
    if channels in ("RGB", "RGBA", "RGBX", "RGBa") and depth[:2] == "16" and image.mode != "CMYK":
        return f"{channels};16{_SWAPPED[depth[2:]]}"
    return None


def unpack_as(image: Image.Image, raw: str) -> None:
    """Makes Pillow decode a picture by another name than it would itself."""
    image.tile = [
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:]))
        for tile in image.tile
    ]


def _raw_mode(args: object) -> str:
    first = args[0] if isinstance(args, tuple) and args else args
    return first if isinstance(first, str) else ""


def join(high: np.ndarray, low: np.ndarray, raw: str) -> np.ndarray:
    """Joins what was decoded twice.

    Args:
        high: (h, w, c) uint8, as Pillow decodes it by itself.
        low: the same by the name from `other_bytes`.
        raw: that name.

    Returns:
        (h, w, 2) grey and alpha, (h, w, 3) RGB or (h, w, 4) with alpha, uint16.
    """
    if raw == "RGBA":
        high, low = low[..., [0, 2]], low[..., [1, 3]]
    values = high.astype(np.uint16) << 8 | low
    if raw.startswith("RGBa"):  # Colours that were multiplied by alpha.
        alpha = values[..., 3:]
        colours = values[..., :3] * (65535 / np.maximum(alpha, 1))
        values = np.concatenate([np.rint(colours.clip(0, 65535)).astype(np.uint16), alpha], -1)
    return values


def write_png_16(file: BinaryIO, samples: np.ndarray, **options) -> None:
    """Writes a PNG file of 16 bits a channel.

    Args:
        file: open for writing.
        samples: (h, w, c) uint16; 1 channel grey, 2 with alpha, 3 RGB, 4 with alpha.
        **options: what Pillow's writer takes beside the pixels.
    """
    height, width, channels = samples.shape
    packer, packed = zlib.compressobj(3), []
    step = 2 * channels
    for piece in np.array_split(samples, min(height, 1 + samples.nbytes // _STRIP)):
        row = piece.astype(">u2").view(np.uint8).reshape(len(piece), -1)
        filtered = np.empty((len(row), row.shape[1] + 1), np.uint8)
        filtered[:, 0] = 1  # Each byte less the one of the pixel to its left.
        filtered[:, 1 : step + 1] = row[:, :step]
        filtered[:, step + 1 :] = row[:, step:] - row[:, :-step]
        packed.append(packer.compress(filtered.tobytes()))
    packed.append(packer.flush())
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    ours = {
        b"IHDR": [struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)],
        b"IDAT": [piece for piece in packed if piece],
    }
    # What goes around the pixels is Pillow's, of a picture of one.
    file.write(b"\x89PNG\r\n\x1a\n")
    for name, data, _ in PngImagePlugin.getchunks(Image.new("RGB", (1, 1)), **options):
        for piece in ours.get(name, [data]):
            crc = zlib.crc32(piece, zlib.crc32(name))
            file.write(struct.pack(">I", len(piece)) + name + piece + struct.pack(">I", crc))


def write_tiff(
    file: BinaryIO,
    samples: np.ndarray,
    exif: bytes,
    tags: dict[int, bytes],
    dpi: tuple[float, float] | None = None,
) -> None:
    """Writes a TIFF file, deflated without loss.

    Args:
        file: open for writing.
        samples: (h, w, c) uint8 or uint16; 1 channel grey, 2 with alpha, 3 RGB, 4 with alpha.
        exif: a TIFF structure, or nothing.
        tags: other tags, by their numbers.
        dpi: dots in an inch, horizontally and vertically.

    Raises:
        ValueError: if it would be larger than a TIFF file can be.
    """
    height, width, channels = samples.shape
    ifd = TiffImagePlugin.ImageFileDirectory_v2(prefix=b"II")
    described = Image.Exif()
    described.load(exif)
    for tag in described:
        ifd[tag] = described.get_ifd(tag) if tag in (0x8769, 0x8825) else described[tag]
    for tag, value in tags.items():
        ifd.tagtype[tag] = 1 if tag == 700 else 7
        ifd[tag] = value
    if dpi:
        ifd[282], ifd[283], ifd[296] = *dpi, 2
    rows = min(height, max(1, _STRIP // (width * channels * samples.itemsize)))
    strips = [_deflate(samples[top : top + rows]) for top in range(0, height, rows)]
    ends = np.cumsum([len(strip) for strip in strips])
    if ends[-1] > 2**32 - 2**24:
        raise ValueError("larger than a TIFF file can be")
    structure = {
        256: width,
        257: height,
        258: (8 * samples.itemsize,) * channels,
        259: _DEFLATE,
        262: 1 if channels < 3 else 2,
        273: tuple(int(end) - len(strip) for end, strip in zip(ends, strips, strict=True)),
        274: 1,
        277: channels,
        278: rows,
        279: tuple(len(strip) for strip in strips),
        284: 1,
        317: _DIFFERENCES,
    }
    if channels in (2, 4):
        structure[338] = 2  # The last channel is alpha, by which the colours are not multiplied.
    ifd.tagtype |= {273: 4, 279: 4}
    for tag, value in structure.items():
        ifd[tag] = value
    ifd.save(file)
    for strip in strips:
        file.write(strip)


def _deflate(strip: np.ndarray) -> bytes:
    """Rows of a TIFF file: each value less the one to its left, little-endian, deflated."""
    differences = strip.astype(strip.dtype.newbyteorder("<"))
    differences[:, 1:] -= strip[:, :-1]
    return zlib.compress(differences.tobytes(), 6)
