"""Batches of (LR, HR) pairs for `SRGAN.fit`: which crops, and what is cut out of them.

On TensorFlow they are made by a tf.data pipeline, on JAX by a `keras.utils.PyDataset`: the same
batches, read and cut by the same code.
"""

import atexit
import functools
import gc
import os
import re
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import keras
import numpy as np

from srgan_keras.common.pictures import PictureError
from srgan_keras.common.processes import own_cpu, own_rows
from srgan_keras.data.crops import Crops, first_unreadable, list_crops
from srgan_keras.data.pairs import Pairs, cut

THREADS = 4  # that make batches without TensorFlow


def batches(folder: str | os.PathLike, recipe: Any) -> Iterable:
    """The batches that a recipe trains on, for `fit`.

    Args:
        folder: as for `list_crops`; of a folder with splits, `train`.
        recipe: `Recipe`.

    Returns:
        as `training_batches`; where a step of the recipe takes several batches, one behind the
        other.
    """
    crops = list_crops(folder, recipe.pairs.crop_size, "train")
    size = recipe.batch_size * recipe.batches_per_step
    return training_batches(crops, recipe.pairs, size, recipe.seed)


def training_batches(
    crops: Crops, pairs: Pairs, batch_size: int, seed: int = 0, first_batch: int = 0
) -> Iterable:
    """Endless batches; batch k depends on the settings, the seed and k alone.

    Every epoch takes each crop once, in an order of its own, or draws crops with replacement. A run
    that resumes with `first_batch=k` sees what an uninterrupted one would have seen.

    Args:
        crops: as `list_crops` returns them.
        pairs: how pairs are made of them.
        batch_size: int.
        seed: int.
        first_batch: int, k of the first batch.

    Returns:
        iterable that `fit` takes, of `(lr, hr)`: `(batch, crop / scale, crop / scale, 3)` and
        `(batch, crop, crop, 3)` float32 in [-1, 1].
    """

    def choose(k):
        return choose_crops(len(crops), pairs, batch_size, seed, first_batch + k)

    def draw(k):
        return draw_chance(pairs, batch_size, seed, first_batch + k)

    return _batches(crops, pairs, batch_size, choose, draw)


def validation_batches(crops: Crops, pairs: Pairs, batch_size: int) -> Iterable:
    """Batches that are the same every time: the middle of each crop.

    Args:
        crops: as `list_crops` returns them.
        pairs: how pairs are made of them.
        batch_size: int.

    Returns:
        iterable of `(lr, hr)` as from `training_batches`, finite; the last batch may be smaller.
    """

    def choose(k):
        indices = np.arange(len(crops))[k * batch_size :][:batch_size]
        return indices, np.full((len(indices), 2), 0.5), np.zeros_like(indices)

    def draw(k):
        return draw_chance(pairs, batch_size, k)

    return _batches(crops, pairs, batch_size, choose, draw, -(-len(crops) // batch_size))


def sample_pairs(crops: Crops, pairs: Pairs) -> tuple[Any, Any]:
    """Pairs to look at, the same for a whole run: the middle of each crop, as large as can be.

    Args:
        crops: as `list_crops` returns them, at least `pairs.crop_size` large.
        pairs: how pairs are made of them.

    Returns:
        `(lr, hr)` as `training_batches` gives them, with `len(crops)` pairs of equal size, at most
        384 pixels (or `pairs.crop_size`, if that is more).
    """
    pictures = list(crops)
    size = min([max(384, pairs.crop_size)] + [side for hr in pictures for side in hr.shape[:2]])
    size -= size % pairs.scale
    drawn = pairs.draw(np.random.default_rng(0), len(pictures), size)
    return pairs.make(np.stack([cut(hr, size, (0.5, 0.5)) for hr in pictures]), *drawn)


def _batches(crops, pairs, batch_size, choose, draw, number=None):
    if keras.backend.backend() == "tensorflow":
        return tensorflow_batches(crops, pairs, batch_size, choose, draw, number)
    return PairBatches(crops, pairs, choose, number, draw)


def draw_chance(pairs: Pairs, batch_size: int, *key: int) -> tuple[np.ndarray, ...]:
    """Draws what `pairs.make` needs for a batch; it depends on `key` alone."""
    rng = np.random.default_rng(np.random.SeedSequence(key, spawn_key=(1,)))
    return pairs.draw(rng, batch_size, pairs.crop_size)


def choose_crops(count: int, pairs: Pairs, batch_size: int, seed: int, k: int) -> tuple:
    """Chooses what training batch k is made of.

    Args:
        count: int, how many crops there are.
        pairs: whether they are drawn with replacement, and turned.
        batch_size: int.
        seed: int.
        k: int.

    Returns:
        `(indices, places, turns)`: which crops, `(batch,)` int64; where they are cut, `(batch, 2)`
        float64 in [0, 1), as `cut` takes it; how they are turned, `(batch,)` int64, as `turn` takes
        it.
    """
    rng = np.random.default_rng((seed, k))
    places = rng.random((batch_size, 2))
    turns = rng.integers(8 if pairs.augment else 1, size=batch_size)
    if pairs.with_replacement:
        return rng.integers(count, size=batch_size), places, turns
    positions = (divmod(p, count) for p in range(k * batch_size, (k + 1) * batch_size))
    indices = [epoch_order(count, seed, epoch)[position] for epoch, position in positions]
    return np.array(indices), places, turns


@functools.lru_cache(maxsize=2)
def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Returns the order in which an epoch takes the crops, `(count,)` int64."""
    return np.random.default_rng((seed, epoch, count)).permutation(count)


def turn(picture: np.ndarray, way: int) -> np.ndarray:
    """Turns and mirrors a square picture.

    Args:
        picture: `(n, n, c)` array.
        way: int from 0 to 7: quarter turns, and from 4 on mirrored after them.
    """
    picture = np.rot90(picture, way % 4)
    return picture if way < 4 else picture[:, ::-1]


def cut_crop(crops: Crops, size: int, index: int, place: np.ndarray, way: int) -> np.ndarray:
    """Reads a crop and cuts and turns a square of it as `choose_crops` has chosen.

    Returns:
        `(size, size, 3)` uint8 array.
    """
    return turn(cut(crops[index], size, place), way)


class PairBatches(keras.utils.PyDataset):
    """Batches without TensorFlow, made by threads while the networks are busy.

    The threads are our own: Keras' (`workers`) lose the first batch of an endless dataset.

    Args:
        crops: as `list_crops` returns them.
        pairs: how pairs are made of them.
        choose: function from k to batch k's choice, as `choose_crops` makes it.
        number: int, how many batches there are; None: no end.
        draw: function from k to what `pairs.make` needs for batch k, or for a larger one.
    """

    def __init__(
        self,
        crops: Crops,
        pairs: Pairs,
        choose: Callable,
        number: int | None = None,
        draw: Callable = lambda k: (),
    ) -> None:
        super().__init__()
        self.crops = crops
        self.pairs = pairs
        self.choose = choose
        self.draw = draw
        self.number = number
        self.threads = ThreadPoolExecutor(THREADS)
        self.coming = {}

    @property
    def num_batches(self) -> int | None:
        return self.number

    def __getitem__(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        end = k + 2 * THREADS
        ahead = range(k, end if self.number is None else min(end, self.number))
        self.coming = {i: self.coming.get(i) or self.threads.submit(self.make, i) for i in ahead}
        return self.coming[k].result()

    def make(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Makes batch k, or of several processes' batch this one's part."""
        choices = list(zip(*self.choose(k), strict=True))
        rows = own_rows(len(choices))
        hr = [cut_crop(self.crops, self.pairs.crop_size, *choice) for choice in choices[rows]]
        drawn = [array[rows] for array in self.draw(k)]
        with own_cpu():  # The accelerator has the networks to do.
            return tuple(map(keras.ops.convert_to_numpy, self.pairs.make(np.stack(hr), *drawn)))


def tensorflow_batches(
    crops: Crops,
    pairs: Pairs,
    batch_size: int,
    choose: Callable,
    draw: Callable,
    number: int | None = None,
) -> Any:
    """The same batches as a `tf.data.Dataset`, whose crops are read and cut on all cores."""
    import tensorflow as tf

    size = pairs.crop_size

    def choice(k):
        kinds, shapes = (tf.int64, tf.float64, tf.int64), ((None,), (None, 2), (None,))
        arrays = tf.numpy_function(lambda k: choose(int(k)), [k], kinds)
        return tuple(map(tf.ensure_shape, arrays, shapes))

    def read(index, *choice):
        try:
            return cut_crop(crops, size, index, *choice)
        except PictureError as error:  # TensorFlow passes on text alone, and ASCII for sure.
            raise ValueError(f"crop {index} cannot be read: {str(error)!a}") from error

    def crop(*choice):
        return tf.ensure_shape(tf.numpy_function(read, choice, tf.uint8), (size, size, 3))

    shapes = [array.shape for array in draw(0)]

    def make(hr, k):
        drawn = tf.numpy_function(lambda k: draw(int(k)), [k], [tf.float32] * len(shapes))
        drawn = [tf.ensure_shape(*array) for array in zip(drawn, shapes, strict=True)]
        return pairs.make(hr, *(array[: tf.shape(hr)[0]] for array in drawn))

    _readers.add(read)
    numbers = tf.data.Dataset.range(tf.int64.max if number is None else number)
    dataset = numbers.map(choice, num_parallel_calls=1).unbatch()
    dataset = dataset.map(crop, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    dataset = dataset.batch(batch_size, drop_remainder=number is None)
    if shapes:
        dataset = tf.data.Dataset.zip(dataset, numbers)
        dataset = dataset.map(make, num_parallel_calls=tf.data.AUTOTUNE)
    else:
        dataset = dataset.map(pairs.make, num_parallel_calls=tf.data.AUTOTUNE)
    # `unbatch` has forgotten it, and Keras warns at the end of data that it expects to go on.
    length = tf.data.INFINITE_CARDINALITY if number is None else number
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(length))
    return dataset.prefetch(tf.data.AUTOTUNE)


_readers = weakref.WeakSet()  # of the datasets that are alive


@atexit.register
def _end_iterators() -> None:
    """Ends the iterators that a program leaves open.

    They go on reading ahead. A thread of TensorFlow that calls Python while Python ends never comes
    back, and whoever ends the iterator after that waits for it for ever.
    """
    if _readers:
        import tensorflow as tf

        kinds = (tf.data.Iterator, tf.distribute.DistributedIterator)
        for thing in gc.get_objects():
            if issubclass(type(thing), kinds):
                vars(thing).clear()


def broken_crop(error: Exception, crops: Crops) -> tuple[Path, str] | None:
    """Finds the crop because of which `fit` failed.

    Args:
        error: the exception that `fit` raised.
        crops: as `list_crops` returns them.

    Returns:
        (path, reason); None if that was not why it failed.
    """
    if isinstance(error, PictureError):
        return error.path, error.reason
    named = re.search(r"crop (\d+) cannot be read", str(error))
    return named and first_unreadable(crops[int(named[1]) :][:1])
