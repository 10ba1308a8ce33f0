"""Which photographs are enlarged, what the results are called, and which of them are finished."""

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from srgan_keras.common.errors import UserError
from srgan_keras.common.files import GENERATOR, checksum
from srgan_keras.common.photograph import WRITTEN
from srgan_keras.common.pictures import lies_in, list_pictures, name_results
from srgan_keras.inference.sources import PRETRAINED


def find_photos(arguments: list[Path], out: Path) -> list[tuple[Path, Path]]:
    """Resolves files and folders into photographs.

    Args:
        arguments: files, folders that are looked through recursively, and lists: `.txt` files with
            a photograph a line, by its path from the list's folder or from the root.
        out: folder for the enlargements. Where it lies within one of the others, it is left out.

    Returns:
        list of (path, name): the photograph, and its path relative to the argument it came from; of
            a list, to where its line starts from.

    Raises:
        UserError: if an argument does not exist, a folder or list holds no pictures, or a list's
            line leads up a folder.
    """
    photos = []
    for argument in arguments:
        if argument.is_dir():
            found = list_pictures(argument, without=None if lies_in(argument, out) else out)
            if not found:
                raise UserError(f"There are no pictures in {argument}.")
            photos += [(path, path.relative_to(argument)) for path in found]
        elif argument.suffix == ".txt" and argument.is_file():
            photos += _read_list(argument)
        elif os.path.lexists(argument):
            photos.append((argument, Path(argument.name)))
        else:
            raise UserError(f"There is no file {argument}.")
    return photos


def _read_list(path: Path) -> list[tuple[Path, Path]]:
    lines = (Path(os.fsdecode(line)) for line in path.read_bytes().splitlines() if line.strip())
    photos = [(path.parent / line, line.relative_to(line.anchor)) for line in lines]
    if not photos:
        raise UserError(f"There are no pictures in {path}.")
    for _, name in photos:
        if ".." in name.parts:  # Its result would be outside of the folder for results.
            raise UserError(f"{path}: {name} leads up a folder. Write it from the root.")
    return photos


#: The formats of results: the suffix that each writes; `same` keeps the photograph's.
FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tiff", "same": None}


def choose_targets(
    photos: list[tuple[Path, Path]], out: Path, ending: str, format_: str = "png"
) -> list[Path]:
    """Names the enlargements, `out/a/b_x4.png`, as `name_results` does.

    Args:
        photos: as from `find_photos`.
        out: folder for the enlargements.
        ending: what is added to the names, such as `_x4`.
        format_: one of `FORMATS`. With `same`, what is not in a format that is written becomes PNG.

    Raises:
        UserError: if two would get the same name, or one would be written over a photograph, or
            over something that is no file.
    """

    def suffix(name):
        return FORMATS[format_] or (name.suffix if name.suffix.lower() in WRITTEN else ".png")

    results = name_results([name for _, name in photos], ending, suffix)
    targets = [out / result for result in results]
    pairs = zip(photos, targets, strict=True)
    there = [(photo, target) for (photo, _), target in pairs if target.exists()]
    inputs = {_identity(photo) for photo, _ in photos if photo.exists()} if there else set()
    for photo, target in there:
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


class Finished:
    """The record of the results in a folder, by which a run goes on where another was stopped.

    A result is finished if it is there with the size that it had when it was written, from the same
    photograph (by size and time of change) and by the same settings. Each is one line in a hidden
    file of the folder, written before the result gets its name: so a kill in between leaves a line
    that fits no file.

    Args:
        out: folder for the enlargements.
        settings: what else decides how a result looks.
        shard: which part of the photographs is made; each has a file of its own, so that machines
            do not write into the same one.
    """

    def __init__(
        self, out: Path, settings: dict[str, Any], shard: tuple[int, int] = (1, 1)
    ) -> None:
        name = ".upscaled.jsonl" if shard[1] == 1 else f".upscaled-{shard[0]}-of-{shard[1]}.jsonl"
        self.out, self.path, self.settings, self.shard = out, out / name, settings, shard
        self._settings = json.dumps(settings, sort_keys=True, default=str)

    def part(self, index: int, count: int) -> Self:
        """The record for one of several that share the work on this one's shard."""
        own, all_ = self.shard
        return type(self)(self.out, self.settings, ((own - 1) * count + index, all_ * count))

    @cached_property
    def _lines(self) -> set[int]:
        lines = set()  # Their hashes alone: there may be millions.
        for path in self.out.glob(".upscaled*.jsonl"):
            with path.open("rb") as file:
                lines |= {hash(line.strip()) for line in file}
        return lines

    def __contains__(self, task: tuple[Path, Path]) -> bool:
        """Whether the result of a photograph is finished: (photograph, its target)."""
        photo, target = task
        try:
            return hash(self._line(photo, target, target.stat().st_size)) in self._lines
        except OSError:
            return False

    def add(self, photo: Path, target: Path, size: int) -> None:
        """Records a result that is about to get its name, of `size` bytes.

        Raises:
            OSError: the record cannot be written.
        """
        # In front of it, so that a line that a power cut has left half there ends.
        with self.path.open("ab", buffering=0) as file:
            file.write(b"\n" + self._line(photo, target, size))

    def _line(self, photo: Path, target: Path, size: int) -> bytes:
        status = photo.stat()
        made = f"{self._settings} {status.st_size} {status.st_mtime_ns}"
        key = hashlib.sha256(made.encode()).hexdigest()[:16]
        return json.dumps([target.relative_to(self.out).as_posix(), key, size]).encode()


def identify_model(source: str | os.PathLike) -> list[str]:
    """What tells a generator from others: the checksums of its files, or its name if it ships.

    With the name go the checksums of all that ship, of which `auto` and a blend take two.
    """
    path = Path(source)
    if not path.exists():
        return [str(source), *PRETRAINED.values()]
    files = [path] if path.is_file() else [path / GENERATOR]
    if path.suffix == ".xml":  # OpenVINO's weights are beside it.
        files.append(path.with_suffix(".bin"))
    files += sorted([*path.rglob("saved_model.pb"), *path.rglob("variables/*")])
    return [checksum(file) for file in files if file.is_file()]
