"""Keras layers that super-resolution networks need and Keras does not have, and what several of
them share.

The networks themselves are in `systems`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops
from keras.applications import vgg19

from srgan_keras.common import pixels
from srgan_keras.parts.content import build_vgg, choose_weights

UPSAMPLINGS = {2: 1, 4: 2, 8: 3}  # scale: how many upsampling blocks of factor 2


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

    def __init__(self, scale: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(scale, int) or scale < 1:
            raise ValueError(f"scale must be an integer of at least 1. Received: scale={scale!r}")
        self.scale = scale

    def call(self, x: Any) -> Any:
        return ops.depth_to_space(x, self.scale)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, channels = input_shape
        if channels % self.scale**2:
            raise ValueError(
                f"PixelShuffle({self.scale}) needs a multiple of {self.scale**2} channels. "
                f"Received: input shape {input_shape}"
            )
        height, width = (None if n is None else n * self.scale for n in (height, width))
        return (batch, height, width, channels // self.scale**2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable("srgan_keras")
class BicubicUpsampling(keras.layers.Layer):
    """Enlarges pictures by bicubic interpolation, as Pillow does (Keys 1981, a = -0.5).

    A pixel becomes scale**2, each the weighted mean of the 5x5 pixels around it: a convolution and
    a pixel shuffle. At the border, weights of pixels that are not there go to the others, as in
    Pillow; MATLAB's imresize mirrors the picture there, and is the same elsewhere. Keras' own
    `UpSampling2D(interpolation="bicubic")` can't be traced for pictures of any size.

    Args:
        scale: int >= 2, the factor by which height and width grow.

    Call arguments:
        x: `(batch, h, w, c)`.

    Returns:
        `(batch, scale * h, scale * w, c)`, the dtype of `x`. Values can lie somewhat outside of the
        range of `x`.
    """

    def __init__(self, scale: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not isinstance(scale, int) or scale < 2:
            raise ValueError(f"scale must be an integer of at least 2. Received: scale={scale!r}")
        self.scale = scale

    def call(self, x: Any) -> Any:
        return self.convolve(x) / self.convolve(ops.ones_like(x[:1, :, :, :1]))

    def convolve(self, x: Any) -> Any:
        """Enlarges with zeros around the picture."""
        channels = x.shape[-1]
        weights = self.weights_along_one_axis()
        kernel = np.einsum("ap,bq,cd->abcpqd", weights, weights, np.eye(channels))
        kernel = kernel.reshape(5, 5, channels, -1)
        x = ops.conv(x, ops.convert_to_tensor(kernel, x.dtype), padding="same")
        return ops.depth_to_space(x, self.scale)

    def weights_along_one_axis(self) -> np.ndarray:
        """The weight of each of five pixels for each of `scale` new ones, `(5, scale)`."""
        places = (np.arange(self.scale) + 0.5) / self.scale - 0.5
        x = np.abs(np.arange(-2, 3)[:, None] - places)
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        return np.where(x < 1, near, np.where(x < 2, far, 0.0))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        batch, height, width, channels = input_shape
        height, width = (None if n is None else n * self.scale for n in (height, width))
        return (batch, height, width, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale}


@keras.saving.register_keras_serializable("srgan_keras")
class Luma(keras.layers.Layer):
    """The luma of pictures, `(batch, h, w, 3)` to `(batch, h, w, 1)`, both in one range."""

    def call(self, x: Any) -> Any:
        return pixels.luma(x)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], 1)


@keras.saving.register_keras_serializable("srgan_keras")
class ClipPictures(keras.layers.Layer):
    """Clips pictures to [-1, 1]; gradients go through as if it did not.

    For networks that end in a sum. A clip whose gradient is 0 would leave a pixel outside of the
    range where it is, even if the photograph's lies inside.
    """

    def call(self, x: Any) -> Any:
        fixed = ops.stop_gradient(x)
        return ops.clip(fixed, -1.0, 1.0) + (x - fixed)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


@keras.saving.register_keras_serializable("srgan_keras")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Keras' batch normalisation, its training one fused TensorFlow operation.

    Keras' own goes through memory some ten times forwards and backwards, in mixed precision in
    float32. Results, weights and moving averages are the same. At inference, and on other backends,
    it is Keras' layer.
    """

    def call(self, x: Any, training: bool | None = None, mask: Any = None) -> Any:
        fusible = keras.backend.backend() == "tensorflow" and mask is None
        fusible = fusible and self.center and self.scale and self.axis in (-1, 3)
        if not (fusible and training and self.trainable):
            return super().call(x, training=training, mask=mask)
        import tensorflow as tf

        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            x,
            ops.cast(self.gamma, "float32"),
            ops.cast(self.beta, "float32"),
            epsilon=self.epsilon,
        )
        # The kernel divides by n - 1, Keras by n.
        n = ops.cast(ops.size(x) // ops.shape(x)[-1], "float32")
        variance *= (n - 1) / n
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1 - self.momentum))
        return y


@keras.saving.register_keras_serializable("srgan_keras")
class NarrowConv2D(keras.layers.Conv2D):
    """Conv2D for few filters, such as a network's last: the same map, several times faster.

    Matrix units work on 8, 16 or more output channels at once, so that three leave most of them
    idle. This layer makes a square of 2x2 output pixels from each position instead: a convolution
    of stride 2 with four times the filters, whose kernels are this layer's own at the four offsets
    within the square, and a pixel shuffle. For 9x9 kernels that is 1.2 times the arithmetic; on a
    CPU with AVX-512 it runs 3 times faster.

    Weights, their names and their shapes are those of
    `Conv2D(filters, kernel_size, padding="same")`.

    Args:
        filters: int, channels of the output.
        kernel_size: odd int.
        **kwargs: as Conv2D takes them, but for strides, padding, dilation and groups.

    Call arguments:
        x: `(batch, h, w, c)`, h and w even.

    Returns:
        `(batch, h, w, filters)`.
    """

    def __init__(self, filters: int, kernel_size: Any, **kwargs: Any) -> None:
        kwargs = {**kwargs, "padding": "same"}
        super().__init__(filters, kernel_size, **kwargs)
        if any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(f"kernel_size must be odd. Received: kernel_size={kernel_size}")

    def call(self, x: Any) -> Any:
        offsets = [((i, 1 - i), (j, 1 - j), (0, 0), (0, 0)) for i in (0, 1) for j in (0, 1)]
        kernel = ops.concatenate([ops.pad(self.kernel, offset) for offset in offsets], axis=-1)
        x = ops.depth_to_space(ops.conv(x, kernel, strides=2, padding="same"), 2)
        return self.activation(x + self.bias if self.use_bias else x)


@keras.saving.register_keras_serializable("srgan_keras")
class WeightedConcatenation(keras.layers.Layer):
    """Concatenates groups of feature maps, each multiplied by a number that is learned.

    All numbers are 1 to begin with: then it is a concatenation.

    Call arguments:
        groups: list of `(batch, h, w, c_i)`.

    Returns:
        `(batch, h, w, sum of c_i)`.
    """

    def build(self, input_shape: Sequence[tuple]) -> None:
        self.group_weights = self.add_weight(
            (len(input_shape),), initializer="ones", name="group_weights"
        )

    def call(self, groups: Sequence[Any]) -> Any:
        weights = ops.unstack(ops.cast(self.group_weights, groups[0].dtype), len(groups))
        return ops.concatenate([w * x for w, x in zip(weights, groups, strict=True)], axis=-1)

    def compute_output_shape(self, input_shape: Sequence[tuple]) -> tuple:
        return (*input_shape[0][:-1], sum(shape[-1] for shape in input_shape))


@keras.saving.register_keras_serializable("srgan_keras")
class VGG19Features(keras.layers.Layer):
    """The feature maps of a VGG19 that is not trained, for a critic that judges by them.

    The layer has no weights: VGG19's are not saved with the network, whose file names where they
    come from.

    Args:
        layer: a convolution of VGG19 by its Keras name, after its ReLU.
        vgg_weights: as `VGGLoss` takes them.

    Call arguments:
        images: `(batch, h, w, 3)` float32 in [-1, 1]. VGG19 sees them as it was trained to.

    Returns:
        that layer's feature maps, float32, divided by 255: of 8-bit pictures they are hundreds.

    Raises:
        VGGWeightsError: if the weights cannot be had.
    """

    def __init__(self, layer: str, vgg_weights: Any = "imagenet", **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.layer = layer
        self.vgg_weights = choose_weights(vgg_weights)
        vgg = build_vgg(layer, self.vgg_weights)
        self.vgg = lambda: vgg  # A function, so that it is not a part of this layer.

    def call(self, images: Any) -> Any:
        images = vgg19.preprocess_input(pixels.to_255(images))
        return ops.cast(self.vgg()(images, training=False), "float32") / 255.0

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return self.vgg().compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layer": self.layer, "vgg_weights": self.vgg_weights}


def correct_enlargement(scale: int, correction: Callable[[Any], Any]) -> keras.Model:
    """Builds a generator that corrects the bicubic enlargement, as SRCNN and VDSR do.

    Args:
        scale: int >= 2.
        correction: function from the enlargement, `(batch, h, w, 3)` float32, to what is added to
            it, `(batch, h, w, 1)` or `(batch, h, w, 3)`.

    Returns:
        A functional `keras.Model` named "generator". In: `(batch, h, w, 3)` float32 in [-1, 1], any
        h and w. Out: `(batch, scale * h, scale * w, 3)` float32 in [-1, 1].
    """
    lr = keras.Input((None, None, 3), name="lr")
    enlarged = BicubicUpsampling(scale, dtype="float32")(lr)
    sr = layers.Add(dtype="float32")([enlarged, correction(enlarged)])
    return keras.Model(lr, ClipPictures(dtype="float32", name="sr")(sr), name="generator")


def pixel_shuffle_block(x: Any, filters: int) -> Any:
    """Upsampling by 2 (Ledig et al. 2017, figure 4): conv, pixel shuffle, after which a quarter of
    the channels is left, and PReLU.
    """
    x = layers.Conv2D(filters, 3, padding="same")(x)
    x = PixelShuffle(2)(x)
    return layers.PReLU(shared_axes=[1, 2])(x)
