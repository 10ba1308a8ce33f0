import json

import numpy as np
import pytest
import tensorflow as tf

from srgan_keras.common import pixels
from srgan_keras.common.errors import UserError
from srgan_keras.inference.formats import export
from srgan_keras.systems.srgan import build_generator


def make_generator(**settings):
    """Its batch normalisations are not the identity: they have seen a few batches."""
    model = build_generator(filters=4, residual_blocks=2, **settings)
    for seed in range(3):
        model(tf.random.stateless_uniform((2, 8, 8, 3), (seed, 0), -1, 1), training=True)
    return model


@pytest.fixture(scope="module")
def generator():
    return make_generator(upsampling="pixel_shuffle")


@pytest.fixture(scope="module")
def exported(generator, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    export(generator, folder)
    return folder


@pytest.mark.parametrize("upsampling", ["nearest", "pixel_shuffle"])
@pytest.mark.parametrize("lr_range", ["-1..1", "0..1"])
def test_8bit_in_8bit_out_at_any_size(tmp_path, upsampling, lr_range):
    generator = make_generator(upsampling=upsampling, lr_range=lr_range)
    export(generator, tmp_path / "model")
    serve = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    for shape in ((1, 5, 7, 3), (2, 9, 4, 3)):
        lr = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        sr = serve(pixels=tf.constant(lr))["pixels"].numpy()
        assert sr.dtype == np.uint8
        expected = generator(pixels.from_8bit(lr), training=False)
        expected = np.asarray(pixels.to_8bit(expected))
        # A batch normalisation in the convolution's weights rounds differently in the last bits.
        assert np.abs(sr.astype(int) - expected).max() <= 1
        assert (sr == expected).mean() > 0.99


@pytest.mark.bfloat16
def test_bfloat16_halves_the_file_and_changes_little(generator, exported, tmp_path):
    export(generator, tmp_path / "half", precision="bfloat16")
    lr = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    results, sizes = [], []
    for folder in (exported, tmp_path / "half"):
        model = tf.saved_model.load(str(folder))
        results.append(model.serve(tf.constant(lr))["pixels"].numpy().astype(int))
        sizes.append(next(folder.rglob("*.data-*")).stat().st_size)
    assert np.abs(results[0] - results[1]).mean() < 2
    assert sizes[1] < 0.6 * sizes[0]
    with pytest.raises(ValueError, match=r"float32.*Received: 'float8'"):
        export(generator, tmp_path / "third", precision="float8")


def test_never_replaces_what_is_not_a_savedmodel(tmp_path):
    generator = build_generator(filters=1, residual_blocks=0)
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="not a SavedModel"):
        export(generator, tmp_path / "photos")
    export(generator, tmp_path / "model")
    export(generator, tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "photos"]


def test_what_cannot_be_written_is_one_error(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises((UserError, OSError)):
        export(build_generator(filters=1, residual_blocks=0), tmp_path / "file" / "model")


def test_the_signature_takes_what_tensorflow_serving_takes(exported):
    """Its REST body, `instances`, is a list of the values of the one input, without its name."""
    signature = tf.saved_model.load(str(exported)).signatures["serving_default"]
    (name, spec), *others = signature.structured_input_signature[1].items()
    assert not others
    assert (spec.dtype, spec.shape.as_list()) == (tf.uint8, [None, None, None, 3])
    body = json.loads(json.dumps({"instances": np.full((2, 3, 4, 3), 7).tolist()}))
    result = signature(**{name: tf.constant(body["instances"], spec.dtype)})
    assert {key: value.shape for key, value in result.items()} == {"pixels": (2, 12, 16, 3)}
