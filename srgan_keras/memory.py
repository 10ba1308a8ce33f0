"""How much memory training needs, counted from the networks before it starts."""

import math

import keras

BYTES = 4  # float32
# TensorFlow itself, loaded and with a traced training step.
PROGRAM = 0.9e9


def training_memory(gan, content_loss, crop_size, batch_size):
    """Estimates what training holds in a device's memory at its peak.

    That is: weights, gradients and Adam's two moments of both networks; two more copies of the
    largest variable, for copies in other layouts and for saving it; VGG19's weights; and each
    layer's output twice, for its gradient or a copy in another layout is there at the same time. In
    mixed precision weights have a copy of half the size; outputs take no less, since a CPU keeps
    copies of them in float32.
    With `PROGRAM` on top this was within 13 % of the peaks of five runs on a CPU, from 1.4 GB
    (recipe demo) to 10.5 GB (tutorial, batch 1).

    Args:
        gan: `SRGAN`.
        content_loss: its content loss, `VGGLoss` or Keras' own.
        crop_size: side of HR, in pixels.
        batch_size: crops on that device.

    Returns:
        (bytes for weights and their updates, bytes for layers' outputs).
    """
    generator, discriminator = gan.generator, gan.discriminator
    trained = sum(model.count_params() for model in (generator, discriminator) if model)
    largest = max(math.prod(variable.shape) for variable in gan.trainable_variables)
    vgg = content_loss.vgg() if hasattr(content_loss, "vgg") else None
    weights = 4 * trained + 2 * largest + (vgg.count_params() if vgg else 0)

    scale = generator.compute_output_shape((1, 16, 16, 3))[1] // 16
    judged = outputs_per_picture(discriminator, crop_size) if discriminator else 0
    # The discriminator's step sees HR and SR; the generator's sends SR through it and VGG19.
    steps = (2 * judged, judged + (outputs_per_picture(vgg, crop_size) if vgg else 0))
    outputs = outputs_per_picture(generator, crop_size // scale) + max(steps)
    if gan.compute_dtype != "float32":
        weights += trained / 2
    return BYTES * weights, 2 * BYTES * batch_size * outputs


def outputs_per_picture(model, size):
    """Counts the numbers that all layers of a functional model put out for one square picture."""
    every_layer = keras.Model(model.input, [layer.output for layer in model.layers])
    shapes = every_layer.compute_output_shape((1, size, size, 3))
    return sum(math.prod(shape) for shape in shapes)
