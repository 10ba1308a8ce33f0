"""The crops that training reads: picture files, packed arrays, or COCO's photographs themselves.

All of them are sequences of `(h, w, 3)` uint8 arrays, RGB, that stay on disk until they are used.
Making folders of crops belongs to `data_prep`, choosing and cutting for a batch to `batches`.
"""

import bisect
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from data_prep.crops import CROP_SIZE, Photo, Rule, read_windows
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import PictureError, list_pictures, open_picture, picture_size

Crops = Sequence[np.ndarray]


class PictureCrops(Sequence):
    """Crops that are picture files; a slice of them is the same for fewer.

    Args:
        paths: the files.

    Attributes:
        paths: the same, as a list.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = list(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return PictureCrops(self.paths[index])
        return open_picture(self.paths[index])


class CocoCrops(PictureCrops):
    """The middles of photographs, the same pixels as `data_prep` writes into files.

    Args:
        photos: the photographs.
        size: width and height of the crops, in pixels.
    """

    def __init__(self, photos: Sequence[Photo], size: int) -> None:
        super().__init__(photo.path for photo in photos)
        self.photos = photos
        self.rule = Rule(size)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return CocoCrops(self.photos[index], self.rule.size)
        ((_, crop),) = read_windows(self.photos[index], self.rule)
        return crop


class PackedCrops(Sequence):
    """The crops in the `.npy` files that `python -m data_prep.pack` writes, one after another.

    Args:
        paths: the files, each an array `(n, h, w, 3)` uint8.

    Attributes:
        paths: the same, as a list.

    Raises:
        UserError: if a file is not such an array.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = list(paths)
        self.arrays = []
        for path in self.paths:
            try:
                array = np.load(path, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                reason = " ".join(str(error).split())
                raise UserError(f"{path} cannot be read: {reason}. Pack the crops again.") from None
            if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3 or not len(array):
                raise UserError(
                    f"{path} must hold crops, (n, h, w, 3) uint8. "
                    f"Received: {array.shape} {array.dtype}"
                )
            self.arrays.append(array)
        self.ends = list(itertools.accumulate(map(len, self.arrays)))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        which = bisect.bisect_right(self.ends, index)
        return np.asarray(self.arrays[which][index - self.ends[which]])  # counted from its end


def list_crops(folder: str | os.PathLike, crop_size: int, split: str | None = None) -> Crops:
    """Lists the crops of a folder that training can read.

    Args:
        folder: a folder of pictures, looked through recursively, or of packed crops; or one in
            COCO's own layout, which offers the crops that `python -m data_prep.coco` would cut
            with its defaults (larger ones, if `crop_size` is).
        crop_size: int, the least width and height they must have.
        split: "train" or "test" for that split of the folder, as `split_folder` finds it; None for
            the whole folder as it is.

    Returns:
        `PictureCrops`, `CocoCrops` or `PackedCrops`; empty only if there is no such split.

    Raises:
        UserError: if the folder is missing, holds no crops or both kinds, or one is smaller than
            `crop_size` or unreadable. (Of COCO's photographs that shows when they are read.)
    """
    folder = Path(folder)
    if (folder / "annotations").is_dir():
        from data_prep import coco  # It needs pycocotools, and nothing else here does.

        if coco.annotated_splits(folder):
            size = max(crop_size, CROP_SIZE)
            photos = coco.choose_by_default(folder, size)
            return CocoCrops([photo for photo in photos if split in (None, photo.split)], size)
    if split:
        folder = split_folder(folder, split)
        if folder is None:
            return []
    paths, packed = list_pictures(folder), sorted(folder.glob("*.npy"))
    if packed and paths:
        raise UserError(f"{folder} holds pictures and packed crops. Keep one kind there.")
    if packed:
        crops = PackedCrops(packed)
        sizes = [
            (path, array.shape[2:0:-1]) for path, array in zip(packed, crops.arrays, strict=True)
        ]
    elif paths:
        crops = PictureCrops(paths)
        # Threads make this slower: 14 s for 100,000 crops in place of 1.4 s.
        sizes = zip(paths, map(picture_size, paths), strict=True)
    else:
        raise UserError(
            f"There is no picture in {folder}. Make crops with "
            f"python -m data_prep.folder --photos {folder} --out crops"
        )
    try:
        _check_sizes(sizes, crop_size)
    except PictureError as error:
        raise UserError(f"{error}. Remove it, or make the crops again.") from None
    return crops


def _check_sizes(sizes: Iterable[tuple[Path, tuple[int, int]]], crop_size: int) -> None:
    for path, size in sizes:
        if min(size) < crop_size:
            raise UserError(
                f"{path} is {size[0]}x{size[1]} pixels and crop_size is {crop_size}. Set a "
                f"smaller `crop_size`, or make crops of at least {crop_size} pixels."
            )


def split_folder(data: str | os.PathLike, split: str) -> Path | None:
    """Returns the folder of a split, `data/train` or `data/test` as data_prep writes them.

    A folder without a `train` folder is all training data. None stands for no such split.
    """
    data = Path(data)
    if (data / "train").is_dir():
        folder = data / split
        return folder if folder.is_dir() and any(folder.iterdir()) else None
    return data if split == "train" else None


def first_unreadable(crops: Crops) -> tuple[Path, str] | None:
    """Returns the first crop that cannot be read, as (path, reason), or None."""
    for index in range(len(crops)):
        try:
            crops[index]
        except PictureError as error:
            return error.path, error.reason
    return None
