"""The networks, one builder a file."""

from srgan_keras.models.discriminator import build_discriminator
from srgan_keras.models.generator import build_generator
from srgan_keras.models.layers import PixelShuffle

__all__ = ["PixelShuffle", "build_discriminator", "build_generator"]
