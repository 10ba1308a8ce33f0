import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from srgan_keras.parts.layers import FusedBatchNormalization, NarrowConv2D, PixelShuffle
from srgan_keras.systems.srgan import build_discriminator, build_generator


def convolution(kernel, inputs, outputs):
    return kernel * kernel * inputs * outputs + outputs


BATCH_NORM = 4  # gamma, beta, moving mean, moving variance
TRUNK = (
    convolution(9, 3, 64) + 64  # PReLU, shared over space
    + 16 * (2 * (convolution(3, 64, 64) + BATCH_NORM * 64) + 64)
    + convolution(3, 64, 64) + BATCH_NORM * 64
)  # fmt: skip


def test_tutorial_generator_has_the_article_s_parameters():
    upsampling = convolution(3, 64, 256) + convolution(3, 256, 256)
    expected = TRUNK + upsampling + convolution(9, 256, 3)
    assert build_generator(upsampling="nearest").count_params() == expected == 2_043_779


def test_pixel_shuffle_generator_has_the_figure_s_parameters():
    upsampling = 2 * (convolution(3, 64, 256) + 64)
    expected = TRUNK + upsampling + convolution(9, 64, 3)
    assert build_generator(upsampling="pixel_shuffle").count_params() == expected == 1_554_883


@pytest.mark.parametrize(
    ("image_size", "total"), [(384, 306_684_737), (96, 23_569_217)]
)  # fmt: skip
def test_discriminator_has_the_article_s_parameters(image_size, total):
    channels = [3, 64, 64, 128, 128, 256, 256, 512, 512]
    expected = sum(convolution(3, a, b) for a, b in itertools.pairwise(channels))
    expected += sum(BATCH_NORM * c for c in channels[2:])
    expected += (image_size // 16) ** 2 * 512 * 1024 + 1024 + 1024 + 1
    with keras.StatelessScope(initialize_variables=False):  # 1.2 GB of them
        discriminator = build_discriminator(image_size=image_size)
    assert discriminator.count_params() == expected == total


def test_discriminator_layers():
    model = build_discriminator(image_size=96)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [layer.strides[0] for layer in convolutions] == [1, 2] * 4
    batch_norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert [layer.momentum for layer in batch_norms] == [0.5] * 7
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert [layer.units for layer in dense] == [1024, 1]


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("upsampling", ["nearest", "pixel_shuffle"])
def test_generator_takes_any_size(scale, upsampling):
    model = build_generator(scale=scale, filters=4, residual_blocks=1, upsampling=upsampling)
    sr = np.asarray(model(np.ones((2, 5, 7, 3), np.float32)))
    assert sr.shape == (2, 5 * scale, 7 * scale, 3)
    assert np.abs(sr).max() <= 1


def test_pooling_head_takes_any_size():
    model = build_discriminator(filters=4, dense_units=8, head="pooling")
    for size in (32, 50):
        validity = np.asarray(model(np.zeros((2, size, size, 3), np.float32)))
        assert validity.shape == (2, 1)
        assert ((validity >= 0) & (validity <= 1)).all()


def test_pixel_shuffle_moves_channels_into_space():
    x = np.arange(8, dtype=np.float32).reshape(1, 1, 2, 4)
    expected = np.float32([[0, 1, 4, 5], [2, 3, 6, 7]]).reshape(1, 2, 4, 1)
    np.testing.assert_array_equal(PixelShuffle(2)(x), expected)


def outcome(layer, x, weights=None, **options):
    """Returns a layer's output, its gradients by input and weights, and its weights after."""
    layer.build(x.shape)
    if weights:
        layer.set_weights(weights)
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.cast(layer(x, **options), tf.float32)
        loss = tf.reduce_sum(y * tf.random.stateless_normal(y.shape, (0, 0)))
    gradients = tape.gradient(loss, [x, *[w.value for w in layer.trainable_weights]])
    return [np.asarray(value) for value in (y, *gradients, *layer.get_weights())]


@pytest.mark.parametrize("kernel_size", [9, 3, 1])
def test_narrow_convolution_is_conv2d(kernel_size):
    x = np.random.default_rng(0).normal(size=(2, 6, 10, 8)).astype(np.float32)
    plain = keras.layers.Conv2D(3, kernel_size, padding="same", bias_initializer="random_normal")
    expected = outcome(plain, x)
    narrow = outcome(NarrowConv2D(3, kernel_size), x, plain.get_weights())
    for ours, theirs in zip(narrow, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [
        ("float32", 1e-4),
        pytest.param("mixed_bfloat16", 0.05, marks=pytest.mark.bfloat16),
        ("mixed_float16", 0.01),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_fused_batch_normalisation_is_keras_own(policy, tolerance, training):
    x = np.random.default_rng(0).normal(2, 3, size=(2, 4, 3, 5)).astype(np.float32)
    rng = np.random.default_rng(1)
    weights = [rng.uniform(0.5, 2, 5) for _ in range(4)]
    results = [
        outcome(layer(momentum=0.5, dtype=policy), x, weights, training=training)
        for layer in (keras.layers.BatchNormalization, FusedBatchNormalization)
    ]
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance)
    assert np.array_equal(results[1][-1], np.float32(weights[-1])) != training


def test_generator_survives_saving(tmp_path):
    model = build_generator(filters=4, residual_blocks=1, upsampling="pixel_shuffle")
    model.save(tmp_path / "generator.keras")
    loaded = keras.models.load_model(tmp_path / "generator.keras")
    x = np.random.default_rng(0).uniform(-1, 1, (1, 6, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(x), loaded(x))


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (build_generator, {"scale": 3}),
        (build_generator, {"upsampling": "bilinear"}),
        (build_generator, {"filters": 0}),
        (build_discriminator, {"head": "mean"}),
        (build_discriminator, {"image_size": 8}),
        (build_discriminator, {"dense_units": 0}),
        (PixelShuffle, {"scale": 0}),
        (NarrowConv2D, {"filters": 3, "kernel_size": 4}),
    ],
)
def test_errors_say_what_was_received(build, arguments):
    with pytest.raises(ValueError, match="Received: "):
        build(**arguments)


def test_pixel_shuffle_needs_enough_channels():
    with pytest.raises(ValueError, match="multiple of 4 channels"):
        PixelShuffle(2)(keras.Input((4, 4, 6)))
