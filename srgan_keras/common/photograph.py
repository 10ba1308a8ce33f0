"""A photograph with all that its file carries: transparency, 16 bits, EXIF, XMP, IPTC, comments.

`pictures.open_picture` is for whoever needs the colours alone.
"""

import dataclasses
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

from srgan_keras.common import colour, metadata, sixteen_bits
from srgan_keras.common.pictures import MAX_PIXELS, PictureError, opened, to_srgb, whitened

#: What is written, by suffix.
WRITTEN = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
#: The longest side that a format can have.
LONGEST = {"JPEG": 65500, "WEBP": 16383}
#: The most pixels that are written: four times the sides of the largest picture that is opened.
LARGEST = 16 * MAX_PIXELS


@dataclasses.dataclass
class Photograph:
    """A picture and what its file says about it.

    Attributes:
        colours: (h, w, 3) uint8 or uint16, upright, sRGB; of a grey picture three equal channels.
        alpha: (h, w) of the same dtype, 0 where it is transparent; None if it has no transparency.
        is_grey: whether its file has one channel.
        is_jpeg: whether its file is a JPEG.
        exif: a TIFF structure, or nothing.
        xmp: XML, or nothing.
        iptc: IPTC's records, or nothing.
        texts: comments, by their names.
        dpi: dots in an inch, horizontally and vertically; None where the file does not say.
        profile: name of the colour profile from which it was converted; None if it had none.
        notes: what was done in opening it that its owner may want to know, in a few words each.
    """

    colours: np.ndarray
    alpha: np.ndarray | None = None
    is_grey: bool = False
    is_jpeg: bool = False
    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    texts: dict[str, str] = dataclasses.field(default_factory=dict)
    dpi: tuple[float, float] | None = None
    profile: str | None = None
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        height, width, _ = self.colours.shape
        return width, height

    @property
    def bits(self) -> int:
        """8 or 16, how many bits a channel has."""
        return 8 * self.colours.itemsize


def open_photograph(path: str | os.PathLike, strip_metadata: bool = False) -> Photograph:
    """Opens a picture with all that its file carries.

    EXIF orientation is applied and an embedded colour profile converted to sRGB. Values of 32 bits
    and floats become 16 bits; of several frames the first is taken.

    Args:
        path: a file in one of `pictures.FORMATS`, whatever its suffix says.
        strip_metadata: whether EXIF, XMP, IPTC and comments are left out.

    Raises:
        PictureError: as `pictures.open_picture`.
    """
    path = Path(path)
    with opened(path) as image:
        notes = []
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            notes.append(f"the first of {frames} {'pages' if image.format == 'TIFF' else 'frames'}")
        if image.mode in ("CMYK", "LAB"):
            notes.append(f"{image.mode} made RGB")
        profile = image.info.get("icc_profile")
        name = colour.profile_name(profile) if profile else None
        if profile and name is None:
            notes.append("its colour profile is broken and left out")
        low = sixteen_bits.other_bytes(image)
        image.load()
        photograph = _decode(path, image, low, profile if name else None)
        photograph.colours = _upright(photograph.colours, metadata.orientation(image))
        if photograph.alpha is not None:
            photograph.alpha = _upright(photograph.alpha, metadata.orientation(image))
        photograph.is_jpeg = image.format in ("JPEG", "MPO")  # MPO is a JPEG with more behind it.
        photograph.profile, photograph.dpi = name, _dots(image)
        photograph.notes = notes + photograph.notes
        if name and not colour.is_srgb(name):
            photograph.notes.append(f"{name} converted to sRGB")
        if not strip_metadata:
            _read_metadata(photograph, image)
        return photograph


def _decode(path: Path, image: Image.Image, low: str | None, profile: bytes | None) -> Photograph:
    """The pixels of a decoded picture, as they lie in the file."""
    one_channel = image.mode in ("I", "F") or image.mode.startswith("I;16")
    if not low and not one_channel:
        return _decode_8_bits(image, profile)
    if low:
        with opened(path) as again:
            sixteen_bits.unpack_as(again, low)
            again.load()
            values = sixteen_bits.join(np.asarray(image), np.asarray(again), low)
    else:
        values = np.rint(65535 * whitened(image)).astype(np.uint16)[..., None]
    colours, alpha = values, None
    if values.shape[2] in (2, 4):
        colours, alpha = values[..., :-1], values[..., -1]
    elif "transparency" in image.info:  # The one colour that is clear.
        clear = np.all(values == np.asarray(image.info["transparency"]), axis=-1)
        alpha = np.where(clear, 0, 65535).astype(np.uint16)
    is_grey = colours.shape[2] == 1
    colours = np.repeat(colours, 3, axis=2) if is_grey else colours
    notes = []
    if profile and not colour.is_srgb(colour.profile_name(profile)):
        converted = colour.convert_16_bits(colours, profile)
        if converted is None:
            eight = Image.fromarray((colours >> 8).astype(np.uint8))
            eight = to_srgb(eight.getchannel(0) if is_grey else eight, profile).convert("RGB")
            converted = np.asarray(eight).astype(np.uint16) * 257
            notes.append("its profile's tables allow 8 bits")
        colours = converted
    return Photograph(colours, alpha, is_grey, notes=notes)


def _decode_8_bits(image: Image.Image, profile: bytes | None) -> Photograph:
    is_grey = image.mode in ("1", "L", "LA", "La")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
    if is_grey:
        image = image.convert("L")
    elif image.mode not in ("RGB", "CMYK"):  # the modes that profiles are made for
        image = image.convert("RGB")
    if profile:
        image = to_srgb(image, profile)
    return Photograph(np.asarray(image.convert("RGB")), alpha, is_grey)


def _read_metadata(photograph: Photograph, image: Image.Image) -> None:
    try:
        photograph.exif = metadata.read_exif(image)
    except Exception:  # Broken EXIF is no reason to refuse the picture.
        photograph.notes.append("its EXIF is broken and left out")
    xmp = image.info.get("xmp", b"")
    photograph.xmp = xmp.encode() if isinstance(xmp, str) else xmp
    photograph.iptc = metadata.read_iptc(image)
    photograph.texts = metadata.read_texts(image)


def _dots(image: Image.Image) -> tuple[float, float] | None:
    try:
        x, y = (float(value) for value in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 1 < x < 1e5 and 1 < y < 1e5 else None  # Pillow says 1 for none.


def _upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turns an array as EXIF's orientation says."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    down = -1 if orientation in (3, 4, 7, 8) else 1
    right = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(array[::down, ::right])


def save_photograph(file: BinaryIO, photograph: Photograph, format_: str, quality: int) -> None:
    """Writes a photograph, upright, in sRGB, with all that the format can hold.

    Its EXIF and XMP get its size and orientation; a picture that had a colour profile gets that of
    sRGB. `missing` says what is lost.

    Args:
        file: open for writing.
        photograph: what to write.
        format_: one of those in `WRITTEN`.
        quality: 1 to 100, of JPEG and WebP; 100 is without loss in WebP.

    Raises:
        ValueError: the picture or what belongs to it is larger than the format can hold.
    """
    width, height = photograph.size
    converted = photograph.profile is not None
    exif = metadata.correct_exif(photograph.exif, width, height, converted) or b""
    xmp = metadata.correct_xmp(photograph.xmp, width, height)
    samples = _samples(photograph, format_)
    profile = colour.srgb_profile() if converted and samples.shape[2] > 2 else b""
    if format_ == "TIFF":
        tags = {700: xmp, metadata.IPTC: photograph.iptc, 34675: profile}
        tags = {tag: value for tag, value in tags.items() if value}
        sixteen_bits.write_tiff(file, samples, exif, tags, photograph.dpi)
        return
    options = {"icc_profile": profile or None, "exif": b"Exif\0\0" + exif if exif else b""}
    if photograph.dpi:
        options["dpi"] = photograph.dpi
    if format_ == "PNG":
        options["pnginfo"] = _png_texts(photograph.texts, xmp)
        if samples.dtype == np.uint16:
            sixteen_bits.write_png_16(file, samples, **options)
            return
        options["compress_level"] = 3
    elif format_ == "JPEG":
        options |= {"quality": quality, "extra": metadata.iptc_segment(photograph.iptc)}
        options |= {"subsampling": 0 if quality >= 90 else 2, "xmp": xmp}
        options["comment"] = photograph.texts.get("Comment", "").encode()
    else:
        options |= {"quality": quality, "lossless": quality == 100, "exact": True, "xmp": xmp}
    image = Image.fromarray(samples.squeeze(2) if samples.shape[2] == 1 else samples)
    image.save(file, format=format_, **options)


def _samples(photograph: Photograph, format_: str) -> np.ndarray:
    """The channels that a format holds, (h, w, 1 to 4), uint8 or uint16."""
    colours, alpha = photograph.colours, photograph.alpha
    if format_ in ("JPEG", "WEBP") and photograph.bits == 16:
        colours = np.rint(colours / np.float32(257)).astype(np.uint8)
        alpha = None if alpha is None else np.rint(alpha / np.float32(257)).astype(np.uint8)
    if format_ == "JPEG" and alpha is not None:
        share = alpha[..., None].astype(np.float32) / 255
        colours, alpha = np.rint(colours * share + 255 * (1 - share)).astype(np.uint8), None
    if photograph.is_grey and format_ != "WEBP":
        colours = colours[..., :1]
    return colours if alpha is None else np.concatenate([colours, alpha[..., None]], -1)


def _png_texts(texts: dict[str, str], xmp: bytes) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        info.add_text(name, text)
    if xmp:
        info.add_itxt("XML:com.adobe.xmp", xmp.decode(errors="replace"))
    return info


def missing(photograph: Photograph, format_: str) -> list[str]:
    """Names what of a photograph a format does not hold, in a few words each."""
    jpeg_or_webp = format_ in ("JPEG", "WEBP")
    comments = set(photograph.texts) - ({"Comment"} if format_ == "JPEG" else set())
    exif = photograph.exif and metadata.correct_exif(photograph.exif, 1, 1, False) is None
    lost = {
        "8 of its 16 bits left": jpeg_or_webp and photograph.bits == 16,
        "transparency laid on white": format_ == "JPEG" and photograph.alpha is not None,
        "its EXIF is broken and left out": exif,
        "IPTC left out": photograph.iptc and format_ not in ("JPEG", "TIFF"),
        "texts left out": comments and format_ != "PNG",
    }
    return [words for words, is_lost in lost.items() if is_lost]


def check_size(path: Path, width: int, height: int, format_: str) -> None:
    """Looks whether a format, and a machine, can hold a picture of this size.

    Raises:
        PictureError: if not.
    """
    longest = LONGEST.get(format_, 2**31 - 1)
    if max(width, height) > longest:
        raise PictureError(
            path,
            f"its enlargement is too large for {format_}: {width}x{height}, at most {longest} "
            "pixels a side; PNG and TIFF can be larger",
        )
    if width * height > LARGEST:
        raise PictureError(path, f"its enlargement is too large: {width}x{height} pixels")
