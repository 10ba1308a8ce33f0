import csv
import json
import sys

import numpy as np
import pytest
from PIL import Image

from data_prep.cli import UserError
from data_prep.pictures import open_picture
from srgan_keras import evaluate
from srgan_keras.export import export
from srgan_keras.models import build_generator


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
    samples = evaluate.find_samples(shared / "benchmarks" / name, 4)
    rows, skipped = evaluate.evaluate({method: evaluate.load_method(method, 4)}, samples, 4)
    assert not skipped
    scores = evaluate.summarise(rows)[method]
    assert round(scores["psnr_y"], 2) == psnr
    assert ssim is None or round(scores["ssim_y"], 3) == ssim


def test_self_check(shared, photos):
    samples = evaluate.find_samples(shared / "benchmarks" / "Set5", 4)
    assert "28.43 dB / 0.811, as published" in evaluate.self_check("Set5", samples, 4)
    other = evaluate.find_samples(photos, 4)
    assert evaluate.self_check("Set5", other, 4).startswith("WARNING: bicubic on Set5 gives")
    assert evaluate.self_check("photos", other, 4) is None


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


def test_keras_file_of_a_run_gives_what_its_savedmodel_gives(photos, tmp_path):
    generator = build_generator(filters=4, residual_blocks=1)
    generator.save(tmp_path / "generator.keras")
    settings = {"recipe": {"lr_range": "0..1", "seed": 3}, "data": "", "vgg_weights": ""}
    (tmp_path / "recipe.json").write_text(json.dumps(settings))
    export(generator, tmp_path / "saved_model", "0..1")
    picture = open_picture(photos / "colour.png")[:10, :10]
    file = evaluate.load_method(tmp_path / "generator.keras", 4)
    folder = evaluate.load_method(tmp_path, 4)
    np.testing.assert_array_equal(file(picture), folder(picture))
    assert evaluate.describe_run([str(tmp_path)])["seeds"] == {str(tmp_path): 3}


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
    assert run("--data", pairs, "--out", tmp_path / "out") == 0
    errors = capsys.readouterr().err
    assert "skipped pairs/wrong_size.png: LR is 11x11, HR 40x40" in errors
    for name in ("no_lr", "broken", "tiny"):
        assert f"skipped pairs/{name}.png: " in errors
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == ["good.png"]


def test_small_pictures_alone_are_enlarged_and_never_reduced(photos, tmp_path, capsys):
    assert run("--lr", photos, "--images", "--out", tmp_path / "out") == 0
    enlarged = open_picture(tmp_path / "out" / "photos" / "bicubic" / "colour.png")
    assert enlarged.shape == (4 * 41, 4 * 47, 3)
    assert "PSNR" not in capsys.readouterr().out


def test_crops_folders_are_measured_on_their_test_split(crops):
    names = [sample.name for sample in evaluate.find_samples(crops, 4)]
    assert names == ["5.png", "6.png"]


def test_clear_errors(photos, tmp_path):
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([], "Give pictures to evaluate on"),
        (["--data", tmp_path / "empty"], "no pictures"),
        (["--data", photos, "--model", "cubic"], "nor one of nearest"),
        (["--data", photos, photos], "same name"),
        (["--data", photos, "--model", tmp_path / "empty"], "no generator"),
    ):
        with pytest.raises(UserError, match=message):
            run(*arguments, "--out", tmp_path / "out")
    export(build_generator(scale=2, filters=2, residual_blocks=0), tmp_path / "two")
    with pytest.raises(UserError, match="enlarges 2 times; --scale is 4"):
        run("--data", photos, "--model", tmp_path / "two")


def test_lpips_is_imported_only_when_asked_for(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "lpips", None)
    assert run("--data", photos, "--out", tmp_path / "out") == 0
    assert "LPIPS" not in capsys.readouterr().out
    assert run("--data", photos, "--lpips", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "| photos LPIPS |" in said
    assert said.count('| pip install "srgan-keras[lpips]" |') == 1


def test_lpips_column(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "load_lpips", lambda: lambda hr, sr: 0.25)
    assert run("--data", photos, "--lpips", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "| photos LPIPS |" in said
    assert "| 0.250 |" in said
