import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.losses import BinaryCrossentropy

from srgan_keras import pixels
from srgan_keras.benchmark import with_keras_layers
from srgan_keras.gan import SRGAN
from srgan_keras.losses import VGGLoss
from srgan_keras.metrics import measure
from srgan_keras.models import build_discriminator, build_generator
from srgan_keras.train import dtype_policy


def build(optimizer, loss_weights=(1.0, 1e-3), **options):
    keras.utils.set_random_seed(0)
    generator = build_generator(filters=4, residual_blocks=1)
    discriminator = build_discriminator(image_size=32, filters=4, dense_units=8)
    gan = SRGAN(generator, discriminator, **options)
    gan.compile(
        optimizer=optimizer(),
        discriminator_optimizer=optimizer(),
        loss=[VGGLoss("block1_conv1", weights=None), BinaryCrossentropy()],
        loss_weights=list(loss_weights),
        jit_compile=False,
    )
    return gan


def build_without_discriminator(optimizer, **options):
    keras.utils.set_random_seed(0)
    gan = SRGAN(build_generator(filters=4, residual_blocks=1), None, **options)
    gan.compile(optimizer=optimizer(), loss=["mean_squared_error"], jit_compile=False)
    return gan


def sgd():
    return keras.optimizers.SGD(0.1)


def adam():
    return keras.optimizers.Adam(1e-2)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    lr = rng.uniform(-1, 1, (4, 8, 8, 3)).astype(np.float32)
    hr = rng.uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    return lr, hr


def fit(gan, batch, steps=1):
    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    return gan.fit(dataset, steps_per_epoch=steps, shuffle=False, verbose=0).history


def values(variables):
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def moved(before, after):
    return [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]


def test_is_the_tutorial_s_two_output_model(batch):
    gan = build(adam)
    sr, validity = gan(batch[0])
    assert sr.shape == (4, 32, 32, 3)
    assert validity.shape == (4, 1)
    assert gan.count_params() == gan.generator.count_params() + gan.discriminator.count_params()


def test_logs(batch):
    logs = fit(build(adam), batch)
    assert set(logs) == {
        "loss", "content_loss", "adversarial_loss", "discriminator_loss", "d_hr", "d_sr",
        "psnr", "ssim",
    }  # fmt: skip
    content, adversarial = logs["content_loss"][0], logs["adversarial_loss"][0]
    assert logs["loss"][0] == pytest.approx(content + 1e-3 * adversarial, rel=1e-5)
    assert 0 < logs["d_hr"][0] < 1


def test_each_optimizer_moves_its_own_network_alone(batch):
    gan = build(sgd)
    gan.optimizer.learning_rate = 0.0
    generator = values(gan.generator.trainable_variables)
    discriminator = values(gan.discriminator.trainable_variables)
    fit(gan, batch)
    assert not any(moved(generator, values(gan.generator.trainable_variables)))
    assert all(moved(discriminator, values(gan.discriminator.trainable_variables)))

    gan = build(sgd)
    gan.discriminator_optimizer.learning_rate = 0.0
    fit(gan, batch)
    assert any(moved(generator, values(gan.generator.trainable_variables)))
    assert not any(moved(discriminator, values(gan.discriminator.trainable_variables)))


def test_step_is_what_the_equations_say(batch):
    """One SGD step against the same step written out: D on both, then G against the new D.

    Written out with Keras' layers: what makes our step faster must not change its result.
    """
    lr, hr = batch
    gan = build(sgd, label_noise=0.0)
    generator = with_keras_layers(gan.generator)
    discriminator = with_keras_layers(gan.discriminator)
    content_loss = VGGLoss("block1_conv1", weights=None)
    content_loss.vgg().set_weights(_content_loss(gan).vgg().get_weights())
    logs = fit(gan, batch)

    with tf.GradientTape() as tape:
        sr = generator(lr, training=True)
        real, fake = discriminator(hr, training=True), discriminator(sr, training=True)
        loss = 0.5 * (-tf.reduce_mean(tf.math.log(real)) - tf.reduce_mean(tf.math.log(1 - fake)))
    assert logs["discriminator_loss"][0] == pytest.approx(float(loss), abs=1e-5)
    _descend(tape, loss, discriminator.trainable_variables)
    with tf.GradientTape() as tape:
        sr = generator(lr, training=True)
        fake = discriminator(sr, training=True)
        features = content_loss.vgg()
        loss = tf.reduce_mean((features(hr) - features(sr)) ** 2)
        loss -= 1e-3 * tf.reduce_mean(tf.math.log(fake))
    assert logs["loss"][0] == pytest.approx(float(loss), abs=1e-5)
    _descend(tape, loss, generator.trainable_variables)

    for ours, theirs in ((gan.generator, generator), (gan.discriminator, discriminator)):
        for a, b in zip(ours.trainable_variables, theirs.trainable_variables, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=a.path)


def _descend(tape, loss, variables):
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        variable.assign_sub(0.1 * gradient)


def _content_loss(gan):
    return gan._compile_loss._user_loss[0]


def test_a_discriminator_that_is_surely_wrong_still_learns(batch):
    """The loss is taken from the logits: clipped probabilities would have no gradient."""
    gan = build(sgd, label_noise=0.0)
    bias = gan.discriminator.get_layer("validity").bias
    bias.assign([-50.0])
    logs = fit(gan, batch)
    assert logs["discriminator_loss"][0] == pytest.approx(25, abs=2)
    assert float(bias[0]) == pytest.approx(-50 + 0.1 / 2, abs=1e-4)


def test_label_noise_depends_on_seed_and_step(batch):
    gan = build(adam)
    noise = np.asarray(gan.draw_label_noise(500))
    assert noise.shape == (1000, 1)
    assert 0 <= noise.min() < 0.01
    assert 0.19 < noise.max() <= 0.2
    np.testing.assert_array_equal(noise, gan.draw_label_noise(500))
    gan.optimizer.iterations.assign_add(1)
    assert not np.array_equal(noise, gan.draw_label_noise(500))


def freeze_batch_norm(gan):
    """Batch statistics are each replica's own; frozen layers use the moving averages instead."""
    for network in filter(None, (gan.generator, gan.discriminator)):
        for layer in network.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.trainable = False
    return gan


@pytest.mark.parametrize("loss_weights", [(1.0, 1e-3), (0.0, 1.0), (1.0, 0.0)])
def test_two_replicas_make_the_step_of_one(batch, loss_weights, two_replicas):
    """The same global batch gives the same weights and logs, label noise included.

    Plain gradient descent, because Adam would hide a wrong factor; and three pairs of loss
    weights, because a wrong balance between the two losses would show in one of them.
    """
    one = freeze_batch_norm(build(sgd, loss_weights))
    with two_replicas.scope():
        two = freeze_batch_norm(build(sgd, loss_weights))
        two.set_weights(one.get_weights())
    _content_loss(two).vgg().set_weights(_content_loss(one).vgg().get_weights())
    before = values(one.generator.trainable_variables)
    logs, logs_of_two = fit(one, batch, steps=2), fit(two, batch, steps=2)

    assert any(moved(before, values(one.generator.trainable_variables)))
    for name, value in logs.items():
        assert logs_of_two[name] == pytest.approx(value, rel=1e-5), name
    for a, b in zip(one.trainable_variables, two.trainable_variables, strict=True):
        np.testing.assert_allclose(a, keras.ops.convert_to_numpy(b), atol=1e-6, err_msg=a.path)


def test_checkpoint_holds_everything_but_vgg(batch, tmp_path):
    """Two steps equal one step, save, load into a fresh model, one step: bit for bit."""
    whole, first, second = build(adam), build(adam), build(adam)
    vgg = _content_loss(whole).vgg().get_weights()
    for gan in (first, second):
        _content_loss(gan).vgg().set_weights(vgg)
    fit(whole, batch, steps=2)
    fit(first, batch)
    first.save_weights(tmp_path / "state.weights.h5")
    second.load_weights(tmp_path / "state.weights.h5")
    assert second.step == 1
    fit(second, batch)
    state = [
        values([*gan.variables, *gan.discriminator_optimizer.variables]) for gan in (whole, second)
    ]
    assert not any(moved(*state))

    import h5py

    names = []
    h5py.File(tmp_path / "state.weights.h5").visit(names.append)
    assert not [name for name in names if "vgg" in name]


def test_validation_logs_are_those_of_training(batch):
    gan = build(adam)
    before = values(gan.variables)
    logs = gan.evaluate(tf.data.Dataset.from_tensors(batch), verbose=0, return_dict=True)
    assert set(logs) == set(fit(build(adam), batch))
    sr, d_sr = gan(batch[0], training=False)
    d_hr = gan.discriminator(batch[1], training=False)
    assert logs["d_hr"] == pytest.approx(float(np.mean(d_hr)), rel=1e-5)
    assert logs["d_sr"] == pytest.approx(float(np.mean(d_sr)), rel=1e-5)
    expected = -0.5 * (np.mean(np.log(d_hr)) + np.mean(np.log(1 - np.asarray(d_sr))))
    assert logs["discriminator_loss"] == pytest.approx(expected, rel=1e-5)
    scores = [
        measure(*(np.asarray(pixels.to_8bit(image)) for image in pair))
        for pair in zip(batch[1], sr, strict=True)
    ]
    assert [logs["psnr"], logs["ssim"]] == pytest.approx(np.mean(scores, axis=0), rel=1e-4)
    metrics = {variable.path for metric in gan.metrics for variable in metric.variables}
    assert not [
        variable.path
        for variable, old in zip(gan.variables, before, strict=True)
        if variable.path not in metrics and not np.array_equal(variable, old)
    ]


def test_without_a_discriminator_the_content_loss_alone_trains_the_generator(batch):
    gan = build_without_discriminator(sgd)
    before = values(gan.generator.trainable_variables)
    logs = fit(gan, batch)
    assert set(logs) == {"loss", "psnr", "ssim"}
    assert any(moved(before, values(gan.generator.trainable_variables)))
    validation = gan.evaluate(tf.data.Dataset.from_tensors(batch), verbose=0, return_dict=True)
    sr = np.asarray(gan(batch[0]))
    assert validation["loss"] == pytest.approx(np.mean((sr - batch[1]) ** 2), rel=1e-5)


def test_the_average_follows_the_generator_and_is_what_validation_sees(batch):
    gan = build_without_discriminator(sgd, ema_momentum=0.5)
    average = values(gan.generator.weights)
    for step in range(3):
        fit(gan, batch)
        momentum = min(0.5, (2 + step) / (11 + step))
        pairs = zip(average, values(gan.generator.weights), strict=True)
        average = [momentum * a + (1 - momentum) * b for a, b in pairs]
    for expected, weight in zip(average, gan.trained_generator.weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6, err_msg=weight.path)
    logs = gan.evaluate(tf.data.Dataset.from_tensors(batch), verbose=0, return_dict=True)
    sr = np.asarray(gan.trained_generator(batch[0], training=False))
    assert logs["loss"] == pytest.approx(np.mean((sr - batch[1]) ** 2), rel=1e-5)
    assert not np.allclose(sr, gan(batch[0], training=False), atol=1e-5)


def test_without_batch_statistics_training_sees_what_inference_sees(batch):
    gan = build_without_discriminator(sgd, batch_statistics=False)
    normalisations = [
        layer
        for layer in gan.generator.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    averages = [layer.moving_variance for layer in normalisations]
    for average in averages:
        average.assign(2 * average)
    before = values(averages)
    sr = np.asarray(gan.generator(batch[0], training=False))
    gammas = values(layer.gamma for layer in normalisations)
    assert fit(gan, batch)["loss"][0] == pytest.approx(np.mean((sr - batch[1]) ** 2), rel=1e-5)
    assert not any(moved(before, values(averages)))
    assert all(moved(gammas, values(layer.gamma for layer in normalisations)))


def test_two_replicas_average_as_one(batch, two_replicas):
    one = freeze_batch_norm(build_without_discriminator(sgd, ema_momentum=0.5))
    with two_replicas.scope():
        two = freeze_batch_norm(build_without_discriminator(sgd, ema_momentum=0.5))
        two.set_weights(one.get_weights())
    fit(one, batch, steps=2)
    fit(two, batch, steps=2)
    for a, b in zip(one.trained_generator.weights, two.trained_generator.weights, strict=True):
        np.testing.assert_allclose(a, keras.ops.convert_to_numpy(b), atol=1e-6, err_msg=a.path)


@pytest.mark.parametrize(("policy", "tolerance"), [("mixed_bfloat16", 0.7), ("mixed_float16", 0.2)])
def test_mixed_precision_takes_almost_the_same_step(batch, policy, tolerance):
    """Only almost: on noise the gradients of the pictures all but cancel, rounding errors don't."""
    plain = build(sgd)
    with dtype_policy(policy):
        mixed = build(sgd)
    mixed.set_weights(plain.get_weights())
    _content_loss(mixed).vgg().set_weights(_content_loss(plain).vgg().get_weights())
    networks = [
        (plain.generator, mixed.generator),
        (plain.discriminator, mixed.discriminator),
    ]
    before = [flat(network.trainable_variables) for network, _ in networks]
    logs, expected = fit(mixed, batch), fit(plain, batch)
    for name, value in expected.items():
        assert logs[name] == pytest.approx(value, rel=0.02, abs=0.002), name
    for start, (a, b) in zip(before, networks, strict=True):
        assert {weight.dtype for weight in b.weights} == {"float32"}
        update, difference = (
            flat(a.trainable_variables) - start,
            flat(b.trainable_variables) - start,
        )
        assert np.linalg.norm(difference - update) < tolerance * np.linalg.norm(update)


def flat(variables):
    return np.concatenate([np.ravel(value) for value in values(variables)])
