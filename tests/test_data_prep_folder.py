import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
from data_prep_fixtures import save_photo

from data_prep import folder
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import open_picture

ROOT = Path(__file__).parents[1]


@pytest.fixture
def photos(tmp_path):
    for i in range(5):
        save_photo(tmp_path / "photos" / f"{i}.png", 70, 66, seed=i)
    return tmp_path / "photos"


def run(photos: Path, *options: str, out: Path | None = None) -> list[dict[str, str]]:
    out = out or photos.parent / "out"
    arguments = ["--photos", str(photos), "--out", str(out), "--crop-size", "32"]
    assert folder.main([*arguments, "--workers", "1", *options]) == 0
    with (out / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_crops_of_a_photograph_share_its_split(photos, capsys):
    rows = run(photos)
    assert len(rows) == 20
    assert len({(row["source"], row["split"]) for row in rows}) == 5
    assert {(row["x"], row["y"]) for row in rows} == {
        (x, y) for x in ("1", "36") for y in ("0", "33")
    }
    assert {row["licence"] + row["flickr_url"] for row in rows} == {""}
    assert "20 crops: 16 train, 4 test" in capsys.readouterr().out


def test_second_run_changes_nothing(photos, capsys):
    run(photos)
    out = photos.parent / "out"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    run(photos)
    assert "20 already there" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_one_crop_per_photograph_bears_its_name(photos):
    crops = {Path(row["crop"]).name for row in run(photos, "--crops-per-photo", "1")}
    assert crops == {f"{i}.png" for i in range(5)}


def test_reduce(photos):
    rows = run(photos, "--reduce", "2")
    assert len(rows) == 5
    assert {(row["x"], row["y"], row["width"]) for row in rows} == {("2", "0", "64")}
    assert open_picture(photos.parent / "out" / rows[0]["crop"]).shape == (32, 32, 3)


def test_same_names_in_subfolders_do_not_collide(photos):
    save_photo(photos / "a" / "0.png", 40, 40)
    save_photo(photos / "b" / "0.png", 40, 40)
    save_photo(photos / "a_0.png", 40, 40)
    save_photo(photos / "0.bmp", 40, 40)
    rows = run(photos, "--crops-per-photo", "1")
    assert len({Path(row["crop"]).name.casefold() for row in rows}) == len(rows) == 9


def test_small_and_broken_photographs_are_named(photos, capsys):
    save_photo(photos / "small.png", 31, 99)
    (photos / "text.jpg").write_text("text")
    assert len(run(photos)) == 20
    text = capsys.readouterr().out
    assert "skipped 2:\n  small.png: 31x99, smaller than 32x32\n  text.jpg: not an image" in text


def test_crops_inside_the_photographs_are_not_eaten(photos):
    first = run(photos, out=photos / "crops")
    assert run(photos, out=photos / "crops") == first


def test_photographs_inside_the_crops_are_refused(photos):
    for out in (photos, photos.parent):
        with pytest.raises(UserError, match="choose another `out`"):
            run(photos, out=out)


def test_nothing_usable_is_an_error(photos, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        run(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no pictures"):
        run(tmp_path / "empty")
    with pytest.raises(UserError, match="none of the 5 pictures"):
        run(photos, "--crop-size", "99")


def test_name_that_is_no_text(photos):
    os.rename(os.fsencode(photos / "0.png"), os.fsencode(photos) + b"/\xff.png")
    assert "\\udcff.png" in {row["source"] for row in run(photos)}
    assert len(run(photos)) == 20


@pytest.fixture
def divided(tmp_path):
    """Photographs in DIV2K's layout: both splits, and their LR, which is no photograph."""
    for i, name in enumerate(["train_HR/1", "train_HR/2", "train_HR/x/3", "valid_HR/1", "LR/1"]):
        save_photo(tmp_path / "DIV2K" / f"DIV2K_{name}.png", 70, 66, seed=i)
    return tmp_path / "DIV2K"


SPLIT_FROM = ("--split-from", "DIV2K_train_HR", "DIV2K_valid_HR")


def test_split_from_keeps_the_splits_that_there_are(divided, capsys):
    rows = run(divided, *SPLIT_FROM)
    assert {(row["source"], row["split"]) for row in rows} == {
        ("DIV2K_train_HR/1.png", "train"),
        ("DIV2K_train_HR/2.png", "train"),
        ("DIV2K_train_HR/x/3.png", "train"),
        ("DIV2K_valid_HR/1.png", "test"),
    }
    assert "16 crops: 12 train, 4 test" in capsys.readouterr().out
    run(divided, *SPLIT_FROM)
    assert "16 already there" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"another split from \['DIV2K_train_HR', .* \(now None\)"):
        run(divided)


def test_the_first_folder_of_split_from_is_train(divided):
    rows = run(divided, "--split-from", *SPLIT_FROM[:0:-1])
    assert {row["source"] for row in rows if row["split"] == "train"} == {"DIV2K_valid_HR/1.png"}


@pytest.mark.parametrize(
    "names",
    [
        ("DIV2K_train_HR", "none"),
        ("DIV2K_train_HR", "DIV2K_train_HR"),
        ("DIV2K_train_HR", "DIV2K_train_HR/x"),
        ("DIV2K_train_HR/x", "."),
        ("DIV2K_train_HR/1.png", "../DIV2K/DIV2K_valid_HR"),
    ],
)
def test_split_from_names_two_folders_inside(divided, names):
    with pytest.raises(UserError, match=f"two folders inside {divided} .* Received: {names[0]} "):
        run(divided, "--split-from", *names)


def test_split_from_and_a_ratio_exclude_each_other(divided):
    with pytest.raises(UserError, match="`train_ratio` and `split_from` both"):
        run(divided, *SPLIT_FROM, "--train-ratio", "0.5")


def test_command_line(photos, tmp_path):
    command = [sys.executable, "-m", "data_prep.folder", "--photos", str(photos), "--out"]
    command += [str(tmp_path / "out"), "--crop-size", "32"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "20 crops: 16 train, 4 test\n")
    result = subprocess.run([*command, "--seed", "1"], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "seed 0 (now 1)" in result.stderr


def test_real_photographs(shared, tmp_path):
    small = tmp_path / "bsds"
    small.mkdir()
    for path in sorted((shared / "bsds400").glob("*.jpg"))[:6]:
        (small / path.name).symlink_to(path)
    rows = run(small, "--crop-size", "192")
    assert len(rows) == 12
    assert open_picture(tmp_path / "out" / rows[0]["crop"]).shape == (192, 192, 3)
