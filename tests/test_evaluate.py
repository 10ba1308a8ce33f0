import csv
import json
import re
import sys

import numpy as np
import pytest
from PIL import Image

from srgan_keras import evaluate
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import open_picture
from srgan_keras.inference.formats import export
from srgan_keras.systems.srgan import build_generator


@pytest.fixture
def photos(tmp_path):
    """A folder with a colour and a greyscale photograph of odd sizes, and things that are none."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(rng.integers(0, 256, (41, 47, 3), np.uint8)).save(folder / "colour.png")
    Image.fromarray(rng.integers(0, 256, (44, 40), np.uint8)).save(folder / "grey.png")
    return folder


def run(*arguments):
    return evaluate.main([str(argument) for argument in arguments])


def test_table_files_and_pictures(photos, tmp_path, capsys):
    model = tmp_path / "model"
    export(build_generator(filters=4, residual_blocks=1), model)
    out = tmp_path / "out"
    models = ["--model", "bicubic", "--model", model]
    assert run("--data", photos, *models, "--rgb", "--images", "--out", out) == 0
    said = capsys.readouterr().out
    assert "| method | photos PSNR / SSIM | photos PSNR / SSIM RGB | photos s/megapixel |" in said
    assert (out / "results.md").read_text().startswith("| method |")
    about = json.loads((out / "results.json").read_text())
    assert set(about) == {"date", "command", "hardware", "gpus", "versions", "seeds", "results"}
    with open(out / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["method"]) for row in rows] == [
        ("colour.png", "bicubic"),
        ("colour.png", "model"),
        ("grey.png", "bicubic"),
        ("grey.png", "model"),
    ]
    mean = about["results"]["photos"]["bicubic"]["psnr_y"]
    assert mean == pytest.approx(np.mean([float(rows[i]["psnr_y"]) for i in (0, 2)]))
    assert open_picture(out / "photos" / "model" / "colour.png").shape == (40, 44, 3)
    assert (out / "photos" / "comparison" / "grey.png").is_file()


def test_seeds_of_runs_of_any_version_are_written(tmp_path):
    (tmp_path / "run").mkdir()
    settings = {"recipe": {"lr_range": "0..1", "seed": 3, "no such setting": 1}}
    (tmp_path / "run" / "recipe.json").write_text(json.dumps(settings))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "recipe.json").write_text("{")
    names = [str(tmp_path / "run"), str(tmp_path / "broken"), "bicubic"]
    assert evaluate.describe_run(names)["seeds"] == {str(tmp_path / "run"): 3}


def test_pairs_that_do_not_fit_and_unreadable_pictures_are_named(photos, tmp_path, capsys):
    pairs = tmp_path / "pairs"
    for name in ("HR", "LR_x4"):
        (pairs / name).mkdir(parents=True)
    for name in ("good", "wrong_size", "no_lr", "broken", "tiny"):
        shape = (8, 8, 3) if name == "tiny" else (40, 40, 3)
        Image.fromarray(np.full(shape, 90, np.uint8)).save(pairs / "HR" / f"{name}.png")
        side = {"wrong_size": 11, "tiny": 2}.get(name, 10)
        if name != "no_lr":
            picture = Image.fromarray(np.full((side, side, 3), 90, np.uint8))
            picture.save(pairs / "LR_x4" / f"{name}.png")
    (pairs / "HR" / "broken.png").write_text("no picture")
    assert run("--data", pairs, "--out", tmp_path / "out") == 2
    said = capsys.readouterr()
    assert "| pairs PSNR / SSIM |" in said.out
    assert "skipped pairs/wrong_size.png: LR is 11x11, HR 40x40" in said.err
    for name in ("no_lr", "broken", "tiny"):
        assert f"skipped pairs/{name}.png: " in said.err
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["good.png"]


def test_a_set_without_a_usable_picture_does_not_lose_the_others(photos, tmp_path, capsys):
    (tmp_path / "bad").mkdir()
    Image.new("RGB", (3, 50)).save(tmp_path / "bad" / "narrow.png")
    with pytest.raises(UserError, match="None of the pictures in bad could be used"):
        run("--data", tmp_path / "bad", "--out", tmp_path / "out")
    assert run("--data", tmp_path / "bad", photos, "--out", tmp_path / "out") == 2
    assert "skipped bad/narrow.png: smaller than 19x19" in capsys.readouterr().err
    assert set(json.loads((tmp_path / "out" / "results.json").read_text())["results"]) == {"photos"}


def test_small_pictures_alone_are_enlarged_and_never_reduced(photos, tmp_path, capsys):
    assert run("--lr", photos, "--images", "--out", tmp_path / "out") == 0
    enlarged = open_picture(tmp_path / "out" / "photos" / "bicubic" / "colour.png")
    assert enlarged.shape == (4 * 41, 4 * 47, 3)
    assert "PSNR" not in capsys.readouterr().out


def test_small_pictures_can_be_spoilt_first(photos, tmp_path, capsys):
    scores = []
    for options in ([], ["--degrade", "blur1+jpeg30"]):
        assert run("--data", photos, *options, "--out", tmp_path / "out") == 0
        results = json.loads((tmp_path / "out" / "results.json").read_text())["results"]
        ((name, by_method),) = results.items()
        scores.append((name, by_method["bicubic"]["psnr_y"]))
    assert [name for name, _ in scores] == ["photos", "photos blur1+jpeg30"]
    assert scores[1][1] < scores[0][1]
    assert "| method | photos blur1+jpeg30 PSNR / SSIM |" in capsys.readouterr().out


def test_clear_errors(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    comparison = tmp_path / "comparison"
    export(build_generator(filters=2, residual_blocks=0), comparison)
    for arguments, message in (
        ([], "Give pictures to evaluate on"),
        (["--data", tmp_path / "empty"], "no pictures"),
        (["--data", photos, "--model", "cubic"], "nor one of nearest"),
        (["--data", photos, photos], "same name"),
        (["--data", photos, "--degrade", "gif"], r"degrade must be jpeg.*Received: 'gif'"),
        (["--data", photos, "--lr", photos], "same name"),
        (["--data", photos, "--model", tmp_path / "empty"], "no generator"),
        (["--data", photos, "--model", comparison], "cannot be called comparison"),
        (["--data", photos, "--model", comparison, "--model", comparison], "the same name"),
    ):
        with pytest.raises(UserError, match=message):
            run(*arguments, "--out", tmp_path / "out")
    with pytest.raises(UserError, match="enlarges 4 times; `scale` is 2"):
        run("--data", photos, "--model", comparison, "--scale", 2)


def test_lpips_is_imported_only_when_asked_for(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert run("--data", photos, "--out", tmp_path / "out") == 0
    assert "LPIPS" not in capsys.readouterr().out
    assert run("--data", photos, "--lpips", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "| photos LPIPS |" in said
    assert len(re.findall(r'\| pip install -e "\.\[lpips\]" in the clone \|', said)) == 1


def test_lpips_column(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "load_lpips", lambda: lambda hr, sr: 0.25)
    assert run("--data", photos, "--lpips", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "| photos LPIPS |" in said
    assert "| 0.250 |" in said
