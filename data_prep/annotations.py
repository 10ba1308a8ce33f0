"""Reads COCO annotation files into the photographs that they offer, whatever the files hold.

Which photographs are taken, and whether they are on disk, is left to `coco`.
"""

import contextlib
import difflib
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

from pycocotools.coco import COCO

from data_prep.crops import Photo, name_uniquely, readable
from srgan_keras.common.errors import UserError

_FIELDS = {  # what a row must have to be used
    "images": {"id": (int, str), "file_name": str, "width": int, "height": int},
    "annotations": {"id": (int, str), "image_id": (int, str), "category_id": (int, str)},
    "categories": {"id": (int, str), "name": str},
}


@dataclass
class Listing:
    """What annotation files offer.

    Attributes:
        photos: the photographs of the wanted size and categories, on disk or not.
        skipped: rows that cannot be used, name -> reason.
        too_small: how many photographs have a side shorter than a crop.
    """

    photos: list[Photo] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    too_small: int = 0


def annotation_file(root: Path, split: str) -> Path:
    """The annotation file of a split, such as "train2017", in COCO's layout."""
    return root / "annotations" / f"instances_{split}.json"


def annotated_splits(root: Path) -> list[str]:
    """Names of the splits that have an annotation file, sorted."""
    files = (root / "annotations").glob("instances_*.json")
    return sorted(file.stem.removeprefix("instances_") for file in files)


def list_photos(
    root: Path, splits: list[str], size: int, categories: list[str] | None, with_boxes: bool
) -> Listing:
    """Lists the photographs that annotation files offer for crops.

    Args:
        root: folder in COCO's layout.
        splits: names of the annotation files and photograph folders, such as "train2017".
        size: shortest side that a photograph may have, in pixels.
        categories: only photographs showing one of these; None takes all.
        with_boxes: whether to look up the largest object (of `categories`) in each photograph.

    Returns:
        The listing, photographs with unique names.

    Raises:
        UserError: a file is no annotation file, or a category is unknown.
    """
    listing = Listing()
    known = set()
    for split in splits:
        coco, skipped = load_annotations(annotation_file(root, split))
        listing.skipped |= skipped
        known |= {category["name"] for category in coco.cats.values()}
        _add_photos(listing, coco, root / split, size, categories, with_boxes)
    _check_categories(categories or [], known)
    listing.photos = name_uniquely(listing.photos)
    return listing


def _add_photos(
    listing: Listing,
    coco: COCO,
    folder: Path,
    size: int,
    categories: list[str] | None,
    with_boxes: bool,
) -> None:
    wanted = coco.getCatIds(catNms=categories) if categories else []
    showing = {image for category in wanted for image in coco.getImgIds(catIds=[category])}
    licences = _licences(coco)
    seen = set()
    for image_id, row in coco.imgs.items():
        source = readable(f"{folder.name}/{row['file_name']}")
        path = _path_inside(folder, row["file_name"])
        if path is None:
            listing.skipped[source] = "unsafe file name or link"
        elif path in seen:
            listing.skipped[f"{source} (id {image_id})"] = "listed twice"
        elif categories and image_id not in showing:
            continue
        elif min(row["width"], row["height"]) < size:
            listing.too_small += 1
        else:
            photo = Photo(
                path,
                source,
                name=path.relative_to(folder).with_suffix("").as_posix(),
                licence=licences.get(str(row.get("license")), ""),
                flickr_url=readable(str(row.get("flickr_url", ""))),
                box=_largest_box(coco, image_id, wanted) if with_boxes else None,
            )
            listing.photos.append(photo)
        seen.add(path)


def load_annotations(file: Path) -> tuple[COCO, dict[str, str]]:
    """Reads an annotation file, leaving out the rows that cannot be used.

    Args:
        file: a COCO instances file.

    Returns:
        The indexed annotations, and the rows left out, name -> reason.

    Raises:
        UserError: the file is no JSON, or has no list of images.
    """
    try:
        data = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: no valid JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("images"), list):
        raise UserError(f'{file}: no list of "images"; is this a COCO instances file?')
    skipped = {}
    for key, fields in _FIELDS.items():
        rows = data.get(key) if isinstance(data.get(key), list) else []
        data[key], ids = [], set()
        for number, row in enumerate(rows):
            wrong = [name for name, types in fields.items() if not _has(row, name, types)]
            if wrong:
                skipped[f"{file.name} {key}[{number}]"] = f"no valid {', '.join(wrong)}"
            elif row["id"] in ids:
                skipped[f"{file.name} {key}[{number}]"] = f"duplicate id {row['id']}"
            else:
                ids.add(row["id"])
                data[key].append(row)
    coco = COCO()
    coco.dataset = data
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        coco.createIndex()
    return coco, skipped


def _has(row: object, name: str, types: type | tuple[type, ...]) -> bool:
    return isinstance(row, dict) and isinstance(row.get(name), types)


def _path_inside(folder: Path, name: str) -> Path | None:
    """The path of a file in a folder; None for a name that could lead elsewhere on any system."""
    parts = PureWindowsPath(name)  # knows drives and backslashes besides what Posix knows
    if parts.anchor or ".." in parts.parts or not parts.name or "\\" in name:
        return None
    path = folder / name
    try:
        short = len(os.fsencode(name)) < 250
        inside = Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except ValueError:  # NUL, or half a character
        return None
    return path if short and inside else None


def _licences(coco: COCO) -> dict[str, str]:
    rows = coco.dataset.get("licenses")
    return {
        str(row.get("id")): readable(str(row.get("url") or row.get("name") or ""))
        for row in (rows if isinstance(rows, list) else [])
        if isinstance(row, dict)
    }


def _largest_box(
    coco: COCO, image_id: int | str, categories: list[int | str]
) -> tuple[float, ...] | None:
    """Box of the largest single object, of these categories where any are given."""
    rows = coco.loadAnns(coco.getAnnIds(imgIds=[image_id], catIds=categories))
    boxes = [row.get("bbox") for row in rows if not row.get("iscrowd")]
    boxes = [tuple(box) for box in boxes if _is_box(box)]
    return max(boxes, key=lambda box: box[2] * box[3], default=None)


def _is_box(box: object) -> bool:
    return (
        isinstance(box, list)
        and len(box) == 4
        and all(isinstance(value, (int, float)) and abs(value) < 1e6 for value in box)
    )


def _check_categories(wanted: list[str], known: set[str]) -> None:
    for name in wanted:
        if name not in known:
            close = difflib.get_close_matches(name, known)
            hint = f"did you mean {' or '.join(close)}?" if close else f"known: {sorted(known)}"
            raise UserError(f"unknown category {name}; {hint}")
