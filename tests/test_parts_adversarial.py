import keras
import numpy as np
import pytest

from srgan_keras.common.errors import UserError
from srgan_keras.parts.adversarial import (
    CHANCES,
    Logistic,
    Wasserstein,
    choose_adversarial,
    cross_entropy,
    input_gradient,
)

SCORES = np.float32([[-40], [-20], [-5], [0], [5], [20], [40]])


def chance(batch, seed=0):
    return np.random.default_rng(seed).random((batch, CHANCES), np.float32)


@pytest.mark.parametrize("label", [0.0, 0.15, 1.0])
def test_cross_entropy_is_keras_own_from_logits(label):
    labels = np.full_like(SCORES, label)
    expected = keras.losses.BinaryCrossentropy(from_logits=True, reduction=None)(labels, SCORES)
    np.testing.assert_allclose(cross_entropy(SCORES, labels)[:, 0], expected, rtol=1e-5, atol=1e-6)


def test_the_logistic_loss_draws_its_labels_from_chance():
    loss = Logistic(label_noise=0.2, generator_label_noise=0.1)
    hr, sr, drawn = SCORES, SCORES[::-1], chance(len(SCORES))
    real = cross_entropy(hr, 1 - 0.2 * drawn[:, :1])
    fake = cross_entropy(sr, 0.2 * drawn[:, 1:2])
    critic, logs = loss.critic(hr, sr, drawn)
    np.testing.assert_allclose(critic, 0.5 * (real + fake), rtol=1e-6)
    assert logs == {}
    assert loss.logs == ()
    expected = cross_entropy(sr, 1 - 0.1 * drawn[:, 2:])
    np.testing.assert_allclose(loss.generator(sr, drawn), expected, rtol=1e-6)
    plain = Logistic().generator(sr, drawn)
    np.testing.assert_allclose(
        plain, -np.log(1 / (1 + np.exp(-np.float64(sr)))), rtol=1e-5, atol=1e-6
    )
    assert loss.penalty(None, hr, sr, drawn) == (0, {})


def test_the_wasserstein_loss_is_the_difference_of_scores():
    loss = Wasserstein()
    critic, logs = loss.critic(SCORES, SCORES[::-1], None)
    np.testing.assert_array_equal(critic, SCORES[::-1] - SCORES)
    np.testing.assert_array_equal(logs["wasserstein_estimate"], (SCORES - SCORES[::-1])[:, 0])
    np.testing.assert_array_equal(loss.generator(SCORES, None), -SCORES)


@pytest.fixture(scope="module")
def critic():
    """Small and smooth, so that finite differences are good."""
    keras.utils.set_random_seed(0)
    pictures = keras.Input((6, 6, 3))
    x = keras.layers.Conv2D(4, 3, activation="tanh")(pictures)
    return keras.Model(pictures, keras.layers.Dense(1)(keras.layers.Flatten()(x)))


def pictures(seed):
    return np.random.default_rng(seed).uniform(-1, 1, (2, 6, 6, 3)).astype(np.float32)


def test_the_input_gradient_is_that_of_finite_differences(critic):
    x = pictures(0)
    gradient = np.asarray(input_gradient(critic, keras.ops.convert_to_tensor(x)))
    rng = np.random.default_rng(1)
    for _ in range(5):
        direction = rng.normal(size=x.shape).astype(np.float32)
        ahead, behind = (np.asarray(critic(x + step * direction)) for step in (1e-2, -1e-2))
        slope = (gradient * direction).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(slope, (ahead - behind)[:, 0] / 2e-2, rtol=1e-2, atol=1e-3)


def test_the_penalty_is_that_of_the_gradient_between_the_pictures(critic):
    hr, sr, drawn = pictures(0), pictures(1), chance(2)
    share = drawn[:, 0].reshape(-1, 1, 1, 1)
    between = keras.ops.convert_to_tensor(share * hr + (1 - share) * sr)
    norm = np.linalg.norm(np.asarray(input_gradient(critic, between)).reshape(2, -1), axis=1)
    loss = Wasserstein(gradient_penalty=7.0)
    penalty, logs = loss.penalty(critic, hr, sr, drawn)
    np.testing.assert_allclose(penalty[:, 0], 7 * (norm - 1) ** 2, rtol=1e-4)
    np.testing.assert_allclose(logs["gradient_norm"], norm, rtol=1e-4)
    assert loss.logs == ("wasserstein_estimate", "gradient_norm")
    loss = Wasserstein(gradient_penalty=0.0)
    assert loss.penalty(critic, hr, sr, drawn) == (0, {})
    assert loss.logs == ("wasserstein_estimate",)


def test_penalty_and_clipping_exclude_each_other():
    with pytest.raises(UserError, match=r"exclude each other.*Received: 10\.0, 0\.01"):
        Wasserstein(weight_clipping=0.01)


def test_names_of_losses():
    assert choose_adversarial("binary_crossentropy") == Logistic()
    assert choose_adversarial(keras.losses.BinaryCrossentropy()) == Logistic()
    assert choose_adversarial(Wasserstein()) == Wasserstein()
    smoothed = keras.losses.BinaryCrossentropy(label_smoothing=0.1)
    for wrong in (smoothed, "hinge", None):
        with pytest.raises(ValueError, match="Received: "):
            choose_adversarial(wrong)
