"""The trained generators that ship with the package: `srresnet` and `srgan`.

What they were trained on, their scores and their limits stand in weights/README.md.
"""

import hashlib
from pathlib import Path

import keras

from data_prep.cli import UserError
from srgan_keras.models import layers  # noqa: F401  registers what the files refer to
from srgan_keras.recipes import get_recipe

WEIGHTS = Path(__file__).with_name("weights")
#: Name -> recipe that trained it, and SHA-256 checksum of its file.
PRETRAINED = {
    "srresnet": ("srresnet", "4ab941ae3735ee8786ae42319614a25995a46c96815bc0fb5073c1a1a86cbe93"),
    "srgan": ("srgan-vgg54", "e6584e8239f6a32b230a1cf6ce99654b5f6921c66728dd2ac87ce49e3447f5d6"),
}


def load_pretrained(name="srgan", blend=None):
    """Loads a generator that ships with the package.

    Args:
        name: `"srgan"`, which makes detail up, or `"srresnet"`, which leaves out what it cannot
            know.
        blend: None, or for `"srgan"` a float from 0 to 1: how much of it is mixed with 1 - blend of
            `"srresnet"`, weight by weight (Wang et al. 2018, ESRGAN, section 3.4).

    Returns:
        (functional `keras.Model` as from `build_generator`, the `Recipe` that it was trained by).
        The model enlarges by 4 and takes and gives pictures in [-1, 1].

    Raises:
        UserError: if there is no such generator, blend is out of range or not for `"srgan"`, or the
            file is not the one that was shipped.
    """
    if name not in PRETRAINED:
        raise UserError(f"There is no generator {name!r}. Names: {', '.join(PRETRAINED)}.")
    if blend is not None and (name != "srgan" or not 0 <= blend <= 1):
        raise UserError(
            f"blend mixes srresnet (0) with srgan (1). Received: blend={blend} for {name}"
        )
    recipe, checksum = PRETRAINED[name]
    file = WEIGHTS / f"{name}_x4.keras"
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != checksum:
        raise UserError(f"{file} is missing or damaged. Install srgan-keras again.")
    generator = keras.models.load_model(file, compile=False)
    if blend is not None:
        pairs = zip(
            load_pretrained("srresnet")[0].get_weights(), generator.get_weights(), strict=True
        )
        generator.set_weights([(1 - blend) * plain + blend * detailed for plain, detailed in pairs])
    return generator, get_recipe(recipe)
