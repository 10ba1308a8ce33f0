"""Keras layers that super-resolution networks need and Keras does not have.

The networks themselves are in the files beside this one.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable("srgan_keras")
class PixelShuffle(keras.layers.Layer):
    """Sub-pixel convolution's second half: moves channels into space (Shi et al. 2016).

    Args:
        scale: int >= 1, the factor by which height and width grow.

    Call arguments:
        x: `(batch, h, w, scale**2 * c)`.

    Returns:
        `(batch, scale * h, scale * w, c)`, the dtype of `x`.
    """

    def __init__(self, scale, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(scale, int) or scale < 1:
            raise ValueError(f"scale must be an integer of at least 1. Received: scale={scale!r}")
        self.scale = scale

    def call(self, x):
        return ops.depth_to_space(x, self.scale)

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        if channels % self.scale**2:
            raise ValueError(
                f"PixelShuffle({self.scale}) needs a multiple of {self.scale**2} channels. "
                f"Received: input shape {input_shape}"
            )
        height, width = (None if n is None else n * self.scale for n in (height, width))
        return (batch, height, width, channels // self.scale**2)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}
