import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from network_fixtures import small_discriminator

from srgan_keras.common import pixels
from srgan_keras.evaluation.metrics import measure
from srgan_keras.inference.graph import replace_layers
from srgan_keras.parts.adversarial import Logistic, Wasserstein
from srgan_keras.parts.content import VGGLoss
from srgan_keras.systems.srgan import build_generator
from srgan_keras.training.gan import SRGAN, TutorialSRGAN
from srgan_keras.training.loop import dtype_policy
from srgan_keras.training.timing import KERAS_LAYERS


def build(optimizer, loss_weights=(1.0, 1e-3), label_noise=0.2, kind=SRGAN, eager=True, **options):
    """Eager, since a step or two take less time than tracing a graph does."""
    keras.utils.set_random_seed(0)
    generator = build_generator(filters=4, residual_blocks=0)
    gan = kind(generator, small_discriminator(), **options)
    gan.compile(
        optimizer=optimizer(),
        loss=[VGGLoss("block1_conv1", weights=None), Logistic(label_noise=label_noise)],
        loss_weights=list(loss_weights),
        jit_compile=False,
        run_eagerly=eager,
    )
    return gan


def build_without_discriminator(optimizer, **options):
    keras.utils.set_random_seed(0)
    gan = SRGAN(build_generator(filters=4, residual_blocks=0), None, **options)
    gan.compile(optimizer(), ["mean_squared_error"], jit_compile=False, run_eagerly=True)
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
    generator = replace_layers(gan.generator, KERAS_LAYERS)
    discriminator = replace_layers(gan.discriminator, KERAS_LAYERS)
    content_loss = VGGLoss("block1_conv1", weights=None)
    content_loss.vgg().set_weights(gan.content_loss.vgg().get_weights())
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


def test_two_critic_steps_are_what_the_equations_say(batch):
    """D on the first batch, D on the second, then G on the second, written out; the generator's
    moving averages see the second alone.
    """
    gan = build(sgd, label_noise=0.0)
    gan.adversarial_loss = Logistic(critic_steps=2)
    generator = replace_layers(gan.generator, KERAS_LAYERS)
    discriminator = replace_layers(gan.discriminator, KERAS_LAYERS)
    content_loss = gan.content_loss
    logs = fit(gan, batch)

    averages = values(generator.non_trainable_variables)
    for lr, hr in (tuple(images[k : k + 2] for images in batch) for k in (0, 2)):
        for variable, value in zip(generator.non_trainable_variables, averages, strict=True):
            variable.assign(value)
        sr = generator(lr, training=True)
        with tf.GradientTape() as tape:
            real, fake = discriminator(hr, training=True), discriminator(sr, training=True)
            loss = -0.5 * tf.reduce_mean(tf.math.log(real) + tf.math.log(1 - fake))
        _descend(tape, loss, discriminator.trainable_variables)
    assert logs["discriminator_loss"][0] == pytest.approx(float(loss), abs=1e-5)
    statistics = values(generator.non_trainable_variables)
    with tf.GradientTape() as tape:
        sr = generator(lr, training=True)
        adversarial = -tf.math.log(discriminator(sr, training=True))
        loss = tf.reduce_mean(content_loss(hr, sr)) + 1e-3 * tf.reduce_mean(adversarial)
    _descend(tape, loss, generator.trainable_variables)

    for a, b in zip(gan.generator.non_trainable_variables, statistics, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5, err_msg=a.path)
    for ours, theirs in ((gan.generator, generator), (gan.discriminator, discriminator)):
        for a, b in zip(ours.trainable_variables, theirs.trainable_variables, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=a.path)


@pytest.mark.parametrize("score", [-5.0, -20.0, -40.0])
def test_a_discriminator_that_is_surely_wrong_still_learns(batch, score):
    """Photographs have this score: the gradient is that of the logistic loss, not 0."""
    gan = build(sgd, label_noise=0.0)
    layer = gan.discriminator.get_layer("score")
    layer.kernel.assign(keras.ops.zeros_like(layer.kernel))
    layer.bias.assign([score])
    logs = fit(gan, batch)
    probability = 1 / (1 + np.exp(-score))
    loss = 0.5 * (np.log1p(np.exp(-score)) + np.log1p(np.exp(score)))
    assert logs["discriminator_loss"][0] == pytest.approx(loss, rel=1e-5)
    gradient = 0.5 * ((probability - 1) + probability)
    assert float(layer.bias[0]) == pytest.approx(score - 0.1 * gradient, abs=1e-5)


def test_chance_depends_on_seed_and_step(batch):
    gan = build(adam)
    pictures = np.zeros((500, 2, 2, 3), np.float32)
    chance = np.asarray(gan.draw_chance(pictures))
    assert chance.shape == (500, 3)
    assert 0 <= chance.min() < 0.01
    assert 0.99 < chance.max() <= 1
    np.testing.assert_array_equal(chance, gan.draw_chance(pictures))
    gan.optimizer.iterations.assign_add(1)
    assert not np.array_equal(chance, gan.draw_chance(pictures))


def freeze_batch_norm(gan):
    """Batch statistics are each replica's own; frozen layers use the moving averages instead."""
    for network in filter(None, (gan.generator, gan.discriminator)):
        for layer in network.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.trainable = False
    return gan


def test_two_replicas_make_the_step_of_one(batch, two_replicas):
    """The same global batch gives the same weights and logs, label noise included; each replica
    takes its share in parts.

    Plain gradient descent, because Adam would hide a wrong factor; and losses of equal weight,
    because a small one would hide a wrong factor on it alone.
    """
    one = freeze_batch_norm(build(sgd, (1.0, 1.0)))
    with two_replicas.scope():
        two = freeze_batch_norm(build(sgd, (1.0, 1.0), parts=2))
        two.set_weights(one.get_weights())
    two.content_loss.vgg().set_weights(one.content_loss.vgg().get_weights())
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
    vgg = whole.content_loss.vgg().get_weights()
    for gan in (first, second):
        gan.content_loss.vgg().set_weights(vgg)
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
    assert set(logs) == {"loss", "content_loss", "psnr", "ssim"}
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
    for expected, weight in zip(average, gan.averaged_generator.weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6, err_msg=weight.path)
    logs = gan.evaluate(tf.data.Dataset.from_tensors(batch), verbose=0, return_dict=True)
    sr = np.asarray(gan.averaged_generator(batch[0], training=False))
    assert logs["loss"] == pytest.approx(np.mean((sr - batch[1]) ** 2), rel=1e-5)
    assert not np.allclose(sr, gan(batch[0], training=False), atol=1e-5)


def test_without_batch_statistics_training_sees_what_inference_sees(batch):
    gan = build_without_discriminator(sgd, batch_statistics=False)
    normalisations = [
        layer for layer in gan.generator.layers if isinstance(layer, layers.BatchNormalization)
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


def test_both_losses_see_pictures_that_are_shifted_step_by_step(batch):
    hr = batch[1]
    gan = build(sgd, shift_period=2)
    content, trunk = [], []
    gan.content_loss = lambda hr, sr: content.append(np.asarray(hr)) or (hr - sr) ** 2
    layers_of_trunk = gan.trunk
    gan.trunk = lambda x, training: (
        trunk.append(np.asarray(x)) or layers_of_trunk(x, training=training)
    )
    fit(gan, batch, steps=5)
    expected = [np.roll(hr, shift, (1, 2)) for shift in ((0, 0), (1, 0), (0, 1), (1, 1), (0, 0))]
    np.testing.assert_array_equal(content, expected)
    # The discriminator sees photographs, generated pictures, and in the second update those again.
    np.testing.assert_array_equal(trunk[::3], expected)
    np.testing.assert_array_equal(trunk[1::3], trunk[2::3])
    gan.evaluate(tf.data.Dataset.from_tensors(batch), verbose=0)
    np.testing.assert_array_equal(content[-1], hr)


def test_two_replicas_average_as_one(batch, two_replicas):
    one = freeze_batch_norm(build_without_discriminator(sgd, ema_momentum=0.5))
    with two_replicas.scope():
        two = freeze_batch_norm(build_without_discriminator(sgd, ema_momentum=0.5))
        two.set_weights(one.get_weights())
    fit(one, batch, steps=2)
    fit(two, batch, steps=2)
    for a, b in zip(one.averaged_generator.weights, two.averaged_generator.weights, strict=True):
        np.testing.assert_allclose(a, keras.ops.convert_to_numpy(b), atol=1e-6, err_msg=a.path)


@pytest.mark.parametrize(
    "policy", [pytest.param("mixed_bfloat16", marks=pytest.mark.bfloat16), "mixed_float16"]
)
def test_mixed_precision_computes_in_low_precision_and_learns_in_float32(batch, policy):
    """Whatever the processor rounds, the pictures are nearly those of float32 and never equal."""
    plain = build(sgd)
    with dtype_policy(policy):
        mixed = build(sgd)
    mixed.set_weights(plain.get_weights())
    for network in (mixed.generator, mixed.discriminator):
        computed = {x.compute_dtype for x in network.layers if isinstance(x, layers.Conv2D)}
        assert computed == {policy.removeprefix("mixed_")}
        assert {weight.dtype for weight in network.weights} == {"float32"}
        assert network.output.dtype == "float32"
    pictures, expected = (np.asarray(gan.generator(batch[0])) for gan in (mixed, plain))
    error = np.linalg.norm(pictures - expected) / np.linalg.norm(expected)
    assert 1e-5 < error < 0.1
    before = values(mixed.trainable_variables)
    logs = fit(mixed, batch)
    assert all(np.isfinite(value[0]) for value in logs.values())
    assert all(moved(before, values(mixed.trainable_variables)))


def test_the_compile_line_of_the_tutorial_is_enough(batch):
    gan = SRGAN(build_generator(filters=4, residual_blocks=0), small_discriminator())
    vgg_loss = VGGLoss("block1_conv1", weights=None)
    losses = [vgg_loss, "binary_crossentropy"]
    gan.compile(loss=losses, loss_weights=[1.0, 1e-3], optimizer=keras.optimizers.Adam(1e-4))
    assert gan.adversarial_loss == Logistic()
    assert gan.discriminator_optimizer is not gan.optimizer
    assert gan.discriminator_optimizer.get_config() == gan.optimizer.get_config()
    before = values(gan.trainable_variables)
    gan.fit(*batch, batch_size=4, verbose=0)
    assert all(moved(before, values(gan.trainable_variables)))
    for wrong in (["mse"], ["mse", "mse"], "mse"):
        with pytest.raises(ValueError, match="Received: "):
            gan.compile(loss=wrong, optimizer="adam")


def test_a_sigmoid_inside_another_layer_is_refused():
    pictures = keras.Input((32, 32, 3))
    features = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(pictures))
    validity = layers.Dense(1, activation="sigmoid")(features)
    with pytest.raises(ValueError, match=r"a layer of its own.*Received: dense"):
        SRGAN(build_generator(filters=4, residual_blocks=0), keras.Model(pictures, validity))


def remove_batch_norm(model):
    """A copy of a network without its batch normalisations."""

    def call(layer, x, **options):
        return x if isinstance(layer, layers.BatchNormalization) else layer(x, **options)

    return keras.models.clone_model(model, call_function=call)


@pytest.mark.parametrize("kind", [SRGAN, TutorialSRGAN])
def test_a_batch_in_parts_takes_the_step_of_the_whole(batch, kind):
    """Without batch normalisation, whose statistics are a part's own."""
    results = []
    for parts in (1, 2, 2 if kind is TutorialSRGAN else 4):
        keras.utils.set_random_seed(0)
        gan = kind(
            remove_batch_norm(build_generator(filters=4, residual_blocks=0)),
            remove_batch_norm(small_discriminator()),
            ema_momentum=0.5,
            parts=parts,
        )
        losses = ["mean_squared_error", Logistic(label_noise=0.2, generator_label_noise=0.1)]
        eager = (kind, parts) != (SRGAN, 2)  # One of them shows that the loop is traced as well.
        gan.compile(sgd(), losses, [1.0, 1e-1], jit_compile=False, run_eagerly=eager)
        results.append((fit(gan, batch, steps=2), values(gan.weights)))
    (logs, weights), *others = results
    for other_logs, other_weights in others:
        for name, value in logs.items():
            assert other_logs[name] == pytest.approx(value, rel=1e-5), name
        for a, b in zip(weights, other_weights, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_parts_move_the_statistics_of_batch_normalisation_once_each(batch):
    """As on as many replicas: a part's own statistics, one part after the other."""
    gan = build(sgd, parts=2)
    (layer, *_) = (x for x in gan.generator.layers if "normalization" in x.name)
    features = keras.Model(gan.generator.input, layer.input)
    means = [np.asarray(features(batch[0][k::2])).mean((0, 1, 2)) for k in (0, 1)]
    gan.optimizer.learning_rate = 0.0
    fit(gan, batch)
    expected = 0.5 * (0.5 * means[0]) + 0.5 * means[1]  # momentum 0.5, from 0
    np.testing.assert_allclose(layer.moving_mean, expected, atol=1e-5)


def test_a_wasserstein_critic_learns_with_its_penalty(batch):
    """A critic without normalisation and sigmoid: its outputs are its scores."""
    critic = remove_batch_norm(small_discriminator())
    critic = keras.Model(critic.input, critic.get_layer("score").output)
    results = {}
    for penalty in (0.0, 10.0):
        keras.utils.set_random_seed(0)
        gan = SRGAN(build_generator(filters=4, residual_blocks=0), keras.models.clone_model(critic))
        gan.discriminator.set_weights(critic.get_weights())
        losses = ["mean_squared_error", Wasserstein(gradient_penalty=penalty)]
        gan.compile(sgd(), losses, run_eagerly=True)
        results[penalty] = {name: value[0] for name, value in fit(gan, batch).items()}
    plain, penalised = results.values()
    assert plain["discriminator_loss"] == pytest.approx(plain["d_sr"] - plain["d_hr"], abs=1e-6)
    assert penalised["discriminator_loss"] > plain["discriminator_loss"] + 0.1
    assert plain["d_sr"] == pytest.approx(penalised["d_sr"], abs=1e-5)


def test_the_tutorial_s_step_is_that_of_its_loop():
    """Three steps against the loop of the tutorial's code, in Keras' own layers and calls.

    The held discriminator normalises with the batch's own statistics, as it did in the Keras of the
    tutorial's time: so its weights are held one by one here. Today's `trainable = False` would make
    it use its moving averages. Adam's epsilon is large because gradients that are 0 but for
    rounding, those of biases in front of a normalisation, would else make steps like any other.
    """

    def adam():
        return keras.optimizers.Adam(1e-3, epsilon=1e-3)

    rng = np.random.default_rng(0)
    lr = rng.uniform(-1, 1, (3, 8, 8, 8, 3)).astype(np.float32)
    hr = rng.uniform(-1, 1, (3, 8, 32, 32, 3)).astype(np.float32)
    gan = build(adam, kind=TutorialSRGAN)
    gan.adversarial_loss = Logistic(label_noise=0.2, generator_label_noise=0.2)
    generator = replace_layers(gan.generator, KERAS_LAYERS)
    discriminator = replace_layers(gan.discriminator, KERAS_LAYERS)
    discriminator.compile(adam(), "binary_crossentropy", run_eagerly=True)
    sr = generator(generator.input)
    combined = keras.Model(generator.input, [sr, discriminator(sr)])
    losses = [gan.content_loss, "binary_crossentropy"]
    combined.compile(adam(), losses, loss_weights=[1.0, 1e-3], run_eagerly=True)
    held = discriminator.trainable_variables
    for k in range(3):
        chance = 0.2 * np.asarray(gan.draw_chance(lr[k, :4]))
        logs = fit(gan, (lr[k], hr[k]))

        generated = generator.predict(lr[k, :4], verbose=0)
        real = discriminator.train_on_batch(hr[k, :4], 1 - chance[:, 0:1])
        discriminator.reset_metrics()
        fake = discriminator.train_on_batch(generated, chance[:, 1:2])
        discriminator.reset_metrics()
        for variable in held:
            variable.trainable = False
        loss = combined.train_on_batch(lr[k, 4:], [hr[k, 4:], 1 - chance[:, 2:3]])
        combined.reset_metrics()
        for variable in held:
            variable.trainable = True

        assert logs["discriminator_loss"][0] == pytest.approx(0.5 * (real + fake), rel=1e-5)
        names = ("loss", "content_loss", "adversarial_loss")
        assert [logs[name][0] for name in names] == pytest.approx(loss, rel=1e-5)
    for ours, theirs in ((gan.generator, generator), (gan.discriminator, discriminator)):
        for a, b in zip(ours.weights, theirs.weights, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5, err_msg=a.path)
