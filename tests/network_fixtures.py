"""Networks that tests of training share."""

import keras
from keras import layers

from srgan_keras.systems.srgan import convolution_block


def small_discriminator(image_size=32, filters=4, dense_units=8):
    """Has every kind of layer that `build_discriminator`'s has, and a quarter of them."""
    x = pictures = keras.Input((image_size, image_size, 3))
    for _ in range(2):
        x = convolution_block(x, filters, strides=2, batch_norm_momentum=0.5)
    x = layers.LeakyReLU(0.2)(layers.Dense(dense_units)(layers.Flatten()(x)))
    x = layers.Dense(1, dtype="float32", name="score")(x)
    validity = layers.Activation("sigmoid", dtype="float32", name="validity")(x)
    return keras.Model(pictures, validity, name="discriminator")
