"""The discriminator: tells photographs from the generator's pictures."""

import keras
from keras import layers

from srgan_keras.models.layers import FusedBatchNormalization

HEADS = ("flatten", "pooling")


def build_discriminator(
    *, image_size=384, filters=64, dense_units=1024, head="flatten", batch_norm_momentum=0.5
):
    """Builds the discriminator of Ledig et al. 2017 (figure 4) and of the tutorial.

    Eight 3x3 convolutions from `filters` to `8 * filters` channels, every second one with stride
    2, batch normalisation on all but the first; then the head and a sigmoid.

    Args:
        image_size: side of the square pictures it judges; only `head="flatten"` depends on it.
        filters: channels of the first convolution.
        dense_units: width of the dense layer before the last.
        head: `"flatten"` is the paper's and the tutorial's; its dense layer has 302 million
            weights at 384 pixels, 19 million at 96. `"pooling"` (our choice, because it costs half
            a million weights and takes any size) averages each feature map first.
        batch_norm_momentum: of the moving averages that inference uses; the tutorial's is 0.5.

    Returns:
        A functional `keras.Model` named "discriminator". In: `(batch, image_size, image_size, 3)`
        float32 in [-1, 1] (any height and width with `head="pooling"`). Out: `(batch, 1)` float32
        in [0, 1], the probability that the picture is a photograph.

    Raises:
        ValueError: if an argument is outside what is listed above.
    """
    if head not in HEADS:
        raise ValueError(f"head must be one of {HEADS}. Received: head={head!r}")
    if image_size < 16:
        raise ValueError(f"image_size must be at least 16. Received: image_size={image_size}")
    if filters < 1 or dense_units < 1:
        raise ValueError(
            "filters and dense_units must be at least 1. "
            f"Received: filters={filters}, dense_units={dense_units}"
        )

    side = image_size if head == "flatten" else None
    image = keras.Input((side, side, 3), name="image")
    x = layers.Conv2D(filters, 3, padding="same")(image)
    x = layers.LeakyReLU(0.2)(x)
    x = convolution_block(x, filters, 2, batch_norm_momentum)
    for channels in (2 * filters, 4 * filters, 8 * filters):
        x = convolution_block(x, channels, 1, batch_norm_momentum)
        x = convolution_block(x, channels, 2, batch_norm_momentum)
    x = layers.Flatten()(x) if head == "flatten" else layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(dense_units)(x)
    x = layers.LeakyReLU(0.2)(x)
    validity = layers.Dense(1, activation="sigmoid", dtype="float32", name="validity")(x)
    return keras.Model(image, validity, name="discriminator")


def convolution_block(x, filters, strides, batch_norm_momentum):
    """Conv, BN, LeakyReLU."""
    x = layers.Conv2D(filters, 3, strides=strides, padding="same")(x)
    x = FusedBatchNormalization(momentum=batch_norm_momentum)(x)
    return layers.LeakyReLU(0.2)(x)
