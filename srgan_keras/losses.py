"""Content losses: how far a generated picture is from the photograph, in VGG19's features.

The adversarial loss is Keras' own `BinaryCrossentropy`: with labels of one it is -log D(G(LR)).
"""

import os
import socket

import keras
from keras import ops
from keras.applications import vgg19

from data_prep.cli import UserError

PREPROCESSING = ("raw", "vgg")
VGG_LAYERS = tuple(
    f"block{block}_conv{conv}"
    for block, count in enumerate((2, 2, 4, 4, 4), start=1)
    for conv in range(1, count + 1)
)
#: Paper, section 3.2: this factor brings VGG losses to the size of the MSE loss.
PAPER_FEATURE_SCALE = 1 / 12.75
WEIGHTS_VARIABLE = "SRGAN_VGG_WEIGHTS"


class VGGWeightsError(UserError):
    """VGG19's ImageNet weights cannot be had; the message names the ways out."""


@keras.saving.register_keras_serializable("srgan_keras")
class VGGLoss(keras.losses.Loss):
    """Mean squared difference of VGG19 features (Ledig et al. 2017, equation 5).

    Args:
        layer: a convolution of VGG19 by its Keras name, after its ReLU: `"block5_conv4"` is the
            paper's VGG54 and the tutorial's, `"block2_conv2"` is VGG22.
        weights: the path of an H5 weight file without top; `"imagenet"` for the file that the
            environment variable SRGAN_VGG_WEIGHTS names or else Keras' own, downloaded once and
            cached; or None for random weights (tests only).
        preprocessing: `"raw"` feeds [-1, 1] pictures to VGG19 as they are, as the tutorial does;
            `"vgg"` turns them into what VGG19 was trained on (0 to 255, BGR, mean subtracted).
        feature_scale: factor on the features; `PAPER_FEATURE_SCALE` goes with `"vgg"`.
        pixel_weight: weight of the mean absolute difference of the pixels, added to that of the
            features. Features hardly see colour and brightness; a little of this holds them
            (Wang et al. 2018, ESRGAN, equation 3).

    Call arguments:
        hr: photographs, `(batch, h, w, 3)` float32 in [-1, 1].
        sr: generated pictures, likewise.

    Returns:
        One value per picture before Keras' reduction, so that `loss_weights` hold on any number of
        replicas. No gradient flows to `hr` or to VGG19's weights.

    Raises:
        VGGWeightsError: if the weights cannot be had.
        ValueError: if another argument is outside what is listed above.
    """

    def __init__(
        self,
        layer="block5_conv4",
        weights="imagenet",
        preprocessing="raw",
        feature_scale=1.0,
        pixel_weight=0.0,
        name="vgg_loss",
        **kwargs,
    ):
        super().__init__(name=name, **kwargs)
        if layer not in VGG_LAYERS:
            raise ValueError(f"layer must be one of {', '.join(VGG_LAYERS)}. Received: {layer!r}")
        if preprocessing not in PREPROCESSING:
            raise ValueError(
                f"preprocessing must be one of {PREPROCESSING}. Received: {preprocessing!r}"
            )
        if weights == "imagenet":
            weights = os.environ.get(WEIGHTS_VARIABLE) or weights
        self.layer = layer
        self.weights = weights
        self.preprocessing = preprocessing
        self.feature_scale = feature_scale
        self.pixel_weight = pixel_weight
        vgg = build_vgg(layer, weights)
        # A function, because Keras would save a model's 80 MB into every checkpoint.
        self.vgg = lambda: vgg

    def call(self, hr, sr):
        difference = ops.stop_gradient(self.features(hr)) - self.features(sr)
        loss = ops.mean(ops.square(difference), axis=(1, 2, 3))
        if self.pixel_weight:
            loss += self.pixel_weight * ops.mean(ops.abs(hr - sr), axis=(1, 2, 3))
        return loss

    def features(self, images):
        """Returns the scaled VGG19 features of `(batch, h, w, 3)` float32 images in [-1, 1]."""
        if self.preprocessing == "vgg":
            images = vgg19.preprocess_input((images + 1.0) * 127.5)
        features = ops.cast(self.vgg()(images, training=False), "float32")
        return features * self.feature_scale

    def get_config(self):
        return {
            **super().get_config(),
            "layer": self.layer,
            "weights": self.weights,
            "preprocessing": self.preprocessing,
            "feature_scale": self.feature_scale,
            "pixel_weight": self.pixel_weight,
        }


def build_vgg(layer, weights):
    """Builds VGG19 from its input to one of its convolutions.

    Args:
        layer: a name in `VGG_LAYERS`.
        weights: as for `VGGLoss`.

    Returns:
        A frozen functional `keras.Model`. In: `(batch, h, w, 3)`. Out: that layer's features.

    Raises:
        VGGWeightsError: if the weights cannot be had.
    """
    options = {"include_top": False, "input_shape": (None, None, 3)}
    ways_out = f"Give a file with --vgg-weights FILE or the environment variable {WEIGHTS_VARIABLE}"
    if weights not in (None, "imagenet") and not os.path.isfile(weights):
        raise VGGWeightsError(f"There is no VGG19 weight file {weights}. {ways_out}.")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # Keras' download has none: a silent network would hang for ever.
    try:
        vgg = vgg19.VGG19(weights=None if weights is None else str(weights), **options)
    except Exception as error:  # Keras raises bare Exception for a failed download.
        reason = str(error).splitlines()[0]
        if weights == "imagenet":
            raise VGGWeightsError(
                f"VGG19's ImageNet weights could not be downloaded ({reason}). {ways_out}, or "
                "train without VGG19: --content-loss mse."
            ) from error
        raise VGGWeightsError(
            f"{weights} does not hold VGG19 weights without top ({reason}). {ways_out}."
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    vgg.trainable = False
    return keras.Model(vgg.input, vgg.get_layer(layer).output, name=f"vgg19_{layer}")
