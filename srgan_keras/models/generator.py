"""The generator: a low-resolution picture in, the same picture `scale` times larger out."""

import keras
from keras import layers

from srgan_keras.models.layers import FusedBatchNormalization, NarrowConv2D, PixelShuffle

SCALES = (2, 4, 8)
UPSAMPLING = ("nearest", "pixel_shuffle")


def build_generator(
    *, scale=4, filters=64, residual_blocks=16, upsampling="nearest", batch_norm_momentum=0.5
):
    """Builds the SRResNet generator of Ledig et al. 2017 (figure 4) and of the tutorial.

    Args:
        scale: 2, 4 or 8; one upsampling block for every factor of 2.
        filters: channels of the trunk; the upsampling convolutions have four times as many.
        residual_blocks: number of residual blocks.
        upsampling: `"pixel_shuffle"` is the figure's sub-pixel convolution followed by PReLU;
            `"nearest"` is the tutorial code's UpSampling2D followed by LeakyReLU(0.2).
        batch_norm_momentum: of the moving averages that inference uses; the tutorial's is 0.5.

    Returns:
        A functional `keras.Model` named "generator". In: `(batch, h, w, 3)` float32, any h and w.
        Out: `(batch, scale * h, scale * w, 3)` float32 in [-1, 1].

    Raises:
        ValueError: if an argument is outside what is listed above.
    """
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {SCALES}. Received: scale={scale!r}")
    if upsampling not in UPSAMPLING:
        raise ValueError(f"upsampling must be one of {UPSAMPLING}. Received: {upsampling!r}")
    if filters < 1 or residual_blocks < 0:
        raise ValueError(
            "filters must be at least 1 and residual_blocks at least 0. "
            f"Received: filters={filters}, residual_blocks={residual_blocks}"
        )
    upsampling_block = {"nearest": nearest_block, "pixel_shuffle": pixel_shuffle_block}[upsampling]

    lr = keras.Input((None, None, 3), name="lr")
    x = layers.Conv2D(filters, 9, padding="same")(lr)
    x = first = layers.PReLU(shared_axes=[1, 2])(x)
    for _ in range(residual_blocks):
        x = residual_block(x, filters, batch_norm_momentum)
    x = layers.Conv2D(filters, 3, padding="same")(x)
    x = FusedBatchNormalization(momentum=batch_norm_momentum)(x)
    x = layers.Add()([first, x])
    for _ in range(SCALES.index(scale) + 1):
        x = upsampling_block(x, 4 * filters)
    x = NarrowConv2D(3, 9)(x)
    sr = layers.Activation("tanh", dtype="float32", name="sr")(x)
    return keras.Model(lr, sr, name="generator")


def residual_block(x, filters, batch_norm_momentum):
    """Conv, BN, PReLU, conv, BN, and the sum with the block's input."""
    y = layers.Conv2D(filters, 3, padding="same")(x)
    y = FusedBatchNormalization(momentum=batch_norm_momentum)(y)
    y = layers.PReLU(shared_axes=[1, 2])(y)
    y = layers.Conv2D(filters, 3, padding="same")(y)
    y = FusedBatchNormalization(momentum=batch_norm_momentum)(y)
    return layers.Add()([x, y])


def pixel_shuffle_block(x, filters):
    """The paper's upsampling by 2: conv, pixel shuffle (a quarter of the channels stays), PReLU."""
    x = layers.Conv2D(filters, 3, padding="same")(x)
    x = PixelShuffle(2)(x)
    return layers.PReLU(shared_axes=[1, 2])(x)


def nearest_block(x, filters):
    """The tutorial code's upsampling by 2: conv, repetition of pixels, LeakyReLU."""
    x = layers.Conv2D(filters, 3, padding="same")(x)
    x = layers.UpSampling2D(2)(x)
    return layers.LeakyReLU(0.2)(x)
