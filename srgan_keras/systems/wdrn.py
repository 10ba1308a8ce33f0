"""WDRN: a generator of densely connected residual blocks with weighted concatenation, and a critic
that judges by VGG19's features.

Source: the article "Generative Adversarial Networks for Image Super-Resolution", which calls it
"Weighted Dense ResNet (WDRN) with VGG SRGAN" and reports 29.23 dB and an SSIM of 0.739 for it after
50 epochs on DIV2K, of pictures that it does not name. It describes the system in words alone; what
it leaves open is said below, and is our choice. Dense connections are those of Huang et al. 2017,
the critic's loss is that of Arjovsky et al. 2017 with the gradient penalty of Gulrajani et al.
2017. What the curve of that loss means, and that "around -1" is no sign of success, is said at
`parts.adversarial.Wasserstein`. The article's baseline, an SRGAN with five residual blocks, is the
recipe `srgan-5`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from srgan_keras.common.errors import UserError
from srgan_keras.common.settings import Part, setting
from srgan_keras.data.pairs import Pairs
from srgan_keras.parts.adversarial import Wasserstein
from srgan_keras.parts.content import PAPER_FEATURE_SCALE, VGG_LAYERS, Pixels, VGGFeatures
from srgan_keras.parts.layers import (
    UPSAMPLINGS,
    FusedBatchNormalization,
    NarrowConv2D,
    VGG19Features,
    WeightedConcatenation,
    pixel_shuffle_block,
)
from srgan_keras.parts.optimizers import Adam
from srgan_keras.recipe import Recipe

NORMALIZATIONS = {
    "batch": lambda: FusedBatchNormalization(momentum=0.9),
    "instance": lambda: layers.GroupNormalization(groups=-1, epsilon=1e-5),
    "none": layers.Identity,
}


@dataclass(frozen=True)
class DenseGenerator(Part):
    """The article's generator: SRGAN's, with other blocks and no sums.

    Five blocks and two sub-pixel convolutions are the article's; the number of convolutions in a
    block and their width are our choice, with which a block has 1.9 times the weights of SRGAN's.
    """

    filters: int = setting(64, "channels of the generator's trunk", least=1, most=1024)
    residual_blocks: int = setting(5, "dense blocks of the generator", least=0, most=1000)
    dense_layers: int = setting(4, "convolutions of a dense block", least=1, most=100)
    growth: int = setting(32, "channels of each of them", least=1, most=1024)
    normalization: str = setting(
        "batch",
        "normalisation in the generator: batch wants batches of some 16 crops, for others instance "
        "(of each picture by itself) and none do",
        choices=tuple(NORMALIZATIONS),
    )

    def build(self, scale: int = 4) -> keras.Model:
        """Builds the generator.

        Returns:
            functional `keras.Model` from `(batch, h, w, 3)` to `(batch, scale * h, scale * w, 3)`,
            float32 in [-1, 1].

        Raises:
            UserError: if the scale is not 2, 4 or 8.
        """
        if scale not in UPSAMPLINGS:
            raise UserError(f"scale must be one of {list(UPSAMPLINGS)}. Received: {scale!r}")
        x = lr = keras.Input((None, None, 3), name="lr")
        x = layers.Conv2D(self.filters, 9, padding="same")(x)
        x = first = layers.PReLU(shared_axes=[1, 2])(x)
        for _ in range(self.residual_blocks):
            x = self.dense_residual_block(x)
        x = layers.Conv2D(self.filters, 3, padding="same")(x)
        x = NORMALIZATIONS[self.normalization]()(x)
        x = self.join([first, x])
        for _ in range(UPSAMPLINGS[scale]):
            x = pixel_shuffle_block(x, 4 * self.filters)
        x = NarrowConv2D(3, 9)(x)
        sr = layers.Activation("tanh", dtype="float32", name="sr")(x)
        return keras.Model(lr, sr, name="generator")

    def dense_residual_block(self, x: Any) -> Any:
        """Convolutions that each take the block's input and the outputs of all before them."""
        groups = [x]
        for _ in range(self.dense_layers):
            y = layers.Concatenate()(groups) if groups[1:] else x
            y = layers.Conv2D(self.growth, 3, padding="same")(y)
            y = NORMALIZATIONS[self.normalization]()(y)
            groups.append(layers.PReLU(shared_axes=[1, 2])(y))
        return self.join(groups)

    def join(self, groups: list[Any]) -> Any:
        """What the article has in place of a sum: the groups, weighted, and a 1x1 convolution."""
        x = WeightedConcatenation()(groups)
        return layers.Conv2D(self.filters, 1, padding="same")(x)


@dataclass(frozen=True)
class VGGCritic(Part):
    """A critic on the feature maps of a VGG19 that is not trained.

    Two 3x3 convolutions, the second with twice the filters and stride 2, the mean over positions,
    and two dense layers: our choice, because VGG19 has done most of the work. No normalisation, so
    that a picture's score, and with it the gradient penalty, is its own.
    """

    layer: str = setting(
        "block3_conv4",
        "layer of VGG19 whose features the critic judges by",
        choices=VGG_LAYERS,
        option="critic_layer",
    )
    filters: int = setting(
        128,
        "channels of the critic's first convolution",
        least=1,
        most=1024,
        option="discriminator_filters",
    )
    dense_units: int = setting(256, "width of the critic's dense layer", least=1, most=65536)

    def build(self, image_size: int | None = None, vgg_weights: Any = "imagenet") -> keras.Model:
        """Builds the critic, which takes pictures of any size.

        Args:
            image_size: of no use to it.
            vgg_weights: as `VGGLoss` takes them.

        Returns:
            functional `keras.Model` from `(batch, h, w, 3)` float32 in [-1, 1] to scores, `(batch,
            1)` float32.

        Raises:
            VGGWeightsError: if VGG19's weights cannot be had.
        """
        image = keras.Input((None, None, 3), name="image")
        x = VGG19Features(self.layer, vgg_weights)(image)
        x = layers.Conv2D(self.filters, 3, padding="same")(x)
        x = layers.LeakyReLU(0.2)(x)
        x = layers.Conv2D(2 * self.filters, 3, strides=2, padding="same")(x)
        x = layers.LeakyReLU(0.2)(x)
        x = layers.GlobalAveragePooling2D()(x)
        x = layers.Dense(self.dense_units)(x)
        x = layers.LeakyReLU(0.2)(x)
        score = layers.Dense(1, dtype="float32", name="score")(x)
        return keras.Model(image, score, name="discriminator")


def wdrn_mse() -> Recipe:
    """WDRN's generator trained on pixels alone, from which `wdrn` starts.

    Source: the article, whose content loss was the MSE before it was VGG19's features. Learning
    rate and averaged weights are those of `srresnet`, our choice.
    Command: python -m srgan_keras.train --recipe wdrn-mse --data crops/
    Hardware: 50 epochs of 1000 steps of 16 crops of 96 pixels; one GPU.
    Expected: no score is published; nobody has run it to its end here.
    """
    return Recipe(
        name="wdrn-mse",
        generator=DenseGenerator(),
        content=Pixels("mse"),
        pairs=Pairs(crop_size=96, augment=True, lr_rounding=True),
        optimizer=Adam(learning_rate=5e-4, decay_steps=50_000),
        ema_momentum=0.999,
        steps_per_epoch=1000,
        epochs=50,
    )


def wdrn() -> Recipe:
    """WDRN, started from a generator that has learned pixels.

    Source: the article: VGG19's features as content loss, a Wasserstein critic on VGG19's features,
    the perceptual loss of both together, a learning rate for each network, 50 epochs. Adam's
    settings are Gulrajani et al.'s (algorithm 1); the critic's rate is three times the generator's,
    as Heusel et al. 2017 have it with this loss, and lets one update of the critic a step do.
    `--critic-steps 5 --discriminator-learning-rate 1e-4` is Gulrajani et al.'s way. The weight of
    1e-3 is Ledig et al.'s. Batches of 16 go with batch normalisation; with `--normalization
    instance` or `none`, which see each picture by itself, any `--batch-size` does.
    Command: python -m srgan_keras.train --recipe wdrn --init-generator RUN --data crops/
    Hardware: 50 epochs of 1000 steps of 16 crops of 96 pixels; one GPU.
    Expected: the article reports 29.23 dB; nobody has run it to its end here.
    """
    return dataclasses.replace(
        wdrn_mse(),
        name="wdrn",
        discriminator=VGGCritic(),
        content=VGGFeatures(preprocessing="vgg", feature_scale=PAPER_FEATURE_SCALE),
        adversarial=Wasserstein(learning_rate=3e-4),
        optimizer=Adam(beta_1=0.0, beta_2=0.9),
    )


RECIPES = [wdrn_mse, wdrn]
