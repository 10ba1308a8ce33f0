"""Content losses: how far a generated picture is from the photograph, in pixels or in the features
of VGG19.
"""

import math
import os
import socket
from dataclasses import dataclass, fields
from pathlib import Path
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
#: The layers whose weights ship with the package (blocks 1 and 2, 260,160 weights), and where.
SHIPPED = VGG_LAYERS[: VGG_LAYERS.index("block2_conv2") + 1]
SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights" / "vgg19_blocks_1_and_2.weights.h5"


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
    """The squared difference of VGG19's features, with some of the pixels' if wanted."""

    layers: str = setting(
        "block5_conv4",
        "mse, mae, or layers of VGG19, such as block5_conv4 or 0.5*block2_conv2+block5_conv4",
        option="content_loss",
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
    unit_length: bool = setting(
        False, "scale VGG19's features at each position to length 1", option="vgg_unit_length"
    )
    total_variation_weight: float = setting(
        0.0, "weight of the generated picture's total variation, which is added", least=0
    )
    grid_weight: float = setting(
        0.0, "weight of the grid and of the change of colour that are added", least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_layers(self.layers)

    def build(self, vgg_weights: Any = "imagenet") -> keras.losses.Loss:
        """Builds the loss; `vgg_weights` as for `VGGLoss`."""
        return VGGLoss(
            self.layers,
            vgg_weights,
            self.preprocessing,
            self.feature_scale,
            self.pixel_weight,
            self.unit_length,
            self.total_variation_weight,
            self.grid_weight,
        )


def parse_layers(text: str) -> dict[str, float]:
    """Reads a sum of layers, such as `"0.5*block2_conv2+block5_conv4"`.

    Returns:
        the layers' weights by name, in the order given; 1 where there is none.

    Raises:
        UserError: if it is something else.
    """
    terms = [term.rpartition("*") for term in text.split("+")]
    try:
        layers = {name: float(weight) if times else 1.0 for weight, times, name in terms}
        valid = all(name in VGG_LAYERS and 0 <= w < math.inf for name, w in layers.items())
    except ValueError:
        valid = False
    if valid and len(layers) == len(terms):
        return layers
    raise UserError(
        "content_loss must be mse, mae, or layers of VGG19 joined by +, each at most once and with "
        "a weight where that is not 1, such as block5_conv4 or 0.5*block2_conv2+block5_conv4. "
        f"Layers: {', '.join(VGG_LAYERS)}. Received: {text!r}"
    )


def choose_content(name: str, now: Part) -> Part:
    """Returns the part that knows a content loss by this name.

    Args:
        name: what --content-loss takes.
        now: the part of the recipe, whose weight it takes over if it is of another kind.

    Raises:
        UserError: if there is none.
    """
    for kind in (type(now), Pixels):
        if name in kind.options()["content_loss"].metadata["choices"]:
            break
    else:
        kind = VGGFeatures
    return (now if kind is type(now) else kind(weight=now.weight)).change(content_loss=name)


class VGGWeightsError(UserError):
    """VGG19's ImageNet weights cannot be had; the message names the ways out."""


@keras.saving.register_keras_serializable("srgan_keras")
class VGGLoss(keras.losses.Loss):
    """Squared difference of VGG19 features (Ledig et al. 2017, equation 5), one layer's or the
    weighted sum of several, which all come from one pass through VGG19.

    Args:
        layers: a convolution of VGG19 by its Keras name, after its ReLU: `"block5_conv4"` is the
            paper's VGG54 and the tutorial's, `"block2_conv2"` is VGG22. Or several, joined by `+`,
            each with a weight where that is not 1: `"0.5*block2_conv2+block5_conv4"`.
        weights: the path of an H5 weight file without top; `"imagenet"` for the weights that ship
            with the package, if layers of blocks 1 and 2 are all, and else for the file that the
            environment variable SRGAN_VGG_WEIGHTS names or else Keras' own, downloaded once and
            cached; or None for random weights (tests only).
        preprocessing: `"raw"` feeds [-1, 1] pictures to VGG19 as they are, as the tutorial does;
            `"vgg"` turns them into what VGG19 was trained on (0 to 255, BGR, mean subtracted).
        feature_scale: factor on the features; `PAPER_FEATURE_SCALE` goes with `"vgg"`.
        pixel_weight: weight of the mean absolute difference of the pixels, added to that of the
            features. Features hardly see colour and brightness; a little of this holds them
            (Wang et al. 2018, ESRGAN, equation 3).
        unit_length: False takes the mean of squared differences over positions and channels. True
            scales the vector of features at each position to length 1 and takes the mean over
            positions of the squared distance of two such vectors, as LPIPS does (Zhang et al. 2018,
            equation 1): then no layer and no bright edge outweighs the rest, and each layer gives
            from 0 to 2.
        total_variation_weight: weight of `total_variation` of the generated picture.
        grid_weight: weight of `grid_error`, which adversarial losses leave free to grow.

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
        layers: str = "block5_conv4",
        weights: Any = "imagenet",
        preprocessing: str = "raw",
        feature_scale: float = 1.0,
        pixel_weight: float = 0.0,
        unit_length: bool = False,
        total_variation_weight: float = 0.0,
        grid_weight: float = 0.0,
        name: str = "vgg_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        weights = choose_weights(weights)
        self.weights = weights
        self.settings = VGGFeatures(  # checks them
            layers,
            preprocessing,
            feature_scale,
            pixel_weight,
            unit_length=unit_length,
            total_variation_weight=total_variation_weight,
            grid_weight=grid_weight,
        )
        self.layer_weights = parse_layers(layers)
        vgg = build_vgg(list(self.layer_weights), weights)
        # A function, because Keras would save a model's 80 MB into every checkpoint.
        self.vgg = lambda: vgg

    def call(self, hr: Any, sr: Any) -> Any:
        settings, hr = self.settings, ops.stop_gradient(hr)
        weights = self.layer_weights.values()
        loss = 0.0
        for weight, a, b in zip(weights, self.features(hr), self.features(sr), strict=True):
            squares = ops.square(ops.stop_gradient(a) - b)
            mean = ops.mean(squares, axis=(1, 2, 3))
            # The squared distance of two unit vectors is a sum over channels.
            loss += weight * (mean * squares.shape[-1] if settings.unit_length else mean)
        if settings.pixel_weight:
            loss += settings.pixel_weight * ops.mean(ops.abs(hr - sr), axis=(1, 2, 3))
        if settings.total_variation_weight:
            loss += settings.total_variation_weight * total_variation(sr)
        if settings.grid_weight:
            loss += settings.grid_weight * grid_error(hr, sr)
        return loss

    def features(self, images: Any) -> list[Any]:
        """Returns each layer's scaled features of `(batch, h, w, 3)` float32 images in [-1, 1]."""
        if self.settings.preprocessing == "vgg":
            images = vgg19.preprocess_input(pixels.to_255(images))
        features = keras.tree.flatten(self.vgg()(images, training=False))
        features = [ops.cast(x, "float32") for x in features]
        if self.settings.unit_length:
            # The small number is for positions where no feature answers.
            squares = [ops.sum(ops.square(x), axis=-1, keepdims=True) for x in features]
            features = [x * ops.rsqrt(y + 1e-3) for x, y in zip(features, squares, strict=True)]
        return [x * self.settings.feature_scale for x in features]

    def get_config(self) -> dict[str, Any]:
        own = {field.name: getattr(self.settings, field.name) for field in fields(self.settings)}
        del own["weight"]  # The one that `compile` takes.
        return {**super().get_config(), "weights": self.weights, **own}


def choose_weights(weights: Any) -> Any:
    """Returns the file that the environment names in place of `"imagenet"`, if it does."""
    return os.environ.get(WEIGHTS_VARIABLE, weights) if weights == "imagenet" else weights


def total_variation(images: Any) -> Any:
    """Adds up the length of pictures' gradient over their pixels (Aly & Dubois 2005).

    Ledig et al. 2017, section 3.4, weigh a total variation with 2e-8 and refer to Aly & Dubois,
    but do not say what they add up. Here it is the discrete form of the article's integral: a sum
    over pixels and channels, not a mean, which at 2e-8 would be nothing at all.

    Args:
        images: `(batch, h, w, c)` float32.

    Returns:
        `(batch,)` float32.
    """
    down = images[:, 1:, :-1] - images[:, :-1, :-1]
    across = images[:, :-1, 1:] - images[:, :-1, :-1]
    # The small number keeps the root's own gradient finite in flat areas.
    length = ops.sqrt(ops.square(down) + ops.square(across) + 1e-12)
    return ops.sum(length, axis=(1, 2, 3))


def grid_error(hr: Any, sr: Any, period: int = 4, window: int = 32) -> Any:
    """Measures the pattern that generated pictures repeat over themselves, and their false colour.

    A generator enlarges in steps of 2, and each of the pixels that come of one can get a colour of
    its own: a faint grid lies over the picture. So the error is averaged over all pixels of a
    window that are at the same place of the grid: noise and edges vanish in it, and what remains is
    grid and colour. Our own; the source is what we saw in our trainings.

    Args:
        hr: photographs, `(batch, h, w, c)` float32, h and w known and at least `period`.
        sr: generated pictures, likewise.
        period: int, of the grid, in pixels; 4 of an enlargement by 4.
        window: int, least side of the windows into which a larger picture is divided, in pixels.

    Returns:
        `(batch,)` float32, the mean of the squares over windows, places and channels.
    """
    sides = []
    for length in sr.shape[1:3]:
        windows = max(1, length // window)
        sides.append((windows, length // windows // period, period))
    height, width = (math.prod(side) for side in sides)
    errors = (sr - hr)[:, :height, :width]
    errors = ops.reshape(errors, (-1, *sides[0], *sides[1], errors.shape[-1]))
    return ops.mean(ops.square(ops.mean(errors, axis=(2, 5))), axis=(1, 2, 3, 4, 5))


def build_vgg(layers: str | list[str], weights: Any) -> keras.Model:
    """Builds VGG19 from its input to one or several of its convolutions.

    Args:
        layers: a name in `VGG_LAYERS`, or a list of them.
        weights: as for `VGGLoss`.

    Returns:
        A frozen functional `keras.Model`. In: `(batch, h, w, 3)`. Out: the layer's features; a list
        where there are several.

    Raises:
        VGGWeightsError: if the weights cannot be had.
    """
    options = {"include_top": False, "input_shape": (None, None, 3)}
    shipped = weights == "imagenet" and set(keras.tree.flatten(layers)) <= set(SHIPPED)
    ways_out = f"Give a file with `vgg_weights` or the environment variable {WEIGHTS_VARIABLE}"
    if weights not in (None, "imagenet") and not os.path.isfile(weights):
        raise VGGWeightsError(f"There is no VGG19 weight file {weights}. {ways_out}.")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # Keras' download has none: a silent network would hang for ever.
    try:
        vgg = vgg19.VGG19(weights=None if shipped or weights is None else str(weights), **options)
        if shipped:
            keras.Model(vgg.input, vgg.get_layer(SHIPPED[-1]).output).load_weights(SHIPPED_WEIGHTS)
    except Exception as error:  # Keras raises bare Exception for a failed download.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if weights == "imagenet":
            raise VGGWeightsError(
                f"VGG19's ImageNet weights could not be downloaded ({reason}). {ways_out}, or "
                "take a recipe without VGG19, or, where it is in the content loss alone, "
                "`content_loss` mse."
            ) from error
        raise VGGWeightsError(
            f"{weights} does not hold VGG19 weights without top ({reason}). {ways_out}."
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
    vgg.trainable = False
    outputs = keras.tree.map_structure(lambda layer: vgg.get_layer(layer).output, layers)
    return keras.Model(vgg.input, outputs, name="vgg19")
