"""Makes crops from any folder of photographs: `python -m data_prep.folder --photos DIR --out DIR`.

Cutting, continuing and the manifest are left to `crop_folder`.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from data_prep import crops
from data_prep.crop_folder import CropFolder
from srgan_keras.common import cli
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import lies_in, list_pictures

# The options that decide which crops there are: a folder of crops is made with one set of them.
_SETTINGS = ("crop_size", "train_ratio", "split_from", "seed", "crops_per_photo", "reduce")


def main(argv: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: the arguments; None takes the command line's.

    Returns:
        The exit code 0.

    Raises:
        UserError: no usable photograph, or options that do not fit.
    """
    args = _parser().parse_args(argv)
    photos = _find_photos(args.photos, args.out)
    if args.split_from:
        photos = _split_by_folder(photos, args)
    else:
        photos = crops.shuffle(photos, args.seed)
        splits = crops.split_names(len(photos), args.train_ratio)
        photos = [replace(photo, split=split) for photo, split in zip(photos, splits, strict=True)]
    rule = crops.Rule(args.crop_size, "grid", args.seed, args.crops_per_photo, args.reduce)
    settings = {"command": "folder"} | {name: getattr(args, name) for name in _SETTINGS}
    folder = CropFolder(args.out, rule, settings, args.workers)
    folder.add(photos)
    print(folder.finish())
    if not folder.crops:
        raise UserError(
            f"none of the {len(photos)} pictures in {args.photos} could be used; a smaller "
            f"`crop_size` than {args.crop_size} takes smaller ones"
        )
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog="python -m data_prep.folder", description="Makes crops from a folder of photographs."
    )
    option = parser.add_argument
    option(
        "--photos",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of photographs, searched with its sub-folders",
    )
    crops.add_arguments(parser)
    option(
        "--split-from",
        nargs=2,
        metavar=("TRAIN", "TEST"),
        help="two folders inside --photos that are the splits, in place of --train-ratio; "
        "photographs elsewhere are left out",
    )
    option(
        "--crops-per-photo",
        type=cli.positive_int,
        default=4,
        metavar="N",
        help="the most crops from one photograph; they do not overlap and share a split",
    )
    option(
        "--reduce",
        type=cli.positive_int,
        default=1,
        metavar="N",
        help="how many times smaller to make the photographs first; 2 removes most JPEG artefacts",
    )
    return parser


def _find_photos(photos: Path, out: Path) -> list[crops.Photo]:
    """All pictures in the folder, except the crops where they are made inside it."""
    if lies_in(photos, out):
        raise UserError(f"`photos` {photos} lies in `out` {out}; choose another `out`")
    found = []
    for path in list_pictures(photos, without=out):
        name = path.relative_to(photos)
        source = crops.readable(name.as_posix())
        found.append(crops.Photo(path, source, name.with_suffix("").as_posix()))
    if not found:
        raise UserError(f"{photos}: no pictures")
    return crops.name_uniquely(found)


def _split_by_folder(photos: list[crops.Photo], args: argparse.Namespace) -> list[crops.Photo]:
    """Gives the photographs below each folder of --split-from its split; drops the others."""
    if args.train_ratio != crops.TRAIN_RATIO:
        raise UserError("`train_ratio` and `split_from` both decide the splits; give one of them")
    splits = {}
    for name, split in zip(args.split_from, crops.SPLITS, strict=True):
        inside = [photo for photo in photos if photo.path.is_relative_to(args.photos / name)]
        if not inside or not splits.keys().isdisjoint(inside):
            raise UserError(
                f"`split_from` must name two folders inside {args.photos} that hold pictures, "
                f"neither inside the other. Received: {' '.join(args.split_from)}"
            )
        splits |= dict.fromkeys(inside, split)
    return [replace(photo, split=split) for photo, split in splits.items()]


if __name__ == "__main__":
    cli.run(main)
