"""A study: recipes trained for the same budget on the same crops, and measured on the same sets.

What makes the comparison fair, as far as it goes: every recipe gets the same number of steps, or of
minutes, on the same crops from the same seed. It keeps its own batches and rates, and whatever of
it counts steps is shortened in proportion. A recipe with a discriminator starts from its generator
trained on pixels, as Ledig et al. 2017, section 3.2, have it: all with the same generator from the
same one, for the same budget before their own.

A study is a folder. Each of its steps is left out where its result is there, and a training that
was stopped goes on from its checkpoint. Training itself is `training.loop`, measuring
`evaluation.tables`.
"""

import dataclasses
import gc
import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from srgan_keras import run as run_folder
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import SAVED_MODEL, replacing
from srgan_keras.evaluation import tables
from srgan_keras.evaluation.comparison import draw_comparison
from srgan_keras.inference.interpolation import FILTERS
from srgan_keras.inference.upscaler import load_method
from srgan_keras.parts.content import Pixels
from srgan_keras.recipe import Recipe
from srgan_keras.systems import get_recipe, recipes
from srgan_keras.training.loop import build_gan, fit, load_data, train

PLAN, RUNS, SCORES, SECONDS = "plan.json", "runs", "scores", "seconds.json"
CURVES, PICTURE = "losses.png", "comparison.png"
POINTS = 20  # epochs of a training, which are points of its curves
WARM_UP, TIMED = 3, 5  # steps that are left out and taken when a recipe is timed
#: Settings that a study chooses itself.
OWN = ("epochs", "steps_per_epoch", "sample_every", "scale", "seed")
PANELS = {  # column of the log: what it is, and its axis
    "psnr": ("PSNR in training, dB", "linear"),
    "content_loss": ("content loss, each recipe's own", "log"),
    "adversarial_loss": ("adversarial loss", "linear"),
    "discriminator_loss": ("discriminator's loss", "linear"),
    "wasserstein_estimate": ("Wasserstein estimate, D(HR) - D(SR)", "linear"),
}


@dataclass(frozen=True)
class Plan:
    """What is trained.

    Attributes:
        recipes: by the name of their run, in the order in which they are trained.
        starts: run -> the run whose generator it starts from.
        left_out: recipe -> why it is not trained.
    """

    recipes: dict[str, Recipe]
    starts: dict[str, str]
    left_out: dict[str, str]

    def shorten(self, steps: Mapping[str, int], keep: Collection[str] = ()) -> "Plan":
        """The same with these numbers of steps by run; `keep` as for the function `shorten`."""
        short = {name: shorten(one, steps[name], keep) for name, one in self.recipes.items()}
        return dataclasses.replace(self, recipes=short)

    def describe(self) -> dict[str, dict]:
        """All settings and the start of each run, as JSON values."""
        return {
            name: {"start": self.starts.get(name), "recipe": one.name, **one.every_setting()}
            for name, one in self.recipes.items()
        }


def make_plan(names: list[str], scale: int, seed: int, settings: Mapping[str, str]) -> Plan:
    """Chooses what is trained, and what each starts from.

    Args:
        names: of recipes.
        scale: int; recipes whose generator does not have it are left out.
        seed: of all.
        settings: that are changed, by name and as text, in each recipe that has them.

    Raises:
        UserError: if there is no such recipe, none of them has a setting, a value cannot be, or no
            recipe is left.
    """
    if taken := [name for name in settings if name in OWN]:
        raise UserError(f"A study chooses {', '.join(taken)} itself. Give `steps` and `scale`.")
    changes = {**settings, "scale": scale, "seed": seed}
    chosen = {name: change(get_recipe(name), changes) for name in names}
    known = {option for recipe in chosen.values() for option in recipe.every_option()}
    for name in settings.keys() - known:
        chosen[names[0]].check_names({name: None})
    left_out = {}
    for name, recipe in list(chosen.items()):
        try:
            recipe.generator.build(scale)
        except UserError as error:
            left_out[name] = str(error)
            del chosen[name]
    if not chosen:
        raise UserError(f"No recipe has the `scale` {scale}: {'; '.join(left_out.values())}")
    planned, starts = {}, {}
    for name, recipe in chosen.items():
        if start := choose_start(recipe, chosen, changes):
            starts[name], planned[start[0]] = start[0], start[1]
        planned[name] = recipe
    return Plan(planned, starts, left_out)


def change(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """Returns a recipe with those of some settings that it has; text is read as their type.

    Raises:
        UserError: if a value cannot be.
    """
    known = recipe.every_option()
    values = {
        name: read_value(name, known[name][0].type, value)
        for name, value in settings.items()
        if name in known
    }
    return recipe.with_settings(**values)


def read_value(name: str, kind: type, value: Any) -> Any:
    """Reads the value of a setting from text; leaves others as they are."""
    if not isinstance(value, str):
        return value
    try:
        return {"true": True, "false": False}[value.lower()] if kind is bool else kind(value)
    except (ValueError, KeyError):
        raise UserError(f"{name} must be of type {kind.__name__}. Received: {value!r}") from None


def choose_start(
    recipe: Recipe, chosen: Mapping[str, Recipe], changes: Mapping[str, Any]
) -> tuple[str, Recipe] | None:
    """Chooses what a recipe with a discriminator starts from: its generator, trained on pixels.

    Args:
        recipe: that is to start.
        chosen: the recipes of the study, by name; these come before all others.
        changes: settings of the study, for the others.

    Returns:
        (name of the run, its recipe): one whose generator is the same; or else one of the same
        system, made to have that generator, as the run `NAME-start`. None if there is neither, or
        the recipe has no discriminator.
    """
    if recipe.discriminator is None:
        return None
    others = {name: make() for name, make in recipes().items() if name not in chosen}
    fitting = {
        name: change(other, changes)
        for name, other in {**chosen, **others}.items()
        if other.discriminator is None
        and isinstance(other.content, Pixels)
        and type(other.generator) is type(recipe.generator)
        and type(other.pairs) is type(recipe.pairs)
    }
    for name, other in fitting.items():
        if other.generator == recipe.generator:
            return name, other
    for other in fitting.values():
        return f"{recipe.name}-start", other.with_settings(**recipe.generator.settings())
    return None


def shorten(recipe: Recipe, steps: int, keep: Collection[str] = ()) -> Recipe:
    """Returns a recipe of so many steps, with all that counts steps shortened in proportion.

    That is: the steps of its learning rate's course, and how far back its averaged weights look.

    Args:
        recipe: whose own length is `epochs` x `steps_per_epoch`.
        steps: int.
        keep: settings that stay as they are.
    """
    epochs = max(n for n in range(1, POINTS + 1) if steps % n == 0)
    changes = {"epochs": epochs, "steps_per_epoch": steps // epochs}
    changes["sample_every"] = max(1, epochs // 4)
    whole = recipe.epochs * recipe.steps_per_epoch
    if whole:
        settings, share = recipe.every_setting(), steps / whole
        for name in ("learning_rate_drop_step", "learning_rate_decay_steps"):
            if settings.get(name):
                changes[name] = max(1, round(share * settings[name]))
        if recipe.ema_momentum:
            changes["ema_momentum"] = max(0.0, 1 - (1 - recipe.ema_momentum) / share)
    return recipe.with_settings(**{k: v for k, v in changes.items() if k not in keep})


def seconds_per_step(recipe: Recipe, data: Path, vgg_weights: str | None) -> float:
    """Times a recipe's training steps, the median of a few; arguments as for `train`."""
    crops = dataclasses.replace(load_data(data, recipe), held_out=[])
    gan, times = build_gan(recipe, vgg_weights), []
    clock = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda *_, **__: times.append(time.perf_counter())
    )
    steps = WARM_UP + TIMED + 1
    fit(gan, crops, recipe.with_settings(epochs=1), steps, [clock])
    return float(np.median(np.diff(times[WARM_UP:])))


def choose_steps(
    plan: Plan, folder: Path, minutes: int, data: Path, vgg_weights: str | None
) -> dict[str, int]:
    """Says how many steps of each recipe take so many minutes, by timing them on this machine.

    Args:
        plan: of `make_plan`.
        folder: of the study; what was timed when it began holds.
        minutes: int.
        data: as for `train`.
        vgg_weights: likewise.
    """
    before = read_plan(folder) or {}
    known = before.get("steps", {})
    if before.get("minutes") == minutes and known.keys() == plan.recipes.keys():
        return known
    steps = {}
    for name, recipe in plan.recipes.items():
        seconds = seconds_per_step(recipe, data, vgg_weights)
        steps[name] = POINTS * max(1, round(60 * minutes / seconds / POINTS))
        print(f"{name}: {seconds:.3f} s a step, {steps[name]:,} steps", flush=True)
    return steps


def read_plan(folder: Path) -> dict[str, Any] | None:
    """Reads what a study's folder was made with; None if it is new.

    Raises:
        UserError: if there is something else in the folder.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return None
    try:
        plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        return {**plan, "runs": {name: dict(run) for name, run in plan["runs"].items()}}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        text = f"{folder} is not empty and holds no study. Choose another `out`."
        raise UserError(text) from None


def keep_plan(folder: Path, plan: Plan, facts: Mapping[str, Any]) -> None:
    """Writes what a study is made with, or sees to it that it is the same as before.

    Args:
        folder: made where missing.
        plan: with its steps.
        facts: what else matters, as JSON values.

    Raises:
        UserError: if the folder was made with something else; it names what.
    """
    before, runs = read_plan(folder), plan.describe()
    if before is None:
        with replacing(folder / PLAN) as path:
            text = json.dumps({**facts, "runs": runs}, indent=1)
            path.write_text(text + "\n", encoding="utf-8")
        return
    differing = [name for name in facts if before.get(name) != facts[name]]
    old = before["runs"]
    if old.keys() != runs.keys():
        differing.append("recipes")
    else:
        pairs = [(old[name], runs[name]) for name in runs]
        differing += sorted({key for a, b in pairs for key in b if a.get(key) != b[key]})
    if differing:
        names = ", ".join(differing)
        raise UserError(f"{folder} holds a study with other {names}. Choose another `out`.")


def train_runs(plan: Plan, folder: Path, data: Path, vgg_weights: str | None) -> bool:
    """Trains what is not trained yet, each into `RUNS/NAME`.

    Args:
        plan: of `make_plan`.
        folder: of the study.
        data: as for `train`.
        vgg_weights: likewise.

    Returns:
        bool: whether all came to their end; not if a signal stopped one.
    """
    for number, (name, recipe) in enumerate(plan.recipes.items(), 1):
        run = folder / RUNS / name
        if (run / SAVED_MODEL).is_dir():
            continue
        print(f"\n{number} of {len(plan.recipes)}: {name}", flush=True)
        resume = bool(run_folder.find_checkpoints(run))
        if resume:
            recipe = run_folder.read_settings(run)["recipe"]
        start = str(folder / RUNS / plan.starts[name]) if name in plan.starts else None
        began = time.monotonic()
        finished = train(
            recipe,
            data,
            run,
            resume=resume,
            init_generator=start,
            vgg_weights=vgg_weights,
        )
        add_seconds(folder, name, time.monotonic() - began)
        gc.collect()
        if not finished:
            return False
    return True


def add_seconds(folder: Path, name: str, seconds: float) -> None:
    """Adds to the time that a run's training took; that of a session that was killed is not in."""
    times = read_seconds(folder)
    times[name] = times.get(name, 0.0) + seconds
    with replacing(folder / SECONDS) as path:
        path.write_text(json.dumps(times))


def read_seconds(folder: Path) -> dict[str, float]:
    """The seconds that each run's training took so far."""
    path = folder / SECONDS
    return read_results(path) if path.is_file() else {}


def read_results(path: Path) -> Any:
    """Reads what a study has written.

    Raises:
        UserError: if it is broken.
    """
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is broken ({error}). Delete it, and it is made again.") from None


def measure_methods(
    plan: Plan, folder: Path, sets: Mapping[str, list], scale: int, lpips: Any = None
) -> list[dict]:
    """Measures interpolations and runs on the sets, as far as that has not been done.

    Args:
        plan: of `make_plan`.
        folder: of the study; each method's rows are kept in `SCORES`.
        sets: samples by set.
        scale: int.
        lpips: as for `tables.evaluate`.

    Returns:
        list of dicts, as from `tables.evaluate`, with "set".

    Raises:
        UserError: if a picture cannot be used.
    """
    every_row = []
    for name in (*FILTERS, *plan.recipes):
        path = folder / SCORES / f"{name}.json"
        if not path.is_file():
            source = name if name in FILTERS else str(folder / RUNS / name)
            method, rows = {name: load_method(source, scale)}, []
            for title, samples in sets.items():
                label = f"{name} on {title}"
                found, skipped = tables.evaluate(method, samples, scale, lpips=lpips, label=label)
                for picture, reason in skipped.items():
                    raise UserError(f"{title}/{picture}: {reason}. Remove it.")
                rows += [{"set": title, **row} for row in found]
            with replacing(path) as unfinished:
                unfinished.write_text(json.dumps(rows))
        every_row += read_results(path)
    return every_row


def format_runs(plan: Plan, folder: Path) -> str:
    """Formats what was trained as a Markdown table."""
    head = ["run", "starts from", "steps", "crops a step", "crop", "parameters", "minutes"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    seconds = read_seconds(folder)
    for name, recipe in plan.recipes.items():
        cells = [
            name,
            plan.starts.get(name, "nothing"),
            f"{recipe.epochs * recipe.steps_per_epoch:,}",
            recipe.batch_size,
            recipe.pairs.crop_size,
            f"{recipe.generator.build(recipe.pairs.scale).count_params():,}",
            f"{seconds.get(name, 0.0) / 60:.1f}",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def draw_curves(plan: Plan, folder: Path) -> Figure:
    """Draws all runs' losses over their steps; panels that no run has are left out."""
    logs = {name: run_folder.read_log(folder / RUNS / name) for name in plan.recipes}
    there = {column for rows in logs.values() for row in rows for column in row}
    panels = [column for column in PANELS if column in there]
    height = -(-len(panels) // 2)
    figure = Figure(figsize=(11, 3.4 * height + 0.8), layout="constrained", dpi=120)
    grid = list(figure.subplots(height, 2, squeeze=False).flat)
    colours = colormaps["tab10"].colors
    lines = {}
    for axes, column in zip(grid, panels, strict=False):
        title, axis = PANELS[column]
        for index, (name, rows) in enumerate(logs.items()):
            if points := run_folder.curve_of(rows, column):
                epochs, values = zip(*points, strict=True)
                steps = [plan.recipes[name].steps_per_epoch * epoch for epoch in epochs]
                style = "-" if index < len(colours) else "--"
                colour = colours[index % len(colours)]
                (lines[name],) = axes.plot(steps, values, style, color=colour, lw=1.4)
        axes.set(title=title, xlabel="step", yscale=axis)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=6, frameon=False)
    return figure


def draw_picture(
    names: list[str], sample: tables.Sample, folder: Path, scale: int, rows: list[dict]
) -> np.ndarray:
    """Draws LR, what some runs make of it, and the photograph, side by side.

    Args:
        names: of runs.
        sample: which picture.
        folder: of the study.
        scale: int.
        rows: of `measure_methods`, those of the sample's set.

    Returns:
        uint8 picture, as from `draw_comparison`.
    """
    lr, hr = sample.open(scale)
    results = {name: load_method(str(folder / RUNS / name), scale)(lr) for name in names}
    scores = {row["method"]: row for row in rows if row["image"] == sample.name}
    return draw_comparison(lr, results, hr, scale, scores)
