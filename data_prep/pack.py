"""Packs a folder of crops into arrays: `python -m data_prep.pack --crops DIR --out DIR`.

Arrays train without TensorFlow, on Keras' JAX backend, and copy as a few files. The crops of one
size become `WIDTHxHEIGHT.npy`, uint8 of shape (n, height, width, 3), split by split.
"""

from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from data_prep import cli
from data_prep.cli import UserError
from data_prep.crops import SPLITS
from data_prep.pictures import PictureError, list_pictures, open_picture, picture_size, replacing


def pack(crops: Path, out: Path) -> dict[Path, tuple[int, ...]]:
    """Packs one folder of crops.

    Args:
        crops: the folder, searched with its sub-folders.
        out: folder of the arrays.

    Returns:
        The files written, one for each size of crop, and the shapes of their arrays.

    Raises:
        UserError: no crops, or `out` holds arrays already.
        PictureError: a crop is not readable; nothing is written.
    """
    paths = list_pictures(crops)
    if not paths:
        raise UserError(f"{crops}: no crops; make some with python -m data_prep.folder")
    if any(out.glob("*.npy")):
        raise UserError(f"{out} holds packed crops already; choose another --out")
    by_size = defaultdict(list)
    for path in paths:
        by_size[picture_size(path)].append(path)
    if None in by_size:
        raise PictureError(by_size[None][0], "not an image")

    shapes, places = {}, []
    with ExitStack() as stack:  # All of the files take their names, or none.
        for (width, height), members in by_size.items():
            file, shape = out / f"{width}x{height}.npy", (len(members), height, width, 3)
            temporary = stack.enter_context(replacing(file))
            array = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)
            shapes[file] = shape
            places += [(path, array, i) for i, path in enumerate(members)]
        for path, array, i in cli.progress(places, len(places), "crops"):
            crop = open_picture(path)
            if crop.shape != array.shape[1:]:
                raise PictureError(path, "turned by EXIF, so it is no crop")
            array[i] = crop
    return shapes


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
    parser.add_argument("--out", **folder, help="folder to write")
    args = parser.parse_args(argv)

    splits = [split for split in SPLITS if (args.crops / split).is_dir()]
    for split in splits or [""]:
        packed = pack(args.crops / split, args.out / split)
        for file, (count, height, width, _) in packed.items():
            print(f"{file}: {count} crops of {width}x{height}")
    return 0


if __name__ == "__main__":
    cli.run(main)
