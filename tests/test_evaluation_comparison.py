import numpy as np

from srgan_keras.evaluation.comparison import (
    DETAIL,
    GAP,
    LINE,
    ZOOM,
    choose_detail,
    draw_comparison,
)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_nothing_is_resampled_and_details_show_the_same_place():
    lr, sr, hr = picture(60, 70), picture(240, 280, 1), picture(240, 280, 2)
    drawn = draw_comparison(lr, {"ours": sr}, hr, 4, {"ours": {"psnr_y": 20.0, "ssim_y": 0.5}})
    top, left = choose_detail(hr)
    large = lr.repeat(4, axis=0).repeat(4, axis=1)
    for index, panel in enumerate((large, sr, hr)):
        x = index * (280 + GAP)
        shown = drawn[LINE : LINE + 240, x : x + 280].copy()
        rows, columns = (slice(max(n - 1, 0), n + DETAIL + 1) for n in (top, left))
        shown[rows, columns] = panel[rows, columns]  # the red frame
        np.testing.assert_array_equal(shown, panel)
        y = LINE + 240 + GAP
        detail = drawn[y : y + DETAIL * ZOOM, x : x + DETAIL * ZOOM][::ZOOM, ::ZOOM]
        np.testing.assert_array_equal(detail, panel[top : top + DETAIL, left : left + DETAIL])


def test_scores_are_written_below_their_method_only():
    lr, sr = picture(60, 70), picture(240, 280, 1)
    scored = draw_comparison(lr, {"ours": sr}, sr, 4, {"ours": {"psnr_y": 20.0, "ssim_y": 0.5}})
    plain = draw_comparison(lr, {"ours": sr}, sr, 4, {})
    columns = np.flatnonzero((scored != plain).any(axis=(0, 2)))
    assert 280 + GAP <= columns.min() < columns.max() < 2 * (280 + GAP)


def test_small_pictures_and_no_photograph():
    lr, sr = picture(3, 4), picture(12, 16)
    assert draw_comparison(lr, {"a": sr, "b": sr}, None, 4, {}).shape[2] == 3


def test_the_detail_is_where_most_happens():
    flat = np.full((200, 200, 3), 100, np.uint8)
    flat[100:148, 50:98] = picture(48, 48)
    top, left = choose_detail(flat)
    assert abs(top - 100) <= 12
    assert abs(left - 50) <= 12
