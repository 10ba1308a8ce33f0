"""Recipes: every setting of a training run, by name.

A `Recipe` is data; `train.py` turns it into networks, losses and batches.
"""

import dataclasses
import difflib

from data_prep.cli import UserError
from srgan_keras.losses import PAPER_FEATURE_SCALE, PREPROCESSING, VGG_LAYERS
from srgan_keras.models.discriminator import HEADS
from srgan_keras.models.generator import SCALES, UPSAMPLING
from srgan_keras.pixels import RANGES

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def setting(default, meaning, *, choices=None, least=None, most=2**31 - 1):
    """A field of `Recipe`, with its meaning for --help and the values that it can take."""
    metadata = {"help": meaning, "choices": choices, "least": least, "most": most}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every setting of a training run; the defaults are the tutorial's.

    Raises:
        UserError: if a value is not one that the setting can take.
    """

    name: str = "tutorial"

    scale: int = setting(4, "factor between LR and HR", choices=SCALES)
    crop_size: int = setting(384, "side of the HR crops, in pixels", least=24, most=4096)
    augment: bool = setting(False, "random flips and quarter turns")
    lr_blur_sigma: float = setting(0.0, "Gaussian blur of HR before it is reduced", least=0)
    lr_rounding: bool = setting(False, "round LR to 8 bits, as LR files are")
    lr_range: str = setting("-1..1", "value range of LR; HR is in -1..1", choices=tuple(RANGES))

    filters: int = setting(64, "channels of the generator's trunk", least=1, most=1024)
    residual_blocks: int = setting(16, "residual blocks of the generator", least=0, most=1000)
    upsampling: str = setting("nearest", "the generator's upsampling blocks", choices=UPSAMPLING)
    batch_norm_momentum: float = setting(0.5, "of both networks' moving averages", least=0, most=1)
    batch_statistics: bool = setting(
        True, "the generator normalises by each batch, and not by the averages it starts with"
    )

    discriminator_filters: int = setting(64, "channels of its first layer", least=1, most=1024)
    discriminator_head: str = setting("flatten", "what joins its feature maps", choices=HEADS)
    dense_units: int = setting(
        1024, "width of the discriminator's dense layer", least=1, most=65536
    )
    label_noise: float = setting(0.2, "its labels are off by up to this much", least=0, most=1)

    content_loss: str = setting(
        "block5_conv4", "a layer of VGG19, mse or mae", choices=(*VGG_LAYERS, "mse", "mae")
    )
    vgg_preprocessing: str = setting(
        "raw", "feed VGG19 -1..1, or what it was trained on", choices=PREPROCESSING
    )
    vgg_feature_scale: float = setting(1.0, "factor on VGG19's features", least=0)
    pixel_weight: float = setting(
        0.0, "weight of the absolute pixel error that is added to VGG19's", least=0
    )
    content_weight: float = setting(1.0, "weight of the content loss", least=0)
    adversarial_weight: float = setting(
        1e-3, "weight of the adversarial loss; 0: no discriminator", least=0
    )

    learning_rate: float = setting(1e-4, "Adam's learning rate, for both networks", least=0)
    learning_rate_drop_step: int = setting(0, "from here on it is a tenth; 0: never", least=0)
    learning_rate_decay_steps: int = setting(
        0, "over so many steps it falls to 0 along a half cosine; 0: never", least=0
    )
    beta_1: float = setting(0.9, "Adam's beta_1", least=0, most=0.9999)
    beta_2: float = setting(0.999, "Adam's beta_2", least=0, most=0.999999)
    epsilon: float = setting(1e-8, "Adam's epsilon", least=0)
    ema_momentum: float = setting(
        0.0, "of the generator's averaged weights; 0: no average", least=0, most=0.999999
    )
    precision: str = setting("float32", "arithmetic of the networks", choices=PRECISIONS)
    batch_size: int = setting(64, "crops a step, over all devices", least=1)
    epochs: int = setting(3000, "times through the crops", least=1)
    steps_per_epoch: int = setting(0, "0: as many as there are batches of crops", least=0)
    seed: int = setting(0, "of weights, crops, their order and label noise", least=0)
    sample_every: int = setting(10, "epochs between two validations and sample pictures", least=1)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            choices, least, most = (field.metadata.get(key) for key in ("choices", "least", "most"))
            kinds = (int, float) if field.type is float else field.type
            if not isinstance(value, kinds):
                expected = f"of type {field.type.__name__}"
            elif choices and value not in choices:
                expected = f"one of {', '.join(map(str, choices))}"
            elif least is not None and not least <= value <= most:
                expected = f"from {least} to {most}"
            else:
                continue
            raise UserError(f"{field.name} must be {expected}. Received: {value!r}")
        if 3 * self.lr_blur_sigma >= self.crop_size:
            raise UserError(
                f"lr_blur_sigma must be less than a third of crop_size, {self.crop_size}. "
                f"Received: {self.lr_blur_sigma}"
            )
        if self.learning_rate_drop_step and self.learning_rate_decay_steps:
            raise UserError(
                "learning_rate_drop_step and learning_rate_decay_steps exclude each other: set one "
                f"to 0. Received: {self.learning_rate_drop_step}, {self.learning_rate_decay_steps}"
            )
        if self.crop_size % self.scale:
            raise UserError(
                f"crop_size must be a multiple of the scale, {self.scale}. "
                f"Received: {self.crop_size}"
            )


def tutorial():
    """The SRGAN of the tutorial "Single Image Super Resolution Using GANs - Keras": the default.

    Source: the article's text and figure. Weights, losses and optimizer are the
    tutorial's, nothing is pretrained.
    Command: python -m srgan_keras.train --data crops/
    Hardware: the author reports 3 to 4 days on one Tesla P100; a batch of 64 at 384 pixels needs
    more memory than most machines have, and the command says how much before it starts.
    Expected: no score is published; Ledig et al. report 29.40 dB on Set5 for their SRGAN.
    """
    return Recipe(name="tutorial")


def paper():
    """The article "Image Super-Resolution using Generative Adversarial Networks".

    Source: the article's section on training, which follows Ledig et al. 2017: blurred, reduced LR
    in [0, 1]; VGG54 content loss, sub-pixel convolution; Adam at 1e-4 for 1e5 steps and at 1e-5
    for another 1e5. The width of the blur is our choice, because the article gives none; crops of
    96 and batches of 16 are Ledig et al.'s.
    Command: python -m srgan_keras.train --recipe paper --data crops/
    Hardware: 200,000 steps of 16 crops of 96 pixels; one GPU.
    Expected: Ledig et al. report 29.40 dB on Set5, from a pretrained generator and 350,000
    photographs; nobody has run this recipe to its end here.
    """
    return Recipe(
        name="paper",
        crop_size=96,
        augment=True,
        lr_blur_sigma=1.0,
        lr_range="0..1",
        upsampling="pixel_shuffle",
        batch_norm_momentum=0.9,
        label_noise=0.0,
        vgg_preprocessing="vgg",
        vgg_feature_scale=PAPER_FEATURE_SCALE,
        learning_rate_drop_step=100_000,
        batch_size=16,
        steps_per_epoch=1000,
        epochs=200,
    )


def srresnet():
    """SRResNet: the generator trained on pixels alone, and what an SRGAN starts from.

    Source: Ledig et al. 2017, section 3.2: sub-pixel convolution, PReLU, crops of 96, batches of
    16, Adam at 1e-4, MSE, 1e6 steps. Our choice, because it gets there sooner: 5e-4 falling along
    a half cosine over 100,000 steps, and averaged weights.
    Command: python -m srgan_keras.train --recipe srresnet --data crops/
    Hardware: 100,000 steps; 0.2 s each on two CPU cores with --precision mixed_bfloat16.
    Expected: Ledig et al. report 32.05 dB on Set5 and 28.49 on Set14, from 350,000 photographs.
    """
    return Recipe(
        name="srresnet",
        crop_size=96,
        augment=True,
        lr_rounding=True,
        upsampling="pixel_shuffle",
        batch_norm_momentum=0.9,
        content_loss="mse",
        adversarial_weight=0.0,
        learning_rate=5e-4,
        learning_rate_decay_steps=100_000,
        ema_momentum=0.999,
        batch_size=16,
        steps_per_epoch=1000,
        epochs=100,
    )


def srgan_vgg54():
    """SRGAN-VGG54, started from an SRResNet.

    Source: Ledig et al. 2017, section 3.2: VGG54 on VGG19's own preprocessing and scale, with 1e-3
    of the adversarial loss; 1e-4 for 1e5 steps, then 1e-5 for as many. Labels have no noise.
    Command: python -m srgan_keras.train --recipe srgan-vgg54 --init-generator RUN --data crops/
    Hardware: 200,000 steps; 1 s each on two CPU cores with --precision mixed_bfloat16.
    Expected: Ledig et al. report 29.40 dB on Set5 and 26.02 on Set14, from 350,000 photographs.
    """
    return dataclasses.replace(
        srresnet(),
        name="srgan-vgg54",
        content_loss="block5_conv4",
        vgg_preprocessing="vgg",
        vgg_feature_scale=PAPER_FEATURE_SCALE,
        adversarial_weight=1e-3,
        label_noise=0.0,
        learning_rate=1e-4,
        learning_rate_decay_steps=0,
        learning_rate_drop_step=100_000,
        epochs=200,
    )


def demo():
    """A short demonstration on the sample photographs that ship with the package.

    Source: our choice, small enough for two CPU cores: the tutorial's generator, narrower and with
    fewer blocks, a size-free discriminator, and VGG22, which learns colours soonest.
    Command: python -m srgan_keras.train
    Hardware: under 5 minutes on two CPU cores.
    Expected: pictures that are sharper than the enlarged LR; not a result to use.
    """
    return Recipe(
        name="demo",
        crop_size=96,
        augment=True,
        filters=32,
        residual_blocks=4,
        batch_norm_momentum=0.9,
        discriminator_filters=16,
        discriminator_head="pooling",
        dense_units=128,
        content_loss="block2_conv2",
        vgg_preprocessing="vgg",
        vgg_feature_scale=PAPER_FEATURE_SCALE,
        learning_rate=1e-3,
        learning_rate_drop_step=300,
        batch_size=8,
        steps_per_epoch=40,
        epochs=10,
        sample_every=2,
    )


RECIPES = {
    recipe.__name__.replace("_", "-"): recipe
    for recipe in (tutorial, paper, srresnet, srgan_vgg54, demo)
}


def get_recipe(name, **settings):
    """Returns a named recipe, with settings changed.

    Args:
        name: a name in `RECIPES`.
        **settings: fields of `Recipe`.

    Raises:
        UserError: if the recipe or a setting is unknown, or a value cannot be.
    """
    if name not in RECIPES:
        raise UserError(f"There is no recipe {name!r}. Recipes: {', '.join(RECIPES)}.")
    known = [field.name for field in dataclasses.fields(Recipe)]
    for unknown in sorted(settings.keys() - set(known)):
        close = difflib.get_close_matches(unknown, known, n=1)
        hint = f"Did you mean {close[0]}?" if close else f"Settings: {', '.join(known)}."
        raise UserError(f"A recipe has no setting {unknown!r}. {hint}")
    return dataclasses.replace(RECIPES[name](), **settings)
