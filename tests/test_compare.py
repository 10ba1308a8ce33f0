import csv
import json
import shutil

import pytest

from srgan_keras import compare, study
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import SAVED_MODEL
from srgan_keras.common.pictures import picture_size
from srgan_keras.run import LOG

TINY = (
    "--recipes srresnet --steps 2 --set crop_size=24 filters=4 residual-blocks=1 batch_size=2"
).split()


@pytest.fixture
def trained(saved_model, monkeypatch):
    """What training leaves, without training; the list of what was trained."""
    names = []

    def train(recipe, data, run, **more):
        names.append(recipe.name)
        shutil.copytree(saved_model, run / SAVED_MODEL)
        (run / LOG).write_text("epoch,content_loss,psnr\n0,0.2,12.0\n1,0.1,15.0\n")
        return True

    monkeypatch.setattr(study, "train", train)
    return names


def run(crops, out, *more):
    arguments = ["--data", crops, "--sets", crops, *TINY, "--out", out, *more]
    return compare.main([str(argument) for argument in arguments])


def test_one_command_leaves_all(crops, tmp_path, trained, monkeypatch, capsys):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(study, "train", lambda *args, **more: False)
        assert run(crops, out) == 130
    assert "The same command goes on" in capsys.readouterr().out
    assert run(crops, out) == 0
    said = capsys.readouterr().out
    assert "| method | crops PSNR / SSIM |" in said
    assert "| srresnet | nothing | 2 | 2 | 24 | " in said
    about = json.loads((out / "results.json").read_text())
    assert about["budget"].startswith("2 steps a run")
    assert list(about["results"]["crops"]) == [
        "nearest", "bilinear", "bicubic", "lanczos", "srresnet"
    ]  # fmt: skip
    assert "| bicubic | " in (out / "results.md").read_text()
    with open(out / "results.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * 5
    assert min(picture_size(out / "losses.png")) > 100
    assert picture_size(out / "comparison.png")[0] > 3 * 40

    assert run(crops, out, "--show", "srresnet", "--picture", "crops/6.png") == 0
    assert trained == ["srresnet"]  # Nothing was trained again.
    with pytest.raises(UserError, match=r"with other steps, epochs.*Choose another `out`"):
        run(crops, out, "--steps", "3")


def test_clear_errors(crops, tmp_path, capsys):
    for more, message in (
        (["--show", "srgan"], "`show` must name runs of srresnet. Received: srgan"),
        (["--picture", "crops/7.png"], "no `picture` crops/7.png. One is crops/5.png"),
        (["--sets", tmp_path / "none"], "no such folder"),
        (["--recipes", "cubic"], "There is no recipe 'cubic'"),
    ):
        with pytest.raises(UserError, match=message):
            run(crops, tmp_path / "out", *more)
    with pytest.raises(SystemExit):
        run(crops, tmp_path / "out", "--set", "filters")
    assert "must be NAME=VALUE. Received: filters" in capsys.readouterr().err


def test_minutes_in_place_of_steps(crops, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "seconds_per_step", lambda *_: 1.0)
    arguments = ["--data", crops, "--sets", crops, *TINY, "--minutes", "2"]
    arguments += ["--out", tmp_path / "out"]
    plan = compare.choose_plan(compare.parse_arguments([str(one) for one in arguments]))
    recipe = plan.recipes["srresnet"]
    assert recipe.epochs * recipe.steps_per_epoch == 120
    assert json.loads((tmp_path / "out" / study.PLAN).read_text())["minutes"] == 2
