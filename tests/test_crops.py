import numpy as np
import pytest
from PIL import Image

from data_prep.cli import UserError
from srgan_keras.crops import PackedCrops, first_unreadable, list_crops, split_folder


def test_splits(crops, tmp_path):
    assert split_folder(crops, "train") == crops / "train"
    assert split_folder(crops, "test") == crops / "test"
    assert split_folder(crops / "train", "train") == crops / "train"
    assert split_folder(crops / "train", "test") is None


def test_clear_errors(crops, tmp_path):
    with pytest.raises(UserError, match=r"is 40x40 pixels and crop_size is 96.*--crop-size"):
        list_crops(crops, 96)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no PNG or JPEG picture"):
        list_crops(tmp_path / "empty", 32)
    (crops / "train" / "text.png").write_text("not a picture")
    with pytest.raises(UserError, match=r"text.png is not a picture"):
        list_crops(crops, 32)


def test_the_unreadable_crop_is_named(crops):
    paths = list_crops(crops / "train", 32)
    assert first_unreadable(paths) is None
    paths[2].write_bytes(paths[2].read_bytes()[:500])
    path, reason = first_unreadable(paths)
    assert path == paths[2]
    assert reason


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
