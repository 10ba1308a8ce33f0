import itertools
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from data_prep_fixtures import SmallCoco
from PIL import Image

from data_prep.pack import pack
from srgan_keras.common import pixels
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import open_picture
from srgan_keras.data import batches
from srgan_keras.data.crops import list_crops


def training(crops, recipe, first_batch=0):
    return batches.training_batches(
        crops, recipe.pairs, recipe.batch_size, recipe.seed, first_batch=first_batch
    )


def validation(crops, recipe):
    return batches.validation_batches(crops, recipe.pairs, recipe.batch_size)


def pair_batches(crops, recipe, number=None):
    """The batches that JAX trains on."""
    size, seed = recipe.batch_size, recipe.seed

    def choose(k):
        return batches.choose_crops(len(crops), recipe.pairs, size, seed, k)

    return batches.PairBatches(crops, recipe.pairs, choose, number)


def take(dataset, count):
    """The first batches, from either kind of pipeline, as numpy arrays."""
    if isinstance(dataset, tf.data.Dataset):
        return list(dataset.take(count).as_numpy_iterator())
    if dataset.num_batches is not None:
        count = min(count, dataset.num_batches)
    return [dataset[k] for k in range(count)]


def pictures(folder):
    return list_crops(folder, 32)


def packed(folder):
    out = folder.with_name(f"{folder.name}-packed")
    pack(folder, out)
    return list_crops(out, 32)


@pytest.fixture(params=[pictures, packed])
def load(request):
    """Loads the crops of a folder: as files, or packed first."""
    return request.param


def test_batches_have_the_recipe_s_shapes_and_ranges(crops, tiny_recipe, load):
    ((lr, hr),) = take(training(load(crops / "train"), tiny_recipe), 1)
    assert lr.shape == (2, 8, 8, 3)
    assert hr.shape == (2, 32, 32, 3)
    assert lr.dtype == hr.dtype == np.float32
    assert -1 <= lr.min() < 0 < lr.max() <= 1
    assert -1 <= hr.min() < -0.9
    assert 0.9 < hr.max() <= 1


def test_packed_or_not_on_tensorflow_or_not_the_batches_are_the_same(crops, tiny_recipe):
    recipe = tiny_recipe.with_settings(augment=True)
    files, arrays = pictures(crops / "train"), packed(crops / "train")
    expected = list(itertools.chain(*take(training(files, recipe), 9)))
    for dataset in (
        training(arrays, recipe),
        pair_batches(files, recipe),
        pair_batches(arrays, recipe),
    ):
        for x, y in zip(expected, itertools.chain(*take(dataset, 9)), strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)
    for a, b in zip(*(take(validation(some, recipe), 9) for some in (files, arrays)), strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)


def test_batch_k_depends_on_seed_and_k_alone(crops, tiny_recipe, load):
    loaded = load(crops / "train")
    first = take(training(loaded, tiny_recipe), 9)
    resumed = take(training(loaded, tiny_recipe, first_batch=6), 3)
    for (lr, hr), (lr_again, hr_again) in zip(first[6:], resumed, strict=True):
        np.testing.assert_array_equal(lr, lr_again)
        np.testing.assert_array_equal(hr, hr_again)
    assert not np.array_equal(first[0][1], first[1][1])


def test_another_seed_gives_other_batches(crops, tiny_recipe):
    paths = pictures(crops / "train")
    one = take(training(paths, tiny_recipe), 1)
    other = take(training(paths, tiny_recipe.with_settings(seed=1)), 1)
    assert not np.array_equal(one[0][1], other[0][1])


def test_every_epoch_takes_each_crop_once_in_its_own_order(tmp_path, tiny_recipe):
    for value in range(6):
        Image.new("RGB", (32, 32), (value, 0, 0)).save(tmp_path / f"{value}.png")
    made = take(training(pictures(tmp_path), tiny_recipe), 6)
    values = [round(float((hr[0, 0, 0] + 1) * 127.5)) for _, batch in made for hr in batch]
    first, second = values[:6], values[6:]
    assert sorted(first) == sorted(second) == list(range(6))
    assert first != second


def test_all_eight_turns_and_every_place_occur(tmp_path, tiny_recipe, load):
    """Of a picture with a different colour at each pixel, one pixel larger than the crops."""
    (tmp_path / "one").mkdir()
    picture = np.dstack([*np.mgrid[:33, :33], np.zeros((33, 33))]).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "one" / "a.png")
    recipe = tiny_recipe.with_settings(augment=True, batch_size=16)
    made = take(training(load(tmp_path / "one"), recipe), 16)
    seen = {pixels.to_8bit(hr).numpy().tobytes() for _, batch in made for hr in batch}
    expected = {
        np.ascontiguousarray(np.rot90(mirrored, k)).tobytes()
        for top, left in itertools.product((0, 1), repeat=2)
        for square in [picture[top : top + 32, left : left + 32]]
        for mirrored in (square, square[:, ::-1])
        for k in range(4)
    }
    assert seen == expected


def test_drawn_with_replacement_batch_k_depends_on_seed_and_k_alone(crops, tiny_recipe):
    recipe = tiny_recipe.with_settings(with_replacement=True, batch_size=4)
    loaded = pictures(crops / "train")
    first = take(training(loaded, recipe), 6)
    for (_, hr), (_, again) in zip(first[4:], take(training(loaded, recipe, 4), 2), strict=True):
        np.testing.assert_array_equal(hr, again)
    other = take(training(loaded, recipe.with_settings(seed=1)), 6)
    assert not np.array_equal(first[0][1], other[0][1])
    assert not np.array_equal(first[0][1], first[1][1])


def test_drawn_with_replacement_crops_repeat_and_all_are_as_likely(tiny_recipe):
    pairs = tiny_recipe.with_settings(with_replacement=True).pairs
    drawn = [batches.choose_crops(5, pairs, 4, seed=0, k=k)[0] for k in range(500)]
    assert any(len(set(batch)) < 4 for batch in drawn)
    counts = Counter(np.concatenate(drawn).tolist())
    assert set(counts) == set(range(5))
    assert min(counts.values()) > 300  # 400 expected, 18 standard deviation
    epoch = np.concatenate(drawn[:5])
    assert len(set(epoch.tolist())) < len(epoch) == 20


def test_validation_takes_the_middle_of_each_crop(crops, tiny_recipe, load):
    made = take(validation(load(crops / "test"), tiny_recipe), 9)
    middles = [np.asarray(Image.open(path))[4:36, 4:36] for path in pictures(crops / "test").paths]
    hr = np.concatenate([hr for _, hr in made])
    np.testing.assert_array_equal(pixels.to_8bit(hr), np.stack(middles))


def test_greyscale_and_jpeg_crops_are_read_as_rgb(tmp_path, tiny_recipe):
    Image.new("L", (32, 32), 200).save(tmp_path / "grey.png")
    Image.new("RGB", (32, 32), (200, 200, 200)).save(tmp_path / "colour.jpg")
    ((_, hr),) = take(training(pictures(tmp_path), tiny_recipe), 1)
    np.testing.assert_allclose(hr, pixels.from_8bit(np.uint8(200)), atol=0.01)


def test_both_backends_see_the_same_of_pictures_that_data_prep_has_not_made(tmp_path, tiny_recipe):
    """Transparency, rotation by EXIF, 16 bits: whatever `open_picture` makes of them."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (40, 40, 4), np.uint8), "RGBA")
    picture.save(tmp_path / "alpha.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.convert("RGB").save(tmp_path / "turned.jpg", exif=exif, quality=95)
    Image.fromarray(rng.integers(0, 65536, (40, 40), np.uint16)).save(tmp_path / "deep.png")
    picture.convert("RGB").save(tmp_path / "lossless.webp", lossless=True)
    listed = pictures(tmp_path)
    assert len(listed) == 4
    middles = np.stack([open_picture(path)[4:36, 4:36] for path in listed.paths])
    hr = np.concatenate([hr for _, hr in take(validation(listed, tiny_recipe), 2)])
    np.testing.assert_array_equal(pixels.to_8bit(hr), middles)
    for (_, x), (_, y) in zip(
        take(training(listed, tiny_recipe), 4),
        take(pair_batches(listed, tiny_recipe), 4),
        strict=True,
    ):
        np.testing.assert_array_equal(x, y)


def test_coco_goes_through_tf_data(tmp_path, tiny_recipe):
    small = SmallCoco(tmp_path / "coco", 6, width=400, height=390)
    recipe = tiny_recipe.with_settings(augment=True)
    crops = list_crops(small.root, 32, "train")
    dataset = training(crops, recipe)
    assert isinstance(dataset, tf.data.Dataset)
    for (_, x), (_, y) in zip(take(dataset, 5), take(pair_batches(crops, recipe), 5), strict=True):
        np.testing.assert_array_equal(x, y)
    hr = np.concatenate([hr for _, hr in take(validation(crops, recipe), 9)])
    middles = [crop[176:208, 176:208] for crop in crops]
    np.testing.assert_array_equal(pixels.to_8bit(hr), np.stack(middles))


def test_sample_pairs_show_the_middle(tmp_path, tiny_recipe):
    picture = np.zeros((50, 60, 3), np.uint8)
    picture[1:49, 6:54] = 255
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.new("RGB", (48, 49)).save(tmp_path / "b.png")
    lr, hr = batches.sample_pairs(pictures(tmp_path), tiny_recipe.pairs)
    assert lr.shape == (2, 12, 12, 3)
    assert hr.shape == (2, 48, 48, 3)
    assert hr[0].numpy().min() == 1


@pytest.mark.parametrize("name", ["a.png", "na\u00efve\n.png", "\udcff.png"])
def test_a_broken_crop_is_found_from_either_pipeline_s_error(crops, tiny_recipe, name):
    broken = pictures(crops / "train").paths[2]
    broken = broken.rename(broken.with_name(name))
    broken.write_bytes(broken.read_bytes()[:500])
    loaded = pictures(crops / "train")
    recipe = tiny_recipe.with_settings(batch_size=5)
    for dataset in training(loaded, recipe), pair_batches(loaded, recipe):
        with pytest.raises((tf.errors.InvalidArgumentError, UserError)) as caught:
            take(dataset, 1)
        path, reason = batches.broken_crop(caught.value, loaded)
        assert path == broken
        assert reason == "truncated"
    assert batches.broken_crop(ValueError("another"), loaded) is None
    assert batches.broken_crop(caught.value, pictures(crops / "test")) == (broken, "truncated")


def test_a_broken_photograph_of_coco_is_found(tmp_path, tiny_recipe):
    small = SmallCoco(tmp_path / "coco", 5, width=400, height=390)
    small.photo(2).write_bytes(small.photo(2).read_bytes()[:500])
    crops = list_crops(small.root, 32)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        take(training(crops, tiny_recipe.with_settings(batch_size=5)), 1)
    assert batches.broken_crop(caught.value, crops) == (small.photo(2), "truncated")
    assert batches.broken_crop(caught.value, []) is None


def test_batches_of_a_folder_are_its_training_split_s(crops, tiny_recipe):
    recipe = tiny_recipe.with_settings(augment=True, seed=3)
    for folder in crops, str(crops), crops / "train":
        dataset = batches.batches(folder, recipe)
        expected = take(training(pictures(crops / "train"), recipe), 4)
        for a, b in zip(take(dataset, 4), expected, strict=True):
            np.testing.assert_array_equal(a[0], b[0])
            np.testing.assert_array_equal(a[1], b[1])
    with pytest.raises(UserError, match="no such folder"):
        batches.batches(crops / "none", recipe)


def test_two_replicas_share_each_batch(crops, tiny_recipe, two_replicas):
    loaded = pictures(crops / "train")
    distributed = iter(two_replicas.experimental_distribute_dataset(training(loaded, tiny_recipe)))
    for _, expected in take(training(loaded, tiny_recipe), 3):
        _, hr = next(distributed)
        parts = two_replicas.experimental_local_results(hr)
        assert [part.shape[0] for part in parts] == [1, 1]
        np.testing.assert_array_equal(np.concatenate(parts), expected)


def test_a_program_ends_while_batches_are_still_being_made(crops):
    """TensorFlow's threads would wait for Python's lock, and Python for them."""
    code = f"""
from srgan_keras.data.batches import training_batches
from srgan_keras.data.crops import list_crops
from srgan_keras.data.pairs import Pairs
iterator = iter(training_batches(list_crops({str(crops)!r}, 32), Pairs(crop_size=32), 64))
next(iterator)
raise KeyError("uncaught")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.endswith("KeyError: 'uncaught'\n")
