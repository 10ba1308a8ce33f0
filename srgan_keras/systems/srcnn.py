"""SRCNN: three convolutions on the bicubic enlargement, the first deep network of the field.

Sources: C. Dong, C. C. Loy, K. He, X. Tang, "Learning a Deep Convolutional Network for Image
Super-Resolution", ECCV 2014, and "Image Super-Resolution Using Deep Convolutional Networks", TPAMI
2016.
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
class SRCNN(Part):
    """The network of Dong et al. 2014, figure 2, with the bicubic enlargement inside.

    It sees and makes luma alone, as in the paper: luma is what PSNR is measured on, and what eyes
    see detail in. By how much its luma differs from the enlargement's is added to red, green and
    blue alike, which leaves the bicubic chroma as it is. Unlike the paper's, its convolutions keep
    the pictures' size (zeros around them), and its pictures are clipped to [-1, 1].
    """

    filters: int = setting(
        64, "channels of the first convolution; the second has half of them", least=2, most=1024
    )
    middle_kernel: int = setting(
        1, "side of the second convolution's kernel, as in 9-1-5", choices=(1, 3, 5)
    )

    def build(self, scale: int = 4) -> keras.Model:
        """Builds the network; see `correct_enlargement`."""
        return correct_enlargement(scale, self.correct)

    def correct(self, enlarged: Any) -> Any:
        """What is added to the enlargement, `(batch, h, w, 1)` float32."""
        luma = Luma(dtype="float32")(enlarged)
        x = layers.Conv2D(self.filters, 9, padding="same", activation="relu")(luma)
        kernel = self.middle_kernel
        x = layers.Conv2D(self.filters // 2, kernel, padding="same", activation="relu")(x)
        x = layers.Conv2D(1, 5, padding="same", dtype="float32")(x)
        return layers.Subtract(dtype="float32")([x, luma])


def srcnn() -> Recipe:
    """SRCNN 9-1-5; `--middle-kernel 5` is 9-5-5, seven times as much work.

    Source: Dong et al. 2014, section 4: crops of 33, MSE, SGD at 1e-4 (1e-5 in the last layer) for
    8e8 crops. Our choice, because it gets there sooner: Adam at 1e-3 falling along a half cosine,
    weights by Glorot, averaged weights; and crops of 48, which all scales divide.
    Command: python -m srgan_keras.train --recipe srcnn --data crops/
    Hardware: 100,000 steps of 1.8 GFLOP; two CPU cores.
    Expected: Dong et al. report 30.09 dB on Set5 for 9-1-5 from 91 photographs (2014), 30.48 for
    9-5-5 from ImageNet (2016); weights/srcnn.md has what shorter training on two cores gives.
    """
    return Recipe(
        name="srcnn",
        generator=SRCNN(),
        pairs=Pairs(crop_size=48, augment=True, lr_rounding=True),
        optimizer=Adam(learning_rate=1e-3, decay_steps=100_000),
        ema_momentum=0.999,
        steps_per_epoch=1000,
    )


RECIPES = [srcnn]
