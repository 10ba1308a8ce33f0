import numpy as np

from srgan_keras.common import pixels


def test_all_8bit_values_survive_the_round_trip():
    values = np.arange(256, dtype=np.uint8)
    scaled = np.asarray(pixels.from_8bit(values))
    assert scaled.dtype == np.float32
    assert scaled.min() == -1
    assert scaled.max() == 1
    back = np.asarray(pixels.to_8bit(scaled))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, values)


def test_to_8bit_clips_and_rounds():
    images = np.float32([-5.0, 5.0, 100.4 / 127.5 - 1, 100.6 / 127.5 - 1])
    np.testing.assert_array_equal(pixels.to_8bit(images), [0, 255, 100, 101])


def test_to_255_neither_clips_nor_rounds():
    np.testing.assert_allclose(pixels.to_255(np.float32([-1, 0, 1, 1.2])), [0, 127.5, 255, 280.5])


def test_luma_keeps_grey_and_range():
    images = np.float32([[-1, -1, -1], [0.5, 0.5, 0.5], [1, -1, -1], [-1, 1, -1]])
    expected = [[-1], [0.5], [2 * 0.299 - 1], [2 * 0.587 - 1]]
    np.testing.assert_allclose(pixels.luma(images), expected, atol=1e-6)
