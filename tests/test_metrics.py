import keras
import numpy as np
import pytest

from srgan_keras.metrics import PSNR, psnr


def test_psnr_against_its_formula():
    hr = np.zeros((2, 4, 4, 3), np.float32)
    sr = np.stack([np.full((4, 4, 3), 0.1), np.full((4, 4, 3), 0.2)]).astype(np.float32)
    expected = 10 * np.log10(4 / np.square([0.1, 0.2]))
    np.testing.assert_allclose(psnr(hr, sr), expected, rtol=1e-5)


def test_equal_pictures_give_100():
    image = np.zeros((1, 4, 4, 3), np.float32)
    assert float(psnr(image, image)[0]) == pytest.approx(100, abs=1e-3)


def test_metric_is_the_mean_over_pictures():
    hr, sr = np.zeros((3, 4, 4, 3), np.float32), np.ones((3, 4, 4, 3), np.float32)
    sr[0] *= 0.1
    metric = PSNR()
    metric.update_state(hr[:1], sr[:1])
    metric.update_state(hr[1:], sr[1:])
    assert float(metric.result()) == pytest.approx(np.mean(psnr(hr, sr)), rel=1e-6)


def test_metric_survives_serialisation():
    again = keras.metrics.deserialize(keras.metrics.serialize(PSNR(name="quality")))
    assert isinstance(again, PSNR)
    assert again.name == "quality"
