"""The run folder: what its files are called, its settings, its checkpoint and its log.

Where several processes train together all read it, and the first alone writes.
"""

import contextlib
import csv
import importlib
import json
import platform
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from srgan_keras.common.errors import UserError, in_one_line
from srgan_keras.common.files import (
    GENERATOR,
    LOCK,
    checksum,
    is_temporary,
    locked,
    publish,
    remove_temporaries,
    replacing,
    temporary_beside,
)
from srgan_keras.common.processes import alone, check_same, is_first
from srgan_keras.recipe import Recipe
from srgan_keras.systems import get_recipe

SETTINGS = "recipe.json"
LOG = "log.csv"
CHECKPOINTS = "checkpoints"
OLD_CHECKPOINT = f"{CHECKPOINTS}/latest.weights.h5"  # of earlier versions, which had one
METRICS = "metrics of the epoch"  # in a checkpoint
DIGITS = 16  # of a checkpoint's checksum that are in its name
BEST_GENERATOR = "best_generator.keras"
DISCRIMINATOR = "discriminator.keras"
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
    if find_checkpoints(run):
        return f"Go on with the run in it by `resume` {run}, or choose another `run`."
    return "It has no checkpoint to go on from: delete it, or choose another `run`."


def check_new(run: Path, resume: bool) -> None:
    """Raises a UserError if a folder holds anything, in which a run is to begin, not to go on.

    What a start leaves that is killed before its first checkpoint does not count.
    """
    if resume or not run.exists():
        return
    left = [*run.iterdir(), *(run / CHECKPOINTS).glob("*")]
    if not all(path.name in (LOCK, SETTINGS, CHECKPOINTS) or is_temporary(path) for path in left):
        raise UserError(f"{run} is not empty. {describe_folder(run)}")


@contextlib.contextmanager
def claimed(run: Path, resume: bool) -> Iterator[None]:
    """Keeps a run folder for one training, without what a killed one has left half written.

    Of several processes that train together the first claims it.

    Raises:
        UserError: if another is at work in it; and as `check_new`.
    """
    if not is_first():
        yield
        return
    check_new(run, resume)
    with locked(run):
        for folder in (run, run / CHECKPOINTS):
            remove_temporaries(folder)
        yield


def write_settings(run: Path, recipe: Recipe, facts: dict[str, Any], resume: bool) -> None:
    """Writes `recipe.json`: all that it takes to run the same training again.

    Args:
        run: the run folder; made where missing.
        recipe: what is trained.
        facts: what else there is to say, as JSON values; of a run that has begun before, what is
            None here stays as it was.
        resume: whether the run has begun before.
    """
    if not is_first():
        return
    chosen = {"name": recipe.name, **recipe.every_setting()}
    if recipe.adversarial is None:
        chosen["adversarial_weight"] = 0  # Or the recipe of that name would bring its own.
    settings = {"recipe": chosen, **facts}
    if resume:
        known = read_settings(run)
        settings |= {name: known[name] for name in known if settings.get(name) is None}
    with replacing(run / SETTINGS) as path:
        path.write_text(json.dumps({**settings, "versions": versions()}, indent=2) + "\n")


def read_settings(run: Path) -> dict[str, Any]:
    """Reads the settings that a run was started with.

    Args:
        run: `Path` of the run folder.

    Returns:
        dict with "recipe" (a `Recipe`), "data" and "vgg_weights" (strings), and more facts; those
        of earlier versions lack "steps_per_epoch" and "crops".

    Raises:
        UserError: if they are missing or broken, or of a version that did not have all of them.
    """
    path = run / SETTINGS
    if not path.is_file():
        raise UserError(
            f"{run} is not a run folder: there is no {path}. If it has moved, give where."
        )
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        chosen = dict(settings["recipe"])
        recipe = get_recipe(chosen.pop("name"), **chosen)
        for name in ("data", "vgg_weights"):
            if not isinstance(settings[name], str):
                raise UserError(f"{name} must be a string")
        if not isinstance(settings.get("steps_per_epoch", 1), int):
            raise UserError("steps_per_epoch must be a whole number")
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{path} is broken or of another version ({error}). Restore it from a backup, or start "
            f"a new run: `init_generator` {run / GENERATOR} keeps what the generator has learned."
        ) from error
    return {**settings, "recipe": recipe}


def assumed_settings(run: Path) -> dict[str, Any]:
    """The settings that a run's file does not have, as one of an earlier version, and their values.

    Raises:
        UserError: as `read_settings`.
    """
    values = read_settings(run)["recipe"].every_setting()
    kept = json.loads((run / SETTINGS).read_text(encoding="utf-8"))["recipe"]
    return {name: value for name, value in values.items() if name not in kept}


def find_checkpoints(run: Path) -> list[Path]:
    """Returns a run's checkpoints, the newest first; the last may be an earlier version's."""
    found = sorted((run / CHECKPOINTS).glob("step-*.weights.h5"), reverse=True)
    return [*found, *filter(Path.is_file, [run / OLD_CHECKPOINT])]


def save_checkpoint(
    run: Path, model: keras.Model, metrics: np.ndarray, keep: int = 2, well: int | None = None
) -> None:
    """Saves the whole state of training, and removes what is older than the last few.

    A checkpoint is `checkpoints/step-STEP-CHECKSUM.weights.h5`. It has its name, with the first 16
    digits of the file's SHA-256, when all of it is on the disk.

    Args:
        run: the run folder.
        model: `SRGAN`.
        metrics: what `metric_values` gave.
        keep: how many checkpoints there are to be.
        well: step up to which all was well; the last one until then is kept too. None: unknown.
    """
    if not is_first():
        return
    folder = run / CHECKPOINTS
    with temporary_beside(folder / "new.weights.h5") as unfinished, alone():
        model.save_weights(unfinished)
        with h5py.File(unfinished, "a") as file:
            file[METRICS] = metrics
        path = folder / f"step-{model.step:09d}-{checksum(unfinished)[:DIGITS]}.weights.h5"
        publish(unfinished, path)
    others = [other for other in find_checkpoints(run) if other != path]
    kept = others[: keep - 1]
    if well is not None and model.step > well:
        kept += [other for other in others if step_of(other) <= well][:1]
    for old in set(others) - set(kept):
        old.unlink()


def save_network(path: Path, network: keras.Model) -> None:
    """Saves a network as a `.keras` file, in place of what has that name."""
    if is_first():
        with replacing(path) as unfinished, alone():
            network.save(unfinished)


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name; 0 for those of earlier versions, which do not say it."""
    return int(checkpoint.name.split("-")[1]) if checkpoint.name.startswith("step-") else 0


def metric_values(model: keras.Model) -> np.ndarray:
    """What the metrics have added up in this epoch so far, float32."""
    variables = [variable for metric in model.metrics for variable in metric.variables]
    return np.array([keras.ops.convert_to_numpy(variable) for variable in variables], np.float32)


def set_metric_values(model: keras.Model, values: np.ndarray) -> None:
    """Gives the metrics what `metric_values` gave."""
    variables = [variable for metric in model.metrics for variable in metric.variables]
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def load_checkpoint(run: Path, model: keras.Model, latest: int | None = None) -> None:
    """Restores the whole state of training, from the newest checkpoint that is whole.

    Those that are newer than that are removed; damaged ones are named.

    Args:
        run: the run folder.
        model: `SRGAN`.
        latest: the last step that it may be of; None: any.

    Raises:
        UserError: if none loads, because they are damaged or of another version.
    """
    found, damaged = find_checkpoints(run), {}
    allowed = [path for path in found if latest is None or step_of(path) <= latest]
    check_same("checkpoints", [path.name for path in allowed])
    for path in allowed:
        try:
            read_checkpoint(path, model)
        except Exception as error:  # HDF5 and Keras raise nearly anything for a damaged file.
            damaged[path] = in_one_line(error)
            continue
        for other, reason in damaged.items():
            print(f"{other} does not load ({reason}) and is removed; {path.name} does.")
        for other in found[: found.index(path)] if is_first() else []:
            other.unlink()
        return
    path, reason = next(iter(damaged.items()))
    raise UserError(
        f"{path} does not load ({reason}){', and no older one' if len(damaged) > 1 else ''}. Start "
        f"a new run; `init_generator` {run / GENERATOR} keeps what the generator has learned."
    )


def read_checkpoint(path: Path, model: keras.Model) -> None:
    """Restores the state of training from one file; whatever is wrong with it raises."""
    named = path.name.startswith("step-")
    if named and checksum(path)[:DIGITS] != path.name.split("-")[2].split(".")[0]:
        raise ValueError("its checksum is not that of its name")
    with warnings.catch_warnings():
        # Keras only warns where a file lacks a part of the model.
        warnings.simplefilter("error", UserWarning)
        model.load_weights(path)
    with h5py.File(path) as file:
        if METRICS in file:  # Those of earlier versions have none.
            set_metric_values(model, file[METRICS][()])


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


def curve_of(rows: list[dict[str, str]], column: str) -> list[tuple[int, float]]:
    """Returns a column of a log as points: (epochs done, value), where there is one."""
    return [
        (int(row["epoch"]) + 1, float(row[column])) for row in rows if row.get(column, "NA") != "NA"
    ]


def add_to_log(run: Path, epoch: int, logs: dict[str, float]) -> None:
    """Adds an epoch's row to the log."""
    names = sorted(name for name in logs if not name.startswith("val_"))
    empty = dict.fromkeys([*names, *(f"val_{name}" for name in names)], "NA")
    write_log(run, [*read_log(run), {"epoch": epoch, **empty, **logs}])


def rewind_log(run: Path, epoch: int) -> None:
    """Drops what a killed run has logged after its last checkpoint: this epoch and later ones."""
    write_log(run, [row for row in read_log(run) if int(row["epoch"]) < epoch])


def write_log(run: Path, rows: list[dict[str, Any]]) -> None:
    """Writes the log; "NA" stands where a row lacks what another has."""
    if not is_first():
        return
    if not rows:
        (run / LOG).unlink(missing_ok=True)
        return
    columns = dict.fromkeys(name for row in rows for name in row)
    with replacing(run / LOG) as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, restval="NA", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
