"""Times the training step, its parts and the input pipeline, on the first device.

VGG19 has random weights here; they cost the same.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras.losses import BinaryCrossentropy
from keras.optimizers import Adam

from srgan_keras.common.pictures import open_picture, write_png
from srgan_keras.data import SAMPLE_IMAGES
from srgan_keras.data.batches import training_batches
from srgan_keras.data.crops import list_crops
from srgan_keras.inference.graph import replace_layers
from srgan_keras.inference.timing import count_flops, measure
from srgan_keras.parts.adversarial import CHANCES
from srgan_keras.parts.layers import FusedBatchNormalization, NarrowConv2D
from srgan_keras.recipe import Recipe
from srgan_keras.systems import get_recipe
from srgan_keras.training.devices import use_xla
from srgan_keras.training.gan import SRGAN
from srgan_keras.training.loop import build_gan

# This package's faster layers, and Keras' own.
KERAS_LAYERS = {
    FusedBatchNormalization: layers.BatchNormalization,
    NarrowConv2D: layers.Conv2D,
}
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # name: Keras' policy


def step_recipe(
    crop_size: int,
    batch_size: int,
    upsampling: str,
    precision: str = "float32",
    head: str = "flatten",
) -> Recipe:
    """Returns the recipe tutorial-fast with what a case changes."""
    return get_recipe(
        "tutorial-fast",
        crop_size=crop_size,
        batch_size=batch_size,
        upsampling=upsampling,
        precision=PRECISIONS[precision],
        discriminator_head=head,
    )


def build_case(*case: Any) -> tuple[Recipe, SRGAN, float]:
    """Builds what a case is about.

    Args:
        *case: as `step_recipe` takes them.

    Returns:
        (recipe, compiled model, floating-point operations of a training step).
    """
    recipe = step_recipe(*case)
    gan = build_gan(recipe, vgg_weights=None)
    return recipe, gan, count_step_flops(gan, recipe)


def count_step_flops(gan: SRGAN, recipe: Recipe) -> float:
    """Counts the operations of a training step, each network's as often as it must run.

    Backwards, a layer costs what it costs forwards for its weights' gradient and again for its
    input's. VGG19's weights need none, nor does an input that is no other network's output.
    """
    size = recipe.pairs.crop_size
    generator, generator_first = count_flops(gan.generator, size // recipe.pairs.scale)
    discriminator, discriminator_first = count_flops(gan.discriminator, size)
    features, _ = count_flops(gan.content_loss.vgg(), size)
    generator_update = 3 * generator - generator_first + 2 * discriminator + 3 * features
    discriminator_update = 2 * (3 * discriminator - discriminator_first)
    return recipe.batch_size * (generator_update + discriminator_update)


def random_batch(recipe: Recipe) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns `(lr, hr)`, a batch of noise."""
    size = recipe.pairs.crop_size
    return tuple(
        tf.random.stateless_uniform((recipe.batch_size, side, side, 3), (0, 0), -1.0, 1.0)
        for side in (size // recipe.pairs.scale, size)
    )


def time_step(repeats: int, *case: Any) -> dict[str, Any]:
    """Times the training step of tutorial-fast.

    Args:
        repeats: int.
        *case: as `step_recipe` takes them.

    Returns:
        dict, as from `measure`.
    """
    recipe, gan, flops = build_case(*case)
    batch = random_batch(recipe)
    step = tf.function(lambda: gan.train_step(batch), jit_compile=use_xla() or None)
    precision = "float32" if recipe.precision == "float32" else "bfloat16"
    return measure(step, repeats, flops, precision)


def time_tutorial_step(repeats: int, *case: Any) -> dict[str, Any]:
    """Times the same step, of the same networks, the tutorial's way and with Keras' own layers.

    That is: generated pictures by `predict`, the discriminator's `train_on_batch` on photographs
    and on those, and that of the two-output model in which the discriminator is frozen. Arguments
    and result as for `time_step`.
    """
    recipe, gan, flops = build_case(*case)
    content_loss = gan.content_loss
    generator, discriminator = (
        replace_layers(model, KERAS_LAYERS) for model in (gan.generator, gan.discriminator)
    )
    del gan
    lr, hr = map(np.asarray, random_batch(recipe))
    ones, zeros = np.ones((len(hr), 1)), np.zeros((len(hr), 1))

    discriminator.compile(Adam(1e-4), BinaryCrossentropy())
    discriminator.train_on_batch(hr, ones)  # Traced before it is frozen for the other model.
    discriminator.trainable = False
    sr = generator(generator.input)
    combined = keras.Model(generator.input, [sr, discriminator(sr)])
    combined.compile(Adam(1e-4), [content_loss, BinaryCrossentropy()], loss_weights=[1.0, 1e-3])

    def step():
        sr = generator.predict(lr, batch_size=len(lr), verbose=0)
        discriminator.train_on_batch(hr, ones)
        discriminator.train_on_batch(sr, zeros)
        return combined.train_on_batch(lr, [hr, ones])

    return measure(step, repeats, flops)


def time_parts(repeats: int, *case: Any) -> dict[str, float]:
    """Times what a training step consists of, each part on its own.

    Returns:
        dict of seconds (medians); their sum is not the step's time, because parts overlap in it.
    """
    recipe, gan, _ = build_case(*case)
    parts = step_parts(gan, *random_batch(recipe))
    times = {name: measure(run, repeats)["median"] for name, run in parts.items()}
    pipeline = time_input(repeats, recipe.pairs.crop_size, recipe.batch_size)
    return times | {"input": recipe.batch_size / pipeline["crops_per_second"]}


def step_parts(gan: SRGAN, lr: tf.Tensor, hr: tf.Tensor) -> dict[str, Callable[[], Any]]:
    """Returns functions that each do one part of a training step, forwards and backwards."""
    generator, discriminator = gan.generator, gan.discriminator
    chance = tf.zeros((len(lr), CHANCES))

    @tf.function
    def generate():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(generator(lr, training=True))
        return tape.gradient(loss, generator.trainable_variables)

    @tf.function
    def compare_features():
        with tf.GradientTape() as tape:
            tape.watch(hr)
            loss = gan.content_loss(-hr, hr)
        return tape.gradient(loss, hr)

    @tf.function
    def judge():
        with tf.GradientTape() as tape:
            loss, _ = gan.discriminator_loss(hr, -hr, chance, training=True)
        with tf.GradientTape() as generator_tape:
            generator_tape.watch(hr)
            adversarial = tf.reduce_mean(gan.score(hr, training=True))
        variables = discriminator.trainable_variables
        return tape.gradient(loss, variables), generator_tape.gradient(adversarial, hr)

    @tf.function
    def update():
        optimizers = (gan.optimizer, gan.discriminator_optimizer)
        for optimizer, model in zip(optimizers, (generator, discriminator), strict=True):
            variables = model.trainable_variables
            optimizer.apply([tf.ones(variable.shape) for variable in variables], variables)
        return gan.optimizer.iterations.value

    return {
        "generator": generate,
        "VGG19": compare_features,
        "discriminator": judge,
        "optimizers": update,
    }


def time_input(repeats: int, crop_size: int, batch_size: int) -> dict[str, Any]:
    """Times the input pipeline on PNG crops of 384 pixels, cut from the sample photographs.

    Returns:
        dict, as from `measure`, with `crops_per_second`.
    """
    recipe = step_recipe(crop_size, batch_size, "pixel_shuffle")
    with tempfile.TemporaryDirectory() as folder:
        for index, photo in enumerate(sorted((SAMPLE_IMAGES / "train").iterdir())):
            picture = open_picture(photo)[:384, :384]
            write_png(Path(folder, f"{index}.png"), picture)
        crops = list_crops(Path(folder), crop_size)
        batches = iter(training_batches(crops, recipe.pairs, batch_size))
        several = 10  # What was made ahead must not count.
        result = measure(lambda: [next(batches) for _ in range(several)][-1][0], repeats)
    return result | {"crops_per_second": several * batch_size / result["median"]}
