"""Parts: small frozen dataclasses whose fields are settings that they check themselves."""

import dataclasses
from typing import Any, Self

from srgan_keras.common.errors import UserError


def setting(
    default: Any,
    meaning: str,
    *,
    choices: tuple = (),
    least: float | None = None,
    most: float = 2**31 - 1,
    option: str | None = None,
) -> Any:
    """A field of a `Part`.

    Args:
        default: its value where nothing else is said.
        meaning: a phrase for --help.
        choices: the values it can take; empty: any of its type.
        least: the least number it can be.
        most: the greatest.
        option: its name among the settings of a whole recipe; None: the field's own.
    """
    metadata = {
        "meaning": meaning,
        "choices": choices,
        "least": least,
        "most": most,
        "option": option,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Part:
    """What a recipe is made of: it holds its settings, checks them, and builds itself.

    Raises:
        UserError: if a value is not one that its setting can take.
    """

    def __post_init__(self) -> None:
        for option, field in self.options().items():
            check(option, field, getattr(self, field.name))

    @classmethod
    def options(cls) -> dict[str, dataclasses.Field]:
        """The settings, by their names in a whole recipe."""
        fields = [field for field in dataclasses.fields(cls) if "meaning" in field.metadata]
        return {field.metadata["option"] or field.name: field for field in fields}

    def settings(self) -> dict[str, Any]:
        """The values of the settings, by their names in a whole recipe."""
        return {option: getattr(self, field.name) for option, field in self.options().items()}

    def change(self, **settings: Any) -> Self:
        """A copy with other settings, of which those that it does not have are left out."""
        options = self.options()
        values = {options[name].name: settings[name] for name in options.keys() & settings.keys()}
        return dataclasses.replace(self, **values)


def check(name: str, field: dataclasses.Field, value: Any) -> None:
    """Raises a UserError if a value is not one that a setting can take."""
    choices, least, most = (field.metadata[key] for key in ("choices", "least", "most"))
    number = field.type in (int, float) and not isinstance(value, bool)
    kinds = (int, float) if field.type is float else field.type
    if not isinstance(value, kinds) or (isinstance(value, bool) and field.type is not bool):
        expected = f"of type {field.type.__name__}"
    elif choices and value not in choices:
        expected = f"one of {', '.join(map(str, choices))}"
    elif number and least is not None and not least <= value <= most:
        expected = f"from {least} to {most}"
    else:
        return
    raise UserError(f"{name} must be {expected}. Received: {value!r}")
