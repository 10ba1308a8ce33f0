import dataclasses
import os

import numpy as np
import pytest
import tensorflow as tf

from srgan_keras.common import pixels
from srgan_keras.common.errors import UserError
from srgan_keras.inference import upscaler
from srgan_keras.inference.formats import export, serving_module
from srgan_keras.inference.interpolation import Interpolation
from srgan_keras.inference.runtimes import list_stages
from srgan_keras.inference.upscaler import Upscaler, load_method
from srgan_keras.systems.srgan import build_generator


def picture(height=31, width=45):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_tiles_leave_no_seams(saved_model):
    signatures = tf.saved_model.load(str(saved_model)).signatures
    whole = signatures["serving_default"](pixels=tf.constant(picture()[None]))["pixels"][0]
    for tile in (8, 13, 256):
        result = Upscaler(saved_model, tile=tile)(picture())
        assert result.shape == (124, 180, 3)
        # A last bit of float arithmetic may differ with the size of what is convolved.
        assert np.abs(result.astype(int) - whole.numpy().astype(int)).max() <= 1


def test_clear_errors(tmp_path):
    with pytest.raises(UserError, match="There is no generator"):
        Upscaler(tmp_path)
    (tmp_path / "saved_model.pb").write_text("not a model")
    with pytest.raises(UserError, match="does not load"):
        Upscaler(tmp_path)
    module = tf.Module()
    module.scale = tf.Variable(4)
    tf.saved_model.save(module, str(tmp_path / "other"))
    with pytest.raises(UserError, match="not a SavedModel that"):
        Upscaler(tmp_path / "other")


def test_a_keras_file_gives_what_its_savedmodel_gives(tmp_path):
    generator = build_generator(filters=4, residual_blocks=1, lr_range="0..1")
    generator.save(tmp_path / "generator.keras")
    export(generator, tmp_path / "saved_model")
    file, folder = (load_method(path, 4) for path in (tmp_path / "generator.keras", tmp_path))
    np.testing.assert_array_equal(file(picture(10, 10)), folder(picture(10, 10)))


def test_a_generator_newer_than_its_savedmodel_is_taken(tmp_path):
    export(build_generator(filters=2, residual_blocks=0, scale=2), tmp_path / "saved_model")
    build_generator(filters=2, residual_blocks=0, scale=4).save(tmp_path / "generator.keras")
    exported = (tmp_path / "saved_model" / "saved_model.pb").stat().st_mtime
    os.utime(tmp_path / "generator.keras", (exported + 1, exported + 1))
    assert Upscaler(tmp_path, runtime="tensorflow").scale == 4
    assert Upscaler(tmp_path / "saved_model").scale == 2
    os.utime(tmp_path / "generator.keras", (exported - 1, exported - 1))
    assert Upscaler(tmp_path, runtime="tensorflow").scale == 2


def test_the_generator_is_taken_where_it_has_changed_since_its_savedmodel(tmp_path):
    """Whatever the times say: they do not survive every copy."""
    generator = tmp_path / "generator.keras"
    build_generator(filters=2, residual_blocks=0, scale=4).save(generator)
    export(build_generator(filters=2, residual_blocks=0, scale=2), tmp_path / "saved_model")
    for time, content, scale in ((2**31, b"", 2), (0, b"other", 4)):
        with generator.open("ab") as file:
            file.write(content)  # Keras does not mind what comes after.
        os.utime(generator, (time, time))
        assert Upscaler(tmp_path, runtime="tensorflow").scale == scale


@pytest.mark.parametrize("message", ["OOM when allocating tensor", "std::bad_alloc"])
def test_short_of_memory_tiles_are_halved(saved_model, capsys, message):
    model = Upscaler(saved_model, tile=40)
    expected = model(picture())
    *_, last = stages = model._stages
    sizes = []

    def run(x):
        sizes.append(x.shape)
        if max(x.shape) > 25 + 2 * last.extent.margin:
            raise RuntimeError(message)
        return last.run(x)

    model._stages = [*stages[:-1], dataclasses.replace(last, run=run)]
    assert np.abs(model(picture()).astype(int) - expected).max() <= 1
    assert capsys.readouterr().err == "Out of memory on 45x31 pixels in tiles of 40: on with 20.\n"
    model._stages = [dataclasses.replace(last, run=lambda x: run(np.zeros((1, 99, 99, 3))))]
    with pytest.raises(UserError, match="Out of memory on 45x31 pixels"):
        model(picture())


def test_other_errors_are_passed_on(saved_model):
    model = Upscaler(saved_model)
    with pytest.raises(TypeError):
        model(picture()[:, :, :2])


def test_two_stages_give_what_the_whole_gives():
    """The float result, too; where sums are added up in another order, but for the last bits."""
    generator = build_generator(filters=4, residual_blocks=1, upsampling="pixel_shuffle")
    lr = picture(40, 140)
    whole = pixels.to_255(generator(pixels.from_8bit(lr[None]), training=False))[0].numpy()
    model = Upscaler.of_stages("tensorflow", list_stages(serving_module(generator)))
    assert [stage.extent.scale for stage in model._stages] == [1, 4]
    for tile in ("auto", 30):
        model.tile = tile
        np.testing.assert_allclose(model.upscale_float(lr.astype(np.float32)), whole, atol=1e-3)
        difference = np.abs(model(lr).astype(int) - np.asarray(pixels.round_8bit(whole)))
        assert difference.max() <= 1
        assert (difference == 0).mean() > 0.999


def test_a_savedmodel_of_version_0_1(tmp_path):
    """It has no stages, and pictures go through the whole in tiles."""
    module = serving_module(build_generator(filters=4, residual_blocks=1))
    old = tf.Module()
    old.weights, old.serve, old.scale, old.margin = (
        module.weights, module.serve, module.scale, module.margin,
    )  # fmt: skip
    tf.saved_model.save(old, str(tmp_path), signatures={"serving_default": old.serve})
    model = Upscaler(tmp_path, tile=20)
    assert model.bits == 8
    whole = module.serve(tf.constant(picture()[None]))["pixels"][0].numpy()
    assert np.abs(model(picture()).astype(int) - whole).max() <= 1
    np.testing.assert_array_equal(model(picture()), model.upscale_float(picture() + np.float32(0)))


def test_methods_by_name(saved_model, tmp_path):
    assert isinstance(load_method("bicubic", 3), Interpolation)
    assert load_method(str(saved_model), 4, tile=8).tile == 8
    with pytest.raises(UserError, match=r"nor one of nearest.*srgan"):
        load_method("cubic", 4)
    with pytest.raises(UserError, match="enlarges 4 times; `scale` is 2"):
        load_method(saved_model, 2)


def test_a_shipped_name_needs_no_file(monkeypatch):
    asked = []
    monkeypatch.setattr(upscaler.cache, "prepare", lambda *arguments: asked.append(arguments))
    with pytest.raises(TypeError):
        load_method("srgan", 4)
    assert asked == [("srgan", None, "tensorflow")]
