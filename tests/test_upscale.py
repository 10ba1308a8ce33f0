import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_prep.cli import UserError
from data_prep.pictures import open_picture
from srgan_keras.export import export
from srgan_keras.models import build_generator
from srgan_keras.upscale import TrainedModel, choose_targets, main


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "saved_model"
    export(build_generator(filters=4, residual_blocks=1), folder)
    return folder


def picture(height=31, width=45):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_tiles_leave_no_seams(saved_model):
    signatures = tf.saved_model.load(str(saved_model)).signatures
    whole = signatures["serving_default"](pixels=tf.constant(picture()[None]))["pixels"][0]
    for tile in (8, 13, 256):
        result = TrainedModel(saved_model, tile=tile)(picture())
        assert result.shape == (124, 180, 3)
        # A last bit of float arithmetic may differ with the size of what is convolved.
        assert np.abs(result.astype(int) - whole.numpy().astype(int)).max() <= 1


def test_command_on_files_and_folders(saved_model, tmp_path, capsys):
    folder = tmp_path / "photos" / "sub"
    folder.mkdir(parents=True)
    Image.fromarray(picture(9, 7)).save(folder / "a.png")
    Image.new("LA", (6, 5), (100, 128)).save(tmp_path / "alpha.png")
    Image.new("L", (1, 1), 50).save(tmp_path / "dot.png")
    photos = [tmp_path / "photos", tmp_path / "alpha.png", tmp_path / "dot.png"]
    out = tmp_path / "out"
    assert main([*map(str, photos), "--model", str(saved_model.parent), "--out", str(out)]) == 0
    shapes = {path.relative_to(out): open_picture(path).shape for path in out.rglob("*.png")}
    assert shapes == {
        Path("sub/a_x4.png"): (36, 28, 3),
        Path("alpha_x4.png"): (20, 24, 3),
        Path("dot_x4.png"): (4, 4, 3),
    }
    assert "7x9 -> " in capsys.readouterr().out


def test_bad_photographs_are_named_and_the_others_done(saved_model, tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("not a picture")
    Image.fromarray(picture(4, 4)).save(tmp_path / "good.png")
    arguments = [str(tmp_path / "text.jpg"), str(tmp_path / "good.png")]
    code = main([*arguments, "--model", str(saved_model), "--out", str(tmp_path / "out")])
    assert code == 2
    assert (tmp_path / "out" / "good_x4.png").is_file()
    assert "text.jpg" in capsys.readouterr().err


def test_names_that_would_meet():
    names = [Path("a.jpg"), Path("a.png"), Path("b.png"), Path("sub/a.png")]
    targets = choose_targets(names, Path("out"), 4)
    assert targets == [
        Path("out/a.jpg_x4.png"),
        Path("out/a.png_x4.png"),
        Path("out/b_x4.png"),
        Path("out/sub/a_x4.png"),
    ]
    with pytest.raises(UserError, match="Two photographs"):
        choose_targets([Path("a.jpg"), Path("a.jpg")], Path("out"), 4)


def test_clear_errors(saved_model, tmp_path):
    with pytest.raises(UserError, match="There is no generator"):
        TrainedModel(tmp_path)
    with pytest.raises(UserError, match="There is no file"):
        main([str(tmp_path / "none.jpg"), "--model", str(saved_model)])
    with pytest.raises(UserError, match="There are no pictures"):
        main([str(tmp_path), "--model", str(saved_model)])
    (tmp_path / "saved_model.pb").write_text("not a model")
    with pytest.raises(UserError, match="does not load"):
        TrainedModel(tmp_path)


def test_knows_no_model_code(saved_model, tmp_path):
    Image.fromarray(picture(5, 5)).save(tmp_path / "a.png")
    program = (
        "import sys; from srgan_keras.upscale import main\n"
        f"main(['a.png', '--model', {str(saved_model)!r}])\n"
        "loaded = {name for name in sys.modules if name.startswith('srgan_keras')}\n"
        "assert loaded == {'srgan_keras', 'srgan_keras.upscale'}, loaded"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert open_picture(tmp_path / "upscaled" / "a_x4.png").shape == (20, 20, 3)
