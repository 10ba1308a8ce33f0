"""Watches a GAN while it trains, and says in plain words what ails it and what usually helps.

It only looks: at the log's means over an epoch, and at what the generator makes of a few pictures.
What is done about it, going back to a checkpoint, is left to `loop`.
"""

import math
from dataclasses import dataclass

import keras
import numpy as np

from srgan_keras.common.cli import with_flags
from srgan_keras.common.errors import UserError
from srgan_keras.parts.adversarial import Logistic
from srgan_keras.recipe import Recipe

ON_COLLAPSE = ("warn", "stop", "rollback")
PATIENCE = 3  # epochs in a row, before anything but numbers that are none is said
CERTAIN = 0.01  # nats above the least loss that a discriminator can have
UNDECIDED = 0.005  # nats from ln 2, the loss of one that says 0.5 to everything
PLAIN = 0.1  # of the standard deviation of LR, below which a picture counts as plain
SATURATED = 0.3  # share of values at the end of their range, beyond LR's own
DRIFT = 20 / 127.5  # mean difference of a colour from LR's, in [-1, 1]: 20 grey levels


class Collapsed(UserError):
    """Training has come to a state from which it does not recover by itself."""


@dataclass(frozen=True)
class Ailment:
    """Something that goes wrong with GANs.

    Attributes:
        seen: what is seen, in words.
        helps: what usually helps.
        collapse: whether training can be stopped or taken back because of it.
    """

    seen: str
    helps: str
    collapse: bool = True


AILMENTS = {
    "not finite": Ailment(
        "the generated pictures hold values that are no numbers",
        "a smaller `learning_rate`, `clip_norm` 1, and float32 as `precision`",
    ),
    "always right": Ailment(
        "the discriminator is never wrong any more, so the generator learns nothing from it",
        "`label_noise` 0.1 to 0.2, a smaller `discriminator_learning_rate`, and a generator that "
        "starts from one trained on pixels (`init_generator`)",
    ),
    "undecided": Ailment(
        "the discriminator tells photographs and generated pictures no more apart than a coin "
        "would (its loss stays at ln 2), so the generator learns nothing from it",
        "more `discriminator_filters`, or a higher `discriminator_learning_rate`",
        collapse=False,
    ),
    "plain": Ailment(
        "the generated pictures are all but plain",
        "a smaller `learning_rate`, a smaller `adversarial_weight`, and a generator that starts "
        "from one trained on pixels (`init_generator`)",
    ),
    "saturated": Ailment(
        "much of the generated pictures is at the very end of its range, black, white or glaring",
        "a smaller `learning_rate`, a smaller `adversarial_weight`, and at the end of a long "
        "training --no-batch-statistics",
    ),
    "drift": Ailment(
        "the colours of the generated pictures are off by more than 20 grey levels in the mean",
        "more training, if it has just begun; else a `pixel_weight` beside VGG19's features, and a "
        "generator that starts from one trained on pixels (`init_generator`)",
        collapse=False,
    ),
}


def diagnose(logs: dict[str, float], lr: np.ndarray, sr: np.ndarray, recipe: Recipe) -> set[str]:
    """Says what ails a GAN at this moment.

    Args:
        logs: means over an epoch, as `SRGAN` logs them.
        lr: `(n, h, w, 3)` float32 in [-1, 1].
        sr: what the generator makes of it, `(n, scale * h, scale * w, 3)` float32.
        recipe: `Recipe`. Of a discriminator's loss something can be said if it is the logistic one
            (equation 1 of Goodfellow et al. 2014, halved: 0 to ln 2); a Wasserstein critic's has
            no bounds.

    Returns:
        names of `AILMENTS`.
    """
    if not np.isfinite(sr).all():
        return {"not finite"}
    found = set()
    if isinstance(recipe.adversarial, Logistic):
        loss = logs["discriminator_loss"]
        if loss < least_loss(recipe.adversarial.label_noise) + CERTAIN:
            found.add("always right")
        if abs(loss - math.log(2)) < UNDECIDED:
            found.add("undecided")
    spread = [images.std(axis=(1, 2)).mean() for images in (lr, sr)]
    if spread[1] < PLAIN * spread[0]:
        found.add("plain")
    ends = [(abs(images) > 0.99).mean() for images in (lr, sr)]
    if ends[1] > ends[0] + SATURATED:
        found.add("saturated")
    colours = [np.clip(images, -1, 1).mean(axis=(1, 2)) for images in (lr, sr)]
    if abs(colours[1] - colours[0]).mean(axis=0).max() > DRIFT:
        found.add("drift")
    return found


def least_loss(label_noise: float) -> float:
    """The logistic loss of a discriminator that is never wrong: the entropy of its mean label."""
    p = label_noise / 2
    return -p * math.log(p) - (1 - p) * math.log(1 - p) if p else 0.0


class Health(keras.callbacks.Callback):
    """Looks at the end of every epoch, says once what it sees, and may end training.

    Args:
        lr: pictures to look at, `(n, h, w, 3)` float32 in [-1, 1].
        recipe: `Recipe`.
        on_collapse: of `ON_COLLAPSE`.
        when_well: function without arguments, called at the end of an epoch without any
            sign of a collapse.

    Raises:
        Collapsed: (from `fit`) for what counts as a collapse, unless `on_collapse` is "warn"; for
            pictures that are no numbers always.
    """

    def __init__(self, lr: np.ndarray, recipe: Recipe, on_collapse: str, when_well=None) -> None:
        super().__init__()
        self.lr, self.recipe, self.on_collapse = np.asarray(lr), recipe, on_collapse
        self.when_well = when_well or (lambda: None)
        self.epochs = dict.fromkeys(AILMENTS, 0)  # in a row, in which each was seen
        self.said = set()

    def on_epoch_end(self, epoch, logs=None):
        sr = [self.model.averaged_generator(lr[None], training=False)[0] for lr in self.lr]
        sr = np.stack([keras.ops.convert_to_numpy(picture) for picture in sr], dtype=np.float32)
        found = diagnose(logs, self.lr, sr, self.recipe)
        self.epochs = {name: self.epochs[name] + 1 if name in found else 0 for name in AILMENTS}
        if not any(AILMENTS[name].collapse for name in found):
            self.when_well()
        for name in sorted(found):
            if name == "not finite" or self.epochs[name] >= PATIENCE:
                self.say(name, epoch)

    def say(self, name: str, epoch: int) -> None:
        """Says what is seen, once, or raises it."""
        ailment = AILMENTS[name]
        since = epoch + 2 - self.epochs[name]
        message = (
            f"Epoch {epoch + 1}: {ailment.seen}, since epoch {since}. What usually helps: "
            f"{ailment.helps}."
        )
        if name == "not finite" or (ailment.collapse and self.on_collapse != "warn"):
            raise Collapsed(message)
        if name not in self.said:
            print(with_flags(message), flush=True)
            self.said.add(name)
