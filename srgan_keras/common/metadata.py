"""What a picture's file says about it: EXIF, XMP and IPTC, made true of its enlargement.

EXIF is changed in place, value by value, so that what nobody but the camera's maker can read stays
byte for byte where it was (EXIF 3.0, CIPA DC-008; TIFF 6.0 for its structure).
"""

import contextlib
import re
import struct
from collections.abc import Iterator

from PIL import ExifTags, Image

ORIENTATION, COLOUR_SPACE = 0x0112, 0xA001
WIDTHS, HEIGHTS = (0x0100, 0xA002), (0x0101, 0xA003)
EXIF_IFD, GPS_IFD, XMP, IPTC = 0x8769, 0x8825, 700, 33723
#: Tags of a TIFF file's own directory that describe the picture and not how it is stored.
DESCRIPTIVE = (
    *(0x010D, 0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x011D, 0x0128, 0x0131, 0x0132, 0x013B),
    *(0x013C, 0x4746, 0x4749, 0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F, EXIF_IFD, GPS_IFD),
)
_PREFIX = b"Exif\0\0"
_SHORT, _LONG = 3, 4


def read_exif(image: Image.Image) -> bytes:
    """A picture's EXIF as a TIFF structure of its own; empty where there is none.

    Raises:
        Exception: whatever a broken one makes Pillow raise.
    """
    if "exif" in image.info:
        return re.sub(b"^(Exif\0\0)+", b"", image.info["exif"])
    exif = image.getexif()
    if not hasattr(image, "tag_v2"):
        return exif.tobytes().removeprefix(_PREFIX) if len(exif) else b""
    described = Image.Exif()
    for tag in DESCRIPTIVE:
        if tag in exif:
            described[tag] = exif.get_ifd(tag) if tag in (EXIF_IFD, GPS_IFD) else exif[tag]
    return described.tobytes().removeprefix(_PREFIX) if len(described) else b""


def correct_exif(exif: bytes, width: int, height: int, converted: bool) -> bytes | None:
    """Makes EXIF true of another picture: upright, of another size, without the thumbnail.

    Args:
        exif: a TIFF structure.
        width: of the new picture.
        height: of the new picture.
        converted: whether it has been converted to sRGB.

    Returns:
        the same with the values changed that it has; None if it is broken.
    """
    new = {ORIENTATION: 1, **dict.fromkeys(WIDTHS, width), **dict.fromkeys(HEIGHTS, height)}
    if converted:
        new[COLOUR_SPACE] = 1
    data = bytearray(exif)
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    try:
        if order is None:
            return None
        (first,) = struct.unpack_from(f"{order}I", data, 4)
        directories = [first]
        for entry, tag, _ in _entries(data, order, first):
            if tag == EXIF_IFD:
                directories += struct.unpack_from(f"{order}I", data, entry + 8)
        for directory in directories:
            for entry, tag, kind in _entries(data, order, directory):
                if tag in new and kind in (_SHORT, _LONG):
                    kind = _LONG if new[tag] > 65535 else kind
                    value = struct.pack(f"{order}{'H2x' if kind == _SHORT else 'I'}", new[tag])
                    struct.pack_into(f"{order}HI4s", data, entry + 2, kind, 1, value)
        (count,) = struct.unpack_from(f"{order}H", data, first)
        struct.pack_into(f"{order}I", data, first + 2 + 12 * count, 0)  # No second directory.
    except struct.error:
        return None
    return bytes(data)


def _entries(data: bytearray, order: str, directory: int) -> Iterator[tuple[int, int, int]]:
    """The entries of a directory: (where each begins, its tag, its type)."""
    (count,) = struct.unpack_from(f"{order}H", data, directory)
    for index in range(count):
        entry = directory + 2 + 12 * index
        yield entry, *struct.unpack_from(f"{order}HH", data, entry)


def correct_xmp(xmp: bytes, width: int, height: int) -> bytes:
    """Makes XMP true of another picture: upright and of another size, where it says either."""
    new = {
        rb"tiff:Orientation": 1,
        **dict.fromkeys((rb"tiff:ImageWidth", rb"exif:PixelXDimension"), width),
        **dict.fromkeys((rb"tiff:ImageLength", rb"exif:PixelYDimension"), height),
    }
    for name, value in new.items():
        xmp = re.sub(rb"(%s\s*(?:=\s*[\"']|>)\s*)\d+" % name, rb"\g<1>%d" % value, xmp)
    return xmp


def read_iptc(image: Image.Image) -> bytes:
    """A picture's IPTC records; empty where there are none."""
    if hasattr(image, "tag_v2"):
        value = image.tag_v2.get(IPTC, b"")
        return value if isinstance(value, bytes) else b""
    blocks = image.info.get("photoshop")
    return blocks.get(0x0404, b"") if isinstance(blocks, dict) else b""


def iptc_segment(iptc: bytes) -> bytes:
    """IPTC records as a segment of a JPEG file; empty if there are none, or too many."""
    block = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    payload = b"Photoshop 3.0\0" + block
    if not iptc or len(payload) > 65533:
        return b""
    return b"\xff\xed" + struct.pack(">H", len(payload) + 2) + payload


def read_texts(image: Image.Image) -> dict[str, str]:
    """A picture's comments: the texts of a PNG file, the comment of a JPEG file."""
    texts = {}
    for name, text in getattr(image, "text", {}).items():
        is_other = name.startswith("Raw profile type") or name == "XML:com.adobe.xmp"
        if not is_other:  # EXIF, XMP and the like, which are read as such
            texts[name] = str(text)
    comment = image.info.get("comment")
    if isinstance(comment, bytes) and image.format in ("JPEG", "MPO"):
        try:
            texts["Comment"] = comment.decode()
        except UnicodeDecodeError:
            texts["Comment"] = comment.decode("latin-1")
    return texts


def orientation(image: Image.Image) -> int:
    """A picture's EXIF orientation, 1 to 8; 1 where it has none, or a broken one."""
    with contextlib.suppress(Exception):  # Broken EXIF is no reason to refuse the picture.
        value = image.getexif().get(ExifTags.Base.Orientation)
        return value if value in range(1, 9) else 1
    return 1
