import json
import re

import numpy as np
import pytest
import tensorflow as tf

from srgan_keras.common.errors import UserError
from srgan_keras.export import main
from srgan_keras.inference import formats
from srgan_keras.inference.upscaler import Upscaler
from srgan_keras.systems.srgan import build_generator
from srgan_keras.training import devices


@pytest.fixture
def run(tmp_path):
    """A folder with a generator, without settings."""
    build_generator(filters=2, residual_blocks=0, scale=2).save(tmp_path / "generator.keras")
    return tmp_path


def test_command(run, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no generator"):
        main([str(tmp_path / "empty")])
    main([str(run)])
    assert (run / "saved_model" / "saved_model.pb").is_file()
    said = capsys.readouterr().out
    assert "srgan_keras.upscale" in said
    assert re.search(r"checked on a photograph .*(1 of 255|the same picture)", said)


def test_a_shipped_generator_goes_into_a_folder_with_its_scale(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = []
    monkeypatch.setattr("srgan_keras.export.export", lambda *arguments: asked.append(arguments[1:]))
    monkeypatch.setattr("srgan_keras.export.check_parity", lambda *arguments: "")
    main(["srresnet"])
    main(["srgan", "--blend", "0.5", "--out", "mixed"])
    assert [(str(folder), precision) for folder, precision in asked] == [
        ("srresnet_x4", "float32"),
        ("mixed", "float32"),
    ]


def test_nothing_else_than_a_savedmodel_is_replaced(run, tmp_path):
    out, link = tmp_path / "out", tmp_path / "link"
    link.symlink_to(out)
    main([str(run), "--out", str(link)])
    for name in ("notes.txt", "variables/notes.txt", "assets/notes.txt"):
        (out / name).write_text("mine")
        with pytest.raises(UserError, match=rf"{name} is not of the SavedModel"):
            main([str(run), "--out", str(link)])
        assert (out / name).read_text() == "mine"
        (out / name).unlink()
    main([str(run), "--out", str(link)])
    assert link.is_symlink()
    assert Upscaler(link).scale == 2
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.bfloat16
@pytest.mark.parametrize(("factor", "warned"), [(3.9, True), (0.5, False)])
def test_slow_bfloat16_is_said(run, monkeypatch, capsys, factor, warned):
    monkeypatch.setattr(devices, "bfloat16_factor", lambda: factor)
    main([str(run), "--precision", "bfloat16"])
    said = capsys.readouterr().out
    assert ("3.9 times" in said) == warned
    assert ("--precision bfloat16 is slow" in said) == warned
    assert (run / "saved_model" / "saved_model.pb").is_file()


def test_a_run_of_version_0_1(run, tmp_path, capsys):
    """One with LR in [0, 1] has no layer that scales it; one with [-1, 1] is what it is today."""
    settings = {"recipe": {"name": "paper", "lr_range": "0..1", "seed": 3}, "data": ""}
    (run / "recipe.json").write_text(json.dumps(settings))
    for source in (run, run / "generator.keras"):
        with pytest.raises(UserError, match=r"version 0\.1 with lr_range 0\.\.1"):
            main([str(source)])
    settings["recipe"]["lr_range"] = "-1..1"
    (run / "recipe.json").write_text(json.dumps(settings))
    main([str(run)])
    settings["recipe"]["lr_range"] = "0..1"
    (run / "recipe.json").write_text(json.dumps(settings))
    assert Upscaler(run, runtime="tensorflow").scale == 2  # Its SavedModel is of use as before.


def test_lr_in_0_to_1_is_in_the_generator_today(tmp_path):
    generator = build_generator(filters=2, residual_blocks=0, scale=2, lr_range="0..1")
    generator.save(tmp_path / "generator.keras")
    (tmp_path / "recipe.json").write_text(json.dumps({"recipe": {"lr_range": "0..1"}}))
    main([str(tmp_path)])
    lr = np.random.default_rng(0).integers(0, 256, (1, 4, 5, 3), np.uint8)
    expected = formats.serving_module(generator).serve(tf.constant(lr))["pixels"].numpy()
    np.testing.assert_array_equal(Upscaler(tmp_path)(lr[0]), expected[0])
