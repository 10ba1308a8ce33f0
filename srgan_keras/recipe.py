"""A recipe: every setting of a training run, held by the parts that it is made of.

It knows no system: those are in `systems`, a file each, and bring their own recipes.
"""

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any, Self

from srgan_keras.common.errors import UserError
from srgan_keras.common.settings import Part, setting
from srgan_keras.data.pairs import Pairs
from srgan_keras.parts.adversarial import AdversarialLoss, Logistic
from srgan_keras.parts.content import Pixels, choose_content
from srgan_keras.parts.optimizers import Adam

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
STEPS = ("joint", "tutorial")


@dataclass(frozen=True, kw_only=True)
class Recipe(Part):
    """Every setting of a training run.

    Attributes:
        name: what `--recipe` calls it.
        generator: part whose `build(scale)` makes the generator.
        discriminator: part whose `build(crop_size, vgg_weights)` makes the discriminator; None if
            there is none.
        content: part whose `build(vgg_weights)` makes the content loss.
        adversarial: adversarial loss, and how much the discriminator learns in a step; None if
            there is no discriminator.
        pairs: what is trained on.
        optimizer: part whose `build()` makes the optimizer of each network, and whose `rate()` is
            its learning rate.

    Raises:
        UserError: if a value is not one that its setting can take, or two do not go together.
    """

    name: str
    generator: Part
    discriminator: Part | None = None
    content: Part = dataclasses.field(default_factory=Pixels)
    adversarial: AdversarialLoss | None = None
    pairs: Pairs = dataclasses.field(default_factory=Pairs)
    optimizer: Part = dataclasses.field(default_factory=Adam)

    step: str = setting(
        "joint",
        "training step: joint updates the discriminator once, tutorial as the tutorial's code does",
        choices=STEPS,
    )
    batch_statistics: bool = setting(
        True, "normalise in the generator by each batch, not by the averages it starts with"
    )
    shift_period: int = setting(
        0,
        "pixels over which pictures are shifted, step by step, before the losses see them; 0: none",
        least=0,
    )
    ema_momentum: float = setting(
        0.0, "momentum of the generator's averaged weights; 0: no average", least=0, most=0.999999
    )
    precision: str = setting("float32", "arithmetic of the networks", choices=PRECISIONS)
    batch_size: int = setting(16, "crops a step, over all devices", least=1)
    micro_batch: int = setting(
        0,
        "crops that go through the networks at a time, their gradients summed; 0: as many as fit "
        "into memory",
        least=0,
    )
    epochs: int = setting(100, "times through the crops", least=1)
    steps_per_epoch: int = setting(
        0, "steps of an epoch; 0: as many as there are batches of crops", least=0
    )
    seed: int = setting(0, "seed of weights, crops, their order and label noise", least=0)
    sample_every: int = setting(10, "epochs between two validations and sample pictures", least=1)
    sample_first: bool = setting(False, "make sample pictures after the first epoch too")
    save_every: int = setting(
        0, "epochs between two copies of both networks that are kept; 0: none", least=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.discriminator is None) != (self.adversarial is None):
            raise UserError("a discriminator and an adversarial loss need each other")
        if self.step == "tutorial":
            if self.shift_period:
                raise UserError("step tutorial shifts no pictures. Set `shift_period` to 0.")
            if self.discriminator is None:
                raise UserError("step tutorial needs a discriminator. Set `step` to joint.")
            if not isinstance(self.adversarial, Logistic) or self.adversarial.critic_steps > 1:
                raise UserError(
                    "step tutorial needs the logistic loss and critic_steps 1: it updates the "
                    "discriminator twice. Set `step` to joint."
                )

    @property
    def batches_per_step(self) -> int:
        """How many batches a step takes, and how often it updates the discriminator."""
        if self.step == "tutorial":
            return 2
        return self.adversarial.critic_steps if self.adversarial else 1

    def discriminator_optimizer(self) -> Part:
        """The optimizer of the discriminator, whose rate takes its course in the same steps."""
        settings = self.optimizer.settings()
        lengths = ("learning_rate_drop_step", "learning_rate_decay_steps")
        course = {n: self.batches_per_step * settings[n] for n in lengths if n in settings}
        rate = self.adversarial.learning_rate or settings["learning_rate"]
        return self.optimizer.change(learning_rate=rate, **course)

    def parts(self) -> list[Part]:
        """The recipe's parts, itself first."""
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return [self, *(value for value in values if isinstance(value, Part))]

    def every_option(self) -> dict[str, tuple[dataclasses.Field, Any]]:
        """All settings by name: their fields and values."""
        return {
            option: (field, part.settings()[option])
            for part in self.parts()
            for option, field in part.options().items()
        }

    def every_setting(self) -> dict[str, Any]:
        """The values of all settings by name; with the recipe's own name they make it again."""
        return {option: value for option, (_, value) in self.every_option().items()}

    def with_settings(self, **settings: Any) -> Self:
        """A copy with other settings, whichever parts they belong to.

        `content_loss` can put another kind of content loss in; an `adversarial_weight` of 0 takes
        the discriminator out.

        Raises:
            UserError: if the parts have no such setting, or a value cannot be.
        """
        recipe = self
        if "content_loss" in settings:
            content = choose_content(settings["content_loss"], self.content)
            recipe = dataclasses.replace(recipe, content=content)
        if settings.get("adversarial_weight") == 0:
            recipe = dataclasses.replace(recipe, discriminator=None, adversarial=None, step="joint")
            settings = {name: v for name, v in settings.items() if name != "adversarial_weight"}
        recipe.check_names(settings)
        changed = {
            field.name: getattr(recipe, field.name).change(**settings)
            for field in dataclasses.fields(recipe)
            if isinstance(getattr(recipe, field.name), Part)
        }
        own = {name: settings[name] for name in recipe.options().keys() & settings.keys()}
        return dataclasses.replace(recipe, **changed, **own)

    def check_names(self, settings: dict[str, Any]) -> None:
        """Raises a UserError if one of the settings is none of this recipe's parts'."""
        known = list(self.every_option())
        for unknown in sorted(settings.keys() - set(known)):
            close = difflib.get_close_matches(unknown, known, n=1)
            hint = f"Did you mean {close[0]}?" if close else f"Settings: {', '.join(known)}."
            raise UserError(f"{self.describe_parts()} has no setting {unknown!r}. {hint}")

    def describe_parts(self) -> str:
        """The recipe's name and what it is made of, in words."""
        names = [type(part).__name__ for part in self.parts()[1:]]
        return f"The recipe {self.name} ({', '.join(names)})"
