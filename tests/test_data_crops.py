import shutil
import subprocess
import sys

import numpy as np
import pytest
from data_prep_fixtures import SmallCoco
from PIL import Image

from data_prep import coco
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import PictureError, list_pictures, open_picture
from srgan_keras.data.crops import (
    CocoCrops,
    PackedCrops,
    PictureCrops,
    first_unreadable,
    list_crops,
    split_folder,
)


def test_splits(crops, tmp_path):
    assert split_folder(crops, "train") == crops / "train"
    assert split_folder(crops, "test") == crops / "test"
    assert split_folder(crops / "train", "train") == crops / "train"
    assert split_folder(crops / "train", "test") is None


def test_the_crops_of_a_split(crops):
    paths = {split: sorted((crops / split).iterdir()) for split in ("train", "test")}
    assert list_crops(crops, 32, "train").paths == paths["train"]
    assert list_crops(crops, 32, "test").paths == paths["test"]
    assert sorted(list_crops(crops, 32).paths) == sorted(paths["train"] + paths["test"])
    assert list_crops(crops / "train", 32, "train").paths == paths["train"]
    assert len(list_crops(crops / "train", 32, "test")) == 0


def test_clear_errors(crops, tmp_path):
    with pytest.raises(UserError, match=r"is 40x40 pixels and crop_size is 96.*`crop_size`"):
        list_crops(crops, 96)
    with pytest.raises(UserError, match="no such folder"):
        list_crops(tmp_path / "none", 32, "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="There is no picture in"):
        list_crops(tmp_path / "empty", 32)
    (crops / "train" / "text.png").write_text("not a picture")
    with pytest.raises(UserError, match=r"text.png: not an image. Remove it"):
        list_crops(crops, 32)


def test_picture_crops_are_one_sequence(crops):
    listed = list_crops(crops / "train", 32)
    assert isinstance(listed, PictureCrops)
    assert len(listed) == 5
    for crop, path in zip(listed, listed.paths, strict=True):
        np.testing.assert_array_equal(crop, open_picture(path))
    assert listed[1:3].paths == listed.paths[1:3]


def test_the_unreadable_crop_is_named(crops):
    listed = list_crops(crops / "train", 32)
    assert first_unreadable(listed) is None
    path = listed.paths[2]
    path.write_bytes(path.read_bytes()[:500])
    found, reason = first_unreadable(listed)
    assert found == path
    assert reason
    assert first_unreadable(listed[:2]) is None


def test_packed_crops_are_one_sequence(tmp_path):
    rng = np.random.default_rng(0)
    square, wide = (rng.integers(0, 256, shape, np.uint8) for shape in ((3, 8, 8, 3), (2, 8, 9, 3)))
    np.save(tmp_path / "8x8.npy", square)
    np.save(tmp_path / "9x8.npy", wide)
    crops = list_crops(tmp_path, 8)
    assert isinstance(crops, PackedCrops)
    assert len(crops) == 5
    for crop, expected in zip(crops, [*square, *wide], strict=True):
        np.testing.assert_array_equal(crop, expected)
    np.testing.assert_array_equal(crops[2:4][1], wide[0])
    with pytest.raises(UserError, match=r"8x8.npy is 8x8 pixels and crop_size is 12"):
        list_crops(tmp_path, 12)


def test_broken_packed_crops(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8, 3), np.float32))
    with pytest.raises(UserError, match=r"must hold crops.*Received: \(2, 8, 8, 3\) float32"):
        list_crops(tmp_path, 8)
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8, 3), np.uint8))
    with (tmp_path / "a.npy").open("r+b") as file:
        file.truncate(300)
    with pytest.raises(UserError, match=r"a.npy cannot be read: .*Pack the crops again"):
        list_crops(tmp_path, 8)
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8, 3), np.uint8))
    Image.new("RGB", (8, 8)).save(tmp_path / "b.png")
    with pytest.raises(UserError, match="pictures and packed crops"):
        list_crops(tmp_path, 8)


@pytest.fixture
def small(tmp_path):
    """Ten photographs that are large enough for the 384 pixels that data_prep cuts by default."""
    return SmallCoco(tmp_path / "coco", width=400, height=390)


def prepared(root, out, *options):
    """What data_prep.coco makes of a folder in COCO's layout."""
    arguments = ["--coco", root, "--out", out, "--allow-fewer", "--workers", "1", *options]
    coco.main(list(map(str, arguments)))
    return out


def contents(crops):
    return sorted(np.ascontiguousarray(crop).tobytes() for crop in crops)


def assert_same(root, out, crop_size):
    for split in "train", "test":
        files = [open_picture(path) for path in list_pictures(out / split)]
        assert contents(list_crops(root, crop_size, split)) == contents(files)


def test_coco_gives_the_crops_that_data_prep_writes(small, tmp_path):
    assert_same(small.root, prepared(small.root, tmp_path / "out"), 32)
    assert len(list_crops(small.root, 32)) == 10
    assert isinstance(list_crops(small.root, 32), CocoCrops)


def test_coco_in_larger_crops_with_photographs_of_two_splits(small, tmp_path):
    SmallCoco(small.root, 3, "val2017", width=388, height=400)
    out = prepared(small.root, tmp_path / "out", "--crop-size", "388")
    assert_same(small.root, out, 388)
    assert list_crops(small.root, 388)[0].shape == (388, 388, 3)


def test_coco_leaves_out_photographs_that_are_not_on_disk(small, tmp_path):
    assert len(list_crops(small.root, 32)) == 10  # What is remembered does not go stale.
    small.photo(3).unlink()
    assert_same(small.root, prepared(small.root, tmp_path / "out"), 32)
    assert len(list_crops(small.root, 32)) == 9


def test_a_broken_photograph_shows_when_it_is_read(small):
    small.photo(3).write_bytes(small.photo(3).read_bytes()[:500])
    crops = list_crops(small.root, 32)
    assert first_unreadable(crops) == (small.photo(3), "truncated")
    Image.new("RGB", (400, 300)).save(small.photo(3))
    index = crops.paths.index(small.photo(3))
    with pytest.raises(PictureError, match="400x300, smaller than 384x384"):
        crops[index]


def test_coco_without_a_usable_photograph(small):
    with pytest.raises(UserError, match="coco has no photograph on disk of at least 500x500"):
        list_crops(small.root, 500, "train")
    (small.root / "annotations" / "instances_train2017.json").write_text("{")
    with pytest.raises(UserError, match="no valid JSON"):
        list_crops(small.root, 32, "train")
    (small.root / "annotations" / "instances_train2017.json").unlink()
    assert type(list_crops(small.root, 32)) is PictureCrops


def test_the_real_coco_gives_the_crops_that_data_prep_writes(shared, tmp_path):
    shutil.copytree(shared / "coco" / "annotations", tmp_path / "coco" / "annotations")
    for split in "train2017", "val2017":
        (tmp_path / "coco" / split).mkdir()
        for photo in sorted((shared / "coco" / split).iterdir())[:20]:
            shutil.copy(photo, tmp_path / "coco" / split)
    assert_same(tmp_path / "coco", prepared(tmp_path / "coco", tmp_path / "out"), 96)


def test_folders_of_crops_need_no_pycocotools(crops):
    code = f"""
import sys
sys.modules["pycocotools"] = None
from srgan_keras.data.crops import list_crops
assert len(list_crops({str(crops)!r}, 32, "train")) == 5
"""
    subprocess.run([sys.executable, "-c", code], check=True)
