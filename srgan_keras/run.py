"""The run folder: what its files are called, its settings, its checkpoint and its log."""

import csv
import importlib
import json
import platform
import warnings
from pathlib import Path
from typing import Any

import keras

from srgan_keras.common.errors import UserError
from srgan_keras.common.files import remove_temporaries, replacing
from srgan_keras.recipe import Recipe
from srgan_keras.systems import get_recipe

SETTINGS = "recipe.json"
LOG = "log.csv"
CHECKPOINTS = "checkpoints"
CHECKPOINT = f"{CHECKPOINTS}/latest.weights.h5"
GENERATOR = "generator.keras"
BEST_GENERATOR = "best_generator.keras"
DISCRIMINATOR = "discriminator.keras"
SAVED_MODEL = "saved_model"
SAMPLES = "samples"
CURVES = "losses.png"
TENSORBOARD = "tensorboard"


def versions() -> dict[str, str]:
    """Returns the versions of what a run or an evaluation is made with."""
    backend = keras.backend.backend()
    return {
        "python": platform.python_version(),
        backend: importlib.import_module(backend).__version__,
        "keras": keras.__version__,
    }


def describe_folder(run: Path) -> str:
    """Says what to do about a run folder that is not empty."""
    if (run / CHECKPOINT).is_file():
        return f"Go on with the run in it by `resume` {run}, or choose another `run`."
    return "It has no checkpoint to go on from: delete it, or choose another `run`."


def check_new(run: Path, resume: bool) -> None:
    """Raises a UserError if a folder holds anything, in which a run is to begin, not to go on."""
    if not resume and run.exists() and any(run.iterdir()):
        raise UserError(f"{run} is not empty. {describe_folder(run)}")


def write_settings(run: Path, recipe: Recipe, facts: dict[str, Any], resume: bool) -> None:
    """Writes `recipe.json`: all that it takes to run the same training again.

    Args:
        run: the run folder; made where missing.
        recipe: what is trained.
        facts: what else there is to say, as JSON values.
        resume: whether the run has begun before.

    Raises:
        UserError: if another training has just started a run in the same folder.
    """
    chosen = {"name": recipe.name, **recipe.every_setting()}
    if recipe.adversarial is None:
        chosen["adversarial_weight"] = 0  # Or the recipe of that name would bring its own.
    settings = {"recipe": chosen, **facts}
    if not resume:
        run.mkdir(parents=True, exist_ok=True)
        try:
            (run / SETTINGS).touch(exist_ok=False)
        except FileExistsError:
            raise UserError(f"Another training has just started in {run}.") from None
    with replacing(run / SETTINGS) as path:
        path.write_text(json.dumps({**settings, "versions": versions()}, indent=2) + "\n")


def read_settings(run: Path) -> dict[str, Any]:
    """Reads the settings that a run was started with.

    Args:
        run: `Path` of the run folder.

    Returns:
        dict with "recipe" (a `Recipe`), "data" and "vgg_weights" (strings), and more facts.

    Raises:
        UserError: if they are missing or broken, or of a version that did not have all of them.
    """
    path = run / SETTINGS
    if not path.is_file():
        raise UserError(f"{run} is not a run folder: there is no {path}.")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        chosen = dict(settings["recipe"])
        recipe = get_recipe(chosen.pop("name"), **chosen)
        for name in ("data", "vgg_weights"):
            if not isinstance(settings[name], str):
                raise UserError(f"{name} must be a string")
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path} is broken or of another version ({error}). Restore it from a backup, or start "
            f"a new run: `init_generator` {run / GENERATOR} keeps what the generator has learned."
        ) from error
    return {**settings, "recipe": recipe}


def save_checkpoint(run: Path, model: keras.Model) -> None:
    """Saves the whole state of training, or leaves the last one."""
    with replacing(run / CHECKPOINT) as path:
        model.save_weights(path)


def load_checkpoint(run: Path, model: keras.Model) -> None:
    """Restores the whole state of training.

    Raises:
        UserError: if it does not load, because it is damaged or of another version.
    """
    path = run / CHECKPOINT
    for folder in (run, path.parent):
        remove_temporaries(folder)
    try:
        with warnings.catch_warnings():
            # Keras only warns where a file lacks a part of the model.
            warnings.simplefilter("error", UserWarning)
            model.load_weights(path)
    except Exception as error:  # HDF5 and Keras raise nearly anything for a damaged file.
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} does not load ({reason}). Start a new run; `init_generator` "
            f"{run / GENERATOR} keeps what the generator has learned."
        ) from error


def read_log(run: Path) -> list[dict[str, str]]:
    """Returns the rows of a run's log, dicts of strings; "NA" where there is no value.

    A row that a kill cut short, or that another joined on to, is left out.
    """
    path = run / LOG
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["epoch"].isdecimal() and None not in {*row, *row.values()}]


def rewind_log(run: Path, epoch: int) -> None:
    """Drops what a killed run has logged after its last checkpoint: this epoch and later ones."""
    rows = [row for row in read_log(run) if int(row["epoch"]) < epoch]
    if rows:
        with replacing(run / LOG) as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        (run / LOG).unlink(missing_ok=True)
