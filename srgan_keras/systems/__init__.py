"""Systems of the literature, one a file: its source, its networks and its recipes.

A file here is a system as soon as it lists its recipes: functions without arguments in `RECIPES`,
whose names are the recipes' and whose docstrings say source, command, hardware and what to expect.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from srgan_keras.common.errors import UserError
from srgan_keras.recipe import Recipe


@functools.cache
def recipes() -> dict[str, Callable[[], Recipe]]:
    """Every recipe of every system, by name."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        for recipe in importlib.import_module(f"{__name__}.{module.name}").RECIPES:
            found[recipe.__name__.replace("_", "-")] = recipe
    return found


def get_recipe(name: str, **settings: Any) -> Recipe:
    """Returns a named recipe, with settings changed.

    Args:
        name: a recipe of a system, such as `"tutorial"`.
        **settings: settings of its parts, by the names that `Recipe.every_setting` gives them.

    Raises:
        UserError: if the recipe or a setting is unknown, or a value cannot be.
    """
    if name not in recipes():
        raise UserError(f"There is no recipe {name!r}. Recipes: {', '.join(recipes())}.")
    return recipes()[name]().with_settings(**settings)
