import json

import keras
import numpy as np
import pytest
from keras import layers

from srgan_keras import benchmark
from srgan_keras.models import FusedBatchNormalization, NarrowConv2D, build_generator
from srgan_keras.train import build_content_loss, build_gan


def test_flops_are_counted_from_convolutions_and_dense_layers():
    x = keras.Input((None, None, 3))
    y = layers.Conv2D(8, 3, strides=2, padding="same")(x)
    y = NarrowConv2D(3, 5)(layers.UpSampling2D(2)(y))
    y = layers.Dense(7)(layers.GlobalAveragePooling2D()(y))
    first = 2 * 3 * 3 * 3 * 8 * 8 * 8
    total = first + 2 * 5 * 5 * 8 * 3 * 16 * 16 + 2 * 3 * 7
    assert benchmark.count_flops(keras.Model(x, y), 16) == (total, first)


def test_a_step_s_flops():
    """171 GFLOP at 96 pixels, batch 4, by another count; which layers' inputs need no gradient
    is a matter of a few GFLOP."""
    recipe = benchmark.step_recipe(96, 4, "pixel_shuffle")
    content_loss = build_content_loss(recipe, None)
    gan = build_gan(recipe, content_loss)
    flops = benchmark.count_step_flops(gan, content_loss.vgg(), recipe)
    assert flops == pytest.approx(171e9, rel=0.03)


def test_speeds_follow_from_times():
    result = benchmark.measure(lambda: np.zeros(3), repeats=3, flops=5e9)
    assert len(result["seconds"]) == 3
    assert min(result["seconds"]) <= result["median"] <= max(result["seconds"])
    assert result["gflops"] == pytest.approx(5 / result["median"])
    assert result["share"] == pytest.approx(result["gflops"] / result["peak_gflops"])


def test_the_baseline_has_keras_layers_and_the_same_weights():
    model = build_generator(filters=4, residual_blocks=1)
    plain = benchmark.with_keras_layers(model)
    ours = (FusedBatchNormalization, NarrowConv2D)
    assert not any(isinstance(layer, ours) for layer in plain.layers)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 4, 6, 3)).astype(np.float32)
    np.testing.assert_allclose(plain(x), model(x), atol=1e-5)


def test_every_section_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "STEPS", [(32, 1, "pixel_shuffle", "float32")])
    monkeypatch.setattr(benchmark, "PARTS", (32, 1, "pixel_shuffle"))
    monkeypatch.setattr(benchmark, "UPSCALINGS", [(8, "bfloat16")])
    monkeypatch.setattr(benchmark, "ProcessPoolExecutor", Here)
    benchmark.main(["--repeats", "1", "--baseline", "--out", str(tmp_path / "out")])
    report = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    names = [row["case"][-1] for row in report["step"]]
    assert names == ["float32", "the tutorial's way"]
    assert all(row["median"] > 0 for row in [*report["step"], *report["upscale"]])
    assert report["input"]["crops_per_second"] > 0
    assert set(report["parts"]["float32"]) == {
        "generator", "VGG19", "discriminator", "optimizers", "input",
    }  # fmt: skip
    assert (tmp_path / "out" / "parts.png").exists()
    assert "| 32, 1, pixel_shuffle, float32 |" in capsys.readouterr().out


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
