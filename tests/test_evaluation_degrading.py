import io

import numpy as np
import pytest
from PIL import Image

from srgan_keras.common.errors import UserError
from srgan_keras.evaluation.degrading import read_degradation


@pytest.fixture
def picture():
    """Noise that is smoother down than across, (40, 50, 3) uint8."""
    noise = np.random.default_rng(0).uniform(0, 255, (43, 50, 3))
    return ((noise[:-3] + noise[1:-2] + noise[2:-1] + noise[3:]) / 4).astype(np.uint8)


def test_jpeg_is_pillow_s_and_worse_at_lower_quality(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=50)
    fifty = read_degradation("jpeg50")(picture)
    np.testing.assert_array_equal(fifty, np.asarray(Image.open(file)))
    errors = [
        np.abs(read_degradation(f"jpeg{q}")(picture) - picture.astype(float)).mean()
        for q in (90, 50, 10)
    ]
    assert errors == sorted(errors)


def test_noise_and_blur(picture):
    grey = np.full((60, 60, 3), 128, np.uint8)
    noisy = read_degradation("noise10")(grey)
    assert noisy.std() == pytest.approx(10, rel=0.05)
    np.testing.assert_array_equal(noisy, read_degradation("noise10")(grey))
    blurred = read_degradation("blur1.5")(picture)
    assert (blurred.dtype, blurred.shape) == (picture.dtype, picture.shape)
    assert blurred.std() < 0.5 * picture.std()
    with pytest.raises(UserError, match="smaller than three times the blur of 20"):
        read_degradation("blur20")(picture)


def test_several_come_one_after_the_other(picture):
    both = read_degradation("blur1+jpeg40")(picture)
    expected = read_degradation("jpeg40")(read_degradation("blur1")(picture))
    np.testing.assert_array_equal(both, expected)


@pytest.mark.parametrize("text", ["", "jpeg", "jpeg0", "jpeg101", "jpeg50.5", "noise0", "noise-1",
                                  "webp50", "jpeg50+", "50jpeg"])  # fmt: skip
def test_what_is_none(text):
    with pytest.raises(UserError, match=r"degrade must be .* such as jpeg50.*Received: "):
        read_degradation(text)
