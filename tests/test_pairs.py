import dataclasses

import numpy as np
import pytest
from PIL import Image

from srgan_keras import pairs


def test_lr_is_what_pillow_and_matlab_make_of_hr(shared, tiny_recipe):
    """Within 2 grey levels of the published LR, MATLAB's, away from the border."""
    hr = np.asarray(Image.open(shared / "benchmarks/Set5/HR/img_003.png"))
    published = np.asarray(Image.open(shared / "benchmarks/Set5/LR_x4/img_003.png"), np.float32)
    hr = hr[: 4 * published.shape[0], : 4 * published.shape[1]]
    lr, _ = pairs.make_pairs(hr[None], tiny_recipe)
    difference = (lr[0].numpy() + 1) * 127.5 - published
    assert np.abs(difference[4:-4, 4:-4]).max() <= 2


def test_lr_settings(tiny_recipe):
    hr = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    recipe = dataclasses.replace(tiny_recipe, lr_range="0..1", lr_rounding=True, lr_blur_sigma=2.0)
    lr, _ = pairs.make_pairs(hr, recipe)
    plain, _ = pairs.make_pairs(hr, tiny_recipe)
    lr = lr.numpy()
    assert lr.min() >= 0
    np.testing.assert_allclose(lr * 255, np.round(lr * 255), atol=1e-4)
    assert lr.std() < 0.8 * ((plain.numpy() + 1) / 2).std()


def test_blur_keeps_a_flat_picture_and_spreads_a_point():
    flat = np.full((1, 20, 20, 3), 7, np.float32)
    np.testing.assert_allclose(pairs.gaussian_blur(flat, 1.5), flat, rtol=1e-5)
    point = np.zeros((1, 21, 21, 1), np.float32)
    point[0, 10, 10] = 1
    blurred = pairs.gaussian_blur(point, 1.5).numpy()[0, ..., 0]
    y = np.arange(21) - 10
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert (blurred.sum(axis=1) * y**2).sum() == pytest.approx(1.5**2, rel=0.05)
