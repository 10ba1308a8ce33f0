"""Batches of (LR, HR) pairs from a folder of crops, as a tf.data pipeline.

Making the crops belongs to `data_prep`.
"""

import math
import os
from pathlib import Path

import tensorflow as tf
from PIL import Image

from data_prep.cli import UserError
from data_prep.pictures import PictureError, list_pictures, open_picture
from srgan_keras import pixels

# What tf.io decodes; data_prep writes PNG.
SUFFIXES = {".png", ".jpg", ".jpeg"}


def list_crops(folder, crop_size):
    """Lists the pictures of a folder that training can read.

    Args:
        folder: path of a folder of PNG or JPEG pictures, looked through recursively. Crops are
            taken as they are: `data_prep` has turned them upright and put them into sRGB.
        crop_size: int, the least width and height they must have.

    Returns:
        sorted list of `pathlib.Path`, never empty.

    Raises:
        UserError: if the folder is missing, holds no such picture, or one is smaller than
            `crop_size` or unreadable.
    """
    paths = [path for path in list_pictures(folder) if path.suffix.lower() in SUFFIXES]
    if not paths:
        raise UserError(
            f"There is no PNG or JPEG picture in {folder}. Make crops with "
            f"python -m data_prep.folder --photos {folder} --out crops"
        )
    for path in paths:  # Threads make this slower: 14 s for 100,000 crops in place of 1.4 s.
        size = _size_from_header(path)
        if size is None:
            raise UserError(f"{path} is not a picture. Remove it, or make the crops again.")
        if min(size) < crop_size:
            raise UserError(
                f"{path} is {size[0]}x{size[1]} pixels and crop_size is {crop_size}. Set a "
                f"smaller --crop-size, or make crops of at least {crop_size} pixels."
            )
    return paths


def split_folder(data, split):
    """Returns the folder of a split, `data/train` or `data/test` as data_prep writes them.

    A folder without a `train` folder is all training data. None stands for no such split.
    """
    data = Path(data)
    if (data / "train").is_dir():
        folder = data / split
        return folder if folder.is_dir() and any(folder.iterdir()) else None
    return data if split == "train" else None


def training_batches(paths, recipe, first_batch=0):
    """Endless batches for `SRGAN.fit`; batch k depends on the recipe's seed and k alone.

    Every epoch takes each crop once, in an order of its own. A run that resumes with
    `first_batch=k` sees what an uninterrupted one would have seen.

    Args:
        paths: list of crops, from `list_crops`.
        recipe: `Recipe`.
        first_batch: int, k of the first batch.

    Returns:
        `tf.data.Dataset` of `(lr, hr)`: `(batch, crop / scale, crop / scale, 3)` float32 in the
        recipe's `lr_range` and `(batch, crop, crop, 3)` float32 in [-1, 1].
    """
    names = tf.constant([os.fsencode(path) for path in paths])
    count = len(paths)

    def example(k):
        epoch, position = k // count, k % count
        index = tf.random.experimental.index_shuffle(position, (recipe.seed, epoch), count - 1)
        hr = read_picture(names[index])
        crop_seed, turn_seed = tf.unstack(tf.random.split((recipe.seed, k), 2))
        hr = tf.image.stateless_random_crop(
            hr, (recipe.crop_size, recipe.crop_size, 3), seed=crop_seed
        )
        if recipe.augment:
            hr = random_turn(hr, seed=turn_seed)
        return make_pair(hr, recipe)

    first = first_batch * recipe.batch_size
    dataset = tf.data.Dataset.range(first, tf.int64.max)
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(recipe.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def sample_pairs(paths, recipe):
    """Pairs to look at, the same for a whole run: the middle of each picture, as large as can be.

    Args:
        paths: list of pictures of at least `recipe.crop_size`.
        recipe: `Recipe`.

    Returns:
        `(lr, hr)` as `training_batches` gives them, with `len(paths)` pairs of equal size, at most
        384 pixels (or `recipe.crop_size`, if that is more).
    """
    pictures = [read_picture(os.fsencode(path)) for path in paths]
    size = min([max(384, recipe.crop_size)] + [side for hr in pictures for side in hr.shape[:2]])
    size -= size % recipe.scale
    crops = [tf.image.resize_with_crop_or_pad(hr, size, size) for hr in pictures]
    lr, hr = zip(*[make_pair(crop, recipe) for crop in crops], strict=True)
    return tf.stack(lr), tf.stack(hr)


def validation_batches(paths, recipe):
    """Batches that are the same every time: the middle of each picture, nothing random.

    Args:
        paths: list of pictures, from `list_crops`.
        recipe: `Recipe`.

    Returns:
        finite `tf.data.Dataset` of `(lr, hr)` as `training_batches` gives them; the last batch may
        be smaller.
    """

    def example(name):
        size = recipe.crop_size
        return make_pair(tf.image.resize_with_crop_or_pad(read_picture(name), size, size), recipe)

    dataset = tf.data.Dataset.from_tensor_slices([os.fsencode(path) for path in paths])
    dataset = dataset.map(example, num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.batch(recipe.batch_size).prefetch(tf.data.AUTOTUNE)


def read_picture(name):
    """Decodes a PNG or JPEG file into `(h, w, 3)` uint8."""
    picture = tf.io.decode_image(tf.io.read_file(name), channels=3, expand_animations=False)
    return tf.ensure_shape(picture, (None, None, 3))


def random_turn(image, seed):
    """Turns and mirrors a square picture, all eight ways equally likely.

    Args:
        image: `(n, n, 3)` tensor.
        seed: `(2,)` integer tensor.
    """
    way = tf.random.stateless_uniform([], seed, 0, 8, tf.int32)
    image = tf.image.rot90(image, way % 4)
    return tf.cond(way < 4, lambda: image, lambda: tf.image.flip_left_right(image))


def make_pair(hr, recipe):
    """Makes the LR picture that belongs to an HR picture, and scales both.

    Args:
        hr: `(h, w, 3)` uint8, h and w multiples of `recipe.scale`.
        recipe: `Recipe`; its scale and its `lr_...` settings.

    Returns:
        `(lr, hr)`, float32, in the recipe's `lr_range` and in [-1, 1].
    """
    hr = tf.cast(hr, tf.float32)
    lr = gaussian_blur(hr, recipe.lr_blur_sigma) if recipe.lr_blur_sigma else hr
    lr = reduce_picture(lr, recipe.scale)
    if recipe.lr_rounding:
        lr = tf.round(lr)
    return pixels.from_8bit(lr, recipe.lr_range), pixels.from_8bit(hr)


def reduce_picture(picture, scale):
    """Makes a picture `scale` times smaller, as LR pictures are made.

    With an antialiased bicubic kernel (a = -0.5, half-pixel centres), which is what MATLAB's
    imresize and Pillow do; values that it throws beyond 0 and 255 are clipped.

    Args:
        picture: `(h, w, 3)` float32 in [0, 255], h and w multiples of `scale`.
        scale: int.

    Returns:
        `(h / scale, w / scale, 3)` float32 in [0, 255], not rounded.
    """
    height = picture.shape[0] or tf.shape(picture)[0]
    width = picture.shape[1] or tf.shape(picture)[1]
    size = (height // scale, width // scale)
    small = tf.image.resize(picture, size, method="bicubic", antialias=True)
    return tf.clip_by_value(small, 0.0, 255.0)


def gaussian_blur(image, sigma):
    """Blurs a picture; its border is mirrored.

    Args:
        image: `(h, w, c)` float32, sides longer than 3 sigma.
        sigma: float > 0, in pixels.
    """
    radius = math.ceil(3 * sigma)
    weights = tf.exp(-0.5 * (tf.range(-radius, radius + 1, dtype=tf.float32) / sigma) ** 2)
    weights /= tf.reduce_sum(weights)
    padding = [[radius, radius], [radius, radius], [0, 0]]
    channels = tf.transpose(tf.pad(image, padding, "REFLECT"), (2, 0, 1))[..., None]
    channels = tf.nn.conv2d(channels, weights[:, None, None, None], 1, "VALID")
    channels = tf.nn.conv2d(channels, weights[None, :, None, None], 1, "VALID")
    return tf.transpose(channels[..., 0], (1, 2, 0))


def first_unreadable(paths):
    """Returns the first picture that does not decode, as (path, reason), or None."""
    for path in paths:
        try:
            open_picture(path)
        except PictureError as error:
            return path, error.reason
    return None


def _size_from_header(path):
    try:
        with Image.open(path) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
