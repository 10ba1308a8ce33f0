"""The generator of `systems.srgan` for photographs as people have them: blurred, noisy, JPEG.

Sources: Zhang et al., "Designing a Practical Degradation Model for Deep Blind Image
Super-Resolution" (BSRGAN, ICCV 2021); Wang et al., "Real-ESRGAN: Training Real-World Blind
Super-Resolution with Pure Synthetic Data" (ICCVW 2021). Theirs is the way in which LR is made
(`data.degradations`) and the order, pixels first; the networks stay Ledig et al.'s.
"""

import dataclasses

from srgan_keras.data.degradations import Degraded
from srgan_keras.parts.adversarial import Logistic
from srgan_keras.parts.content import Pixels
from srgan_keras.parts.optimizers import Adam
from srgan_keras.recipe import Recipe
from srgan_keras.systems.srgan import Discriminator, srgan, srresnet


def photo_srresnet() -> Recipe:
    """An SRResNet that takes JPEG's blocks, noise and blur away, and makes no detail up.

    Source: Wang et al. 2021, section 4.1 (Real-ESRNet: the absolute error, 2e-4). Our choice: from
    a generator that knows clean pictures, hence without batch statistics; half a cosine.
    Command: python -m srgan_keras.train --recipe photo-srresnet --init-generator srresnet
    --data crops/
    Hardware: 6,000 steps of 8 crops; two CPU cores.
    Expected: XXX
    """
    return dataclasses.replace(
        srresnet(),
        name="photo-srresnet",
        content=Pixels("mae"),
        pairs=Degraded(
            crop_size=96, augment=True, second_share=0.25, most_blur=2.5, most_noise=10.0
        ),
        optimizer=Adam(learning_rate=2e-4, decay_steps=6000),
        batch_statistics=False,
        batch_size=8,
        steps_per_epoch=200,
        epochs=30,
        sample_every=3,
    )


def photo() -> Recipe:
    """The SRGAN that starts from there.

    Source: Wang et al. 2021, section 4.1 (Real-ESRGAN: pixels, features and a discriminator), with
    the losses of `srgan`. Our choice: pictures that are shifted from step to step, and a loss of
    the grid alone, because without them a grid of 2 and 4 pixels grew over skin and sky; a
    discriminator of three quarters of the width whose feature maps are averaged, which learns from
    few photographs.
    Command: python -m srgan_keras.train --recipe photo --init-generator photo-srresnet --data
    crops/
    Hardware: 3,000 steps of 6 crops; two CPU cores.
    Expected: XXX
    """
    recipe = srgan()
    return dataclasses.replace(
        recipe,
        name="photo",
        discriminator=Discriminator(filters=48, head="pooling", batch_norm_momentum=0.9),
        content=dataclasses.replace(recipe.content, pixel_weight=1.0, grid_weight=300.0),
        adversarial=Logistic(weight=0.02, learning_rate=2e-4),
        pairs=photo_srresnet().pairs,
        shift_period=4,
        ema_momentum=0.995,
        epochs=30,
        sample_every=4,
    )


RECIPES = [photo_srresnet, photo]
