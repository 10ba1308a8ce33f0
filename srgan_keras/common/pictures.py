"""Finds and opens any picture as plain RGB, names what is made of it, and writes PNG files.

What is done with the pictures is left to the callers; Pillow's global state is left as it is.
"""

import contextlib
import hashlib
import io
import os
import re
import stat
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from srgan_keras.common import metadata
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import replacing

# The formats that are opened, with their suffixes. Pillow knows more, some of which start other
# programs (EPS runs Ghostscript).
FORMATS = {
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "JPEG2000": (".jp2", ".j2k"),
    "PNG": (".png",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)

# Larger pictures are refused before they are decoded. Above the largest cameras (151 megapixels)
# and just below 178,956,970, where Pillow itself refuses.
MAX_PIXELS = 178_000_000

# Characters of a name that a result keeps whole: what is added to it fits into a file's name, too.
_LONGEST_STEM = 40

_UPRIGHT = {  # EXIF orientation -> what turns the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(UserError):
    """A file that cannot be used as a picture.

    Attributes:
        path: the file.
        reason: why, in a few words, such as "truncated" or "not an image".
    """

    def __init__(self, path: Path, reason: str) -> None:
        """Keeps both as the exception's arguments, so that it survives pickling."""
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        """One line: the file and the reason."""
        return f"{self.path}: {self.reason}"


def open_picture(path: str | os.PathLike) -> np.ndarray:
    """Opens a picture the way a person sees it in a viewer.

    EXIF orientation is applied, an embedded colour profile converted to sRGB, transparency laid
    on white, 16-bit and float values scaled to 8 bits; of an animation the first frame is taken.

    Args:
        path: a file in one of FORMATS, whatever its suffix says.

    Returns:
        The pixels, (height, width, 3) uint8, RGB in [0, 255].

    Raises:
        PictureError: the file is missing, empty, no image, truncated, broken, or has more than
            MAX_PIXELS pixels.
    """
    with opened(path) as image:
        image.load()
        return np.array(_to_rgb(_turn_upright(image)))


def picture_size(path: str | os.PathLike) -> tuple[int, int]:
    """Returns a picture's width and height as its header has them, in the order of the file.

    Raises:
        PictureError: as for `open_picture`, as far as the header tells.
    """
    with opened(path) as image:
        return image.size


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[Image.Image]:
    """A picture whose header has been read; what fails until it is closed is a PictureError.

    Yields:
        Pillow's image, of one of FORMATS, not yet decoded, of at most MAX_PIXELS pixels.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # Opening a named pipe would wait for ever.
            raise PictureError(path, "not a file")
        if status.st_size == 0:
            raise PictureError(path, "empty file")
        with (
            _quiet(),
            path.open("rb") as file,
            Image.open(file, formats=tuple(FORMATS)) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError(f"{image.width * image.height} pixels")
            yield image
    except PictureError:
        raise
    except Exception as error:  # a broken file makes Pillow's decoders raise nearly anything
        raise PictureError(path, _reason(error)) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides Pillow's warnings of large or odd files, which are judged here.

    In the main thread alone: the filters are the whole process's, and threads that set them at the
    same time would leave everything hidden.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, Image.DecompressionBombError):
        pixels = re.search(r"\d+ pixels", text)[0]  # Pillow says more
        return f"too large (decompression bomb): {pixels}, at most {MAX_PIXELS}"
    if isinstance(error, MemoryError):
        return "too large for this machine's memory"
    if isinstance(error, EOFError) or "truncated" in text.lower():
        return "truncated"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return f"broken ({text or type(error).__name__})"


def _turn_upright(image: Image.Image) -> Image.Image:
    turn = _UPRIGHT.get(metadata.orientation(image))
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _to_8_bits(image)
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    elif image.mode not in ("L", "RGB", "CMYK"):  # the modes that profiles are made for
        image = image.convert("RGB")
    if profile:
        image = to_srgb(image, profile)
    return image.convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.rint(255 * whitened(image)).astype(np.uint8))


def whitened(image: Image.Image) -> np.ndarray:
    """The values of a picture of one 16-bit, 32-bit or float channel, (h, w) float32 in [0, 1].

    1 is the smallest white that holds all values, a common one where there is one.
    """
    values = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    whites = (1, 255, 65535) if image.mode == "F" else (65535,)
    peak = values.max()
    return values.clip(min=0) / next((white for white in whites if peak <= white), peak)


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Converts a picture of mode L, RGB or CMYK from its profile to sRGB, as far as that fits."""
    try:
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, io.BytesIO(profile), srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # an invalid profile, or one for other channels
        return image


def list_pictures(path: str | os.PathLike, without: str | os.PathLike | None = None) -> list[Path]:
    """Lists the files below a folder that have a picture's suffix, in a stable order.

    Args:
        path: the folder; sub-folders are searched too, except hidden and linked ones.
        without: a folder whose files are left out, whatever way leads there; None: none are.

    Returns:
        The paths, each beginning with `path`, sorted. Hidden files are left out.

    Raises:
        UserError: there is no such folder.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}")
    inside = without is not None and lies_in(path, without)
    found, folders = [], [] if inside else [path]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name.startswith(".") or _leads_to(entry, without):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif Path(entry.name).suffix.lower() in SUFFIXES and not _is_linked_folder(entry):
                    found.append(Path(entry.path))
    return sorted(found, key=Path.as_posix)


def _is_linked_folder(entry: os.DirEntry) -> bool:
    return entry.is_symlink() and os.path.isdir(entry.path)


def _leads_to(entry: os.DirEntry, folder: str | os.PathLike | None) -> bool:
    """Whether an entry is or leads to a folder, or into it, while what it stands in does not."""
    if folder is None or not (entry.is_symlink() or entry.is_dir(follow_symlinks=False)):
        return False  # No plain file is asked: there may be millions.
    return lies_in(entry.path, folder)


def lies_in(path: str | os.PathLike, folder: str | os.PathLike) -> bool:
    """Whether a path leads into a folder, or to it; links are followed, and those in a circle kept.

    (`Path.resolve` raises an error for those.)
    """
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def name_results(
    names: list[Path], ending: str = "", suffixes: Callable[[Path], str] = lambda name: ".png"
) -> list[Path]:
    """Names the files that are made of pictures: of `a/b.jpg`, `a/b{ending}.png`.

    Where two would get the same name, they keep their suffixes: `a/b.jpg{ending}.png`. A name too
    long to take an ending is cut, and a hash of the whole of it added.

    Args:
        names: relative paths of the pictures.
        ending: what is added to the names.
        suffixes: function from a name to its result's suffix.

    Raises:
        UserError: if two still get the same name.
    """

    def long(name):
        return name.with_name(_cut(name.name) + ending + suffixes(name))

    results = [name.with_name(_cut(name.stem) + ending + suffixes(name)) for name in names]
    count = Counter(results)
    if len(count) < len(results):
        pairs = zip(names, results, strict=True)
        results = [long(name) if count[short] > 1 else short for name, short in pairs]
        if len(set(results)) < len(results):  # a.jpg and a.png, beside a.jpg.bmp
            results = [long(name) for name in names]
    twice = [result for result, count in Counter(results).items() if count > 1]
    if twice:
        raise UserError(
            f"Two pictures would be written to {twice[0]}. Give them different folders to be "
            "written to."
        )
    return results


def _cut(stem: str) -> str:
    if len(os.fsencode(stem)) <= 4 * _LONGEST_STEM:
        return stem
    return f"{stem[:_LONGEST_STEM]}-{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}"


def write_png(path: str | os.PathLike, array: np.ndarray) -> None:
    """Writes a PNG file, whole or not at all.

    Args:
        path: the file; its folder is made where missing.
        array: (height, width, 3) uint8, RGB in [0, 255].

    Raises:
        ValueError: the array has another shape or dtype.
        OSError: the file cannot be written.
    """
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise ValueError(
            "a picture must be uint8 of shape (height, width, 3). "
            f"Received: {array.dtype} {array.shape}"
        )
    png = io.BytesIO()
    # Level 3 takes half the time of Pillow's 6 for files 3 % larger (measured on COCO crops).
    Image.fromarray(array).save(png, format="PNG", compress_level=3)
    # There may be thousands, and they can be made again.
    with replacing(Path(path), sync=False) as temporary:
        temporary.write_bytes(png.getbuffer())
