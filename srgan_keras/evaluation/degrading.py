"""Spoils small pictures before they are enlarged, so that methods can be compared on bad ones.

Each degradation has one strength and no chance of its own, unlike those that training draws
(`data.degradations`): the same picture always comes out the same.
"""

import io
import math
import re
from collections.abc import Callable

import numpy as np
from PIL import Image

from srgan_keras.common.errors import UserError
from srgan_keras.data.pairs import gaussian_blur


def read_degradation(text: str) -> Callable[[np.ndarray], np.ndarray]:
    """Makes a function of what `--degrade` says.

    Args:
        text: `jpeg50`, a file of that quality (1 to 100) as Pillow writes it, chroma halved;
            `noise10`, Gaussian noise of that standard deviation in grey levels, from a seed of its
            own; `blur1.5`, a Gaussian blur of that standard deviation in pixels of the small
            picture; or several joined by `+`, one after the other: `blur1+noise5+jpeg75`.

    Returns:
        function from `(h, w, 3)` uint8 to the same.

    Raises:
        UserError: if it is none of these.
    """
    steps = []
    for term in text.split("+"):
        match = re.fullmatch(r"(jpeg|noise|blur)(\d+(?:\.\d+)?)", term)
        name, strength = (match[1], float(match[2])) if match else ("", 0.0)
        if not strength or (name == "jpeg" and (strength > 100 or strength % 1)):
            raise UserError(
                "degrade must be jpeg with a quality from 1 to 100, noise or blur with a standard "
                f"deviation above 0, such as jpeg50 or blur1.5+noise10. Received: {text!r}"
            )
        steps.append((STEPS[name], strength))

    def degrade(picture: np.ndarray) -> np.ndarray:
        for step, strength in steps:
            picture = step(picture, strength)
        return picture

    return degrade


def compress(picture: np.ndarray, quality: float) -> np.ndarray:
    """What is left of a picture in a JPEG file of a quality."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=int(quality), subsampling="4:2:0")
    return np.array(Image.open(file))


def add_noise(picture: np.ndarray, deviation: float) -> np.ndarray:
    """Adds Gaussian noise to each channel; to pictures of one size always the same."""
    noise = np.random.default_rng(0).normal(0.0, deviation, picture.shape)
    return (picture + noise).round().clip(0, 255).astype(np.uint8)


def blur(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Blurs a picture.

    Raises:
        UserError: if the blur is wider than the picture.
    """
    if math.ceil(3 * sigma) >= min(picture.shape[:2]):
        raise UserError(f"smaller than three times the blur of {sigma:g}")
    blurred = gaussian_blur(picture[None].astype(np.float32), sigma)[0]
    return np.asarray(blurred).round().clip(0, 255).astype(np.uint8)


STEPS = {"jpeg": compress, "noise": add_noise, "blur": blur}
