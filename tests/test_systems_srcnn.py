import keras
import numpy as np
import pytest
from PIL import Image

from srgan_keras.common import pixels
from srgan_keras.inference.graph import reach
from srgan_keras.inference.upscaler import Upscaler
from srgan_keras.parts.layers import BicubicUpsampling, ClipPictures, Luma
from srgan_keras.systems import get_recipe
from srgan_keras.systems.srcnn import SRCNN
from srgan_keras.training.loop import build_gan
from srgan_keras.training.memory import outputs_per_picture, training_memory


@pytest.mark.parametrize(("middle", "weights"), [(1, 8_032), (5, 57_184)])
def test_parameters_are_the_paper_s(middle, weights):
    model = SRCNN(middle_kernel=middle).build(3)
    by_hand = 9 * 9 * 1 * 64 + middle * middle * 64 * 32 + 5 * 5 * 32 * 1
    assert by_hand == weights
    assert model.count_params() == weights + 64 + 32 + 1
    around = 4 + middle // 2 + 2  # pixels of the enlarged picture, and 2 of LR
    assert reach(model) == (3, 2 + -(-around // 3))


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 14)])
def test_the_enlargement_is_pillow_s_up_to_the_border(scale, size):
    picture = np.random.default_rng(0).uniform(0, 255, size).astype(np.float32)
    large = (scale * size[1], scale * size[0])
    expected = np.asarray(Image.fromarray(picture).resize(large, Image.Resampling.BICUBIC))
    both = np.stack([picture, 255 - picture], axis=-1)[None]
    enlarged = np.asarray(BicubicUpsampling(scale)(both))[0]
    np.testing.assert_allclose(enlarged[..., 0], expected, atol=1e-3)
    np.testing.assert_allclose(enlarged[..., 1], 255 - expected, atol=1e-3)


def test_layers_say_their_shapes_and_what_they_refuse():
    pictures = (None, None, None, 3)
    assert BicubicUpsampling(3).compute_output_shape((2, 5, None, 3)) == (2, 15, None, 3)
    assert Luma().compute_output_shape(pictures) == (None, None, None, 1)
    assert ClipPictures().compute_output_shape(pictures) == pictures
    for scale in (1, 2.0):
        with pytest.raises(ValueError, match=r"integer of at least 2\. Received"):
            BicubicUpsampling(scale)


def test_gradients_pass_the_clip():
    import tensorflow as tf

    x = tf.constant([[-3.0, -1.0, 0.25, 1.5]])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ClipPictures()(x)
        loss = tf.reduce_sum(tf.square(y - 0.5))
    np.testing.assert_array_equal(y, [[-1, -1, 0.25, 1]])
    np.testing.assert_array_equal(tape.gradient(loss, x), [[-3, -3, -0.5, 1]])


def test_three_steps_and_a_picture_without_seams(tmp_path):
    """At scale 2; the trained network is saved and enlarges in tiles."""
    recipe = get_recipe("srcnn", scale=2, crop_size=24, filters=4)
    gan = build_gan(recipe)
    gan.run_eagerly = True
    rng = np.random.default_rng(0)
    lr = rng.uniform(-0.5, 0.5, (6, 12, 12, 3)).astype(np.float32)
    hr = np.asarray(BicubicUpsampling(2)(lr)) + 0.1
    before = gan.generator.get_weights()
    logs = gan.fit(lr, hr, batch_size=2, shuffle=False, verbose=0).history
    assert gan.step == 3
    assert np.isfinite(logs["content_loss"]).all()
    for a, b in zip(before, gan.generator.get_weights(), strict=True):
        assert not np.array_equal(a, b)

    gan.averaged_generator.save(tmp_path / "generator.keras")
    picture = rng.integers(0, 256, (21, 33, 3), np.uint8)
    sr = np.asarray(gan.averaged_generator(pixels.from_8bit(picture[None])))
    assert np.abs(sr).max() <= 1
    tiled = Upscaler(tmp_path / "generator.keras", tile=7)(picture).astype(int)
    assert np.abs(tiled - np.asarray(pixels.to_8bit(sr))[0]).max() <= 1


def test_memory_is_counted():
    gan = build_gan(get_recipe("srcnn"))
    weights, outputs = training_memory(gan, keras.losses.MeanSquaredError(), 48, 2)
    assert weights == 4 * (4 * 8_129 + 2 * 9 * 9 * 64)
    channels = 3 + 1 + 64 + 32 + 1 + 1 + 3 + 3  # of the layers' outputs, LR beside them
    assert outputs_per_picture(gan.generator, 12) == 12 * 12 * 3 + 48 * 48 * channels
    assert outputs == 8 * 2 * outputs_per_picture(gan.generator, 12)
