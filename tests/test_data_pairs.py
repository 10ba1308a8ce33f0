import dataclasses

import numpy as np
import pytest
from PIL import Image

from srgan_keras.common import pixels
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import open_picture
from srgan_keras.data import pairs
from srgan_keras.data.pairs import Pairs, make_arrays


def test_lr_is_what_pillow_and_matlab_make_of_hr(shared):
    """Within 2 grey levels of the published LR, MATLAB's, away from the border."""
    hr = np.asarray(Image.open(shared / "benchmarks/Set5/HR/img_003.png"))
    published = np.asarray(Image.open(shared / "benchmarks/Set5/LR_x4/img_003.png"), np.float32)
    hr = hr[: 4 * published.shape[0], : 4 * published.shape[1]]
    lr, _ = Pairs().make(hr[None])
    difference = (lr[0].numpy() + 1) * 127.5 - published
    assert np.abs(difference[4:-4, 4:-4]).max() <= 2


def test_lr_settings():
    hr = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    plain = Pairs(crop_size=32)
    lr, _ = dataclasses.replace(plain, lr_rounding=True, lr_blur_sigma=2.0).make(hr)
    levels = (lr.numpy() + 1) * 127.5
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)
    assert lr.numpy().std() < 0.8 * plain.make(hr)[0].numpy().std()


@pytest.mark.parametrize("scale", pairs.SCALES)
def test_shapes_and_range(scale):
    hr = np.random.default_rng(0).integers(0, 256, (2, 24, 48, 3), np.uint8)
    lr, scaled = Pairs(scale=scale).make(hr)
    assert lr.shape == (2, 24 // scale, 48 // scale, 3)
    np.testing.assert_allclose(scaled, hr / 127.5 - 1, atol=1e-6)
    assert np.abs(lr).max() <= 1


def test_settings_that_do_not_go_together():
    with pytest.raises(UserError, match=r"crop_size must be a multiple of the scale, 4\..*: 33"):
        Pairs(crop_size=33)
    with pytest.raises(UserError, match=r"less than a third of crop_size, 24\. Received: 8"):
        Pairs(crop_size=24, lr_blur_sigma=8.0)
    with pytest.raises(UserError, match=r"scale must be one of 2, 3, 4, 8\. Received: 5"):
        Pairs(scale=5)
    with pytest.raises(UserError, match=r"crop_size must be a multiple of the scale, 3\..*: 32"):
        Pairs(scale=3, crop_size=32)


def test_blur_keeps_a_flat_picture_and_spreads_a_point():
    flat = np.full((1, 20, 20, 3), 7, np.float32)
    np.testing.assert_allclose(pairs.gaussian_blur(flat, 1.5), flat, rtol=1e-5)
    point = np.zeros((1, 21, 21, 1), np.float32)
    point[0, 10, 10] = 1
    blurred = pairs.gaussian_blur(point, 1.5).numpy()[0, ..., 0]
    y = np.arange(21) - 10
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert (blurred.sum(axis=1) * y**2).sum() == pytest.approx(1.5**2, rel=0.05)


def pillow_lr(hr, scale):
    """What the tutorial's imresize makes of a picture: it calls Pillow, which antialiases."""
    height, width = (side // scale for side in hr.shape[:2])
    return np.asarray(Image.fromarray(hr).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("scale", [2, 4])
def test_make_arrays_takes_pictures_of_any_sizes(scale):
    rng = np.random.default_rng(0)
    sizes = [(96, 96), (97, 200), (300, 131)]
    # Not to black and white: Pillow also clips between its passes along and across.
    pictures = [rng.integers(64, 192, (*size, 3), np.uint8) for size in sizes]
    hr, lr = make_arrays(pictures, crop_size=96, scale=scale)
    assert hr.dtype == lr.dtype == np.float32
    assert hr.shape == (3, 96, 96, 3)
    assert lr.shape == (3, 96 // scale, 96 // scale, 3)
    corners = [(0, 0), (1, 52), (102, 18)]
    for picture, (top, left), square in zip(pictures, corners, hr, strict=True):
        middle = picture[top : top + 96, left : left + 96]
        np.testing.assert_array_equal(pixels.to_8bit(square), middle)
    levels = (lr + 1) * 127.5
    np.testing.assert_allclose(levels, np.round(levels), atol=1e-4)  # LR has 8 bits.
    for square, small in zip(hr, levels, strict=True):
        difference = small - pillow_lr(np.asarray(pixels.to_8bit(square)), scale)
        assert np.abs(difference[4:-4, 4:-4]).max() < 1.01


def test_make_arrays_of_a_photograph_as_the_tutorial_has_it(shared):
    photo = open_picture(shared / "coco" / "train2017" / "000000000110.jpg")
    hr, lr = make_arrays([photo])
    assert hr.shape == (1, 384, 384, 3)
    assert lr.shape == (1, 96, 96, 3)
    difference = (lr[0] + 1) * 127.5 - pillow_lr(np.asarray(pixels.to_8bit(hr[0])), 4)
    # Beside black and white Pillow clips between its passes too: up to 7 levels elsewhere.
    assert (np.abs(difference[4:-4, 4:-4]) > 1.01).mean() < 1e-3
    assert np.abs(difference).max() < 8


def test_what_make_arrays_refuses():
    good = np.zeros((96, 96, 3), np.uint8)
    with pytest.raises(UserError, match="at least one picture"):
        make_arrays([])
    for bad in (good[:95], good[..., :1], good[..., 0], good / 255, good.tolist()):
        with pytest.raises(UserError, match=r"uint8, \(height, width, 3\), .*96 wide.*Received"):
            make_arrays([good, bad], crop_size=96)
    with pytest.raises(UserError, match=r"multiple of the scale, 4\. Received: 94"):
        make_arrays([good], crop_size=94)
