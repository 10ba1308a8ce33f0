"""Cuts crops out of one photograph: what they are called, where they are cut, and the cutting.

Which photographs are cut is left to the commands, and the folder of crops to `crop_folder`.
"""

import argparse
import hashlib
import os
import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from srgan_keras.common import cli
from srgan_keras.common.pictures import PictureError, open_picture, write_png

SPLITS = ("train", "test")
# What both commands take where nothing else is said.
CROP_SIZE = 384
TRAIN_RATIO = 0.8


@dataclass(frozen=True)
class Photo:
    """One photograph to cut crops from.

    Attributes:
        path: its file.
        source: what the manifest calls it; also seeds its place in the shuffle and random crops.
        name: file name of its crops, without suffix; see `name_uniquely`.
        split: "train" or "test".
        licence: licence of the photograph, "" where unknown.
        flickr_url: where it was published, "" where unknown.
        box: x, y, width, height of the object to centre on, in pixels.
    """

    path: Path
    source: str
    name: str
    split: str = "train"
    licence: str = ""
    flickr_url: str = ""
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Rule:
    """How crops are cut from a photograph.

    Attributes:
        size: width and height of a crop in pixels.
        place: "centre"; "random"; "object", centred on the photograph's box where it has one; or
            "grid", up to `per_photo` crops that do not overlap.
        seed: of the random places.
        per_photo: the most crops from one photograph; more than 1 only with "grid".
        reduce: the photograph is made this many times smaller first, antialiased.
    """

    size: int
    place: str = "centre"
    seed: int = 0
    per_photo: int = 1
    reduce: int = 1


class Crop(NamedTuple):
    """A row of the manifest; the window is in pixels of the upright photograph."""

    crop: str
    source: str
    split: str
    x: int
    y: int
    width: int
    height: int
    licence: str
    flickr_url: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that both commands share."""
    option = parser.add_argument
    option("--out", type=cli.folder, required=True, metavar="DIR", help="folder of crops to make")
    option(
        "--crop-size",
        type=cli.positive_int,
        default=CROP_SIZE,
        metavar="N",
        help="side of the square crops, in pixels",
    )
    option(
        "--train-ratio",
        type=cli.ratio,
        default=TRAIN_RATIO,
        metavar="R",
        help="share of the photographs that goes to train/; the rest goes to test/",
    )
    option(
        "--seed",
        type=int,
        default=Rule.seed,
        metavar="N",
        help="seed of the shuffle that decides the splits, and of random places",
    )
    option(
        "--workers",
        type=cli.positive_int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes that cut crops",
    )


def shuffle(photos: Iterable[Photo], seed: int) -> list[Photo]:
    """Shuffles by a hash of seed and source: others that come or go leave the order as it is."""
    return sorted(photos, key=lambda photo: _hash(seed, photo.source))


def split_names(count: int, train_ratio: float) -> list[str]:
    """Splits of `count` photographs: the first share "train", the rest "test"."""
    train = round(count * train_ratio)
    return ["train"] * train + ["test"] * (count - train)


def name_uniquely(photos: Iterable[Photo]) -> list[Photo]:
    """Makes the names of photographs safe as file names, and different even where case is ignored.

    Args:
        photos: with the names they would have by themselves.

    Returns:
        The photographs; those whose names would be the same have a hash of their source added.
    """
    photos = list(photos)
    clean = [re.sub(r"[^\w.-]+", "_", photo.name).strip(".")[:60] for photo in photos]
    times = Counter(name.casefold() for name in clean)
    return [
        replace(photo, name=name)
        if name and times[name.casefold()] == 1
        else replace(photo, name=f"{name}-{_hash(photo.source)[:8]}")
        for photo, name in zip(photos, clean, strict=True)
    ]


def _hash(*parts: object) -> str:
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def readable(name: str) -> str:
    """A file name as text that fits on a line and into a file, whatever bytes it is made of."""
    return name if name.isprintable() else ascii(name)[1:-1]


def windows(rule: Rule, photo: Photo, width: int, height: int) -> list[tuple[int, int]]:
    """Chooses where crops are cut.

    Args:
        rule: how.
        photo: the photograph, for its source (random) and box (object).
        width: of the photograph in pixels, after reduction; at least `rule.size`.
        height: likewise.

    Returns:
        (x, y) of the upper left corners.
    """
    size = rule.size
    if rule.place == "random":
        chance = random.Random(_hash(rule.seed, photo.source))
        return [(chance.randint(0, width - size), chance.randint(0, height - size))]
    if rule.place == "grid":
        return _grid(size, rule.per_photo, width, height)
    x, y = (width - size) // 2, (height - size) // 2
    if rule.place == "object" and photo.box:
        left, top, box_width, box_height = photo.box
        x = min(max(round(left + (box_width - size) / 2), 0), width - size)
        y = min(max(round(top + (box_height - size) / 2), 0), height - size)
    return [(x, y)]


def _grid(size: int, most: int, width: int, height: int) -> list[tuple[int, int]]:
    """Up to `most` cells, evenly spread, of the grid with as many cells as fit."""
    columns, rows = width // size, height // size
    xs = [(2 * i + 1) * width // (2 * columns) - size // 2 for i in range(columns)]
    ys = [(2 * i + 1) * height // (2 * rows) - size // 2 for i in range(rows)]
    cells = [(x, y) for y in ys for x in xs]
    count = min(most, len(cells))
    return [cells[(2 * i + 1) * len(cells) // (2 * count)] for i in range(count)]


def crop_paths(photo: Photo, rule: Rule) -> list[str]:
    """Names that the crops of a photograph can have in the folder, such as "train/bird.png"."""
    if rule.per_photo == 1:
        return [f"{photo.split}/{photo.name}.png"]
    return [f"{photo.split}/{photo.name}_{i}.png" for i in range(rule.per_photo)]


def read_windows(photo: Photo, rule: Rule) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Opens one photograph and cuts its crops.

    Args:
        photo: the photograph.
        rule: where to cut.

    Returns:
        ((x, y), pixels) of each crop: its upper left corner in the reduced photograph, and
        (`rule.size`, `rule.size`, 3) uint8.

    Raises:
        PictureError: the photograph cannot be read, or is too small.
    """
    picture = open_picture(photo.path)
    side = rule.size * rule.reduce
    height, width = picture.shape[:2]
    if min(height, width) < side:
        raise PictureError(photo.path, f"{width}x{height}, smaller than {side}x{side}")
    picture = _reduce(picture, rule.reduce)
    corners = windows(rule, photo, picture.shape[1], picture.shape[0])
    return [((x, y), picture[y : y + rule.size, x : x + rule.size]) for x, y in corners]


def cut(photo: Photo, rule: Rule, out: Path) -> list[Crop] | str:
    """Opens one photograph and writes its crops; runs in the worker processes.

    Args:
        photo: the photograph.
        rule: where to cut.
        out: folder of crops.

    Returns:
        The manifest rows of the crops written, or the reason why the photograph is skipped.

    Raises:
        OSError: a crop cannot be written.
    """
    try:
        cuts = read_windows(photo, rule)
    except PictureError as error:
        return error.reason
    side = rule.size * rule.reduce
    made = []
    for name, ((x, y), pixels) in zip(crop_paths(photo, rule), cuts, strict=False):
        write_png(out / name, pixels)
        window = (x * rule.reduce, y * rule.reduce, side, side)
        made.append(Crop(name, photo.source, photo.split, *window, photo.licence, photo.flickr_url))
    return made


def _reduce(picture: np.ndarray, factor: int) -> np.ndarray:
    if factor == 1:
        return picture
    height, width = (side // factor for side in picture.shape[:2])
    image = Image.fromarray(picture[: height * factor, : width * factor])
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
