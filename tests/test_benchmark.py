import functools
import json

import keras
import numpy as np
import pytest
from keras import layers

from srgan_keras import benchmark
from srgan_keras.inference import timing as inference_timing
from srgan_keras.inference.graph import replace_layers
from srgan_keras.inference.timing import count_flops, measure
from srgan_keras.parts.layers import FusedBatchNormalization, NarrowConv2D
from srgan_keras.systems.srgan import build_generator
from srgan_keras.training import timing


def test_flops_are_counted_from_convolutions_and_dense_layers():
    x = keras.Input((None, None, 3))
    y = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    y = NarrowConv2D(3, 5)(layers.UpSampling2D(2)(y))
    y = layers.Dense(7)(layers.GlobalAveragePooling2D()(y))
    first = 2 * 3 * 3 * 3 * 8 * 8 * 8
    total = first + 2 * 5 * 5 * 8 * 3 * 16 * 16 + 2 * 3 * 7
    assert count_flops(keras.Model(x, y), 16) == (total, first)


def test_a_step_s_flops():
    """171 GFLOP at 96 pixels, batch 4, by another count; which layers' inputs need no gradient
    is a matter of a few GFLOP."""
    recipe, _, flops = timing.build_case(96, 4, "pixel_shuffle")
    assert recipe.name == "tutorial-fast"
    assert flops == pytest.approx(171e9, rel=0.03)


def test_speeds_follow_from_times():
    result = measure(lambda: np.zeros(3), repeats=3, flops=5e9)
    assert len(result["seconds"]) == 3
    assert min(result["seconds"]) <= result["median"] <= max(result["seconds"])
    assert result["gflops"] == pytest.approx(5 / result["median"])
    assert result["share"] == pytest.approx(result["gflops"] / result["peak_gflops"])


def test_the_baseline_has_keras_layers_and_the_same_weights():
    model = build_generator(filters=4, residual_blocks=1)
    plain = replace_layers(model, timing.KERAS_LAYERS)
    ours = (FusedBatchNormalization, NarrowConv2D)
    assert not any(isinstance(layer, ours) for layer in plain.layers)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 4, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(plain(x), model(x), atol=1e-5)


@pytest.fixture
def run(tmp_path, monkeypatch, small_discriminators):
    """Runs sections of the benchmark on what it times, but small; returns what it writes."""
    whole = timing.step_recipe

    def step_recipe(*case):
        narrow = {"filters": 4, "residual_blocks": 0, "discriminator_filters": 4, "dense_units": 8}
        return whole(*case).with_settings(**narrow, content_loss="block1_conv2")

    tiny = functools.partial(build_generator, filters=4, residual_blocks=1)
    monkeypatch.setattr(timing, "step_recipe", step_recipe)
    monkeypatch.setattr(inference_timing, "build_generator", tiny)
    monkeypatch.setattr(inference_timing, "MATRIX", 128)
    monkeypatch.setattr(inference_timing, "WARM_UP", 1)
    monkeypatch.setattr(benchmark, "STEPS", [(32, 1, "pixel_shuffle", "float32")])
    monkeypatch.setattr(benchmark, "PARTS", (32, 1, "pixel_shuffle"))
    monkeypatch.setattr(benchmark, "UPSCALINGS", [(8, "bfloat16", "tensorflow")])
    monkeypatch.setattr(benchmark, "INPUT", (32, 1))
    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", Here)

    def run(*sections):
        out = tmp_path / "out"
        benchmark.main(["--repeats", "1", "--baseline", "--out", str(out), "--only", *sections])
        report = json.loads((out / "benchmark.json").read_text())
        assert set(report) == {"machine", "repeats", *sections}
        return report

    return run


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_steps(run, eager, capsys):
    rows = run("step")["step"]
    assert [row["case"][-1] for row in rows] == ["float32", "the tutorial's way"]
    assert all(row["median"] > 0 for row in rows)
    assert all(row["memory"].endswith("GB") for row in rows)
    assert "| 32, 1, pixel_shuffle, float32 |" in capsys.readouterr().out


@pytest.mark.bfloat16
def test_parts(run, eager, tmp_path):
    report = run("parts")["parts"]
    assert set(report) == {"float32", "bfloat16"}
    assert set(report["float32"]) == {
        "generator", "VGG19", "discriminator", "optimizers", "input",
    }  # fmt: skip
    assert (tmp_path / "out" / "parts.png").exists()


@pytest.mark.bfloat16
def test_upscaling_and_input(run):
    report = run("upscale", "input")
    assert all(row["median"] > 0 for row in report["upscale"])
    assert report["input"]["crops_per_second"] > 0


class Here:
    """Runs in this process what the pool would run in another."""

    def __init__(self, *args, **options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def submit(self, function, *args):
        value = function(*args)
        return type("Future", (), {"result": lambda self: value})()
