"""Which photographs are enlarged, and what the results are called."""

import os
from pathlib import Path

from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import lies_in, list_pictures, name_results


def find_photos(arguments: list[Path], out: Path) -> list[tuple[Path, Path]]:
    """Resolves files and folders into photographs.

    Args:
        arguments: files, and folders that are looked through recursively.
        out: folder for the enlargements. Where it lies within one of the others, it is left out.

    Returns:
        list of (path, name): the photograph, and its path relative to the argument it came from.

    Raises:
        UserError: if an argument does not exist, or a folder holds no pictures.
    """
    photos = []
    for argument in arguments:
        if argument.is_dir():
            found = list_pictures(argument, without=None if lies_in(argument, out) else out)
            if not found:
                raise UserError(f"There are no pictures in {argument}.")
            photos += [(path, path.relative_to(argument)) for path in found]
        elif os.path.lexists(argument):
            photos.append((argument, Path(argument.name)))
        else:
            raise UserError(f"There is no file {argument}.")
    return photos


def choose_targets(photos: list[tuple[Path, Path]], out: Path, scale: int) -> list[Path]:
    """Names the enlargements, `out/a/b_x4.png`, as `name_results` does.

    Args:
        photos: as from `find_photos`.
        out: folder for the enlargements.
        scale: int.

    Raises:
        UserError: if two would get the same name, or one would be written over a photograph, or
            over something that is no file.
    """
    results = name_results([name for _, name in photos], f"_x{scale}")
    targets = [out / result for result in results]
    inputs = {_identity(photo) for photo, _ in photos if photo.exists()}
    for (photo, _), target in zip(photos, targets, strict=True):
        if not target.exists():
            continue
        if _identity(target) in inputs:
            raise UserError(
                f"The enlargement of {photo} would be written over {target}, which is to be "
                "enlarged too. Set another `out`, or leave one of the two away."
            )
        if not target.is_file():
            raise UserError(f"{target} is in the way of an enlargement. Set another `out`.")
    return targets


def _identity(path: Path) -> tuple[int, int]:
    """Says which file it is, whatever way its path goes."""
    status = path.stat()
    return status.st_dev, status.st_ino
