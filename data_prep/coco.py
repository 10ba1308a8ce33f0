"""Makes crops from COCO photographs: `python -m data_prep.coco --coco DIR --out DIR`.

Chooses the photographs; reading the annotations is left to `annotations`, fetching to `download`,
and cutting, continuing and the manifest to `crop_folder`. COCO's own layout is used:
DIR/train2017/*.jpg, DIR/val2017/*.jpg, DIR/annotations/instances_{train,val}2017.json.
"""

import argparse
import functools
import os
import zipfile
import zlib
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copyfileobj
from urllib.parse import quote, urlsplit

from data_prep import crops, download
from data_prep.annotations import Listing, annotated_splits, annotation_file, list_photos
from data_prep.crop_folder import CropFolder, check_settings
from srgan_keras.common import cli
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import replacing
from srgan_keras.common.pictures import PictureError, picture_size

BASE_URL = "http://images.cocodataset.org"
ANNOTATIONS = "annotations/annotations_trainval2017.zip"
ANNOTATIONS_MB = 241
PHOTO_MB = 0.16  # mean of COCO 2017: 19 GB in 123,287 photographs
DEFAULT_SPLITS = ["train2017", "val2017"]
NUM_IMAGES = 1000

# The options that decide what the crops are like: a folder is made with one set of them. Their
# number may change: crops too many are removed, others stay.
_SETTINGS = ("train_ratio", "seed", "crop_size", "categories", "crop", "splits")


@dataclass(frozen=True)
class Choice:
    """Which photographs are cut.

    Attributes:
        chosen: the photographs to cut, each with its split.
        reserve: further ones, which step in one after another for chosen ones that fail.
        absent: those that qualify and are not on disk.
        listing: what the annotations offer.
    """

    chosen: list[crops.Photo]
    reserve: list[crops.Photo]
    absent: list[crops.Photo]
    listing: Listing


def choose_photos(
    root: Path,
    rule: crops.Rule,
    splits: list[str],
    num_images: int = NUM_IMAGES,
    train_ratio: float = crops.TRAIN_RATIO,
    categories: list[str] | None = None,
    *,
    with_absent: bool = False,
) -> Choice:
    """Chooses photographs by the seed, and their splits.

    Args:
        root: folder in COCO's own layout.
        rule: how crops are cut; with its seed.
        splits: COCO's splits to choose from, such as "train2017".
        num_images: the most photographs to choose.
        train_ratio: share of them for "train".
        categories: only photographs showing one of these; None takes all.
        with_absent: whether photographs that are not on disk can be chosen.

    Raises:
        UserError: as for `list_photos`.
    """
    listing = list_photos(root, splits, rule.size, categories, rule.place == "object")
    photos = crops.shuffle(listing.photos, rule.seed)
    absent = [photo for photo in photos if not os.path.isfile(photo.path)]
    if not with_absent:
        missing = set(absent)
        photos = [photo for photo in photos if photo not in missing]
    names = crops.split_names(min(num_images, len(photos)), train_ratio)
    chosen = [replace(photo, split=name) for name, photo in zip(names, photos, strict=False)]
    return Choice(chosen, photos[len(chosen) :], absent, listing)


def choose_by_default(root: Path, size: int) -> list[crops.Photo]:
    """Chooses the photographs on disk that the command chooses with its default options.

    Args:
        root: folder in COCO's own layout.
        size: width and height of the crops, in pixels.

    Returns:
        The photographs with their splits.

    Raises:
        UserError: there is none, or as for `list_photos`.
    """
    files = [annotation_file(root, split) for split in annotated_splits(root)]
    folders = [root / split for split in annotated_splits(root)]
    # What changes when photographs come or go.
    times = tuple(path.stat().st_mtime_ns for path in files + folders if path.exists())
    return _choose_once(root, size, times)


@functools.lru_cache(maxsize=1)  # COCO's annotations take half a minute to read.
def _choose_once(root: Path, size: int, times: tuple[int, ...]) -> list[crops.Photo]:
    photos = choose_photos(root, crops.Rule(size), annotated_splits(root)).chosen
    if not photos:
        raise UserError(f"{root} has no photograph on disk of at least {size}x{size} pixels")
    return photos


def main(argv: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: the arguments; None takes the command line's.

    Returns:
        The exit code 0.

    Raises:
        UserError: annotations are missing or broken, options do not fit, the server cannot be
            reached, or fewer crops were made than asked for (without --allow-fewer).
    """
    args = _parser().parse_args(argv)
    args.splits = args.splits or annotated_splits(args.coco) or DEFAULT_SPLITS
    settings = {"command": "coco"} | {name: getattr(args, name) for name in _SETTINGS}
    check_settings(args.out, settings)
    if not _provide_annotations(args):
        return 0
    print(f"reading the annotations of {', '.join(args.splits)}")
    rule = crops.Rule(args.crop_size, args.crop, args.seed)
    choice = choose_photos(
        args.coco,
        rule,
        args.splits,
        args.num_images,
        args.train_ratio,
        args.categories,
        with_absent=args.download,
    )
    print(_describe_choice(choice, args))
    if not choice.chosen:
        raise UserError(f"{args.coco} has no photograph for these options")
    if args.dry_run:
        made = len(choice.chosen)
        _describe_plan(choice, args)
    else:
        folder = CropFolder(args.out, rule, settings, args.workers)
        folder.skipped |= choice.listing.skipped
        _fill(folder, choice, args.base_url if args.download else None)
        print(folder.finish())
        made = len(folder.crops)
    if made == 0 or (made < args.num_images and not args.allow_fewer):
        advice = "" if args.download else "`download` fetches more photographs, "
        raise UserError(
            f"only {made} of the {args.num_images} crops asked for: {advice}"
            "`num_images` asks for fewer, `allow_fewer` takes what there is"
        )
    return 0


def _parser() -> cli.Parser:
    parser = cli.Parser(prog="python -m data_prep.coco", description="Makes crops from COCO.")
    option = parser.add_argument
    option("--coco", type=Path, required=True, metavar="DIR", help="folder in COCO's own layout")
    crops.add_arguments(parser)
    option(
        "--num-images",
        type=cli.positive_int,
        default=NUM_IMAGES,
        metavar="N",
        help="photographs to choose, one crop of each",
    )
    option("--categories", type=_names, metavar="A,B", help="only photographs showing one of these")
    option(
        "--crop",
        choices=("centre", "random", "object"),
        default=crops.Rule.place,
        help="where to cut; object: around the largest object annotated (of --categories)",
    )
    option(
        "--splits",
        type=_names,
        metavar="A,B",
        help="COCO's own splits to choose from (default: all that have annotations)",
    )
    option("--allow-fewer", action="store_true", help="fewer crops than asked for are no error")
    option(
        "--download",
        action="store_true",
        help="fetch the annotations and the chosen photographs that are missing to --coco",
    )
    option(
        "--base-url",
        type=_url,
        metavar="URL",
        default=BASE_URL,
        help="COCO's server or a mirror of it",
    )
    option(
        "--dry-run", action="store_true", help="say what would be fetched and cut; write nothing"
    )
    return parser


def _names(text: str) -> list[str]:
    names = sorted({name.strip() for name in text.split(",")} - {""})
    if not names:
        raise argparse.ArgumentTypeError("must name at least one")
    return names


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"must begin with http:// or https://. Received: {text}")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname.encode("idna"), parts.port
    except (ValueError, AttributeError):  # a UnicodeError is a ValueError; None has no encode
        host = b""
    if not host or not text.isprintable() or " " in text:
        raise argparse.ArgumentTypeError(f"must be a server's address. Received: {text}")
    return text.rstrip("/")


def _provide_annotations(args: argparse.Namespace) -> bool:
    """Fetches missing annotation files; False where a dry run would have to."""
    missing = [split for split in args.splits if not annotation_file(args.coco, split).is_file()]
    if not missing:
        return True
    if not args.download:
        there = ", ".join(annotated_splits(args.coco)) or "none"
        raise UserError(
            f"no {annotation_file(args.coco, missing[0])} (annotated: {there}); "
            "`download` fetches COCO's annotations"
        )
    url = f"{args.base_url}/{ANNOTATIONS}"
    if args.dry_run:
        print(f"would fetch the annotations, {ANNOTATIONS_MB} MB, to {args.coco}: {url}")
        print(f"would then choose {args.num_images} photographs and fetch them")
        return False
    archive = args.coco / ANNOTATIONS
    try:
        if not archive.is_file():
            download.fetch(url, archive, _not_an_archive, show_progress=True)
        _extract(archive, args.coco, missing)
    except download.Refused as error:
        raise UserError(f"cannot fetch {url}: {error}") from None
    except KeyError as error:
        raise UserError(f"{archive}: {error.args[0]}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{archive}: {error}; delete it and run again") from None
    return True


def _extract(archive: Path, root: Path, splits: list[str]) -> None:
    with zipfile.ZipFile(archive) as members:
        for split in splits:
            file = annotation_file(root, split)
            with (
                members.open(f"annotations/{file.name}") as source,
                replacing(file) as temporary,
                temporary.open("wb") as target,
            ):
                copyfileobj(source, target)


def _describe_choice(choice: Choice, args: argparse.Namespace) -> str:
    text = f"{len(choice.chosen) + len(choice.reserve)} photographs qualify; "
    text += f"{choice.listing.too_small} have a side below {args.crop_size}"
    if choice.absent and not args.download:
        example = min(photo.source for photo in choice.absent)
        text += (
            f"; {len(choice.absent)} are not in {args.coco}, such as {example}: "
            "--download fetches them"
        )
    return text


def _describe_plan(choice: Choice, args: argparse.Namespace) -> None:
    absent = {photo.path for photo in choice.absent}
    fetched = [photo for photo in choice.chosen if photo.path in absent]
    if args.download:
        size = len(fetched) * PHOTO_MB
        print(f"would fetch {len(fetched)} photographs, about {size:.1f} MB, to {args.coco}")
        for photo in fetched:
            print(f"  {_photo_url(photo, args.base_url)}")
    counts = Counter(photo.split for photo in choice.chosen)
    print(
        f"would cut {len(choice.chosen)} crops of {args.crop_size}x{args.crop_size} into "
        f"{args.out}: {counts['train']} train, {counts['test']} test"
    )


def _fill(folder: CropFolder, choice: Choice, base_url: str | None) -> None:
    """Adds the crops of the chosen; the next in reserve steps in for one that fails."""
    batch, reserve = choice.chosen, iter(choice.reserve)
    while batch:
        failed = _fetch_photos(folder, batch, base_url) if base_url else set()
        failed |= set(folder.add([photo for photo in batch if photo not in failed]))
        splits = [photo.split for photo in batch if photo in failed]
        batch = [replace(photo, split=split) for split, photo in zip(splits, reserve, strict=False)]


def _fetch_photos(folder: CropFolder, photos: list[crops.Photo], base_url: str) -> set[crops.Photo]:
    """Fetches the photographs that are needed; returns those that the server refuses."""
    absent = {
        photo.path: photo
        for photo in photos
        if not photo.path.is_file() and not folder.rows_there(photo)
    }
    if not absent:
        return set()
    refused = download.fetch_all(
        {path: _photo_url(photo, base_url) for path, photo in absent.items()}, _not_a_picture
    )
    if len(refused) == len(photos) and not folder.crops:
        raise UserError(
            f"{base_url} has none of the {len(photos)} photographs: {next(iter(refused.values()))}"
        )
    for path, answer in refused.items():
        folder.skipped[absent[path].source] = f"cannot be fetched: {answer}"
    return {absent[path] for path in refused}


def _not_an_archive(file: Path) -> str:
    return "" if zipfile.is_zipfile(file) else "what came is no archive"


def _not_a_picture(file: Path) -> str:
    try:
        picture_size(file)
    except PictureError as error:
        return f"what came is no picture ({error.reason})"
    return ""


def _photo_url(photo: crops.Photo, base_url: str) -> str:
    return f"{base_url}/{quote(photo.source)}"


if __name__ == "__main__":
    cli.run(main)
