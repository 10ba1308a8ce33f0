"""SRResNet and SRGAN: the generator and discriminator of Ledig et al. 2017, figure 4.

Sources: C. Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative
Adversarial Network", CVPR 2017; the tutorial "Single Image Super Resolution Using GANs - Keras"
(D. Birla, 2018), whose code the recipe `tutorial` repeats; the article "Image Super-Resolution
using Generative Adversarial Networks", whose settings are the recipe `paper`. The training step is
`training.gan.SRGAN`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from srgan_keras.common.errors import UserError
from srgan_keras.common.settings import Part, setting
from srgan_keras.data.pairs import Pairs
from srgan_keras.parts.adversarial import Logistic
from srgan_keras.parts.content import PAPER_FEATURE_SCALE, Pixels, VGGFeatures
from srgan_keras.parts.layers import (
    UPSAMPLINGS,
    FusedBatchNormalization,
    NarrowConv2D,
    pixel_shuffle_block,
)
from srgan_keras.parts.optimizers import Adam
from srgan_keras.recipe import Recipe

#: Ledig et al. 2017, sections 2.2.1 and 3.2.
PAPER_VGG54 = VGGFeatures("block5_conv4", preprocessing="vgg", feature_scale=PAPER_FEATURE_SCALE)
PAPER_VGG22 = dataclasses.replace(PAPER_VGG54, layers="block2_conv2")


@dataclass(frozen=True)
class Generator(Part):
    """The SRResNet generator of Ledig et al. 2017 and of the tutorial."""

    filters: int = setting(64, "channels of the generator's trunk", least=1, most=1024)
    residual_blocks: int = setting(16, "residual blocks of the generator", least=0, most=1000)
    upsampling: str = setting(
        "nearest",
        "upsampling blocks: UpSampling2D and LeakyReLU, or pixel shuffle and PReLU",
        choices=("nearest", "pixel_shuffle"),
    )
    batch_norm_momentum: float = setting(
        0.5, "momentum of batch normalisation's moving averages", least=0, most=1
    )
    lr_range: str = setting(
        "-1..1", "range of values that the first convolution sees", choices=("-1..1", "0..1")
    )

    def build(self, scale: int = 4) -> keras.Model:
        """Builds the generator; see `build_generator`."""
        if scale not in UPSAMPLINGS:
            raise UserError(
                "`scale` must be 2, 4 or 8 for this generator, which doubles the size block by "
                f"block. Received: {scale!r}"
            )
        upsampling_block = nearest_block if self.upsampling == "nearest" else pixel_shuffle_block

        x = lr = keras.Input((None, None, 3), name="lr")
        if self.lr_range == "0..1":
            x = layers.Rescaling(0.5, 0.5)(x)
        x = layers.Conv2D(self.filters, 9, padding="same")(x)
        x = first = layers.PReLU(shared_axes=[1, 2])(x)
        for _ in range(self.residual_blocks):
            x = residual_block(x, self.filters, self.batch_norm_momentum)
        x = layers.Conv2D(self.filters, 3, padding="same")(x)
        x = FusedBatchNormalization(momentum=self.batch_norm_momentum)(x)
        x = layers.Add()([first, x])
        for _ in range(UPSAMPLINGS[scale]):
            x = upsampling_block(x, 4 * self.filters)
        x = NarrowConv2D(3, 9)(x)
        sr = layers.Activation("tanh", dtype="float32", name="sr")(x)
        return keras.Model(lr, sr, name="generator")


@dataclass(frozen=True)
class Discriminator(Part):
    """The discriminator of Ledig et al. 2017 and of the tutorial."""

    filters: int = setting(
        64,
        "channels of the discriminator's first layer",
        least=1,
        most=1024,
        option="discriminator_filters",
    )
    dense_units: int = setting(
        1024, "width of the discriminator's dense layer", least=1, most=65536
    )
    head: str = setting(
        "flatten",
        "what joins the discriminator's feature maps; pooling takes pictures of any size",
        choices=("flatten", "pooling"),
        option="discriminator_head",
    )
    batch_norm_momentum: float = setting(
        0.5, "momentum of batch normalisation's moving averages", least=0, most=1
    )

    def build(self, image_size: int = 384, vgg_weights: Any = None) -> keras.Model:
        """Builds the discriminator; see `build_discriminator`. It does without VGG19's weights."""
        if image_size < 16:
            raise UserError(f"image_size must be at least 16. Received: {image_size}")
        side = image_size if self.head == "flatten" else None
        image = keras.Input((side, side, 3), name="image")
        x = layers.Conv2D(self.filters, 3, padding="same")(image)
        x = layers.LeakyReLU(0.2)(x)
        x = convolution_block(x, self.filters, 2, self.batch_norm_momentum)
        for channels in (2 * self.filters, 4 * self.filters, 8 * self.filters):
            x = convolution_block(x, channels, 1, self.batch_norm_momentum)
            x = convolution_block(x, channels, 2, self.batch_norm_momentum)
        x = layers.Flatten()(x) if self.head == "flatten" else layers.GlobalAveragePooling2D()(x)
        x = layers.Dense(self.dense_units)(x)
        x = layers.LeakyReLU(0.2)(x)
        score = layers.Dense(1, dtype="float32", name="score")(x)
        validity = layers.Activation("sigmoid", dtype="float32", name="validity")(score)
        return keras.Model(image, validity, name="discriminator")


def build_generator(*, scale: int = 4, **settings: Any) -> keras.Model:
    """Builds the SRResNet generator of Ledig et al. 2017 (figure 4) and of the tutorial.

    Args:
        scale: 2, 4 or 8; one upsampling block for every factor of 2.
        **settings: fields of `Generator`. `filters` (64): channels of the trunk; the upsampling
            convolutions have four times as many. `residual_blocks` (16). `upsampling`:
            `"pixel_shuffle"` is the figure's sub-pixel convolution followed by PReLU, `"nearest"`
            (the default) the tutorial code's UpSampling2D followed by LeakyReLU(0.2).
            `batch_norm_momentum` (0.5, the tutorial's): of the moving averages that inference uses.
            `lr_range`: `"0..1"` scales LR to [0, 1] in front of the first convolution.

    Returns:
        A functional `keras.Model` named "generator". In: `(batch, h, w, 3)` float32 in [-1, 1], any
        h and w. Out: `(batch, scale * h, scale * w, 3)` float32 in [-1, 1].

    Raises:
        UserError: if an argument is outside what is listed above.
    """
    return Generator(**settings).build(scale)


def build_discriminator(*, image_size: int = 384, **settings: Any) -> keras.Model:
    """Builds the discriminator of Ledig et al. 2017 (figure 4) and of the tutorial.

    Eight 3x3 convolutions from `filters` to `8 * filters` channels, every second one with stride
    2, batch normalisation on all but the first; then the head, Dense 1 and a sigmoid.

    Args:
        image_size: side of the square pictures it judges; only `head="flatten"` depends on it.
        **settings: fields of `Discriminator`. `filters` (64): channels of the first convolution.
            `dense_units` (1024): width of the dense layer before the last. `head`: `"flatten"` is
            the paper's and the tutorial's; its dense layer has 302 million weights at 384 pixels,
            19 million at 96. `"pooling"` (our choice, because it costs half a million weights and
            takes any size) averages each feature map first. `batch_norm_momentum` (0.5).

    Returns:
        A functional `keras.Model` named "discriminator". In: `(batch, image_size, image_size, 3)`
        float32 in [-1, 1] (any height and width with `head="pooling"`). Out: `(batch, 1)` float32
        in [0, 1], the probability that the picture is a photograph.

    Raises:
        UserError: if an argument is outside what is listed above.
    """
    return Discriminator(**settings).build(image_size)


def residual_block(x: Any, filters: int, batch_norm_momentum: float) -> Any:
    """Conv, BN, PReLU, conv, BN, and the sum with the block's input."""
    y = layers.Conv2D(filters, 3, padding="same")(x)
    y = FusedBatchNormalization(momentum=batch_norm_momentum)(y)
    y = layers.PReLU(shared_axes=[1, 2])(y)
    y = layers.Conv2D(filters, 3, padding="same")(y)
    y = FusedBatchNormalization(momentum=batch_norm_momentum)(y)
    return layers.Add()([x, y])


def nearest_block(x: Any, filters: int) -> Any:
    """The tutorial code's upsampling by 2: conv, repetition of pixels, LeakyReLU."""
    x = layers.Conv2D(filters, 3, padding="same")(x)
    x = layers.UpSampling2D(2)(x)
    return layers.LeakyReLU(0.2)(x)


def convolution_block(x: Any, filters: int, strides: int, batch_norm_momentum: float) -> Any:
    """Conv, BN, LeakyReLU."""
    x = layers.Conv2D(filters, 3, strides=strides, padding="same")(x)
    x = FusedBatchNormalization(momentum=batch_norm_momentum)(x)
    return layers.LeakyReLU(0.2)(x)


def tutorial() -> Recipe:
    """What the code of the tutorial "Single Image Super Resolution Using GANs - Keras" does.

    Source: the article's code, figure and text. Each step the discriminator learns from photographs
    and then, in a second update, from pictures that the generator makes of their LR at inference;
    then the generator learns from a second batch, its labels as noisy as the discriminator's.
    Batches are drawn with replacement, LR has 8 bits, nothing is pretrained. Where the article's
    text says that the content loss compares "the first convolutions of VGG", its code takes
    block5_conv4, and so does this recipe.
    Command: python -m srgan_keras.train --data crops/
    Hardware: the author reports 3 to 4 days on one Tesla P100. Here a step on 64 crops of 384
    pixels goes through in parts that fit into memory (`micro_batch`).
    Expected: no score is published; Ledig et al. report 29.40 dB on Set5 for their SRGAN. After 301
    steps of 8 crops here, shapes in false colours (`docs/tutorial.md`).
    """
    return Recipe(
        name="tutorial",
        generator=Generator(),
        discriminator=Discriminator(),
        content=VGGFeatures(),
        adversarial=Logistic(label_noise=0.2, generator_label_noise=0.2),
        pairs=Pairs(with_replacement=True, lr_rounding=True),
        step="tutorial",
        batch_size=64,
        epochs=3000,
        sample_every=5,
        sample_first=True,
        save_every=500,
    )


def tutorial_fast() -> Recipe:
    """The tutorial's networks and losses with a slightly cheaper step.

    Source: the tutorial, with these changes, our choice because they spare one of the generator's
    forward passes, unless a batch goes through in parts, and see every photograph once an epoch:
    one update of the discriminator on photographs and generated pictures together, whose pictures
    and batch serve the generator's update too; the generator's labels are 1; each crop once an
    epoch; LR is not rounded.
    Command: python -m srgan_keras.train --recipe tutorial-fast --data crops/
    Hardware: on two cores of an AMD EPYC 2.4 s for a crop of 384 pixels with pixel shuffle.
    Expected: as `tutorial`; nobody has run it to its end here.
    """
    return dataclasses.replace(
        tutorial(),
        name="tutorial-fast",
        adversarial=Logistic(label_noise=0.2),
        pairs=Pairs(),
        step="joint",
        sample_every=10,
        sample_first=False,
        save_every=0,
    )


def paper() -> Recipe:
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
        generator=Generator(upsampling="pixel_shuffle", batch_norm_momentum=0.9, lr_range="0..1"),
        discriminator=Discriminator(batch_norm_momentum=0.9),
        content=PAPER_VGG54,
        adversarial=Logistic(),
        pairs=Pairs(crop_size=96, augment=True, lr_blur_sigma=1.0),
        optimizer=Adam(drop_step=100_000),
        steps_per_epoch=1000,
        epochs=200,
    )


def srresnet() -> Recipe:
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
        generator=Generator(upsampling="pixel_shuffle", batch_norm_momentum=0.9),
        content=Pixels("mse"),
        pairs=Pairs(crop_size=96, augment=True, lr_rounding=True),
        optimizer=Adam(learning_rate=5e-4, decay_steps=100_000),
        ema_momentum=0.999,
        steps_per_epoch=1000,
    )


def srresnet_vgg22() -> Recipe:
    """SRResNet-VGG22: the generator trained on VGG22 alone, without a discriminator.

    Source: Ledig et al. 2017, section 3.4: VGG22 with 2e-8 of the total variation, which the paper
    does not define (ours: `parts.content.total_variation`). Beside VGG22 it is next to nothing:
    3e-5 for a photograph's crop of 96, where a bicubic enlargement costs 130 in VGG22. Learning
    rate and averages are `srresnet`'s.
    Command: python -m srgan_keras.train --recipe srresnet-vgg22 --data crops/
    Hardware: 100,000 steps; one GPU.
    Expected: Ledig et al. report 30.51 dB on Set5 and 27.19 on Set14; nobody has run this recipe to
    its end here.
    """
    content = dataclasses.replace(PAPER_VGG22, total_variation_weight=2e-8)
    return dataclasses.replace(srresnet(), name="srresnet-vgg22", content=content)


def srgan_vgg54() -> Recipe:
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
        discriminator=Discriminator(batch_norm_momentum=0.9),
        content=PAPER_VGG54,
        adversarial=Logistic(),
        optimizer=Adam(drop_step=100_000),
        epochs=200,
    )


def srgan_vgg22() -> Recipe:
    """SRGAN-VGG22: as `srgan-vgg54`, with features of an early layer.

    Source: Ledig et al. 2017, section 3.4.
    Command: python -m srgan_keras.train --recipe srgan-vgg22 --init-generator RUN --data crops/
    Hardware: as `srgan-vgg54`, a little less.
    Expected: Ledig et al. report 29.84 dB on Set5 and 26.44 on Set14; nobody has run this recipe to
    its end here.
    """
    return dataclasses.replace(srgan_vgg54(), name="srgan-vgg22", content=PAPER_VGG22)


def srgan_mse() -> Recipe:
    """SRGAN-MSE: as `srgan-vgg54`, with the error of pixels in place of features.

    Source: Ledig et al. 2017, section 3.4.
    Command: python -m srgan_keras.train --recipe srgan-mse --init-generator RUN --data crops/
    Hardware: as `srgan-vgg54`, less by VGG19's part.
    Expected: Ledig et al. report 30.64 dB on Set5 and 26.92 on Set14; nobody has run this recipe to
    its end here.
    """
    return dataclasses.replace(srgan_vgg54(), name="srgan-mse", content=Pixels("mse"))


def srgan() -> Recipe:
    """Our SRGAN: five layers of VGG19, each weighed alike, and pixels; from one that is trained.

    Source: our choice. Layers of every depth hold edges, textures and shapes at once; features of
    length 1 weigh dark and bright, and all layers, alike (Zhang et al. 2018, LPIPS, whose own
    layers are others and whose channels have learned weights); the absolute error holds the
    colours. Pictures that are shifted from step to step, and a loss of the grid alone, because
    without them a grid of 2 and 4 pixels grew over skin and sky; a discriminator of three quarters
    of the width whose feature maps are averaged, which learns from few photographs. No batch
    statistics, as at the end of every long training.
    Command: python -m srgan_keras.train --recipe srgan --init-generator srgan --data crops/
    Hardware: two CPU cores: 3,000 steps of 6 crops, of which the first hundreds count most.
    Expected: from a generator of 29.92 dB and LPIPS .102 on Set5, 27.12 dB and .186 on Set14, 758
    steps gave 30.42 dB and .100, 27.56 dB and .178. From there 2,003 with `--pixel-weight 0.3
    --adversarial-weight 0.02`, and a discriminator that had learned alone first, gave 30.12 dB and
    .101, 27.30 dB and .174: the `srgan` that ships.
    """
    layers = ("block1_conv2", "block2_conv2", "block3_conv4", "block4_conv4", "block5_conv4")
    return dataclasses.replace(
        srgan_vgg54(),
        name="srgan",
        discriminator=Discriminator(filters=48, head="pooling", batch_norm_momentum=0.9),
        content=VGGFeatures(
            "+".join(f"0.2*{layer}" for layer in layers),
            preprocessing="vgg",
            unit_length=True,
            pixel_weight=1.0,
            grid_weight=300.0,
        ),
        adversarial=Logistic(weight=0.01, learning_rate=2e-4),
        optimizer=Adam(),
        batch_statistics=False,
        shift_period=4,
        ema_momentum=0.995,
        batch_size=6,
        steps_per_epoch=100,
        epochs=30,
        sample_every=2,
    )


def srgan_5() -> Recipe:
    """SRGAN with five residual blocks: the baseline of the article behind `systems.wdrn`.

    Source: the article "Generative Adversarial Networks for Image Super-Resolution", which gives
    the number of blocks; all else is `srgan-vgg54`'s. It starts from an SRResNet of five blocks.
    Command: python -m srgan_keras.train --recipe srresnet --residual-blocks 5 --run RUN --data
    crops/, then --recipe srgan-5 --init-generator RUN --data crops/
    Hardware: 50 epochs of 1000 steps; one GPU.
    Expected: the article gives no score of its baseline.
    """
    recipe = srgan_vgg54()
    generator = dataclasses.replace(recipe.generator, residual_blocks=5)
    return dataclasses.replace(recipe, name="srgan-5", generator=generator, epochs=50)


def demo() -> Recipe:
    """A short demonstration on the sample photographs that ship with the package.

    Source: our choice, short enough for two CPU cores: SRResNet, from the weights that ship, goes
    on with the first two blocks of VGG19, which ship as well, and a small discriminator.
    Command: python -m srgan_keras.train
    Hardware: under 5 minutes on two CPU cores.
    Expected: pictures a little sharper than `srresnet`'s: LPIPS from 0.314 to 0.299 on the four
    test photographs, PSNR from 26.78 to 26.23 dB; in smooth areas a faint grid. `srgan` is what
    many more such steps make: 0.202.
    """
    return Recipe(
        name="demo",
        generator=srresnet().generator,
        batch_statistics=False,
        discriminator=Discriminator(
            filters=16, dense_units=128, head="pooling", batch_norm_momentum=0.9
        ),
        content=VGGFeatures(
            "0.5*block1_conv2+0.5*block2_conv2",
            preprocessing="vgg",
            unit_length=True,
            pixel_weight=0.2,
        ),
        adversarial=Logistic(weight=0.003, label_noise=0.2),
        pairs=Pairs(crop_size=96, augment=True),
        optimizer=Adam(learning_rate=2e-4, drop_step=80),
        ema_momentum=0.9,
        batch_size=4,
        steps_per_epoch=20,
        epochs=5,
        sample_every=1,
    )


RECIPES = [
    tutorial,
    tutorial_fast,
    paper,
    srresnet,
    srresnet_vgg22,
    srgan_mse,
    srgan_vgg22,
    srgan_vgg54,
    srgan,
    srgan_5,
    demo,
]
