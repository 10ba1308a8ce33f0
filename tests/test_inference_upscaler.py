import os

import numpy as np
import pytest
import tensorflow as tf

from srgan_keras.common.errors import UserError
from srgan_keras.inference import upscaler
from srgan_keras.inference.formats import export
from srgan_keras.inference.interpolation import Interpolation
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
    assert Upscaler(tmp_path).scale == 4
    assert Upscaler(tmp_path / "saved_model").scale == 2
    os.utime(tmp_path / "generator.keras", (exported - 1, exported - 1))
    assert Upscaler(tmp_path).scale == 2


def test_the_generator_is_taken_where_it_has_changed_since_its_savedmodel(tmp_path):
    """Whatever the times say: they do not survive every copy."""
    generator = tmp_path / "generator.keras"
    build_generator(filters=2, residual_blocks=0, scale=4).save(generator)
    export(build_generator(filters=2, residual_blocks=0, scale=2), tmp_path / "saved_model")
    for time, content, scale in ((2**31, b"", 2), (0, b"other", 4)):
        with generator.open("ab") as file:
            file.write(content)  # Keras does not mind what comes after.
        os.utime(generator, (time, time))
        assert Upscaler(tmp_path).scale == scale


def test_out_of_memory_names_the_tile(saved_model, monkeypatch):
    model = Upscaler(saved_model, tile=100)

    def fail(pixels):
        raise tf.errors.ResourceExhaustedError(None, None, "no memory")

    monkeypatch.setattr(model, "_model", type("Model", (), {"serve": staticmethod(fail)}))
    with pytest.raises(UserError, match=r"45x31 pixels\. Set a `tile` smaller than 100"):
        model(picture())


def test_methods_by_name(saved_model, tmp_path):
    assert isinstance(load_method("bicubic", 3), Interpolation)
    assert load_method(str(saved_model), 4, tile=8).tile == 8
    with pytest.raises(UserError, match=r"nor one of nearest.*srgan"):
        load_method("cubic", 4)
    with pytest.raises(UserError, match="enlarges 4 times; `scale` is 2"):
        load_method(saved_model, 2)


def test_a_shipped_name_needs_no_file(monkeypatch):
    asked = []
    monkeypatch.setattr(upscaler, "_serve", lambda *arguments: asked.append(arguments))
    with pytest.raises(AttributeError):
        load_method("srgan", 4)
    assert asked == [("srgan", None)]
