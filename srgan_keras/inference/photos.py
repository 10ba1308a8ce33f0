"""Which photographs are enlarged, and what the results are called."""

from collections import Counter
from pathlib import Path

from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import list_pictures


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
    out = out.resolve()
    for argument in arguments:
        if argument.is_dir():
            within = out in argument.resolve().parents or out == argument.resolve()
            found = [
                path
                for path in list_pictures(argument)
                if within or not path.resolve().is_relative_to(out)
            ]
            if not found:
                raise UserError(f"There are no pictures in {argument}.")
            photos += [(path, path.relative_to(argument)) for path in found]
        elif argument.exists():
            photos.append((argument, Path(argument.name)))
        else:
            raise UserError(f"There is no file {argument}.")
    return photos


def choose_targets(names: list[Path], out: Path, scale: int) -> list[Path]:
    """Names the enlargements: `a/b.jpg` becomes `out/a/b_x4.png`.

    Where two photographs would get the same name, they keep their endings: `b.jpg_x4.png`.

    Args:
        names: relative paths.
        out: folder for the enlargements.
        scale: int.

    Raises:
        UserError: if two still get the same name.
    """
    short = Counter(name.with_suffix("") for name in names)
    targets = []
    for name in names:
        stem = name.stem if short[name.with_suffix("")] == 1 else name.name
        targets.append(out / name.with_name(f"{stem}_x{scale}.png"))
    twice = [target for target, count in Counter(targets).items() if count > 1]
    if twice:
        raise UserError(
            f"Two photographs would be written to {twice[0]}. Upscale them into different folders."
        )
    return targets


def check_targets(photos: list[Path], targets: list[Path]) -> None:
    """Raises a UserError if an enlargement would be written over one of the photographs."""
    inputs = {_identity(photo) for photo in photos if photo.exists()}
    for photo, target in zip(photos, targets, strict=True):
        if target.exists() and _identity(target) in inputs:
            raise UserError(
                f"The enlargement of {photo} would be written over {target}, which is to be "
                "enlarged too. Set another `out`, or leave one of the two away."
            )


def _identity(path: Path) -> tuple[int, int]:
    """Says which file it is, whatever way its path goes."""
    status = path.stat()
    return status.st_dev, status.st_ino
