import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from data_prep.cli import UserError
from srgan_keras import pixels
from srgan_keras.export import export, fold_batch_normalization, main, reach
from srgan_keras.models import build_generator


@pytest.fixture(params=["nearest", "pixel_shuffle"])
def generator(request):
    """Its batch normalisations are not the identity: they have seen a few batches."""
    model = build_generator(filters=4, residual_blocks=2, upsampling=request.param)
    for seed in range(3):
        model(tf.random.stateless_uniform((2, 8, 8, 3), (seed, 0), -1, 1), training=True)
    return model


@pytest.mark.parametrize("lr_range", pixels.RANGES)
def test_8bit_in_8bit_out_at_any_size(generator, tmp_path, lr_range):
    export(generator, tmp_path / "model", lr_range)
    serve = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    for shape in ((1, 5, 7, 3), (2, 9, 4, 3)):
        lr = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        sr = serve(pixels=tf.constant(lr))["pixels"].numpy()
        assert sr.dtype == np.uint8
        expected = generator(pixels.from_8bit(lr, lr_range), training=False)
        expected = np.asarray(pixels.to_8bit(expected))
        # A batch normalisation in the convolution's weights rounds differently in the last bits.
        assert np.abs(sr.astype(int) - expected).max() <= 1
        assert (sr == expected).mean() > 0.99


def test_folding_leaves_no_batch_normalisation_and_the_same_map(generator):
    folded = fold_batch_normalization(generator)
    assert not [x for x in folded.layers if isinstance(x, keras.layers.BatchNormalization)]
    lr = tf.random.stateless_uniform((1, 6, 5, 3), (0, 0), -1, 1)
    np.testing.assert_allclose(folded(lr), generator(lr, training=False), atol=1e-5)


def test_bfloat16_halves_the_file_and_changes_little(generator, tmp_path):
    export(generator, tmp_path / "whole")
    export(generator, tmp_path / "half", precision="bfloat16")
    lr = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    results = []
    for name in ("whole", "half"):
        model = tf.saved_model.load(str(tmp_path / name))
        results.append(model.serve(tf.constant(lr))["pixels"].numpy().astype(int))
    assert np.abs(results[0] - results[1]).mean() < 2
    sizes = [next((tmp_path / name).rglob("*.data-*")).stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.6 * sizes[0]
    with pytest.raises(ValueError, match=r"float32.*Received: 'float8'"):
        export(generator, tmp_path / "third", precision="float8")


def test_loads_without_this_package_or_keras(generator, tmp_path):
    export(generator, tmp_path / "model")
    program = """
import sys, numpy, tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
sr = model.signatures["serving_default"](pixels=tf.zeros((1, 3, 5, 3), tf.uint8))["pixels"]
assert sr.shape == (1, 12, 20, 3) and sr.dtype == tf.uint8
assert not [name for name in sys.modules if name.startswith("srgan_keras")]
"""
    command = [sys.executable, "-c", program, str(tmp_path / "model")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_margin_is_as_far_as_a_result_looks(generator):
    """A pixel of LR that lies further away than the margin changes nothing; one at it may."""
    scale, margin = reach(generator)
    assert scale == 4
    lr = np.zeros((1, 2 * margin + 9, 3, 3), np.float32)
    sr = np.asarray(generator(lr, training=False))
    lr[0, margin + 4] = 1
    changed = np.abs(np.asarray(generator(lr, training=False)) - sr).max(axis=(0, 2, 3)) > 0
    rows = np.flatnonzero(changed) // scale
    assert rows.min() >= 4
    assert rows.max() <= 2 * margin + 4


def test_full_generators_reach():
    assert reach(build_generator(upsampling="nearest")) == (4, 40)
    assert reach(build_generator(scale=2)) == (2, 40)


def test_never_replaces_what_is_not_a_savedmodel(generator, tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="not a SavedModel"):
        export(generator, tmp_path / "photos")
    export(generator, tmp_path / "model")
    export(generator, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "photos"]


def test_what_cannot_be_written_is_one_error(generator, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises((UserError, OSError)):
        export(generator, tmp_path / "file" / "model")


def test_command(generator, tmp_path, capsys):
    with pytest.raises(UserError, match="no generator"):
        main([str(tmp_path)])
    generator.save(tmp_path / "generator.keras")
    with pytest.raises(UserError, match="not a run folder"):
        main([str(tmp_path)])
    settings = {"recipe": {"lr_range": "0..1"}, "data": "", "vgg_weights": ""}
    (tmp_path / "recipe.json").write_text(json.dumps(settings))
    main([str(tmp_path)])
    assert (tmp_path / "saved_model" / "saved_model.pb").is_file()
    assert "srgan_keras.upscale" in capsys.readouterr().out
