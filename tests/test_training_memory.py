import keras
import pytest
from keras import layers

from srgan_keras.common.errors import UserError
from srgan_keras.parts.content import VGGLoss
from srgan_keras.systems import get_recipe
from srgan_keras.systems.srgan import build_discriminator, build_generator
from srgan_keras.training import memory
from srgan_keras.training.gan import SRGAN
from srgan_keras.training.loop import dtype_policy
from srgan_keras.training.memory import outputs_per_picture, training_memory


def test_outputs_are_counted_at_the_size_asked_for():
    x = keras.Input((None, None, 3))
    y = layers.UpSampling2D(2)(layers.Conv2D(8, 3, strides=2, padding="same")(x))
    model = keras.Model(x, y)
    assert outputs_per_picture(model, 10) == 10 * 10 * 3 + 5 * 5 * 8 + 10 * 10 * 8


def test_weights_have_gradients_and_moments_and_outputs_grow_with_the_batch():
    generator = build_generator(filters=4, residual_blocks=1)
    discriminator = build_discriminator(image_size=96, filters=8, dense_units=32)
    gan = SRGAN(generator, discriminator)
    weights, outputs = training_memory(gan, keras.losses.MeanSquaredError(), 96, 1)
    trained = generator.count_params() + discriminator.count_params()
    largest = 6 * 6 * 64 * 32  # the discriminator's dense layer
    assert weights == 4 * (4 * trained + 2 * largest)
    assert outputs == 8 * (
        outputs_per_picture(generator, 24) + 2 * outputs_per_picture(discriminator, 96)
    )
    assert training_memory(gan, keras.losses.MeanSquaredError(), 96, 3)[1] == 3 * outputs


def test_networks_too_large_to_be_built_are_refused(monkeypatch):
    """At 2048 pixels the discriminator's dense layer alone has 34 GB of weights."""
    monkeypatch.setattr(memory, "device_memory", lambda: 64e9)
    memory.check_weights(get_recipe("tutorial-fast"), check_memory=True)
    large = get_recipe("tutorial-fast", crop_size=2048)
    with pytest.raises(UserError, match=r"8,59\d,\d{3},\d{3} weights.* at least 138\.\d GB"):
        memory.check_weights(large, check_memory=True)
    memory.check_weights(large, check_memory=False)
    monkeypatch.setattr(memory, "device_memory", lambda: None)
    memory.check_weights(large, check_memory=True)


def test_mixed_precision_copies_weights():
    def build():
        return SRGAN(
            build_generator(filters=4, residual_blocks=1),
            build_discriminator(image_size=32, filters=4),
        )

    loss = keras.losses.MeanSquaredError()
    gan = build()
    weights, outputs = training_memory(gan, loss, 32, 1)
    with dtype_policy("mixed_bfloat16"):
        assert training_memory(build(), loss, 32, 1) == (
            weights + 2 * (gan.generator.count_params() + gan.discriminator.count_params()),
            outputs,
        )


def test_vgg_counts_its_weights_once():
    gan = SRGAN(
        build_generator(filters=4, residual_blocks=1), build_discriminator(image_size=32, filters=4)
    )
    without, _ = training_memory(gan, keras.losses.MeanSquaredError(), 32, 1)
    vgg = VGGLoss("block2_conv2", weights=None)
    assert training_memory(gan, vgg, 32, 1)[0] == without + 4 * vgg.vgg().count_params()
    assert vgg.vgg().count_params() == 260_160


def test_every_layer_of_vgg_that_is_compared_counts():
    gan = SRGAN(build_generator(filters=4, residual_blocks=1))
    one, two = (
        training_memory(gan, VGGLoss(layers, weights=None), 32, 1)[1]
        for layers in ("block1_conv2", "block1_conv1+block1_conv2")
    )
    assert two - one == 8 * 3 * 32 * 32 * 64
