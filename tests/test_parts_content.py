import keras
import numpy as np
import pytest

from srgan_keras.parts.content import VGGLoss, VGGWeightsError, build_vgg

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
        loss.features(x), 0.5 * np.asarray(loss.vgg()(caffe)), rtol=1e-4, atol=1e-4
    )


def test_layer_is_after_its_relu():
    assert build_vgg("block1_conv2", None)(pictures()).numpy().min() == 0


def test_config_round_trip():
    loss = VGGLoss("block1_conv1", weights=None, preprocessing="vgg", feature_scale=0.5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()


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


def test_pixel_weight_adds_the_mean_absolute_error():
    rng = np.random.default_rng(0)
    hr, sr = rng.uniform(-1, 1, (2, 2, 16, 16, 3)).astype(np.float32)
    loss = VGGLoss("block1_conv1", weights=None, pixel_weight=0.5)
    features = VGGLoss("block1_conv1", weights=None)
    features.vgg().set_weights(loss.vgg().get_weights())
    expected = np.asarray(features.call(hr, sr)) + 0.5 * np.abs(hr - sr).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(loss.call(hr, sr), expected, rtol=1e-5)


@pytest.mark.parametrize("arguments", [{"layer": "block6_conv1"}, {"preprocessing": "none"}])
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
