import dataclasses

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from PIL import Image

from srgan_keras.common import pixels
from srgan_keras.common.errors import UserError
from srgan_keras.inference.formats import export
from srgan_keras.inference.graph import WHOLE_PICTURE, fold_batch_normalization, reach
from srgan_keras.inference.upscaler import Upscaler
from srgan_keras.parts import layers as part_layers
from srgan_keras.parts.adversarial import CHANCES, Wasserstein, input_gradient
from srgan_keras.parts.layers import VGG19Features, WeightedConcatenation
from srgan_keras.systems import get_recipe
from srgan_keras.systems.wdrn import DenseGenerator, VGGCritic
from srgan_keras.training.callbacks import LossCurves
from srgan_keras.training.gan import SRGAN
from srgan_keras.training.loop import build_gan
from srgan_keras.training.memory import frozen_networks, outputs_per_picture

TINY = DenseGenerator(filters=4, residual_blocks=2, dense_layers=2, growth=3)


@pytest.fixture
def narrow_vgg(monkeypatch):
    """In place of VGG19 a network with its kinds of layers and a few weights, always the same."""

    def build_vgg(layer, weights):
        def convolution(filters, seed):
            start = keras.initializers.HeNormal(seed=seed)
            return layers.Conv2D(
                filters, 3, padding="same", activation="relu", kernel_initializer=start
            )

        image = keras.Input((None, None, 3))
        x = layers.MaxPooling2D()(convolution(4, 0)(image))
        model = keras.Model(image, convolution(6, 1)(x))
        model.trainable = False
        return model

    monkeypatch.setattr(part_layers, "build_vgg", build_vgg)


def tiny_critic():
    keras.utils.set_random_seed(0)
    return VGGCritic("block2_conv1", filters=4, dense_units=8).build(vgg_weights=None)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def convolution(kernel, inputs, outputs):
    return kernel * kernel * inputs * outputs + outputs


@pytest.mark.parametrize(
    ("normalization", "numbers", "total"), [("batch", 4, 1_082_974), ("none", 0, 1_080_158)]
)
def test_the_generator_s_parameters(normalization, numbers, total):
    dense = sum(convolution(3, 64 + 32 * k, 32) + numbers * 32 + 32 for k in range(4))  # and PReLU
    block = dense + 5 + convolution(1, 64 + 4 * 32, 64)  # and a weight for each of five groups
    expected = convolution(9, 3, 64) + 64 + 5 * block
    expected += convolution(3, 64, 64) + numbers * 64 + 2 + convolution(1, 128, 64)
    expected += 2 * (convolution(3, 64, 256) + 64) + convolution(9, 64, 3)
    assert DenseGenerator(normalization=normalization).build().count_params() == expected == total


def test_instance_normalisation_has_a_factor_and_a_shift_for_each_channel():
    numbers = {
        name: dataclasses.replace(TINY, normalization=name).build().count_params()
        for name in ("batch", "instance", "none")
    }
    channels = 2 * 2 * 3 + 4
    assert numbers["batch"] - numbers["none"] == 4 * channels
    assert numbers["instance"] - numbers["none"] == 2 * channels


def test_the_critic_has_the_parameters_of_its_own_layers_alone(narrow_vgg):
    critic = VGGCritic().build()
    expected = convolution(3, 6, 128) + convolution(3, 128, 256)  # the narrow VGG has 6 channels
    assert critic.count_params() == expected + 256 * 256 + 256 + 256 + 1
    assert not any(isinstance(x, layers.BatchNormalization) for x in critic.layers)
    for size in (32, 50):
        assert critic(noise(2, size, size, 3)).shape == (2, 1)


def test_each_layer_of_a_block_takes_the_outputs_of_all_before_it():
    model = DenseGenerator(filters=5, residual_blocks=1, dense_layers=3, growth=2).build()
    block = [x for x in model.layers if isinstance(x, layers.Conv2D) and x.filters == 2]
    assert [x.kernel.shape[2] for x in block] == [5, 7, 9]
    outputs = [x for x in model.layers if isinstance(x, layers.PReLU)][:4]  # the first is before it
    for k, conv in enumerate(block[1:], start=1):
        joined = conv.input._keras_history.operation
        assert [x is y.output for x, y in zip(joined.input, outputs, strict=False)] == [True] * (
            k + 1
        )
    inner, trunk = (x for x in model.layers if isinstance(x, WeightedConcatenation))
    assert [x is y.output for x, y in zip(inner.input, outputs, strict=True)] == [True] * 4
    assert trunk.input[0] is outputs[0].output
    assert not any(isinstance(x, layers.Add) for x in model.layers)


def test_weighted_concatenation(tmp_path):
    groups = [noise(1, 2, 3, channels, seed=channels) for channels in (2, 1)]
    layer = WeightedConcatenation()
    np.testing.assert_array_equal(layer(groups), np.concatenate(groups, -1))
    layer.set_weights([np.float32([2, -0.5])])
    expected = np.concatenate([2 * groups[0], -0.5 * groups[1]], -1)
    np.testing.assert_allclose(layer(groups), expected)
    upstream = noise(1, 2, 3, 3, seed=9)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(groups) * upstream)
    gradient = tape.gradient(loss, layer.group_weights.value)
    parts = np.split(upstream, [2], -1)
    np.testing.assert_allclose(
        gradient, [(a * b).sum() for a, b in zip(groups, parts, strict=True)], rtol=1e-5
    )
    inputs = [keras.Input((None, None, channels)) for channels in (2, 1)]
    keras.Model(inputs, layer(inputs)).save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(groups), layer(groups))


@pytest.mark.parametrize("normalization", ["batch", "instance"])
def test_export_and_tiles_make_the_picture_of_the_keras_model(normalization, tmp_path):
    """Instance normalisation sees the whole picture, so a tile is never cut out of it."""
    keras.utils.set_random_seed(0)
    settings = {"filters": 4, "residual_blocks": 1, "dense_layers": 2, "growth": 3}
    model = DenseGenerator(normalization=normalization, **settings).build(2)
    for _ in range(3):
        model(noise(2, 8, 8, 3) + 0.5, training=True)
    for layer in model.layers:
        if isinstance(layer, WeightedConcatenation):
            layer.set_weights([np.linspace(0.5, 2, len(layer.input))])
    scale, margin = reach(model)
    # 9x9, two 3x3 and one more at LR; 3x3 there, 9x9 at twice the size.
    local = 4 + 2 + 1 + 1 + 4 / 2
    assert (scale, margin) == (2, WHOLE_PICTURE if normalization == "instance" else local)
    folded = fold_batch_normalization(model)
    assert not any(isinstance(x, layers.BatchNormalization) for x in folded.layers)
    np.testing.assert_allclose(folded(noise(1, 6, 5, 3)), model(noise(1, 6, 5, 3)), atol=1e-5)

    export(model, tmp_path / "model")
    picture = np.random.default_rng(0).integers(0, 256, (23, 37, 3), np.uint8)
    whole = np.asarray(pixels.to_8bit(model(pixels.from_8bit(picture[None]))))[0].astype(int)
    assert np.abs(whole - Upscaler(tmp_path / "model", tile=8)(picture)).max() <= 1


def test_a_network_that_needs_the_whole_picture_says_so_when_memory_is_short(tmp_path):
    settings = {"filters": 2, "residual_blocks": 0}
    export(DenseGenerator(normalization="instance", **settings).build(2), tmp_path / "model")
    upscaler = Upscaler(tmp_path / "model", tile=8)

    def fail(*args):
        raise MemoryError

    upscaler._enlarge = fail
    with pytest.raises(UserError, match="needs all of a picture at once"):
        upscaler(np.zeros((9, 9, 3), np.uint8))


def test_the_penalty_is_the_critic_s_own_by_finite_differences(narrow_vgg):
    """The gradient by the pictures, and that of the penalty by each kernel, through VGG19.

    Steps so small that hardly a LeakyReLU changes its side, where the penalty jumps.
    """
    critic = tiny_critic()
    hr, sr = noise(2, 8, 8, 3), noise(2, 8, 8, 3, seed=1)
    chance = np.random.default_rng(2).random((2, CHANCES), np.float32)
    share = chance[:, 0].reshape(-1, 1, 1, 1)
    between = share * hr + (1 - share) * sr
    gradient = np.asarray(input_gradient(critic, tf.constant(between)))
    direction = gradient / np.linalg.norm(gradient.reshape(2, -1), axis=1).reshape(-1, 1, 1, 1)
    ahead, behind = (np.asarray(critic(between + e * direction)) for e in (2e-3, -2e-3))
    loss = Wasserstein()
    penalty, logs = loss.penalty(critic, hr, sr, chance)
    np.testing.assert_allclose(logs["gradient_norm"], (ahead - behind)[:, 0] / 4e-3, rtol=2e-2)
    np.testing.assert_allclose(penalty[:, 0], 10 * (logs["gradient_norm"] - 1) ** 2, rtol=1e-5)

    kernels = [x.kernel for x in critic.layers if hasattr(x, "kernel")]
    with tf.GradientTape() as tape:
        mean = tf.reduce_mean(loss.penalty(critic, hr, sr, chance)[0])
    for kernel, slopes in zip(kernels, tape.gradient(mean, kernels), strict=True):
        start, step = np.array(kernel), 3e-4 * np.asarray(slopes) / np.linalg.norm(slopes)
        values = []
        for change in (step, -step):
            kernel.assign(start + change)
            values.append(float(np.mean(loss.penalty(critic, hr, sr, chance)[0])))
        kernel.assign(start)
        slope = (values[0] - values[1]) / 6e-4
        assert slope == pytest.approx(np.linalg.norm(slopes), rel=5e-2), kernel.path


def test_weight_clipping_holds_the_critic_s_weights(narrow_vgg):
    gan = SRGAN(TINY.build(2), tiny_critic())
    loss = Wasserstein(gradient_penalty=0.0, weight_clipping=0.01)
    gan.compile(keras.optimizers.SGD(1.0), ["mean_squared_error", loss], run_eagerly=True)
    logs = gan.fit(noise(4, 16, 16, 3), noise(4, 32, 32, 3), batch_size=2, verbose=0).history
    assert "gradient_norm" not in logs
    estimate = logs["d_hr"][0] - logs["d_sr"][0]
    assert logs["wasserstein_estimate"][0] == pytest.approx(estimate, abs=1e-6)
    assert logs["discriminator_loss"][0] == pytest.approx(-estimate, abs=1e-6)
    weights = np.concatenate([np.ravel(x) for x in gan.discriminator.get_weights()])
    assert np.abs(weights).max() == np.float32(0.01)
    assert max(np.abs(x).max() for x in gan.generator.get_weights()) > 0.1


def test_a_critic_is_saved_without_vgg19_and_loads(narrow_vgg, tmp_path):
    critic = tiny_critic()
    critic.save(tmp_path / "critic.keras")
    assert (tmp_path / "critic.keras").stat().st_size < 100_000
    loaded = keras.models.load_model(tmp_path / "critic.keras")
    x = noise(1, 20, 24, 3)
    np.testing.assert_array_equal(loaded(x), critic(x))


def test_memory_counts_what_is_inside_the_critic(narrow_vgg):
    critic = tiny_critic()
    (vgg,) = frozen_networks(critic)
    assert vgg.count_params() == convolution(3, 3, 4) + convolution(3, 4, 6)
    own = 16 * 16 * 3 + 8 * 8 * 6 + 2 * 8 * 8 * 4 + 2 * 4 * 4 * 8 + 8 + 2 * 8 + 1
    inside = 16 * 16 * (3 + 4) + 8 * 8 * (4 + 6)
    assert outputs_per_picture(critic, 16) == own + inside == outputs_per_picture(vgg, 16) + own


def test_vgg19_s_features_are_those_of_its_own_preprocessing():
    layer = VGG19Features("block1_conv1", None)
    assert not layer.weights
    kernel, bias = layer.vgg().get_weights()
    pictures = noise(1, 6, 6, 3)
    bgr = (127.5 * (pictures + 1))[..., ::-1] - np.float32([103.939, 116.779, 123.68])
    expected = np.maximum(tf.nn.conv2d(bgr, kernel, 1, "SAME") + bias, 0) / 255
    np.testing.assert_allclose(layer(pictures), expected, atol=1e-4)


def test_a_run_with_two_critic_steps_goes_on_bit_for_bit(narrow_vgg, tmp_path):
    """In parts; and VGG19 is in no checkpoint."""

    def build():
        recipe = get_recipe(
            "wdrn", content_loss="mse", crop_size=32, filters=4, residual_blocks=1, dense_layers=1,
            normalization="instance", critic_layer="block2_conv1", discriminator_filters=4,
            dense_units=8, critic_steps=2, discriminator_learning_rate=1e-3,
        )  # fmt: skip
        gan = build_gan(recipe)
        gan.compile(
            gan.optimizer, ["mse", gan.adversarial_loss], None, gan.discriminator_optimizer,
            run_eagerly=True,
        )  # fmt: skip
        gan.parts = 2
        return gan

    def step(gan, k):
        gan.fit(noise(4, 8, 8, 3, seed=k), noise(4, 32, 32, 3, seed=k), batch_size=4, verbose=0)

    first, second = build(), build()
    step(first, 0)
    first.save_weights(tmp_path / "state.weights.h5")
    second.load_weights(tmp_path / "state.weights.h5")
    step(first, 1)
    step(second, 1)
    for ours, theirs in zip(second.variables, first.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=ours.path)
    with h5py.File(tmp_path / "state.weights.h5") as file:
        assert not list(file["layers/functional_1/layers/vgg19_features/vars"])


def test_the_curves_of_a_wasserstein_critic(narrow_vgg, tmp_path):
    gan = SRGAN(TINY.build(2), tiny_critic())
    for loss in (Wasserstein(), Wasserstein(gradient_penalty=0.0, weight_clipping=0.01)):
        gan.compile("sgd", ["mse", loss])
        names = [metric.name for metric in gan.metrics]
        row = ",".join(["0.5"] * len(names))
        (tmp_path / "log.csv").write_text(f"epoch,{','.join(names)}\n0,{row}\n1,{row}\n")
        report = LossCurves(tmp_path)
        report.set_model(gan)
        report.on_epoch_end(1)
        with Image.open(tmp_path / "losses.png") as picture:
            assert picture.size == (1000, 1050)
