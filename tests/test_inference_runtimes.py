"""Runtimes other than TensorFlow; each test skips where its extra is not installed."""

import functools
import json
import os
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from srgan_keras import export, upscale
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import open_picture, write_png
from srgan_keras.inference import cache as cache_module
from srgan_keras.inference import runtimes, timing
from srgan_keras.inference import upscaler as upscaler_module
from srgan_keras.inference.runtimes import is_installed
from srgan_keras.inference.upscaler import Upscaler
from srgan_keras.systems.srcnn import SRCNN
from srgan_keras.systems.srgan import build_generator
from srgan_keras.systems.wdrn import DenseGenerator

MADE = ("openvino", "onnx")  # runtimes whose files are made of a generator


def needs(runtime):
    module, extra, _ = runtimes.RUNTIMES[runtime]
    return pytest.mark.skipif(
        not is_installed(runtime), reason=f"{module} is not installed (extra {extra})"
    )


def with_runtimes(*names):
    return pytest.mark.parametrize("runtime", [pytest.param(x, marks=needs(x)) for x in names])


def picture(height=25, width=41):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def generators(tmp_path_factory):
    """Small ones of several kinds, as .keras files."""
    folder = tmp_path_factory.mktemp("generators")
    made = {
        "shuffle": build_generator(filters=4, residual_blocks=1, upsampling="pixel_shuffle"),
        "nearest": build_generator(filters=4, residual_blocks=1, scale=2, lr_range="0..1"),
        "srcnn": SRCNN(filters=4).build(3),
        "wdrn": DenseGenerator(
            filters=4, growth=2, residual_blocks=1, dense_layers=2, normalization="instance"
        ).build(2),
    }
    for name, generator in made.items():
        generator.save(folder / f"{name}.keras")
    return folder


@with_runtimes(*MADE)
@pytest.mark.parametrize("name", ["shuffle", "nearest", "srcnn", "wdrn"])
def test_a_runtime_gives_what_tensorflow_gives(generators, runtime, name):
    file = generators / f"{name}.keras"
    expected = Upscaler(file, runtime="tensorflow", tile=100)(picture())
    model = Upscaler(file, runtime=runtime, tile=13)
    assert model.runtime == runtime
    difference = np.abs(model(picture()).astype(int) - expected)
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.995
    exact = model.upscale_float(picture().astype(np.float32))
    np.testing.assert_array_equal(np.clip(np.rint(exact), 0, 255), model(picture()))


@with_runtimes(*MADE)
def test_what_is_prepared_is_kept_until_the_generator_changes(
    generators, cache, runtime, monkeypatch, capsys
):
    file = generators / "shuffle.keras"
    first = Upscaler(file, runtime=runtime)(picture())
    assert "Preparing" in capsys.readouterr().err
    (kept,) = cache.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "_make", None)
        np.testing.assert_array_equal(Upscaler(file, runtime=runtime)(picture()), first)
    assert capsys.readouterr().err == ""
    damaged = next(iter(json.loads((kept / cache_module.SUMS).read_text())))
    (kept / damaged).write_bytes(b"damaged")
    np.testing.assert_array_equal(Upscaler(file, runtime=runtime)(picture()), first)
    assert "Preparing" in capsys.readouterr().err
    monkeypatch.setattr(cache_module, "KEPT", 1)
    Upscaler(generators / "srcnn.keras", runtime=runtime)
    assert [path for path in cache.iterdir() if path != kept] == list(cache.iterdir())


def test_a_shipped_generator_is_kept_for_tensorflow_too(cache, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        patch.setattr(cache_module, "can_keep", lambda: False)
        expected = Upscaler("srcnn", runtime="tensorflow")(picture())
    assert capsys.readouterr().err == ""
    Upscaler("srcnn", runtime="tensorflow")
    assert "Preparing srcnn for tensorflow, once" in capsys.readouterr().err
    monkeypatch.setattr(cache_module, "_make", None)
    result = Upscaler("srcnn", runtime="tensorflow")(picture())
    np.testing.assert_array_equal(result, expected)
    (weights,) = cache.rglob("variables.data*")
    weights.write_bytes(b"damaged")
    with pytest.raises(TypeError):  # It is made again, by nothing here.
        Upscaler("srcnn", runtime="tensorflow")


@with_runtimes(*MADE)
def test_runs_without_tensorflow_and_keras(generators, tmp_path, cache, runtime):
    """Once it is prepared."""
    write_png(tmp_path / "a.png", picture())
    arguments = ["a.png", "--model", str(generators / "shuffle.keras"), "--runtime", runtime]
    Upscaler(generators / "shuffle.keras", runtime=runtime)
    program = f"""
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None
from srgan_keras.upscale import main
main({arguments})
"""
    environment = {**os.environ, "SRGAN_KERAS_CACHE": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert open_picture(tmp_path / "upscaled" / "a_x4.png").shape == (100, 164, 3)


def test_which_runtime_is_taken(generators, saved_model, monkeypatch):
    """OpenVINO where it is installed, on a machine without GPU; a SavedModel is TensorFlow's."""
    asked = []

    def open_files(runtime, files, device="auto", precision="float32"):
        asked.append(runtime)
        return [runtimes.Stage(None, np.float32, runtimes.Extent(4, 0, 0))]

    monkeypatch.setattr(runtimes, "open_files", open_files)
    monkeypatch.setattr(cache_module, "prepare", lambda *arguments: [])
    monkeypatch.setattr(upscaler_module, "_serve", lambda *arguments: open_files("tensorflow", []))
    file = generators / "shuffle.keras"
    for installed, gpu, expected in (
        (True, False, "openvino"),
        (True, True, "tensorflow"),
        (False, False, "tensorflow"),
    ):
        there = {"tensorflow", "onnx"} | ({"openvino"} if installed else set())
        monkeypatch.setattr(runtimes, "is_installed", there.__contains__)
        monkeypatch.setattr(runtimes, "sees_gpu", lambda gpu=gpu: gpu)
        assert Upscaler(file).runtime == expected
        assert Upscaler(saved_model).runtime == "tensorflow"
        assert Upscaler(file, runtime="onnx").runtime == "onnx"
        assert Upscaler(file, runtime="tensorflow").runtime == "tensorflow"
    monkeypatch.setattr(cache_module, "can_keep", lambda: False)
    monkeypatch.setattr(runtimes, "is_installed", lambda runtime: True)
    assert Upscaler(file).runtime == "tensorflow"


def test_what_is_not_there_is_named(generators, saved_model, tmp_path, monkeypatch):
    file = generators / "shuffle.keras"
    with pytest.raises(UserError, match=r"`runtime` must be one of auto, .*Received: 'torch'"):
        Upscaler(file, runtime="torch")
    with pytest.raises(UserError, match=r"`device` must be auto, cpu.*Received: 'tpu'"):
        Upscaler(file, device="tpu")
    with pytest.raises(UserError, match=r"TensorFlow has no `device` gpu here. It has CPU:0"):
        Upscaler(file, runtime="tensorflow", device="gpu")
    with pytest.raises(UserError, match="SavedModel, which runs on `runtime` tensorflow alone"):
        Upscaler(saved_model, runtime="onnx")
    with pytest.raises(UserError, match="`precision` it was exported with"):
        Upscaler(saved_model, precision="bfloat16")
    with pytest.raises(UserError, match="is a file for onnx, not for openvino"):
        Upscaler(tmp_path / "model.onnx", runtime="openvino")
    monkeypatch.setattr(runtimes, "is_installed", lambda runtime: False)
    for suffix, extra in ((".onnx", "onnx"), (".xml", "openvino"), (".tflite", "litert")):
        with pytest.raises(UserError, match=rf'needs the package .*pip install -e "\.\[{extra}\]"'):
            Upscaler(tmp_path / f"model{suffix}")
    with pytest.raises(UserError, match=r"`runtime` openvino needs the package openvino"):
        upscale.main([str(file), "--model", str(file), "--runtime", "openvino"])


@needs("openvino")
def test_auto_falls_back_where_the_converter_does_not_know_the_network(tmp_path, capsys):
    x = keras.Input((None, None, 3))
    y = keras.layers.Activation("tanh")(keras.layers.UpSampling2D(2, interpolation="bicubic")(x))
    keras.Model(x, y).save(tmp_path / "model.keras")
    model = Upscaler(tmp_path / "model.keras")
    assert model.runtime == "tensorflow"
    assert "cannot have this network" in capsys.readouterr().err
    assert model(picture()).shape == (50, 82, 3)
    with pytest.raises(UserError, match=r"openvino cannot have this network: .*ResizeBicubic"):
        Upscaler(tmp_path / "model.keras", runtime="openvino")


@pytest.mark.bfloat16
def test_precision_auto_measures(generators, monkeypatch, capsys):
    """bfloat16 is taken where the machine computes in it and nearly all values are the same."""
    file = generators / "shuffle.keras"
    exact = Upscaler(file, runtime="tensorflow")(picture())
    for there, share, taken in ((False, 0.9, None), (True, 0.9, True), (True, 1.1, False)):
        monkeypatch.setattr(runtimes, "has_bfloat16", lambda *arguments, there=there: there)
        monkeypatch.setattr(upscaler_module, "NEARLY_ALL", share)
        model = Upscaler(file, runtime="tensorflow", precision="auto")
        said = capsys.readouterr().err
        assert ("of a photograph's values" in said) == there
        assert ("values: taken" in said) == bool(taken)
        assert np.array_equal(model(picture()), exact) == (not taken)


def test_devices_of_the_processor():
    assert not runtimes.has_bfloat16("onnx", "auto")
    assert runtimes.has_bfloat16("tensorflow", "cpu") in (True, False)


@with_runtimes("openvino", "onnx", "litert")
def test_an_exported_file_is_checked_and_enlarges(generators, tmp_path, runtime, capsys):
    file = tmp_path / f"model{runtimes.RUNTIMES[runtime][2]}"
    source = str(generators / "shuffle.keras")
    with pytest.raises(UserError, match=f"must end in {file.suffix} for {runtime}"):
        export.main([source, "--format", runtime, "--out", str(tmp_path / "model.zip")])
    export.main([source, "--format", runtime, "--out", str(file)])
    assert re.search(r"(1 of 255, 99\.\d+%|same picture)", capsys.readouterr().out)
    model = Upscaler(file, tile=9)
    assert (model.runtime, model.scale) == (runtime, 4)
    expected = Upscaler(generators / "shuffle.keras", runtime="tensorflow")(picture())
    assert np.abs(model(picture()).astype(int) - expected).max() <= 1
    if runtime == "onnx":
        onnx = pytest.importorskip("onnx")
        other = onnx.load(file)
        del other.metadata_props[:]
        onnx.save(other, file)
        with pytest.raises(UserError, match=r"not a file that srgan_keras\.export wrote"):
            Upscaler(file)
    file.write_bytes(b"damaged")
    with pytest.raises(UserError, match="does not load"):
        Upscaler(file)


@needs("litert")
def test_litert_in_8_bits(generators, tmp_path, capsys):
    file = tmp_path / "model.tflite"
    arguments = ["--format", "litert", "--precision", "int8", "--out", str(file)]
    export.main([str(generators / "shuffle.keras"), *arguments])
    psnr = float(re.search(r"PSNR ([\d.]+) dB", capsys.readouterr().out)[1])
    assert psnr > 30
    assert Upscaler(file).scale == 4


def test_precisions_of_formats(capsys):
    for options in (["onnx", "--precision", "bfloat16"], ["savedmodel", "--precision", "int8"]):
        with pytest.raises(SystemExit):
            export.main(["srgan", "--format", *options])
        assert f"{options[2]} is for --format" in capsys.readouterr().err


@with_runtimes(*MADE)
def test_the_benchmark_times_it(runtime, monkeypatch):
    tiny = functools.partial(build_generator, filters=4, residual_blocks=0)
    monkeypatch.setattr(timing, "build_generator", tiny)
    monkeypatch.setattr(timing, "MATRIX", 64)
    assert timing.time_upscaling(1, 8, "float32", runtime)["median"] > 0
