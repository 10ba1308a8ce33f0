import contextlib
import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import pack
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import PictureError


def make_crop(path, size, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255)).save(path)


def test_crops_of_one_size_become_one_array_of_each_split(tmp_path, capsys):
    make_crop(tmp_path / "crops/train/b/1.png", (8, 8), 1)
    make_crop(tmp_path / "crops/train/a/2.png", (8, 8), 2)
    make_crop(tmp_path / "crops/train/3.png", (12, 8), 3)
    make_crop(tmp_path / "crops/test/4.png", (8, 8), 4)
    out = tmp_path / "packed"
    assert pack.main(["--crops", str(tmp_path / "crops"), "--out", str(out)]) == 0
    assert f"{out / 'train' / '8x8.npy'}: 2 crops of 8x8" in capsys.readouterr().out
    array = np.load(out / "train" / "8x8.npy")
    assert array.shape == (2, 8, 8, 3)
    assert array.dtype == np.uint8
    assert array[:, 0, 0].tolist() == [[2, 0, 255], [1, 0, 255]]  # a/2.png, b/1.png
    assert np.load(out / "train" / "12x8.npy").shape == (1, 8, 12, 3)
    assert np.load(out / "test" / "8x8.npy")[0, 0, 0].tolist() == [4, 0, 255]
    files = {path.name for path in out.rglob("*") if path.is_file()}
    assert files == {"8x8.npy", "12x8.npy"}


def test_a_folder_without_splits(tmp_path):
    make_crop(tmp_path / "crops/1.png", (8, 8), 1)
    pack.main(["--crops", str(tmp_path / "crops"), "--out", str(tmp_path / "packed")])
    assert np.load(tmp_path / "packed" / "8x8.npy").shape == (1, 8, 8, 3)


def test_nothing_is_overwritten_and_nothing_is_half_written(tmp_path):
    crops, out = tmp_path / "crops", tmp_path / "packed"
    make_crop(crops / "1.png", (8, 8), 1)
    noise = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    Image.fromarray(noise).save(crops / "2.png")
    (crops / "2.png").write_bytes((crops / "2.png").read_bytes()[:200])
    with pytest.raises(PictureError, match=r"2\.png"):
        pack.pack(crops, out)
    assert not list(out.glob("*"))
    (crops / "2.png").write_text("text")
    with pytest.raises(PictureError, match=r"2\.png: not an image"):
        pack.pack(crops, out)
    (crops / "2.png").unlink()
    pack.pack(crops, out)
    with pytest.raises(UserError, match="choose another `out`"):
        pack.pack(crops, out)


def test_the_second_split_failing_leaves_nothing_of_the_first(tmp_path):
    crops, out = tmp_path / "crops", tmp_path / "packed"
    make_crop(crops / "train/1.png", (8, 8), 1)
    make_crop(crops / "test/2.png", (8, 8), 2)
    (crops / "test/2.png").write_bytes((crops / "test/2.png").read_bytes()[:50])
    with pytest.raises(PictureError, match=r"2\.png"):
        pack.pack(crops, out)
    assert not [path for path in out.rglob("*") if path.is_file()]
    make_crop(crops / "test/2.png", (8, 8), 2)
    assert pack.pack(crops, out) == {
        out / "train" / "8x8.npy": (1, 8, 8, 3),
        out / "test" / "8x8.npy": (1, 8, 8, 3),
    }


def test_arrays_inside_the_crops_are_refused(tmp_path, monkeypatch):
    make_crop(tmp_path / "crops/train/1.png", (8, 8), 1)
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "link").symlink_to(tmp_path / "crops")
    monkeypatch.chdir(tmp_path)
    for out in ("crops", "crops/train", "crops/packed", "link/packed", "other/../crops"):
        with pytest.raises(UserError, match=r"`out` .* lies in `crops` .*; choose another `out`"):
            pack.main(["--crops", "crops", "--out", out])
    (tmp_path / "link").unlink()
    assert sorted(tmp_path.rglob("*")) == before
    pack.main(["--crops", "crops", "--out", "crops-packed"])
    assert (tmp_path / "crops-packed" / "train" / "8x8.npy").is_file()


def test_no_crops(tmp_path):
    (tmp_path / "crops").mkdir()
    with pytest.raises(UserError, match="no crops; make some"):
        pack.pack(tmp_path / "crops", tmp_path / "packed")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    """And no crash, which memory that maps the file would end in."""
    make_crop(tmp_path / "crops/1.png", (200, 200), 1)
    monkeypatch.setattr(pack, "replacing", lambda file: contextlib.nullcontext(Path("/dev/full")))
    with pytest.raises(OSError) as caught:
        pack.pack(tmp_path / "crops", tmp_path / "packed")
    assert caught.value.errno == errno.ENOSPC
