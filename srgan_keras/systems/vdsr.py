"""VDSR: twenty convolutions that correct the bicubic enlargement.

Source: J. Kim, J. K. Lee, K. M. Lee, "Accurate Image Super-Resolution Using Very Deep Convolutional
Networks", CVPR 2016.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from srgan_keras.common.settings import Part, setting
from srgan_keras.data.pairs import Pairs
from srgan_keras.parts.layers import Luma, correct_enlargement
from srgan_keras.parts.optimizers import Adam
from srgan_keras.recipe import Recipe


@dataclass(frozen=True)
class VDSR(Part):
    """The network of Kim et al. 2016, figure 1, with the bicubic enlargement inside.

    It sees and corrects luma alone, as in the paper; what it adds to luma is added to red, green
    and blue alike, which leaves the bicubic chroma as it is. Luma is what PSNR is measured on, and
    what eyes see detail in.

    Three things are not the paper's. The last convolution starts at zero, so that training starts
    from the bicubic enlargement. Pictures are clipped to [-1, 1]. One network has one scale.
    """

    filters: int = setting(64, "channels of the convolutions", least=1, most=1024)
    depth: int = setting(20, "convolutions of the generator", least=2, most=1000)

    def build(self, scale: int = 4) -> keras.Model:
        """Builds the network; see `correct_enlargement`."""
        return correct_enlargement(scale, self.correct)

    def correct(self, enlarged: Any) -> Any:
        """What is added to the enlargement, `(batch, h, w, 1)`."""
        x = Luma()(enlarged)
        for _ in range(self.depth - 1):
            x = layers.Conv2D(
                self.filters, 3, padding="same", activation="relu", kernel_initializer="he_normal"
            )(x)
        return layers.Conv2D(1, 3, padding="same", kernel_initializer="zeros")(x)


def vdsr() -> Recipe:
    """VDSR: twenty convolutions that learn what bicubic enlarging leaves out.

    Source: Kim et al. 2016, section 4: crops of 41, batches of 64, 9,960 steps, MSE; a high rate
    that drops tenfold three times, made possible by gradients that are clipped; weights by He et
    al. Our choice: crops of 48, which all scales divide; Adam at 1e-3 in place of momentum at 0.1,
    so that the paper's clipping, which shrinks as the rate does, can be Keras' plain one, of the
    norm of all gradients (0.02 is three times what is usual after the first steps); no weight
    decay; averaged weights. In a short training a half cosine (`--learning-rate-drop-step 0
    --learning-rate-decay-steps STEPS`) gets further than drops; so were the shipped weights made.
    Command: python -m srgan_keras.train --recipe vdsr --data crops/
    Hardware: 10,000 steps of 590 GFLOP; the paper's took 4 hours on a GTX Titan Z.
    Expected: Kim et al. report 31.35 dB on Set5 and 28.01 on Set14, from 291 photographs and for
    scales 2, 3 and 4 at once; weights/vdsr.md has what shorter training on two cores gives.
    """
    return Recipe(
        name="vdsr",
        generator=VDSR(),
        pairs=Pairs(crop_size=48, augment=True, lr_rounding=True),
        optimizer=Adam(learning_rate=1e-3, drop_step=2_500, clip_norm=0.02),
        ema_momentum=0.999,
        batch_size=64,
        steps_per_epoch=100,
    )


RECIPES = [vdsr]
