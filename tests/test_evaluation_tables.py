import csv
import os

import numpy as np
import pytest
from PIL import Image

from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import open_picture
from srgan_keras.evaluation import tables
from srgan_keras.inference.interpolation import Interpolation

BICUBIC = Interpolation("bicubic", 4)


def save(path, height, width, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(picture).save(path)


@pytest.mark.parametrize(
    ("name", "method", "psnr", "ssim"),
    [
        ("Set5", "bicubic", 28.43, 0.811),
        ("Set5", "lanczos", 28.81, None),
        ("Set5", "bilinear", 27.56, None),
        ("Set5", "nearest", 26.26, None),
        ("Set14", "bicubic", 26.09, 0.705),
    ],
)
def test_published_figures(shared, name, method, psnr, ssim):
    samples = tables.find_samples(shared / "benchmarks" / name, 4)
    rows, skipped = tables.evaluate({method: Interpolation(method, 4)}, samples, 4)
    assert not skipped
    scores = tables.summarise(rows)[method]
    assert round(scores["psnr_y"], 2) == psnr
    assert ssim is None or round(scores["ssim_y"], 3) == ssim


def test_self_check(shared, tmp_path):
    samples = tables.find_samples(shared / "benchmarks" / "Set5", 4)
    assert "28.43 dB / 0.811, as published" in tables.self_check("Set5", samples, 4, BICUBIC)
    save(tmp_path / "other.png", 41, 47)
    other = tables.find_samples(tmp_path, 4)
    said = tables.self_check("Set5", other, 4, BICUBIC)
    assert said.startswith("WARNING: bicubic on Set5 gives")
    assert tables.self_check("photos", other, 4, BICUBIC) is None


def test_crops_folders_are_measured_on_their_test_split(crops):
    names = [sample.name for sample in tables.find_samples(crops, 4)]
    assert names == ["5.png", "6.png"]


def test_odd_pictures_are_skipped_with_their_reason(tmp_path):
    save(tmp_path / "good.png", 41, 47)
    save(tmp_path / "line.png", 3, 90)
    save(tmp_path / "small.png", 18, 90)
    (tmp_path / "empty.png").touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    rows, skipped = tables.evaluate({"bicubic": BICUBIC}, tables.find_samples(tmp_path, 4), 4)
    assert [row["image"] for row in rows] == ["good.png"]
    assert skipped == {
        "empty.png": "empty file",
        "gone.png": "no such file or directory",
        "line.png": "smaller than 19x19, too small to be measured",
        "small.png": "smaller than 19x19, too small to be measured",
    }


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UserError("Out of memory"), "Out of memory"),
        (MemoryError(), "too large for this machine's memory"),
    ],
)
def test_a_picture_that_a_method_cannot_enlarge_is_skipped_whole(tmp_path, error, reason):
    for name, width in (("a", 40), ("b", 44), ("c", 48)):
        save(tmp_path / f"{name}.png", 40, width)

    def fails(picture):
        if picture.shape[1] == 11:
            raise error
        return BICUBIC(picture)

    methods = {"bicubic": BICUBIC, "fails": fails}
    rows, skipped = tables.evaluate(methods, tables.find_samples(tmp_path, 4), 4)
    assert skipped == {"b.png": reason}
    images = [(row["image"], row["method"]) for row in rows]
    assert images == [(f"{name}.png", method) for name in "ac" for method in methods]


def test_a_result_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "out" / "bicubic" / "bad.png").mkdir(parents=True)  # in the way
    for name in ("bad.png", "good.png"):
        save(tmp_path / "photos" / name, 40, 40)
    samples = tables.find_samples(tmp_path / "photos", 4)
    rows, skipped = tables.evaluate({"bicubic": BICUBIC}, samples, 4, images=tmp_path / "out")
    assert [row["image"] for row in rows] == ["good.png"]
    assert skipped == {"bad.png": "Is a directory"}


def test_results_of_one_stem_do_not_meet(tmp_path):
    for index, name in enumerate(("x.png", "x.jpg", "x.jpg.png", "sub/x.png")):
        save(tmp_path / "photos" / name, 40, 40 + 4 * index)
    samples = tables.find_samples(tmp_path / "photos", 4)
    rows, skipped = tables.evaluate({"bicubic": BICUBIC}, samples, 4, images=tmp_path / "out")
    assert not skipped
    assert len({row["image"] for row in rows}) == 4
    written = {
        str(path.relative_to(tmp_path / "out" / "bicubic")): open_picture(path).shape[1]
        for path in (tmp_path / "out" / "bicubic").rglob("*.png")
    }
    assert written == {"x.png.png": 40, "x.jpg.png": 44, "x.jpg.png.png": 48, "sub/x.png.png": 52}
    assert len(list((tmp_path / "out" / "comparison").rglob("*.png"))) == 4


def test_a_name_that_is_no_text_loses_nothing(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    try:
        save(tmp_path / name / f"{name}.png", 40, 40)
    except OSError:
        pytest.skip("this file system wants valid text")
    samples = tables.find_sets([tmp_path / name], [], 4)[name]
    methods = {"bicubic": BICUBIC, name: BICUBIC}
    rows, skipped = tables.evaluate(methods, samples, 4, images=tmp_path / "out")
    assert not skipped
    assert (tmp_path / "out" / name / f"{name}.png").is_file()
    assert (tmp_path / "out" / "comparison" / f"{name}.png").is_file()
    rows = [{"set": name, **row} for row in rows]
    summaries = {name: tables.summarise(rows)}
    table = tables.format_table(summaries)
    tables.write_results(tmp_path / "out", {"command": name}, summaries, rows, table)
    with open(tmp_path / "out" / "results.csv", newline="", encoding="utf-8") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [r"caf\udce9.png"] * 2
    assert r"caf\udce9 PSNR" in (tmp_path / "out" / "results.md").read_text(encoding="utf-8")


def test_sets_with_and_without_originals_go_into_one_file(tmp_path):
    save(tmp_path / "photos" / "a.png", 40, 40)
    save(tmp_path / "small" / "b.png", 5, 6)
    sets = tables.find_sets([tmp_path / "photos"], [tmp_path / "small"], 4)
    rows = []
    for name, samples in sets.items():
        own, _ = tables.evaluate({"bicubic": BICUBIC}, samples, 4)
        rows += [{"set": name, **row} for row in own]
    for order in (rows, rows[::-1]):
        tables.write_results(tmp_path / "out", {}, {}, order, "")
        with open(tmp_path / "out" / "results.csv", newline="") as file:
            read = {row["set"]: row for row in csv.DictReader(file)}
        assert float(read["photos"]["psnr_y"]) == rows[0]["psnr_y"]
        assert read["small"]["psnr_y"] == ""
