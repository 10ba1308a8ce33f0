import numpy as np
import pytest

from srgan_keras.inference.interpolation import FILTERS, Interpolation


@pytest.mark.parametrize("method", FILTERS)
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_any_scale_and_size(method, scale):
    picture = np.full((5, 7, 3), 90, np.uint8)
    enlarged = Interpolation(method, scale)(picture)
    assert enlarged.shape == (5 * scale, 7 * scale, 3)
    assert (enlarged == 90).all()


def test_nearest_repeats_pixels():
    picture = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)
    expected = picture.repeat(2, axis=0).repeat(2, axis=1)
    np.testing.assert_array_equal(Interpolation("nearest", 2)(picture), expected)


def test_unknown_method():
    with pytest.raises(ValueError, match="Received: 'cubic'"):
        Interpolation("cubic", 4)
