import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_prep_fixtures import save_photo

from data_prep import crop_folder
from data_prep.crop_folder import CropFolder
from data_prep.crops import (
    Photo,
    Rule,
    crop_paths,
    cut,
    name_uniquely,
    readable,
    shuffle,
    split_names,
    windows,
)
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import open_picture

SETTINGS = {"command": "test", "crop_size": 32}


def photo(source: str, **fields) -> Photo:
    return Photo(Path(source), source, Path(source).stem, **fields)


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time of the last change and content of every file."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    ("box", "corner"),
    [
        (None, (34, 9)),
        ((40, 20, 20, 10), (34, 9)),
        ((0, 0, 4, 4), (0, 0)),
        ((90, 40, 10, 10), (68, 18)),
        ((-900, 9000, 1, 1), (0, 18)),
        ((50, 20, 10, 10), (39, 9)),
    ],
)
def test_object_window_is_centred_and_inside(box, corner):
    assert windows(Rule(32, "object"), photo("a", box=box), 100, 50) == [corner]


def test_centre_window():
    assert windows(Rule(32), photo("a"), 100, 51) == [(34, 9)]


def test_random_window_depends_on_seed_and_source_alone():
    rule = Rule(32, "random", seed=1)
    first = windows(rule, photo("a"), 1000, 1000)
    assert first == windows(rule, photo("a", split="test"), 1000, 1000)
    assert first != windows(rule, photo("b"), 1000, 1000)
    assert first != windows(Rule(32, "random", seed=2), photo("a"), 1000, 1000)
    assert windows(rule, photo("a"), 32, 32) == [(0, 0)]


@pytest.mark.parametrize("size", [32, 33])
@pytest.mark.parametrize("most", [1, 2, 4, 5, 1000])
@pytest.mark.parametrize(("width", "height"), [(33, 33), (66, 33), (131, 100), (400, 301)])
def test_grid_cells_lie_inside_and_do_not_overlap(size, most, width, height):
    cells = windows(Rule(size, "grid", per_photo=most), photo("a"), width, height)
    assert len(cells) == min(most, (width // size) * (height // size))
    covered = np.zeros((height, width), int)
    for x, y in cells:
        assert 0 <= x <= width - size
        assert 0 <= y <= height - size
        covered[y : y + size, x : x + size] += 1
    assert covered.max() == 1


def test_one_grid_cell_is_in_the_middle():
    assert windows(Rule(32, "grid"), photo("a"), 50, 40) == [(9, 4)]


def test_split_names():
    assert split_names(5, 0.8) == ["train"] * 4 + ["test"]
    assert split_names(487, 0.8).count("train") == 390
    assert split_names(3, 0) == ["test"] * 3
    assert split_names(0, 1) == []


def test_shuffle_keeps_the_order_when_photographs_leave():
    photos = [photo(f"{i}.jpg") for i in range(20)]
    mixed = shuffle(photos, 0)
    assert mixed != photos
    assert mixed != shuffle(photos, 1)
    assert shuffle(reversed(photos[::2]), 0) == [one for one in mixed if one in photos[::2]]


def test_names_are_safe_and_unique():
    wanted = ["a", "b/c", "b c", "A", "", "...", "x" * 300, "../../y", "\u732b", "new\nline"]
    photos = [Photo(Path(name), f"{i}", name) for i, name in enumerate(wanted)]
    names = [one.name for one in name_uniquely(photos)]
    assert len({name.casefold() for name in names}) == len(wanted)
    assert names[8:] == ["\u732b", "new_line"]
    assert names[0].startswith("a-")
    for name in names:
        assert name
        assert not name.startswith(".")
        assert not set("/\\\n") & set(name)
        assert len(name) < 80


def test_readable_names_fit_on_a_line():
    assert readable("na\u00efve.jpg") == "na\u00efve.jpg"
    assert readable("a\nb\udc80") == "a\\nb\\udc80"


def test_cut_writes_the_window_and_its_row(tmp_path):
    one = photo(str(save_photo(tmp_path / "bird.png", 50, 40)), split="test", licence="by")
    [row] = cut(one, Rule(32), tmp_path / "out")
    assert row == ("test/bird.png", one.source, "test", 9, 4, 32, 32, "by", "")
    expected = open_picture(one.path)[4:36, 9:41]
    np.testing.assert_array_equal(open_picture(tmp_path / "out" / row.crop), expected)


def test_cut_reduces_first(tmp_path):
    one = photo(str(save_photo(tmp_path / "bird.png", 101, 66)))
    rows = cut(one, Rule(32, "grid", per_photo=4, reduce=2), tmp_path)
    assert [row.crop for row in rows] == ["train/bird_0.png"]
    assert rows[0][3:7] == (18, 0, 64, 64)
    window = open_picture(one.path)[0:64, 18:82].astype(float)
    means = window.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    crop = open_picture(tmp_path / rows[0].crop)
    assert crop.shape == (32, 32, 3)
    assert np.corrcoef(means.ravel(), crop.ravel())[0, 1] > 0.9


def test_cut_says_why_not(tmp_path):
    small = photo(str(save_photo(tmp_path / "small.png", 40, 31)))
    assert cut(small, Rule(32), tmp_path) == "40x31, smaller than 32x32"
    assert cut(photo("none.png"), Rule(32), tmp_path) == "no such file or directory"
    assert not (tmp_path / "train").exists()


@pytest.fixture
def photos(tmp_path):
    paths = [save_photo(tmp_path / "photos" / f"{i}.png", 48, 40, seed=i) for i in range(6)]
    splits = split_names(6, 0.5)
    return [
        Photo(path, path.name, path.stem, split) for path, split in zip(paths, splits, strict=True)
    ]


def make(out, photos, rule=Rule(32), settings=SETTINGS, workers=1) -> str:  # noqa: B008
    folder = CropFolder(out, rule, settings, workers)
    folder.add(photos)
    return folder.finish()


def test_folder_has_crops_manifest_and_settings(tmp_path, photos):
    assert make(tmp_path / "out", photos) == "6 crops: 3 train, 3 test"
    with (tmp_path / "out" / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    header = "crop,source,split,x,y,width,height,licence,flickr_url"
    assert ",".join(rows[0]) == header
    assert [row["crop"] for row in rows] == sorted(row["crop"] for row in rows)
    assert all((tmp_path / "out" / row["crop"]).is_file() for row in rows)
    assert json.loads((tmp_path / "out" / "crops.json").read_text()) == SETTINGS


def test_second_run_changes_nothing_and_opens_nothing(tmp_path, photos):
    make(tmp_path / "out", photos)
    before = state(tmp_path / "out")
    for one in photos:
        one.path.unlink()
    assert make(tmp_path / "out", photos).endswith("6 already there")
    assert state(tmp_path / "out") == before


def test_worker_processes_make_the_same(tmp_path, photos):
    make(tmp_path / "one", photos)
    make(tmp_path / "three", photos[::-1], workers=3)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


def test_killed_run_is_continued_to_the_same_end(tmp_path, photos):
    make(tmp_path / "whole", photos)
    make(tmp_path / "out", photos[:3])
    (tmp_path / "out" / "train" / ".tmp-77-3.png").write_bytes(b"half")
    (tmp_path / "out" / ".tmp-77-manifest.csv").write_bytes(b"half")
    (tmp_path / "out" / "test").mkdir()  # a crop that the manifest does not know yet
    (tmp_path / "out" / "test" / "4.png").write_bytes(b"any")
    kept = (tmp_path / "out" / "train" / "0.png").stat().st_mtime_ns
    assert "3 already there" in make(tmp_path / "out", photos)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert (tmp_path / "out" / "train" / "0.png").stat().st_mtime_ns == kept


def test_run_that_fails_midway_saves_its_manifest(tmp_path, photos, monkeypatch):
    def fail_at_4(photo, rule, out):
        if photo.path.stem == "4":
            raise OSError(28, "No space left on device", "4.png")
        return cut(photo, rule, out)

    monkeypatch.setattr(crop_folder, "cut", fail_at_4)
    with pytest.raises(OSError):
        make(tmp_path / "out", photos)
    monkeypatch.undo()
    assert "4 already there" in make(tmp_path / "out", photos)


@pytest.mark.parametrize("damage", ["", "nonsense", 'crop\n"unclosed', "a,b,c,d,e,f,g,h,i\n\0"])
def test_damaged_manifest_is_made_again(tmp_path, photos, damage):
    make(tmp_path / "out", photos)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "manifest.csv").write_text(damage)
    make(tmp_path / "out", photos)
    assert contents(tmp_path / "out") == before


def test_manifest_cannot_make_a_run_delete_other_files(tmp_path, photos):
    make(tmp_path / "out", photos)
    victim = save_photo(tmp_path / "victim.png")
    with (tmp_path / "out" / "manifest.csv").open("a") as file:
        for crop in ("../victim.png", "train/../../victim.png", str(victim)):
            file.write(f"{crop},s,train,0,0,32,32,,\n")
    make(tmp_path / "out", photos)
    assert victim.is_file()


def test_crop_that_was_deleted_is_made_again(tmp_path, photos):
    make(tmp_path / "out", photos)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / "test" / "5.png").unlink()
    assert make(tmp_path / "out", photos).endswith("5 already there")
    assert contents(tmp_path / "out") == before


def test_outdated_crops_are_removed(tmp_path, photos):
    make(tmp_path / "out", photos)
    moved = [*photos[1:5], Photo(photos[5].path, "5.png", "5", "train")]
    make(tmp_path / "fresh", moved)
    assert make(tmp_path / "out", moved) == (
        "5 crops: 3 train, 2 test; 4 already there; 2 outdated ones removed"
    )
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


def test_other_settings_are_refused(tmp_path, photos):
    make(tmp_path / "out", photos)
    before = state(tmp_path / "out")
    with pytest.raises(UserError, match=r"crop size 32 \(now 16\)\. Choose another `out`"):
        make(tmp_path / "out", photos, Rule(16), {"command": "test", "crop_size": 16})
    assert state(tmp_path / "out") == before


def test_folder_of_another_origin_is_refused(tmp_path, photos):
    save_photo(tmp_path / "out" / "train" / "mine.png")
    with pytest.raises(UserError, match="another origin"):
        make(tmp_path / "out", photos)
    (tmp_path / "out" / "crops.json").write_text("{")
    with pytest.raises(UserError, match="broken"):
        make(tmp_path / "out", photos)


def test_long_lists_of_skipped_photographs_are_shortened(tmp_path, photos):
    missing = [photo(f"none{i:02d}.jpg") for i in range(23)]
    summary = make(tmp_path / "out", [*photos, *missing])
    assert summary.startswith("6 crops: 3 train, 3 test; skipped 23:\n  none00.jpg: no such file")
    assert "none19.jpg" in summary
    assert "none20.jpg" not in summary
    assert summary.endswith(f"  and 3 more, all in {tmp_path / 'out' / 'skipped.csv'}")
    with (tmp_path / "out" / "skipped.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 23
    make(tmp_path / "out", photos)
    assert not (tmp_path / "out" / "skipped.csv").exists()


def test_crop_paths():
    assert crop_paths(photo("a.jpg"), Rule(32)) == ["train/a.png"]
    assert crop_paths(photo("a.jpg"), Rule(32, "grid", per_photo=2)) == [
        "train/a_0.png",
        "train/a_1.png",
    ]


def test_worker_that_is_killed_ends_the_run_in_one_line(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(crop_folder, "_start_worker", _kill_worker)
    with pytest.raises(UserError, match="`workers` 1"):
        make(tmp_path / "out", photos, workers=2)


def _kill_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_data_prep_never_imports_tensorflow():
    code = "import sys, data_prep.coco, data_prep.folder; sys.exit('tensorflow' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1]).returncode == 0
    )
