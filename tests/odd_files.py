"""Picture files as people have them, and colour profiles, made here: none need be shipped."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

# Primaries as profiles have them, adapted to D50, and the curve: a gamma, or sRGB's own.
ADOBE_RGB = ("Adobe RGB (1998)", [0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087],
             [0.14919, 0.06322, 0.74457], 563 / 256)  # fmt: skip
DISPLAY_P3 = ("Display P3", [0.51512, 0.24120, -0.00105], [0.29198, 0.69225, 0.04189],
              [0.15710, 0.06657, 0.78407], None)  # fmt: skip
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://'
    b'ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="4" '
    b'tiff:Orientation="6"><exif:PixelXDimension>24</exif:PixelXDimension></rdf:Description>'
    b"</rdf:RDF></x:xmpmeta>"
)
IPTC = b"\x1c\x02\x50\x00\x09A. Nobody"  # the author
MAKER_NOTE = b"MAKER\0\x01\x02" + bytes(range(40))


def icc_profile(name, red, green, blue, gamma) -> bytes:
    """A profile of curves and a matrix, version 2; sRGB's curve where gamma is None."""
    if gamma is None:
        curve = b"para\0\0\0\0\0\3\0\0" + struct.pack(
            ">5i", *(round(65536 * x) for x in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
        )
    else:
        curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma)) + b"\0\0"
    text = name.encode() + b"\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(78)
    tags = {b"desc": desc, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz([0.9642, 1, 0.8249])}
    tags |= {b"rXYZ": _xyz(red), b"gXYZ": _xyz(green), b"bXYZ": _xyz(blue)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    return _profile(tags, b"RGB ")


def grey_profile(gamma) -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(256 * gamma)) + b"\0\0"
    desc = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"Grey\0" + bytes(78)
    tags = {b"desc": desc, b"cprt": b"text\0\0\0\0none\0", b"wtpt": _xyz([0.9642, 1, 0.8249])}
    return _profile(tags | {b"kTRC": curve}, b"GRAY")


def _xyz(values):
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(65536 * value) for value in values))


def _profile(tags, space):
    table, data = struct.pack(">I", len(tags)), b""
    start = 132 + 12 * len(tags)
    for name, value in tags.items():
        value += bytes(-len(value) % 4)
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value
    header = struct.pack(">I4sI4s4s4s", start + len(data), b"\0\0\0\0", 0x02400000, b"mntr", space,
                         b"XYZ ") + bytes(12) + b"acsp" + bytes(28)  # fmt: skip
    header += struct.pack(">3i", 63190, 65536, 54061)  # D50
    return header + bytes(128 - len(header)) + table + data


def photo(width=24, height=16, channels=3) -> np.ndarray:
    """A smooth picture with every channel another, uint8."""
    y, x = np.mgrid[:height, :width].astype(float)
    waves = [np.sin(x / (2 + i) + i) + np.cos(y / (3 + i)) for i in range(channels)]
    values = np.stack(waves, axis=-1) * 60 + 128
    return np.rint(values).astype(np.uint8)


def exif(orientation=6, width=24, height=16) -> bytes:
    """EXIF as a camera writes it: big-endian, maker's note, GPS, a thumbnail."""
    thumbnail = io.BytesIO()
    Image.fromarray(photo(8, 6)).save(thumbnail, "JPEG")
    strings = {271: b"Camera\0", 315: b"A. Nobody\0", 306: b"2026:11:21 10:00:00\0"}
    directories = [
        {
            **{tag: (2, value) for tag, value in strings.items()},
            274: (3, struct.pack(">H", orientation)),
            282: (5, struct.pack(">II", 300, 1)),
            283: (5, struct.pack(">II", 300, 1)),
            296: (3, struct.pack(">H", 2)),
            0x8769: "exif",
            0x8825: "gps",
        },
        {
            33434: (5, struct.pack(">II", 1, 250)),
            36867: (2, strings[306]),
            37500: (7, MAKER_NOTE),
            0xA001: (3, struct.pack(">H", 65535)),
            0xA002: (4, struct.pack(">I", width)),
            0xA003: (3, struct.pack(">H", height)),
        },
        {
            1: (2, b"N\0"),
            2: (5, struct.pack(">6I", 52, 1, 31, 1, 12, 1)),
            3: (2, b"E\0"),
            4: (5, struct.pack(">6I", 13, 1, 24, 1, 6, 1)),
        },
        {513: "thumbnail", 514: (4, struct.pack(">I", len(thumbnail.getvalue())))},
    ]
    return b"Exif\0\0" + _tiff(directories, thumbnail.getvalue())


def _tiff(directories, thumbnail):
    sizes = [2 + 12 * len(one) + 4 for one in directories]
    starts = [8 + sum(sizes[:i]) for i in range(len(sizes))]
    end = 8 + sum(sizes)
    heap, tables = bytearray(thumbnail), []
    special = {"exif": starts[1], "gps": starts[2], "thumbnail": end}
    units = {2: 1, 3: 2, 4: 4, 5: 8, 7: 1}
    for index, directory in enumerate(directories):
        table = struct.pack(">H", len(directory))
        for tag, value in sorted(directory.items()):
            if isinstance(value, str):
                table += struct.pack(">HHII", tag, 4, 1, special[value])
                continue
            kind, data = value
            table += struct.pack(">HHI", tag, kind, len(data) // units[kind])
            if len(data) > 4:
                heap += bytes(len(heap) % 2)
                table += struct.pack(">I", end + len(heap))
                heap += data
            else:
                table += data.ljust(4, b"\0")
        tables.append(table + struct.pack(">I", starts[3] if index == 0 else 0))
    return b"MM\0*" + struct.pack(">I", 8) + b"".join(tables) + bytes(heap)


def png_16(samples: np.ndarray, **chunks: bytes) -> bytes:
    """A PNG file of 16 bits, (h, w, 1 to 4) uint16, every filter among its rows."""
    height, width, channels = samples.shape
    rows = samples.astype(">u2").view(np.uint8).reshape(height, -1).astype(int)
    step, data = 2 * channels, b""
    for y, row in enumerate(rows):
        left = np.concatenate([np.zeros(step, int), row[:-step]])
        up = rows[y - 1] if y else np.zeros_like(row)
        corner = np.concatenate([np.zeros(step, int), up[:-step]])
        guess = left + up - corner
        far = np.abs(np.stack([left, up, corner]) - guess)
        paeth = np.choose(far.argmin(axis=0), [left, up, corner])
        predicted = [np.zeros_like(row), left, up, (left + up) // 2, paeth][y % 5]
        data += bytes([y % 5]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    parts = {b"IHDR": struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)}
    parts |= {name.encode(): value for name, value in chunks.items()}
    parts |= {b"IDAT": zlib.compress(data), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(value)) + name + value + struct.pack(">I", zlib.crc32(name + value))
        for name, value in parts.items()
    )


def tiff_16(samples: np.ndarray, order="<", extra=2) -> bytes:
    """An uncompressed TIFF file of 16 bits, (h, w, 3 or 4) uint16."""
    height, width, channels = samples.shape
    data = samples.astype(f"{order}u2").tobytes()
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    shorts = {256: width, 257: height, 259: 1, 262: 2, 277: channels, 278: height, 284: 1}
    shorts |= {338: extra} if channels == 4 else {}
    entries = {258: (3, channels, None), 273: (4, 1, None), 279: (4, 1, len(data))}
    entries |= {tag: (3, 1, value) for tag, value in shorts.items()}
    end = 8 + 2 + 12 * len(entries) + 4
    table = struct.pack(f"{order}H", len(entries))
    for tag, (kind, count, value) in sorted(entries.items()):
        value = {258: end, 273: end + len(bits)}.get(tag, value)
        short = kind == 3 and tag != 258
        table += struct.pack(f"{order}HHI{'H2x' if short else 'I'}", tag, kind, count, value)
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(f"{order}I", 8) + table + bytes(4) + bits + data


def png_texts() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a castle, steps 20")
    info.add_itxt("Title", "Schlo\u00df")
    return info
