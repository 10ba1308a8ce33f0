import io
import math

import numpy as np
import pytest
from PIL import Image

from srgan_keras.common import pixels
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import open_picture
from srgan_keras.data import SAMPLE_IMAGES, batches, degradations
from srgan_keras.data.crops import list_crops
from srgan_keras.data.degradations import Degraded, Round
from srgan_keras.data.pairs import Pairs, gaussian_blur, reduce_pictures
from srgan_keras.systems import get_recipe


@pytest.fixture(scope="module")
def photos():
    """The middles of three photographs, (3, 96, 96, 3) uint8."""
    pictures = [open_picture(path) for path in sorted((SAMPLE_IMAGES / "test").iterdir())[:3]]
    return np.stack([picture[150:246, 150:246] for picture in pictures])


def rng(seed=0):
    return np.random.default_rng(seed)


def levels(images):
    return np.asarray(pixels.to_255(images))


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90, 95])
def test_jpeg_is_pillow_s(photos, quality):
    ours = np.asarray(degradations.jpeg(photos.astype("float32"), np.full(3, quality, "float32")))
    for photo, picture in zip(photos, ours, strict=True):
        file = io.BytesIO()
        Image.fromarray(photo).save(file, "JPEG", quality=quality)
        decoded = np.asarray(Image.open(file), np.float64)
        assert np.abs(picture.round() - decoded).mean() < 1.5
        assert np.abs(picture.round() - decoded).mean() < 0.5 * np.abs(photo - decoded).mean()


def resampled(pictures, smaller, method):
    matrix = degradations.resampling_matrix(pictures.shape[1], smaller, method)
    matrices = np.repeat(matrix[None].astype("float32"), len(pictures), axis=0)
    return np.asarray(degradations.resample(pictures.astype("float32"), matrices, matrices))


def test_reductions(photos):
    bicubic = resampled(photos, 24, "bicubic").clip(0, 255)
    np.testing.assert_allclose(bicubic, reduce_pictures(photos.astype("float32"), 4), atol=1e-2)
    area = photos.reshape(3, 24, 4, 24, 4, 3).mean((2, 4))
    np.testing.assert_allclose(resampled(photos, 24, "area"), area, atol=1e-2)
    pillow = Image.fromarray(photos[0]).resize((41, 41), Image.Resampling.BILINEAR)
    assert np.abs(resampled(photos, 41, "bilinear")[0] - np.asarray(pillow)).max() < 1.01
    for method in degradations.RESAMPLINGS:
        np.testing.assert_allclose(
            degradations.resampling_matrix(17, 17, method), np.eye(17), atol=1e-9
        )
        for smaller in (5, 9, 16):
            matrix = degradations.resampling_matrix(17, smaller, method)
            np.testing.assert_allclose(matrix.sum(axis=1), 1)


def test_each_picture_has_a_blur_of_its_own(photos):
    kernels = [degradations.gaussian_kernel(0, 0), degradations.gaussian_kernel(1.2, 1.2)]
    kernels.append(degradations.gaussian_kernel(2.0, 0.5, math.pi / 2))
    blurred = np.asarray(degradations.blur(photos.astype("float32"), np.float32(kernels)))
    np.testing.assert_allclose(blurred[0], photos[0], atol=1e-2)
    plain = gaussian_blur(photos[1:2].astype("float32"), 1.2)[0]
    np.testing.assert_allclose(blurred[1], plain, atol=0.5)
    before, after = (
        [np.abs(np.diff(picture, axis=axis)).mean() for axis in (0, 1)]
        for picture in (photos[2].astype("float32"), blurred[2])
    )
    assert after[0] / before[0] < 0.7 * after[1] / before[1]  # its axis points down


def test_kernels_have_the_deviations_that_they_are_made_with():
    y, x = degradations.centred_grid()
    kernel = degradations.gaussian_kernel(2.0, 1.0, 0.5)
    along, across = x * np.cos(0.5) + y * np.sin(0.5), y * np.cos(0.5) - x * np.sin(0.5)
    assert (kernel * along**2).sum() == pytest.approx(4, rel=0.05)
    assert (kernel * across**2).sum() == pytest.approx(1, rel=0.05)
    tails = [degradations.gaussian_kernel(2.0, 2.0, 0.0, shape)[7, 0] for shape in (0.5, 1, 2)]
    assert tails == sorted(tails, reverse=True)
    drawn = np.stack([degradations.draw_gaussian(rng(i), 3.0) for i in range(50)])
    np.testing.assert_allclose(drawn.sum((1, 2)), 1)
    assert (drawn.max((1, 2)) > 0.9).any()
    assert (drawn.max((1, 2)) < 0.1).any()


def test_a_sinc_filter_passes_what_is_slow_and_stops_what_is_fast():
    kernel = degradations.sinc_kernel(math.pi / 2)
    _, x = degradations.centred_grid()
    slow, fast = ((kernel * np.cos(frequency * x)).sum() for frequency in (0.5, 2.6))
    assert slow > 0.9
    assert abs(fast) < 0.1
    assert kernel.min() < 0  # It rings.


def test_clean_pictures_are_those_of_pairs(photos):
    pairs = Degraded(crop_size=96, clean_share=1.0)
    lr, hr = pairs.make(photos, *pairs.draw(rng(), 3, 96))
    expected, same = Pairs(crop_size=96, lr_rounding=True).make(photos)
    np.testing.assert_array_equal(hr, same)
    difference = np.abs(levels(lr) - levels(expected))
    assert difference.max() < 1.01  # Halves may be rounded the other way.
    assert difference.mean() < 0.01


def test_a_picture_stays_where_it_is_through_both_rounds(photos):
    """Whatever its size between them and its place on the canvases."""
    nothing = {"clean_share": 0.0, "jpeg_share": 0.0, "most_noise": 0.0, "most_blur": 0.1}
    clean = levels(Pairs(crop_size=96).make(photos)[0])
    moved = np.abs(clean[:, 1:] - clean[:, :-1]).mean()
    for share in (0.0, 1.0):
        pairs = Degraded(crop_size=96, second_share=share, **nothing)
        drawn = list(pairs.draw(rng(1), 3, 96))
        drawn[6] = drawn[0]  # no sinc filter
        lr = levels(pairs.make(photos, *drawn)[0])
        assert np.abs(lr - clean).mean() < 0.4 * moved


def test_every_degradation_occurs_and_some_pictures_stay_clean(photos):
    pairs = Degraded(crop_size=96, second_share=0.25)
    drawn = pairs.draw(rng(), 60, 96)
    first, second = Round(*drawn[:6]), Round(*drawn[6:12])
    assert all(array.dtype == np.float32 for array in drawn)
    for qualities in (first.qualities, second.qualities):
        assert ((qualities == 0) | ((qualities >= 30) & (qualities <= 95))).all()
    compressed = (second.qualities > 0).mean()
    assert 0.5 < compressed < 0.9  # 0.72 expected
    assert 0.1 < (first.qualities > 0).mean() < compressed
    grey = (first.noise[..., 0] == first.noise[..., 2]).all((1, 2))
    assert 0 < grey.mean() < 1
    clean = (second.qualities == 0) & (first.deviations == 0).all(1)
    assert clean.any()
    phases = {tuple(np.flatnonzero(rows.any(0))[:1]) for rows in drawn[12]}
    assert len(phases) > 12  # of JPEG's 16
    lr, _ = pairs.make(np.repeat(photos, 20, axis=0), *drawn)
    assert lr.shape == (60, 24, 24, 3)
    np.testing.assert_allclose(levels(lr), levels(lr).round(), atol=1e-3)
    assert np.abs(lr).max() <= 1


def test_noise_has_the_deviation_that_is_drawn():
    grey = np.full((2, 64, 64, 3), 128, np.float32)
    drawn = Degraded(crop_size=64, clean_share=1.0).draw(rng(), 2, 64)
    drawn = Round(*drawn[:6])._replace(deviations=np.float32([[6, 0], [0, 6]]))
    noisy = np.asarray(degradations.degrade(grey, drawn))
    assert noisy[0].std() == pytest.approx(6, rel=0.1)
    assert noisy[1].std() == pytest.approx(6 * math.sqrt(128 / 255), rel=0.1)


@pytest.mark.parametrize(("side", "canvas", "place"), [(5, 16, 3), (24, 48, 15), (2, 9, 4)])
def test_mirrored_places(side, canvas, place):
    row = degradations.mirrored(side, canvas, place)
    np.testing.assert_array_equal(row[place : place + side], np.arange(side))
    expected = np.pad(np.arange(side), (place, canvas - side - place), "reflect")
    np.testing.assert_array_equal(row, expected)


def test_batches_depend_on_seed_and_number_alone_and_are_the_same_on_both_pipelines(crops):
    """Validation's last batch, which is smaller, included."""
    pairs, seed = Degraded(crop_size=32), 3
    loaded = list_crops(crops / "train", 32)
    resumed = batches.training_batches(loaded, pairs, 2, seed, first_batch=2)
    plain = batches.PairBatches(
        loaded,
        pairs,
        lambda k: batches.choose_crops(len(loaded), pairs, 2, seed, k),
        draw=lambda k: batches.draw_chance(pairs, 2, seed, k),
    )
    for k, (lr, hr) in enumerate(resumed.take(2).as_numpy_iterator(), start=2):
        expected = plain.make(k)
        np.testing.assert_array_equal(hr, expected[1])
        assert np.abs(lr - expected[0]).mean() * 127.5 < 0.1
    dataset = batches.validation_batches(loaded, pairs, 2)
    validation = [np.concatenate([lr for lr, _ in dataset]) for _ in range(2)]
    assert len(validation[0]) == len(loaded) == 5
    np.testing.assert_array_equal(*validation)
    lr, hr = batches.sample_pairs(loaded[:2], pairs)
    assert (lr.shape, hr.shape) == ((2, 10, 10, 3), (2, 40, 40, 3))


def test_settings():
    recipe = get_recipe("photo-srresnet", least_quality=50, crop_size=64)
    assert recipe.pairs == Degraded(crop_size=64, augment=True, least_quality=50)
    assert get_recipe("photo").pairs == get_recipe("photo-srresnet").pairs
    with pytest.raises(UserError, match=r"no setting 'lr_blur_sigma'"):
        get_recipe("photo", lr_blur_sigma=1.0)
    with pytest.raises(UserError, match=r"least_quality must be from 1 to 95\. Received: 0"):
        Degraded(least_quality=0)
