"""How much memory training needs, counted from the networks before it starts, and the parts in
which a batch fits into it.
"""

import math
from typing import Any

import keras

from srgan_keras.common.errors import UserError
from srgan_keras.inference.graph import count_weights
from srgan_keras.recipe import Recipe
from srgan_keras.training.devices import device_memory, gigabytes
from srgan_keras.training.gan import SRGAN

BYTES = 4  # float32
# TensorFlow itself, loaded and with a traced training step.
FRAMEWORK_BYTES = 0.9e9


def training_memory(
    gan: SRGAN, content_loss: Any, crop_size: int, crops: int
) -> tuple[float, float]:
    """Estimates what training holds in a device's memory at its peak.

    That is: weights, gradients and Adam's two moments of both networks; two more copies of the
    largest variable, for copies in other layouts and for saving it; one more gradient of the larger
    network where gradients are summed over parts of a batch; VGG19's weights; and each layer's
    output twice, for its gradient or a copy in another layout is there at the same time; of those
    layers of VGG19 that are compared, six more times: scaled, of HR, their difference. In mixed
    precision weights have a copy of half the size; outputs take no less, since a CPU keeps copies
    of them in float32.
    With `FRAMEWORK_BYTES` on top this was within 13 % of the peaks of five runs on a CPU, from
    1.4 GB (recipe demo) to 10.5 GB (tutorial-fast, batch 1); of wdrn it was 18 % below with 8 crops
    of 48 pixels (1.51 GB) and 6 % above with 8 of 96 (1.81 GB).

    Args:
        gan: `SRGAN`.
        content_loss: its content loss, `VGGLoss` or Keras' own.
        crop_size: side of HR, in pixels.
        crops: that go through the networks at a time, on that device.

    Returns:
        (bytes for weights and their updates, bytes for layers' outputs).

    Raises:
        ValueError: if a network has a layer whose outputs cannot be counted.
    """
    generator, discriminator = gan.generator, gan.discriminator
    sizes = [model.count_params() for model in (generator, discriminator) if model]
    largest = max(math.prod(variable.shape) for variable in gan.trainable_variables)
    vgg = content_loss.vgg() if hasattr(content_loss, "vgg") else None
    frozen = [vgg] if vgg else []
    if discriminator:
        frozen += frozen_networks(discriminator)
    weights = 4 * sum(sizes) + 2 * largest + sum(model.count_params() for model in frozen)
    if gan.parts > 1:
        weights += max(sizes)

    scale = generator.compute_output_shape((1, 16, 16, 3))[1] // 16
    judged = outputs_per_picture(discriminator, crop_size) if discriminator else 0
    compared = outputs_per_picture(vgg, crop_size) if vgg else 0
    if vgg:
        compared += 3 * outputs_per_picture(vgg, crop_size, vgg.output_names)
    # The discriminator's step sees HR and SR, and pictures between them where it has a penalty; the
    # generator's sends SR through it and VGG19.
    penalty = getattr(getattr(gan, "adversarial_loss", None), "gradient_penalty", 0)
    steps = ((3 if penalty else 2) * judged, judged + compared)
    outputs = outputs_per_picture(generator, crop_size // scale) + max(steps)
    if gan.compute_dtype != "float32":
        weights += sum(sizes) / 2
    return BYTES * weights, 2 * BYTES * crops * outputs


def outputs_per_picture(model: keras.Model, size: int, names: list[str] | None = None) -> int:
    """Counts the numbers that layers of a functional model put out for one square picture.

    Args:
        model: the model.
        size: the picture's side, in pixels.
        names: of the layers; None: all.

    Raises:
        ValueError: if one of its layers is a model, whose own layers this would miss.
    """
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            raise ValueError(
                f"the layers of {model.name} must not be models: their memory would not be counted."
                f" Received: {layer.name}"
            )
    outputs = [layer.output for layer in model.layers if names is None or layer.name in names]
    shapes = keras.Model(model.input, outputs).compute_output_shape((1, size, size, 3))
    inside = sum(outputs_per_picture(network, size) for network in frozen_networks(model))
    return sum(math.prod(shape) for shape in shapes) + inside


def frozen_networks(model: keras.Model) -> list[keras.Model]:
    """The networks that layers of a model hold without being trained: `VGG19Features`."""
    return [layer.vgg() for layer in model.layers if hasattr(layer, "vgg")]


def check_weights(recipe: Recipe, check_memory: bool) -> None:
    """Looks whether the networks fit into memory, before they are built.

    Args:
        recipe: `Recipe`.
        check_memory: refuse those that do not.

    Raises:
        UserError: if their weights, gradients and moments alone need more than there is.
    """
    have = device_memory()
    if have is None or not check_memory:
        return
    count = count_weights(lambda: recipe.generator.build(recipe.pairs.scale))
    if recipe.discriminator:
        count += count_weights(lambda: recipe.discriminator.build(recipe.pairs.crop_size, None))
    need = FRAMEWORK_BYTES + 4 * BYTES * count
    if need > have:
        raise UserError(
            f"The networks have {count:,} weights: training them needs at least {gigabytes(need)} "
            f"of memory and there are {gigabytes(have)}. Set a smaller `crop_size` or smaller "
            "networks, or set `no_check_memory` to try all the same."
        )


def fit_into_memory(gan: SRGAN, recipe: Recipe, batch: int, check_memory: bool) -> int:
    """Sets in how many parts a device's batch goes through the networks, and says what that takes.

    Args:
        gan: `SRGAN`.
        recipe: `Recipe`. If its `micro_batch` is 0, the greatest divisor of the batch is chosen
            that fits into the device's memory; the batch itself, if that is not known.
        batch: crops of a batch on each device.
        check_memory: refuse to start where it does not fit.

    Returns:
        the crops of a part.

    Raises:
        UserError: if it does not fit, or the batch does not divide so.
    """
    if recipe.micro_batch and batch % recipe.micro_batch:
        raise UserError(
            f"A device's batch of {batch} does not divide into parts of {recipe.micro_batch}. Set "
            "`micro_batch` to a divisor of it."
        )
    have = device_memory()
    divisors = [crops for crops in range(batch, 0, -1) if batch % crops == 0]
    for micro_batch in [recipe.micro_batch] if recipe.micro_batch else divisors:
        gan.parts = batch // micro_batch
        loss, size = gan.content_loss, recipe.pairs.crop_size
        weights, outputs = training_memory(gan, loss, size, micro_batch)
        need = FRAMEWORK_BYTES + weights + outputs
        if have is None or need <= have:
            break
    print(
        f"Memory: about {gigabytes(need)} on each device ({gigabytes(weights)} for weights and "
        f"their updates, {gigabytes(outputs)} for layers' outputs)"
        + (f"; there are {gigabytes(have)}" if have else "")
    )
    if gan.parts > 1:
        print(f"Each batch goes through in {gan.parts} parts of {micro_batch} crops.")
    if check_memory and have and need > have:
        raise UserError(
            f"Training needs about {gigabytes(need)} of memory and there are {gigabytes(have)}. "
            f"Set a smaller {'`micro_batch`' if micro_batch > 1 else '`crop_size`'}, or set "
            "`no_check_memory` to try all the same."
        )
    return micro_batch
