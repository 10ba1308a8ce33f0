"""The networks, one builder a file."""

from srgan_keras.models.discriminator import build_discriminator
from srgan_keras.models.generator import build_generator
from srgan_keras.models.layers import FusedBatchNormalization, NarrowConv2D, PixelShuffle

__all__ = [
    "FusedBatchNormalization",
    "NarrowConv2D",
    "PixelShuffle",
    "build_discriminator",
    "build_generator",
]
