"""Picture quality measures, as Keras metrics."""

import keras
from keras import ops


def psnr(hr, sr):
    """Peak signal-to-noise ratio over R, G and B.

    Args:
        hr: photographs, `(batch, h, w, 3)` float32 in [-1, 1] (peak 2).
        sr: generated pictures, likewise.

    Returns:
        `(batch,)` float32 in dB, one value per picture; equal pictures give 100.
    """
    mse = ops.mean(ops.square(hr - sr), axis=(1, 2, 3))
    return 10.0 * ops.log10(4.0 / ops.maximum(mse, 4e-10))


@keras.saving.register_keras_serializable("srgan_keras")
class PSNR(keras.metrics.MeanMetricWrapper):
    """The mean of each picture's `psnr`, as a Keras metric."""

    def __init__(self, name="psnr", **kwargs):
        super().__init__(psnr, name=name, **kwargs)

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype}
