import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data_prep.cli import UserError
from data_prep.pack import pack
from srgan_keras import data, pixels
from srgan_keras.crops import list_crops


def take(batches, count):
    """The first batches, from either kind of pipeline, as numpy arrays."""
    if isinstance(batches, tf.data.Dataset):
        return list(batches.take(count).as_numpy_iterator())
    if batches.num_batches is not None:
        count = min(count, batches.num_batches)
    return [batches[k] for k in range(count)]


def pictures(folder):
    return list_crops(folder, 32)


def packed(folder):
    out = folder.with_name(f"{folder.name}-packed")
    pack(folder, out)
    return list_crops(out, 32)


@pytest.fixture(params=[pictures, packed])
def load(request):
    """Loads the crops of a folder: as files, which tf.data decodes, or packed first."""
    return request.param


def test_batches_have_the_recipe_s_shapes_and_ranges(crops, tiny_recipe, load):
    ((lr, hr),) = take(data.training_batches(load(crops / "train"), tiny_recipe), 1)
    assert lr.shape == (2, 8, 8, 3)
    assert hr.shape == (2, 32, 32, 3)
    assert lr.dtype == hr.dtype == np.float32
    assert -1 <= lr.min() < 0 < lr.max() <= 1
    assert -1 <= hr.min() < -0.9
    assert 0.9 < hr.max() <= 1


def test_packed_or_not_the_batches_are_the_same(crops, tiny_recipe):
    recipe = dataclasses.replace(tiny_recipe, augment=True)
    files, arrays = pictures(crops / "train"), packed(crops / "train")
    for make in data.training_batches, data.validation_batches:
        a, b = (take(make(source, recipe), 9) for source in (files, arrays))
        for x, y in zip(itertools.chain(*a), itertools.chain(*b), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)


def test_batch_k_depends_on_seed_and_k_alone(crops, tiny_recipe, load):
    loaded = load(crops / "train")
    first = take(data.training_batches(loaded, tiny_recipe), 9)
    resumed = take(data.training_batches(loaded, tiny_recipe, first_batch=6), 3)
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


def test_all_eight_turns_and_every_place_occur(tmp_path, tiny_recipe, load):
    """Of a picture with a different colour at each pixel, one pixel larger than the crops."""
    (tmp_path / "one").mkdir()
    picture = np.dstack([*np.mgrid[:33, :33], np.zeros((33, 33))]).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "one" / "a.png")
    recipe = dataclasses.replace(tiny_recipe, augment=True, batch_size=16)
    batches = take(data.training_batches(load(tmp_path / "one"), recipe), 16)
    seen = {pixels.to_8bit(hr).numpy().tobytes() for _, batch in batches for hr in batch}
    expected = {
        np.ascontiguousarray(np.rot90(mirrored, k)).tobytes()
        for top, left in itertools.product((0, 1), repeat=2)
        for square in [picture[top : top + 32, left : left + 32]]
        for mirrored in (square, square[:, ::-1])
        for k in range(4)
    }
    assert seen == expected


def test_validation_takes_the_middle_of_each_crop(crops, tiny_recipe, load):
    batches = take(data.validation_batches(load(crops / "test"), tiny_recipe), 9)
    middles = [np.asarray(Image.open(path))[4:36, 4:36] for path in pictures(crops / "test")]
    hr = np.concatenate([hr for _, hr in batches])
    np.testing.assert_array_equal(pixels.to_8bit(hr), np.stack(middles))


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


def test_a_broken_crop_is_found_from_either_pipeline_s_error(crops, tiny_recipe):
    paths = pictures(crops / "train")
    paths[2].write_bytes(paths[2].read_bytes()[:500])
    recipe = dataclasses.replace(tiny_recipe, batch_size=5)
    for batches in (
        data.training_batches(paths, recipe),
        data.PairBatches(paths, recipe, lambda k: data.choose_crops(len(paths), recipe, k)),
    ):
        with pytest.raises((tf.errors.InvalidArgumentError, UserError)) as caught:
            take(batches, 1)
        path, reason = data.broken_crop(caught.value, paths)
        assert path == paths[2]
        assert reason
    assert data.broken_crop(ValueError("another"), paths) is None
