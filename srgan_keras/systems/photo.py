"""The generator of `systems.srgan` for photographs as people have them: blurred, noisy, JPEG.

Sources: Zhang et al., "Designing a Practical Degradation Model for Deep Blind Image
Super-Resolution" (BSRGAN, ICCV 2021); Wang et al., "Real-ESRGAN: Training Real-World Blind
Super-Resolution with Pure Synthetic Data" (ICCVW 2021). Theirs is the way in which LR is made
(`data.degradations`) and the order, pixels first; the networks stay Ledig et al.'s.
"""

import dataclasses

from srgan_keras.data.degradations import Degraded
from srgan_keras.parts.content import Pixels
from srgan_keras.parts.optimizers import Adam
from srgan_keras.recipe import Recipe
from srgan_keras.systems.srgan import srgan, srresnet


def photo_srresnet() -> Recipe:
    """An SRResNet that takes JPEG's blocks, noise and blur away, and makes no detail up.

    Source: Wang et al. 2021, section 4.1 (Real-ESRNet: the absolute error, 2e-4). Our choice: from
    a generator that knows clean pictures, hence without batch statistics; half a cosine.
    Command: python -m srgan_keras.train --recipe photo-srresnet --init-generator srresnet
    --data crops/
    Hardware: 6,000 steps of 8 crops; two CPU cores.
    Expected: 25.62 dB on Set14 at JPEG's quality 50 and 27.73 on clean Set14 after 1,674 steps with
    stronger degradations and 4,500 of 16 crops; bicubic gives 24.91 and 26.09.
    """
    return dataclasses.replace(
        srresnet(),
        name="photo-srresnet",
        content=Pixels("mae"),
        pairs=Degraded(crop_size=96, augment=True),
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
    the losses of `srgan`, twice its adversarial weight and 1000 of the grid's for its 300, which
    are our choice.
    Command: python -m srgan_keras.train --recipe photo --init-generator photo-srresnet --data
    crops/
    Hardware: 3,000 steps of 6 crops; two CPU cores.
    Expected: 25.16 dB and LPIPS .356 on Set14 at JPEG's quality 50, where bicubic has 24.91 and
    .603, after 6,733 steps in three runs, the first two with stronger degradations; 26.68 dB and
    .245 on clean Set14.
    """
    recipe = srgan()
    return dataclasses.replace(
        recipe,
        name="photo",
        content=dataclasses.replace(recipe.content, grid_weight=1000.0),
        adversarial=dataclasses.replace(recipe.adversarial, weight=0.02),
        pairs=photo_srresnet().pairs,
        sample_every=4,
    )


RECIPES = [photo_srresnet, photo]
