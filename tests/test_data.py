import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_prep.cli import UserError
from srgan_keras import data, pixels


def take(dataset, count):
    return [(lr.numpy(), hr.numpy()) for lr, hr in dataset.take(count)]


def pictures(folder):
    return data.list_crops(folder, 32)


def test_batches_have_the_recipe_s_shapes_and_ranges(crops, tiny_recipe):
    ((lr, hr),) = take(data.training_batches(pictures(crops / "train"), tiny_recipe), 1)
    assert lr.shape == (2, 8, 8, 3)
    assert hr.shape == (2, 32, 32, 3)
    assert lr.dtype == hr.dtype == np.float32
    assert -1 <= lr.min() < 0 < lr.max() <= 1
    assert -1 <= hr.min() < -0.9
    assert 0.9 < hr.max() <= 1


def test_batch_k_depends_on_seed_and_k_alone(crops, tiny_recipe):
    paths = pictures(crops / "train")
    first = take(data.training_batches(paths, tiny_recipe), 9)
    resumed = take(data.training_batches(paths, tiny_recipe, first_batch=6), 3)
    for (lr, hr), (lr_again, hr_again) in zip(first[6:], resumed, strict=True):
        np.testing.assert_array_equal(lr, lr_again)
        np.testing.assert_array_equal(hr, hr_again)
    assert not np.array_equal(first[0][1], first[1][1])


def test_another_seed_gives_other_batches(crops, tiny_recipe):
    paths = pictures(crops / "train")
    one = take(data.training_batches(paths, tiny_recipe), 1)
    other = take(data.training_batches(paths, dataclasses.replace(tiny_recipe, seed=1)), 1)
    assert not np.array_equal(one[0][1], other[0][1])


def test_every_epoch_takes_each_crop_once_in_its_own_order(tmp_path, tiny_recipe):
    for value in range(6):
        Image.new("RGB", (32, 32), (value, 0, 0)).save(tmp_path / f"{value}.png")
    batches = take(data.training_batches(pictures(tmp_path), tiny_recipe), 6)
    values = [round(float((hr[0, 0, 0] + 1) * 127.5)) for _, batch in batches for hr in batch]
    first, second = values[:6], values[6:]
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second


def test_lr_is_what_pillow_and_matlab_make_of_hr(shared, tiny_recipe):
    """Within 2 grey levels of the published LR, MATLAB's, away from the border."""
    hr = data.read_picture(str(shared / "benchmarks/Set5/HR/img_003.png"))
    published = np.asarray(Image.open(shared / "benchmarks/Set5/LR_x4/img_003.png"), np.float32)
    lr, _ = data.make_pair(hr[: 4 * published.shape[0], : 4 * published.shape[1]], tiny_recipe)
    difference = (lr.numpy() + 1) * 127.5 - published
    assert np.abs(difference[4:-4, 4:-4]).max() <= 2


def test_lr_settings(tiny_recipe):
    hr = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    recipe = dataclasses.replace(tiny_recipe, lr_range="0..1", lr_rounding=True, lr_blur_sigma=2.0)
    lr, _ = data.make_pair(hr, recipe)
    plain, _ = data.make_pair(hr, tiny_recipe)
    lr = lr.numpy()
    assert lr.min() >= 0
    np.testing.assert_allclose(lr * 255, np.round(lr * 255), atol=1e-4)
    assert lr.std() < 0.8 * ((plain.numpy() + 1) / 2).std()


def test_blur_keeps_a_flat_picture_and_spreads_a_point():
    flat = np.full((20, 20, 3), 7, np.float32)
    np.testing.assert_allclose(data.gaussian_blur(flat, 1.5), flat, rtol=1e-5)
    point = np.zeros((21, 21, 1), np.float32)
    point[10, 10] = 1
    blurred = data.gaussian_blur(point, 1.5).numpy()[..., 0]
    y = np.arange(21) - 10
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert (blurred.sum(axis=1) * y**2).sum() == pytest.approx(1.5**2, rel=0.05)


def test_all_eight_turns_occur_and_no_other():
    image = tf.reshape(tf.range(9), (3, 3, 1))
    seen = {data.random_turn(image, (0, k)).numpy().tobytes() for k in range(200)}
    square = image.numpy()[..., 0]
    expected = {
        np.ascontiguousarray(np.rot90(turned, k)[..., None]).tobytes()
        for turned in (square, square[:, ::-1])
        for k in range(4)
    }
    assert seen == expected


def test_greyscale_and_jpeg_crops_are_read_as_rgb(tmp_path, tiny_recipe):
    Image.new("L", (32, 32), 200).save(tmp_path / "grey.png")
    Image.new("RGB", (32, 32), (200, 200, 200)).save(tmp_path / "colour.jpg")
    ((_, hr),) = take(data.training_batches(pictures(tmp_path), tiny_recipe), 1)
    np.testing.assert_allclose(hr, pixels.from_8bit(np.uint8(200)), atol=0.01)


def test_sample_pairs_show_the_middle(tmp_path, tiny_recipe):
    picture = np.zeros((50, 60, 3), np.uint8)
    picture[1:49, 6:54] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.new("RGB", (48, 49)).save(tmp_path / "b.png")
    lr, hr = data.sample_pairs(pictures(tmp_path), tiny_recipe)
    assert lr.shape == (2, 12, 12, 3)
    assert hr.shape == (2, 48, 48, 3)
    assert hr[0].numpy().min() == 1


def test_splits(crops, tmp_path):
    assert data.split_folder(crops, "train") == crops / "train"
    assert data.split_folder(crops, "test") == crops / "test"
    assert data.split_folder(crops / "train", "train") == crops / "train"
    assert data.split_folder(crops / "train", "test") is None


def test_clear_errors(crops, tmp_path):
    with pytest.raises(UserError, match=r"is 40x40 pixels and crop_size is 96.*--crop-size"):
        data.list_crops(crops, 96)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no PNG or JPEG picture"):
        data.list_crops(tmp_path / "empty", 32)
    (crops / "train" / "text.png").write_text("not a picture")
    with pytest.raises(UserError, match=r"text.png is not a picture"):
        data.list_crops(crops, 32)


def test_the_unreadable_crop_is_named(crops):
    paths = pictures(crops / "train")
    assert data.first_unreadable(paths) is None
    paths[2].write_bytes(paths[2].read_bytes()[:500])
    path, reason = data.first_unreadable(paths)
    assert path == paths[2]
    assert reason
