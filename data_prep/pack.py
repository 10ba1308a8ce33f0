"""Packs a folder of crops into arrays: `python -m data_prep.pack --crops DIR --out DIR`.

Arrays train without TensorFlow, on Keras' JAX backend, and copy as a few files. The crops of one
size become `WIDTHxHEIGHT.npy`, uint8 of shape (n, height, width, 3), split by split.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from data_prep.crops import SPLITS
from srgan_keras.common import cli
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import replacing
from srgan_keras.common.pictures import (
    PictureError,
    lies_in,
    list_pictures,
    open_picture,
    picture_size,
)


def pack(crops: Path, out: Path) -> dict[Path, tuple[int, ...]]:
    """Packs a folder of crops, each of its splits by itself.

    Args:
        crops: the folder, searched with its sub-folders.
        out: folder of the arrays; of a folder with `train` or `test` it gets the same.

    Returns:
        The files written, one for each split and size of crop, and the shapes of their arrays.

    Raises:
        UserError: no crops, or `out` lies in `crops` or holds arrays already.
        PictureError: a crop is not readable. Nothing is written then.
    """
    if lies_in(out, crops):
        raise UserError(f"`out` {out} lies in `crops` {crops}; choose another `out`")
    by_file = defaultdict(list)
    for split in [split for split in SPLITS if (crops / split).is_dir()] or [""]:
        if any((out / split).glob("*.npy")):
            raise UserError(f"{out / split} holds packed crops already; choose another `out`")
        for file, path, shape in _plan(crops / split, out / split):
            by_file[file, shape].append(path)

    shapes = {file: (len(paths), *shape) for (file, shape), paths in by_file.items()}
    paths = list(itertools.chain(*by_file.values()))
    coming = cli.progress(paths, len(paths), "crops")
    with ExitStack() as stack:  # All of the files take their names, or none.
        for file, shape in shapes.items():
            with stack.enter_context(replacing(file)).open("wb") as array:
                head = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(array, head)
                # Not through memory that maps the file: a full disk would crash Python.
                for path in itertools.islice(coming, shape[0]):
                    crop = open_picture(path)
                    if crop.shape != shape[1:]:
                        raise PictureError(path, "turned by EXIF, so it is no crop")
                    array.write(crop.tobytes())
        next(coming, None)  # Lets it say that all are done.
    return shapes


def _plan(crops: Path, out: Path) -> Iterator[tuple[Path, Path, tuple[int, ...]]]:
    """The file that each crop goes to, the crop, and its shape."""
    paths = list_pictures(crops)
    if not paths:
        raise UserError(f"{crops}: no crops; make some with python -m data_prep.folder")
    for path in paths:
        width, height = picture_size(path)
        yield out / f"{width}x{height}.npy", path, (height, width, 3)


def main(argv: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: the arguments; None takes the command line's.

    Returns:
        The exit code 0.

    Raises:
        UserError: as for `pack`.
    """
    parser = cli.Parser(
        prog="python -m data_prep.pack",
        description="Packs crops into arrays, which train without TensorFlow.",
    )
    folder = {"type": Path, "required": True, "metavar": "DIR"}
    parser.add_argument("--crops", **folder, help="folder of crops, with train and test or without")
    folder["type"] = cli.folder
    parser.add_argument("--out", **folder, help="folder of arrays to make")
    args = parser.parse_args(argv)

    for file, (count, height, width, _) in pack(args.crops, args.out).items():
        print(f"{file}: {count} crops of {width}x{height}")
    return 0


if __name__ == "__main__":
    cli.run(main)
