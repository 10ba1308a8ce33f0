"""Batches of (LR, HR) pairs for `SRGAN.fit`: which crops, and what is cut out of them.

On TensorFlow picture files go through a tf.data pipeline; packed crops, and everything on JAX,
through a `keras.utils.PyDataset`. Both give the same batches.
"""

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from data_prep.pictures import PictureError
from srgan_keras.crops import PackedCrops, first_unreadable, read_crop
from srgan_keras.pairs import make_pairs

THREADS = 4  # that make batches without TensorFlow


def training_batches(crops, recipe, first_batch=0):
    """Endless batches; batch k depends on the recipe's seed and k alone.

    Every epoch takes each crop once, in an order of its own. A run that resumes with
    `first_batch=k` sees what an uninterrupted one would have seen.

    Args:
        crops: as `list_crops` returns them.
        recipe: `Recipe`.
        first_batch: int, k of the first batch.

    Returns:
        iterable that `fit` takes, of `(lr, hr)`: `(batch, crop / scale, crop / scale, 3)` float32
        in the recipe's `lr_range` and `(batch, crop, crop, 3)` float32 in [-1, 1].
    """
    return _batches(crops, recipe, lambda k: choose_crops(len(crops), recipe, first_batch + k))


def validation_batches(crops, recipe):
    """Batches that are the same every time: the middle of each crop, nothing random.

    Args:
        crops: as `list_crops` returns them.
        recipe: `Recipe`.

    Returns:
        iterable of `(lr, hr)` as from `training_batches`, finite; the last batch may be smaller.
    """
    number = -(-len(crops) // recipe.batch_size)

    def choose(k):
        indices = np.arange(len(crops))[k * recipe.batch_size :][: recipe.batch_size]
        return indices, np.full((len(indices), 2), 0.5), np.zeros_like(indices)

    return _batches(crops, recipe, choose, number)


def sample_pairs(crops, recipe):
    """Pairs to look at, the same for a whole run: the middle of each crop, as large as can be.

    Args:
        crops: as `list_crops` returns them, at least `recipe.crop_size` large.
        recipe: `Recipe`.

    Returns:
        `(lr, hr)` as `training_batches` gives them, with `len(crops)` pairs of equal size, at most
        384 pixels (or `recipe.crop_size`, if that is more).
    """
    pictures = [read_crop(crop) for crop in crops]
    size = min([max(384, recipe.crop_size)] + [side for hr in pictures for side in hr.shape[:2]])
    size -= size % recipe.scale
    return make_pairs(np.stack([cut(hr, size, (0.5, 0.5)) for hr in pictures]), recipe)


def _batches(crops, *args):
    on_tensorflow = keras.backend.backend() == "tensorflow"
    if on_tensorflow and not isinstance(crops, PackedCrops):
        return tensorflow_batches(crops, *args)
    return PairBatches(crops, *args)


def choose_crops(count, recipe, k):
    """Chooses what training batch k is made of.

    Args:
        count: int, how many crops there are.
        recipe: `Recipe`.
        k: int.

    Returns:
        `(indices, places, turns)`: which crops, `(batch,)` int64; where they are cut, `(batch, 2)`
        float64 in [0, 1), as `cut` takes it; how they are turned, `(batch,)` int64, as `turn` takes
        it.
    """
    first = k * recipe.batch_size
    positions = [divmod(p, count) for p in range(first, first + recipe.batch_size)]
    indices = [epoch_order(count, recipe.seed, epoch)[position] for epoch, position in positions]
    rng = np.random.default_rng((recipe.seed, k))
    places = rng.random((recipe.batch_size, 2))
    turns = rng.integers(8 if recipe.augment else 1, size=recipe.batch_size)
    return np.array(indices), places, turns


@functools.lru_cache(maxsize=2)
def epoch_order(count, seed, epoch):
    """Returns the order in which an epoch takes the crops, `(count,)` int64."""
    return np.random.default_rng((seed, epoch, count)).permutation(count)


def cut(picture, size, place):
    """Cuts a square out of a picture.

    Args:
        picture: `(h, w, c)` array or tensor, not smaller than the square.
        size: int, the square's side.
        place: two numbers in [0, 1): where it lies, from the top and from the left.
    """
    top, left = (int(x * (side - size + 1)) for x, side in zip(place, picture.shape, strict=False))
    return picture[top : top + size, left : left + size]


def turn(picture, way):
    """Turns and mirrors a square picture.

    Args:
        picture: `(n, n, c)` array.
        way: int from 0 to 7: quarter turns, and from 4 on mirrored after them.
    """
    picture = np.rot90(picture, way % 4)
    return picture if way < 4 else picture[:, ::-1]


class PairBatches(keras.utils.PyDataset):
    """Batches without TensorFlow, made by threads while the networks are busy.

    The threads are our own: Keras' (`workers`) lose the first batch of an endless dataset.

    Args:
        crops: as `list_crops` returns them.
        recipe: `Recipe`.
        choose: function from k to batch k's choice, as `choose_crops` makes it.
        number: int, how many batches there are; None: no end.
    """

    def __init__(self, crops, recipe, choose, number=None):
        super().__init__()
        self.crops = crops
        self.recipe = recipe
        self.choose = choose
        self.number = number
        self.threads = ThreadPoolExecutor(THREADS)
        self.coming = {}

    @property
    def num_batches(self):
        return self.number

    def __getitem__(self, k):
        end = k + 2 * THREADS
        ahead = range(k, end if self.number is None else min(end, self.number))
        self.coming = {i: self.coming.get(i) or self.threads.submit(self.make, i) for i in ahead}
        return self.coming[k].result()

    def make(self, k):
        """Makes batch k."""
        hr = [
            turn(cut(read_crop(self.crops[index]), self.recipe.crop_size, place), way)
            for index, place, way in zip(*self.choose(k), strict=True)
        ]
        with keras.device("cpu"):  # The accelerator has the networks to do.
            return tuple(map(keras.ops.convert_to_numpy, make_pairs(np.stack(hr), self.recipe)))


def tensorflow_batches(paths, recipe, choose, number=None):
    """The same batches of picture files as a `tf.data.Dataset`, decoded and cut on all cores."""
    import tensorflow as tf

    size = recipe.crop_size
    names = tf.constant([os.fsencode(path) for path in paths])

    def choice(k):
        kinds, shapes = (tf.int64, tf.float64, tf.int64), ((None,), (None, 2), (None,))
        arrays = tf.numpy_function(lambda k: choose(int(k)), [k], kinds)
        return tuple(map(tf.ensure_shape, arrays, shapes))

    def crop(index, place, way):
        picture = tf.io.decode_image(
            tf.io.read_file(names[index]), channels=3, expand_animations=False
        )
        way = tf.cast(way, tf.int32)
        room = tf.cast(tf.shape(picture)[:2] - size + 1, place.dtype)
        top, left = tf.unstack(tf.cast(place * room, tf.int32))
        picture = tf.image.rot90(picture[top : top + size, left : left + size], way % 4)
        picture = tf.cond(way < 4, lambda: picture, lambda: tf.image.flip_left_right(picture))
        return tf.ensure_shape(picture, (size, size, 3))

    dataset = tf.data.Dataset.range(tf.int64.max if number is None else number)
    dataset = dataset.map(choice, num_parallel_calls=1).unbatch()
    dataset = dataset.map(crop, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(recipe.batch_size, drop_remainder=number is None)
    dataset = dataset.map(lambda hr: make_pairs(hr, recipe), num_parallel_calls=tf.data.AUTOTUNE)
    # `unbatch` has forgotten it, and Keras warns at the end of data that it expects to go on.
    length = tf.data.INFINITE_CARDINALITY if number is None else number
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(length))
    return dataset.prefetch(tf.data.AUTOTUNE)


def broken_crop(error, crops):
    """Finds the crop because of which `fit` failed.

    Args:
        error: the exception that `fit` raised.
        crops: as `list_crops` returns them.

    Returns:
        (path, reason); None if that was not why it failed.
    """
    if isinstance(error, PictureError):
        return error.path, error.reason
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        if isinstance(error, tf.errors.InvalidArgumentError):  # It does not say which picture.
            return first_unreadable(crops)
    return None
