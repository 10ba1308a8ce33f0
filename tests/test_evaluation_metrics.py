import keras
import numpy as np
import pytest
from skimage.metrics import structural_similarity

from srgan_keras.common import pixels
from srgan_keras.common.pictures import list_pictures, open_picture
from srgan_keras.data import SAMPLE_IMAGES
from srgan_keras.evaluation.metrics import PSNR, SSIM, measure


@pytest.fixture(scope="module")
def pairs():
    """Six photographs, and the same with noise or a shift."""
    rng = np.random.default_rng(0)
    pairs = []
    for index, path in enumerate(list_pictures(SAMPLE_IMAGES)[:6]):
        hr = open_picture(path)[:90, : 100 + index]
        noisy = np.clip(hr + rng.normal(0, 3 + 4 * index, hr.shape), 0, 255).astype(np.uint8)
        pairs.append((hr, noisy if index % 2 else np.roll(hr, 1, axis=0)))
    return pairs


def luma(picture):
    return 16 + picture.astype(np.float64) @ [65.481, 128.553, 24.966] / 255


def test_ssim_agrees_with_scikit_image(pairs):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for hr, sr in pairs:
        x, y = luma(hr)[4:-4, 4:-4], luma(sr)[4:-4, 4:-4]
        expected = structural_similarity(x, y, data_range=255, **options)
        assert measure(hr, sr)[1] == pytest.approx(expected, abs=1e-4)
        x, y = hr[4:-4, 4:-4].astype(float), sr[4:-4, 4:-4].astype(float)
        expected = structural_similarity(x, y, data_range=255, channel_axis=2, **options)
        assert measure(hr, sr, "rgb")[1] == pytest.approx(expected, abs=1e-4)


def test_psnr_against_its_formula(pairs):
    for hr, sr in pairs:
        mse = np.mean((luma(hr) - luma(sr))[4:-4, 4:-4] ** 2)
        assert measure(hr, sr)[0] == pytest.approx(10 * np.log10(255**2 / mse))
        mse = np.mean((hr.astype(float) - sr.astype(float))[2:-2, 2:-2] ** 2)
        assert measure(hr, sr, "rgb", border=2)[0] == pytest.approx(10 * np.log10(255**2 / mse))


@pytest.mark.parametrize("channels", ["y", "rgb"])
def test_keras_metrics_agree_with_the_exact_arithmetic(pairs, channels):
    psnr, ssim = PSNR(channels), SSIM(channels)
    for hr, sr in pairs:
        batch = [np.asarray(pixels.from_8bit(picture[None])) for picture in (hr, sr)]
        psnr.update_state(*batch)
        ssim.update_state(*batch)
    expected = np.mean([measure(hr, sr, channels) for hr, sr in pairs], axis=0)
    assert float(psnr.result()) == pytest.approx(expected[0], abs=1e-3)
    assert float(ssim.result()) == pytest.approx(expected[1], abs=1e-4)


def test_metrics_round_as_a_saved_picture_would_be():
    hr = np.zeros((1, 40, 40, 3), np.float32)
    metric = PSNR("rgb")
    metric.update_state(hr, hr + 0.4 / 127.5)
    assert float(metric.result()) == pytest.approx(100, abs=1e-3)


def test_equal_pictures(pairs):
    hr = pairs[0][0]
    assert measure(hr, hr) == (100.0, pytest.approx(1.0))


@pytest.mark.parametrize("metric", [PSNR, SSIM])
def test_metric_survives_serialisation(metric):
    again = keras.metrics.deserialize(keras.metrics.serialize(metric("rgb", 2, name="quality")))
    assert isinstance(again, metric)
    assert (again.name, again.channels, again.border) == ("quality", "rgb", 2)


def test_errors_say_what_was_received():
    picture = np.zeros((20, 20, 3), np.uint8)
    with pytest.raises(ValueError, match=r"one shape\. Received: uint8"):
        measure(picture, picture[1:])
    with pytest.raises(ValueError, match=r"one shape\. Received: float64"):
        measure(picture.astype(float), picture)
    with pytest.raises(ValueError, match=r"or larger\. Received: "):
        measure(picture[:18], picture[:18])
    with pytest.raises(ValueError, match="Received: 'lab'"):
        measure(picture, picture, "lab")
