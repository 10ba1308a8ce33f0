"""Content losses: how far a generated picture is from the photograph, in pixels or in the features
of VGG19.
"""

import os
import socket
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops
from keras.applications import vgg19

from srgan_keras.common import pixels
from srgan_keras.common.errors import UserError
from srgan_keras.common.settings import Part, setting

PREPROCESSING = ("raw", "vgg")
VGG_LAYERS = tuple(
    f"block{block}_conv{conv}"
    for block, count in enumerate((2, 2, 4, 4, 4), start=1)
    for conv in range(1, count + 1)
)
#: Ledig et al. 2017, section 3.2: this factor brings VGG losses to the size of the MSE loss.
PAPER_FEATURE_SCALE = 1 / 12.75
WEIGHTS_VARIABLE = "SRGAN_VGG_WEIGHTS"


@dataclass(frozen=True)
class Pixels(Part):
    """The mean squared or absolute difference of the pixels."""

    loss: str = setting(
        "mse", "mse, mae, or a layer of VGG19", choices=("mse", "mae"), option="content_loss"
    )
    weight: float = setting(1.0, "weight of the content loss", least=0, option="content_weight")

    def build(self, vgg_weights: Any = None) -> keras.losses.Loss:
        """Builds the loss; `vgg_weights` is of no use to it."""
        losses = {"mse": keras.losses.MeanSquaredError, "mae": keras.losses.MeanAbsoluteError}
        return losses[self.loss](name=self.loss)


@dataclass(frozen=True)
class VGGFeatures(Part):
    """The mean squared difference of VGG19's features, with some of the pixels' if wanted."""

    layer: str = setting(
        "block5_conv4", "a layer of VGG19, mse or mae", choices=VGG_LAYERS, option="content_loss"
    )
    preprocessing: str = setting(
        "raw",
        "what VGG19 sees: -1..1 as it is, or what it was trained on",
        choices=PREPROCESSING,
        option="vgg_preprocessing",
    )
    feature_scale: float = setting(
        1.0, "factor on VGG19's features", least=0, option="vgg_feature_scale"
    )
    pixel_weight: float = setting(
        0.0, "weight of the absolute pixel error that is added to that of the features", least=0
    )
    weight: float = setting(1.0, "weight of the content loss", least=0, option="content_weight")

    def build(self, vgg_weights: Any = "imagenet") -> keras.losses.Loss:
        """Builds the loss; `vgg_weights` as for `VGGLoss`."""
        return VGGLoss(
            self.layer, vgg_weights, self.preprocessing, self.feature_scale, self.pixel_weight
        )


def choose_content(name: str, now: Part) -> Part:
    """Returns the part that knows a content loss by this name.

    Args:
        name: what --content-loss takes.
        now: the part of the recipe, whose weight it takes over if it is of another kind.

    Raises:
        UserError: if there is none.
    """
    for kind in (type(now), Pixels, VGGFeatures):
        if name in kind.options()["content_loss"].metadata["choices"]:
            return (now if kind is type(now) else kind(weight=now.weight)).change(content_loss=name)
    names = ", ".join(("mse", "mae", *VGG_LAYERS))
    raise UserError(f"content_loss must be one of {names}. Received: {name!r}")


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
        layer: str = "block5_conv4",
        weights: Any = "imagenet",
        preprocessing: str = "raw",
        feature_scale: float = 1.0,
        pixel_weight: float = 0.0,
        name: str = "vgg_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        VGGFeatures(layer, preprocessing, feature_scale, pixel_weight)  # checks them
        weights = choose_weights(weights)
        self.layer = layer
        self.weights = weights
        self.preprocessing = preprocessing
        self.feature_scale = feature_scale
        self.pixel_weight = pixel_weight
        vgg = build_vgg(layer, weights)
        # A function, because Keras would save a model's 80 MB into every checkpoint.
        self.vgg = lambda: vgg

    def call(self, hr: Any, sr: Any) -> Any:
        difference = ops.stop_gradient(self.features(hr)) - self.features(sr)
        loss = ops.mean(ops.square(difference), axis=(1, 2, 3))
        if self.pixel_weight:
            loss += self.pixel_weight * ops.mean(ops.abs(hr - sr), axis=(1, 2, 3))
        return loss

    def features(self, images: Any) -> Any:
        """Returns the scaled VGG19 features of `(batch, h, w, 3)` float32 images in [-1, 1]."""
        if self.preprocessing == "vgg":
            images = vgg19.preprocess_input(pixels.to_255(images))
        features = ops.cast(self.vgg()(images, training=False), "float32")
        return features * self.feature_scale

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer": self.layer,
            "weights": self.weights,
            "preprocessing": self.preprocessing,
            "feature_scale": self.feature_scale,
            "pixel_weight": self.pixel_weight,
        }


def choose_weights(weights: Any) -> Any:
    """Returns the file that the environment names in place of `"imagenet"`, if it does."""
    return os.environ.get(WEIGHTS_VARIABLE, weights) if weights == "imagenet" else weights


def build_vgg(layer: str, weights: Any) -> keras.Model:
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
    ways_out = f"Give a file with `vgg_weights` or the environment variable {WEIGHTS_VARIABLE}"
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
                "train without VGG19: `content_loss` mse."
            ) from error
        raise VGGWeightsError(
            f"{weights} does not hold VGG19 weights without top ({reason}). {ways_out}."
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    vgg.trainable = False
    return keras.Model(vgg.input, vgg.get_layer(layer).output, name=f"vgg19_{layer}")
