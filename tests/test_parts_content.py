import keras
import numpy as np
import pytest
import tensorflow as tf

from srgan_keras.common.errors import UserError
from srgan_keras.parts.content import (
    VGGLoss,
    VGGWeightsError,
    build_vgg,
    grid_error,
    parse_layers,
    total_variation,
)
from srgan_keras.systems import get_recipe

WEIGHTS = "vgg19/vgg19_imagenet_notop_uint8.h5"


def pictures(batch=2, size=32, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def vgg22():
    return VGGLoss("block2_conv2", weights=None)


def test_one_value_per_picture(vgg22):
    hr, sr = pictures(), pictures(seed=1)
    sr[0] = hr[0]
    losses = np.asarray(vgg22.call(hr, sr))
    assert losses.shape == (2,)
    assert losses[0] == 0
    assert losses[1] > 0
    assert float(vgg22(hr, sr)) == pytest.approx(losses.mean())


def test_is_the_mean_squared_feature_difference(vgg22):
    hr, sr = pictures(), pictures(seed=1)
    difference = np.asarray(vgg22.vgg()(hr)) - np.asarray(vgg22.vgg()(sr))
    np.testing.assert_allclose(vgg22.call(hr, sr), (difference**2).mean(axis=(1, 2, 3)), rtol=1e-4)


def test_feature_scale_and_preprocessing():
    keras.utils.set_random_seed(0)
    loss = VGGLoss("block1_conv1", weights=None, preprocessing="vgg", feature_scale=0.5)
    x = pictures()
    caffe = (x[..., ::-1] + 1) * 127.5 - np.float32([103.939, 116.779, 123.68])
    np.testing.assert_allclose(
        loss.features(x)[0], 0.5 * np.asarray(loss.vgg()(caffe)), rtol=1e-4, atol=1e-4
    )


def test_layer_is_after_its_relu():
    assert build_vgg("block1_conv2", None)(pictures()).numpy().min() == 0


def test_weights_that_ship_are_those_of_the_file(shared):
    """Blocks 1 and 2, which are exact in it; the deeper blocks are not needed for their layers."""
    shipped, whole = (build_vgg("block2_conv2", w) for w in ("imagenet", str(shared / WEIGHTS)))
    assert shipped.count_params() == 260_160
    for ours, theirs in zip(shipped.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_config_round_trip():
    loss = VGGLoss(
        "block1_conv1+0.5*block1_conv2", None, "vgg", 0.5, 0.1, True, 2e-8, reduction="sum"
    )
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    assert (again.settings, again.reduction) == (loss.settings, "sum")


FIVE = ("block1_conv2", "block2_conv2", "block3_conv4", "block4_conv4", "block5_conv4")


@pytest.fixture(scope="module")
def five():
    """The content loss of the recipe `srgan`, with random weights."""
    return get_recipe("srgan").content.build(None)


def written_out(vgg, hr, sr):
    """The loss that the shipped `srgan` was trained with, its grid by other means than ours."""

    def features(x):
        x = (x[..., ::-1] + 1) * 127.5 - np.float32([103.939, 116.779, 123.68])
        return [np.asarray(f, np.float64) for f in vgg(x)]

    parts = []
    for a, b in zip(features(hr), features(sr), strict=True):
        a, b = (f / np.sqrt((f * f).sum(-1, keepdims=True) + 1e-3) for f in (a, b))
        parts.append(((a - b) ** 2).sum(-1).mean((1, 2)))
    error = sr - hr  # 32 pixels a side: one window
    places = [error[:, y::4, x::4].mean((1, 2)) for y in range(4) for x in range(4)]
    grid = np.square(places).mean((0, 2))
    return sum(parts) / 5 + np.abs(error).mean((1, 2, 3)) + 300 * grid


def test_five_layers_of_unit_length_the_absolute_error_and_the_grid(five):
    hr, sr = pictures(), pictures(seed=1)
    sr[0] = hr[0]
    assert five.vgg().output_names == list(FIVE)
    losses = np.asarray(five.call(hr, sr))
    assert losses.shape == (2,)
    assert losses[0] == 0
    np.testing.assert_allclose(losses, written_out(five.vgg(), hr, sr), rtol=1e-3)


def test_features_have_unit_length(five):
    for features in five.features(pictures()):
        np.testing.assert_allclose(np.square(features).sum(-1), 1, atol=0.05)


def test_all_parts_of_the_loss_are_their_weighted_sum():
    hr, sr = pictures(), pictures(seed=1)
    layers = "0.5*block1_conv2+block1_conv1"
    loss = VGGLoss(
        layers, weights=None, pixel_weight=0.5, total_variation_weight=1e-3, grid_weight=10
    )
    expected = 0.5 * np.abs(hr - sr).mean((1, 2, 3)) + 1e-3 * np.asarray(total_variation(sr))
    expected += 10 * np.asarray(grid_error(hr, sr))
    for weight, a, b in zip((0.5, 1.0), loss.features(hr), loss.features(sr), strict=True):
        expected += weight * np.square(np.asarray(a) - np.asarray(b)).mean((1, 2, 3))
    np.testing.assert_allclose(loss.call(hr, sr), expected, rtol=1e-5)


def test_total_variation_adds_up_the_gradient_s_length():
    ramp = np.broadcast_to(0.3 * np.arange(5.0)[:, None] + 0.4 * np.arange(6.0), (2, 5, 6))
    images = np.stack([ramp, ramp, ramp], axis=-1).astype(np.float32)
    images[1] = 7
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        sums = total_variation(images)
    np.testing.assert_allclose(sums, [3 * 4 * 5 * 0.5, 0], atol=1e-4)
    np.testing.assert_array_equal(tape.gradient(sums, images)[1], 0)


def test_grid_error_sees_patterns_and_colours_and_not_details():
    hr = pictures(batch=3, size=26)  # no multiple of the period
    sr = hr.copy()
    sr[0, 1::4, 2::4] += 0.5  # one place of sixteen
    sr[1, ..., 1] += 0.3  # one channel of three
    sr[2, 5, 5] += 0.5  # one pixel, of the 36 at its place
    expected = [0.5**2 / 16, 0.3**2 / 3, (0.5 / 36) ** 2 / 16]
    np.testing.assert_allclose(grid_error(hr, sr), expected, rtol=1e-4)


def test_grid_error_sees_a_pattern_that_changes_its_sign_from_window_to_window():
    hr = pictures(batch=1, size=66)
    sr = hr.copy()
    sr[:, :32, ::4] += 0.5
    sr[:, 32:64, ::4] -= 0.5
    np.testing.assert_allclose(grid_error(hr, sr), [0.5**2 / 4], rtol=1e-4)
    np.testing.assert_allclose(grid_error(hr, sr, window=64), [0], atol=1e-6)


def test_gradients_flow_to_the_generated_picture_alone(five):
    hr, sr = map(tf.constant, (pictures(), pictures(seed=1)))
    with tf.GradientTape() as tape:
        tape.watch((hr, sr))
        value = five(hr, sr)
    to_hr, to_sr = tape.gradient(value, (hr, sr))
    assert to_hr is None
    assert np.isfinite(to_sr).all()
    assert np.any(to_sr)


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("block5_conv4", {"block5_conv4": 1.0}),
        ("0.5*block2_conv2+block5_conv4", {"block2_conv2": 0.5, "block5_conv4": 1.0}),
        ("2e-1*block1_conv1+0*block1_conv2", {"block1_conv1": 0.2, "block1_conv2": 0.0}),
    ],
)
def test_layers_as_they_are_written(text, layers):
    assert parse_layers(text) == layers


@pytest.mark.parametrize(
    "text",
    ["", "block6_conv1", "block5_conv4+", "*block5_conv4", "block5_conv4*2", "x*block5_conv4",
     "-1*block5_conv4", "nan*block5_conv4", "inf*block5_conv4", "block5_conv4+block5_conv4",
     "block5_conv4+mse"],
)  # fmt: skip
def test_layers_that_are_none(text):
    with pytest.raises(UserError, match=r"content_loss must be mse, mae, or layers .*Received: "):
        parse_layers(text)


def test_missing_weights_name_the_ways_out(tmp_path):
    with pytest.raises(VGGWeightsError, match=r"no VGG19 weight file.*`vgg_weights`"):
        VGGLoss(weights=str(tmp_path / "nothing.h5"))


def test_wrong_weight_file(tmp_path):
    path = tmp_path / "wrong.h5"
    path.write_text("not weights")
    with pytest.raises(VGGWeightsError, match="does not hold VGG19 weights"):
        VGGLoss(weights=str(path))


def test_failed_download_names_the_ways_out(monkeypatch):
    def fail(weights, **options):
        raise Exception("URL fetch failure on https://...: no network")

    monkeypatch.setattr("srgan_keras.parts.content.vgg19.VGG19", fail)
    with pytest.raises(VGGWeightsError, match=r"no network.*`vgg_weights`.*`content_loss` mse"):
        VGGLoss()


@pytest.mark.parametrize("arguments", [{"layers": "block6_conv1"}, {"preprocessing": "none"}])
def test_errors_say_what_was_received(arguments):
    with pytest.raises(ValueError, match="Received: "):
        VGGLoss(weights=None, **arguments)


def test_real_weights_tell_a_blurred_photograph(shared):
    """VGG54 on a real photograph: blur costs more than a slight change of brightness."""
    from PIL import Image, ImageFilter

    photo = (
        Image.open(shared / "benchmarks/Set5/HR/img_001.png").convert("RGB").crop((0, 0, 96, 96))
    )

    def tensor(picture):
        return np.asarray(picture, np.float32)[None] / 127.5 - 1

    loss = VGGLoss("block5_conv4", weights=str(shared / WEIGHTS), preprocessing="vgg")
    hr = tensor(photo)
    blurred = tensor(photo.filter(ImageFilter.GaussianBlur(3)))
    assert float(loss(hr, blurred)) > 10 * float(loss(hr, np.clip(hr + 0.02, -1, 1)))
