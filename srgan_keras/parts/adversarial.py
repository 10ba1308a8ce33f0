"""Adversarial losses: what generator and critic make of the critic's scores, and what keeps the two
in balance.

A score is the number in front of a discriminator's sigmoid, or what a Wasserstein critic gives. A
loss is one value for each picture. All chance comes in from outside, as `chance`: numbers drawn
from U(0, 1), `CHANCES` for each picture.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from srgan_keras.common.errors import UserError
from srgan_keras.common.settings import Part, setting

CHANCES = 3  # drawn for a picture: for a photograph's label, a generated one's, the generator's


@dataclass(frozen=True)
class AdversarialLoss(Part):
    """What a training step asks of an adversarial loss."""

    weight: float = setting(
        1e-3, "weight of the adversarial loss; 0: none", least=0, option="adversarial_weight"
    )
    critic_steps: int = setting(
        1, "updates of the discriminator before each of the generator", least=1, most=100
    )
    learning_rate: float = setting(
        0.0,
        "the discriminator's learning rate, if not the generator's; 0: the generator's",
        least=0,
        option="discriminator_learning_rate",
    )

    @property
    def logs(self) -> tuple[str, ...]:
        """Names of what `critic` and `penalty` log."""
        return ()

    def generator(self, sr_scores: Any, chance: Any) -> Any:
        """The generator's loss.

        Args:
            sr_scores: the critic's scores of generated pictures, `(batch, 1)` float32.
            chance: `(batch, CHANCES)` float32.

        Returns:
            `(batch, 1)` float32.
        """
        raise NotImplementedError

    def critic(self, hr_scores: Any, sr_scores: Any, chance: Any) -> tuple[Any, dict[str, Any]]:
        """The critic's loss; arguments as for `generator`.

        Returns:
            (`(batch, 1)` float32, dict of logs, `(batch,)` each).
        """
        raise NotImplementedError

    def penalty(self, score: Callable, hr: Any, sr: Any, chance: Any) -> tuple[Any, dict[str, Any]]:
        """What the critic's loss has added for its gradient by the pictures; 0: nothing.

        Args:
            score: the critic, from pictures to `(batch, 1)` scores.
            hr: photographs, `(batch, h, w, 3)` float32.
            sr: generated pictures, likewise.
            chance: `(batch, CHANCES)` float32.

        Returns:
            as `critic`.
        """
        return 0.0, {}

    def constrain(self, variables: list[keras.Variable]) -> None:
        """Changes the critic's variables after each of its updates; here: nothing."""


@dataclass(frozen=True)
class Logistic(AdversarialLoss):
    """Binary cross-entropy of the sigmoid of scores (Goodfellow et al. 2014; Ledig et al. 2017,
    equation 6: -log D(G(LR)) for the generator).

    It is computed from the scores, so that a discriminator that is surely wrong still learns.
    """

    label_noise: float = setting(
        0.0, "most by which the discriminator's labels are off", least=0, most=1
    )
    generator_label_noise: float = setting(
        0.0, "most by which the labels of the generator's update are off", least=0, most=1
    )

    def generator(self, sr_scores: Any, chance: Any) -> Any:
        return cross_entropy(sr_scores, 1.0 - self.generator_label_noise * chance[:, 2:3])

    def critic(self, hr_scores: Any, sr_scores: Any, chance: Any) -> tuple[Any, dict[str, Any]]:
        both = self.photographs(hr_scores, chance) + self.generated(sr_scores, chance)
        return 0.5 * both, {}

    def photographs(self, hr_scores: Any, chance: Any) -> Any:
        """The discriminator's loss on photographs alone, whose labels are 1 - U(0, label_noise)."""
        return cross_entropy(hr_scores, 1.0 - self.label_noise * chance[:, 0:1])

    def generated(self, sr_scores: Any, chance: Any) -> Any:
        """The same on generated pictures alone, whose labels are U(0, label_noise)."""
        return cross_entropy(sr_scores, self.label_noise * chance[:, 1:2])


@dataclass(frozen=True)
class Wasserstein(AdversarialLoss):
    """The Wasserstein critic's loss, mean D(SR) - mean D(HR) (Arjovsky et al. 2017).

    For this to be a distance the critic must not be steeper than 1 anywhere. The gradient penalty
    of Gulrajani et al. 2017, equation 3, sees to it; or, with `gradient_penalty=0`, the weight
    clipping of Arjovsky et al. 2017, algorithm 1, at 0.01 there, which bounds the steepness by a
    number that nobody knows. The critic must have no batch normalisation: the penalty is each
    picture's own.

    What the log says: `wasserstein_estimate`, mean D(HR) - mean D(SR), estimates the distance
    between photographs and generated pictures, from below; it rises while the critic learns to see
    it and falls as the generator closes it. `gradient_norm` is the critic's steepness between the
    pictures. It comes to 1, and as much above it as loss and penalty balance: the steepness s that
    makes -s * distance + gradient_penalty * (s - 1)**2 least is 1 + distance / (2 *
    gradient_penalty). The critic's loss is minus the estimate, plus the penalty. It has no bound,
    and no value of it stands for success: the article behind the recipe `wdrn` takes one that
    "hovers around -1" as the critic's difficulty in telling generated pictures from photographs,
    but it says that their mean scores differ by 1. Difficulty would be an estimate near 0 that no
    further training of the critic raises.
    """

    gradient_penalty: float = setting(
        10.0, "weight of the squared distance of the critic's gradient norm from 1", least=0
    )
    weight_clipping: float = setting(
        0.0, "greatest absolute value that a weight of the critic can have; 0: any", least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gradient_penalty and self.weight_clipping:
            raise UserError(
                "gradient_penalty and weight_clipping exclude each other: set one to 0. "
                f"Received: {self.gradient_penalty}, {self.weight_clipping}"
            )

    @property
    def logs(self) -> tuple[str, ...]:
        return ("wasserstein_estimate", *(["gradient_norm"] if self.gradient_penalty else []))

    def generator(self, sr_scores: Any, chance: Any) -> Any:
        return -sr_scores

    def critic(self, hr_scores: Any, sr_scores: Any, chance: Any) -> tuple[Any, dict[str, Any]]:
        estimate = hr_scores - sr_scores
        return -estimate, {"wasserstein_estimate": estimate[:, 0]}

    def penalty(self, score: Callable, hr: Any, sr: Any, chance: Any) -> tuple[Any, dict[str, Any]]:
        if not self.gradient_penalty:
            return 0.0, {}
        share = ops.reshape(chance[:, 0], (-1, 1, 1, 1))
        gradient = input_gradient(score, share * hr + (1.0 - share) * sr)
        # The small number keeps the root's own gradient finite where the norm is 0.
        norm = ops.sqrt(ops.sum(ops.square(gradient), axis=(1, 2, 3)) + 1e-12)
        return self.gradient_penalty * ops.square(norm - 1.0)[:, None], {"gradient_norm": norm}

    def constrain(self, variables: list[keras.Variable]) -> None:
        if self.weight_clipping:
            for variable in variables:
                variable.assign(ops.clip(variable, -self.weight_clipping, self.weight_clipping))


def cross_entropy(scores: Any, labels: Any) -> Any:
    """Returns the binary cross-entropy of sigmoid(scores), element by element."""
    return ops.softplus(scores) - labels * scores


def input_gradient(function: Callable, x: Any) -> Any:
    """Returns the gradient of the sum of a function's outputs by its argument, of that shape."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.grad(lambda x: ops.sum(function(x)))(x)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = function(x)
    return tape.gradient(outputs, x)


def choose_adversarial(loss: Any) -> AdversarialLoss:
    """Returns the adversarial loss that an argument of `SRGAN.compile` means.

    Args:
        loss: an `AdversarialLoss`, or `"binary_crossentropy"` or Keras' own loss of that name, for
            `Logistic()`.

    Raises:
        ValueError: if it is something else.
    """
    plain = keras.losses.BinaryCrossentropy().get_config()
    if isinstance(loss, keras.losses.BinaryCrossentropy) and loss.get_config() == plain:
        return Logistic()
    if loss == "binary_crossentropy":
        return Logistic()
    if not isinstance(loss, AdversarialLoss):
        raise ValueError(
            "the adversarial loss must be 'binary_crossentropy' or one of srgan_keras' own. "
            f"Received: {loss!r}"
        )
    return loss
