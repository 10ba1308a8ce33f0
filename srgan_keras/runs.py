"""The run folder: what its files are called, and how they are read."""

import dataclasses
import importlib
import json
import platform
from pathlib import Path

import keras

from data_prep.cli import UserError
from srgan_keras.pretrained import PRETRAINED, load_pretrained
from srgan_keras.recipes import Recipe

SETTINGS = "recipe.json"
LOG = "log.csv"
CHECKPOINT = "checkpoints/latest.weights.h5"
GENERATOR = "generator.keras"
SAVED_MODEL = "saved_model"


def versions():
    """Returns the versions of what a run or an evaluation is made with."""
    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        backend: importlib.import_module(backend).__version__,
        "keras": keras.__version__,
    }


def read_settings(run):
    """Reads the settings that a run was started with.

    Args:
        run: `Path` of the run folder.

    Returns:
        dict with "recipe" (a `Recipe`), "data" and "vgg_weights" (strings), and more facts.

    Raises:
        UserError: if they are missing or broken.
    """
    path = run / SETTINGS
    if not path.is_file():
        raise UserError(f"{run} is not a run folder: there is no {path}.")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name for field in dataclasses.fields(Recipe)}
        unknown = settings["recipe"].keys() - known
        if unknown:
            raise UserError(f"a recipe has no setting {min(unknown)!r}")
        settings["recipe"] = Recipe(**settings["recipe"])
        for name in ("data", "vgg_weights"):
            if not isinstance(settings[name], str):
                raise UserError(f"{name} must be a string")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"{path} is broken ({error!r}). Restore it from a backup.") from error
    return settings


def load_generator(source="srgan", blend=None):
    """Loads a trained generator and the recipe it was trained with.

    Args:
        source: `"srgan"` or `"srresnet"`, which ship with the package; or the path of a run folder,
            or of a generator's .keras file in one.
        blend: as for `load_pretrained`; None with a path.

    Returns:
        (functional `keras.Model`, `Recipe`).

    Raises:
        UserError: if there is no generator, it does not load, or its run's settings are broken.
    """
    if str(source) in PRETRAINED or blend is not None:
        return load_pretrained(str(source), blend)
    source = Path(source)
    file = source if source.suffix == ".keras" else source / GENERATOR
    if not file.is_file():
        raise UserError(
            f"There is no generator {file}. Give a run of srgan_keras.train, a .keras file in one, "
            f"or one of {', '.join(PRETRAINED)}."
        )
    recipe = read_settings(file.parent)["recipe"]
    try:
        generator = keras.models.load_model(file, compile=False)
        channels = generator.input_shape[-1], generator.output_shape[1:]
        generator.trainable = True  # an averaged generator is saved as it was, not to be trained
        for layer in generator.layers:  # whatever precision it was trained in
            layer.dtype_policy = "float32"
    except Exception as error:  # Keras passes on whatever a broken archive makes others raise.
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{file} does not load ({reason}).") from error
    if channels != (3, (None, None, 3)):
        raise UserError(f"{file} is not a generator: it does not turn pictures into pictures.")
    return generator, recipe


def describe_folder(run):
    """Says what to do about a run folder that is not empty."""
    if (run / CHECKPOINT).is_file():
        return f"Go on with the run in it by --resume {run}, or choose another by --run."
    return "It has no checkpoint to go on from: delete it, or choose another by --run."
