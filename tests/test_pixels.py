import numpy as np
import pytest

from srgan_keras import pixels


@pytest.mark.parametrize("value_range", pixels.RANGES)
def test_all_8bit_values_survive_the_round_trip(value_range):
    values = np.arange(256, dtype=np.uint8)
    scaled = np.asarray(pixels.from_8bit(values, value_range))
    low, high = pixels.RANGES[value_range]
    assert scaled.dtype == np.float32
    assert scaled.min() == low
    assert scaled.max() == pytest.approx(high)
    back = np.asarray(pixels.to_8bit(scaled, value_range))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, values)


def test_to_8bit_clips_and_rounds():
    images = np.float32([-5.0, 5.0, 100.4 / 127.5 - 1, 100.6 / 127.5 - 1])
    np.testing.assert_array_equal(pixels.to_8bit(images), [0, 255, 100, 101])


def test_unknown_range():
    with pytest.raises(ValueError, match=r"one of .*Received: '0..255'"):
        pixels.from_8bit(np.zeros(3), "0..255")
