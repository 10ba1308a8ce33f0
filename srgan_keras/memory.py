"""How much memory a training step needs, counted from the networks before it starts."""

import math

import keras

BYTES = 4  # float32


def training_memory(gan, content_loss, crop_size, batch_size):
    """Estimates what must be in a device's memory at the same time during a training step.

    That is: weights, gradients and Adam's two moments of both networks, VGG19's weights, and the
    layers' outputs that the backward pass reads.

    Args:
        gan: `SRGAN`.
        content_loss: its content loss, `VGGLoss` or Keras' own.
        crop_size: side of HR, in pixels.
        batch_size: crops on that device.

    Returns:
        (bytes for weights and their training, bytes for layers' outputs).
    """
    generator, discriminator = gan.generator, gan.discriminator
    trained = generator.count_params() + discriminator.count_params()
    vgg = content_loss.vgg() if hasattr(content_loss, "vgg") else None
    weights = 4 * trained + (vgg.count_params() if vgg else 0)

    scale = generator.compute_output_shape((1, 16, 16, 3))[1] // 16
    judged = outputs_per_picture(discriminator, crop_size)
    # The discriminator's step sees HR and SR; the generator's sends SR through it and VGG19.
    steps = (2 * judged, judged + (outputs_per_picture(vgg, crop_size) if vgg else 0))
    outputs = outputs_per_picture(generator, crop_size // scale) + max(steps)
    return BYTES * weights, BYTES * batch_size * outputs


def outputs_per_picture(model, size):
    """Counts the numbers that all layers of a functional model put out for one square picture."""
    every_layer = keras.Model(model.input, [layer.output for layer in model.layers])
    shapes = every_layer.compute_output_shape((1, size, size, 3))
    return sum(math.prod(shape) for shape in shapes)
