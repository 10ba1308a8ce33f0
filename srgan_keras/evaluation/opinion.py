"""The opinion test: people score pictures from 1 to 5 without knowing which method made them.

As Ledig et al. 2017, section 3.3, did it: every rater sees every method's version of every picture,
one at a time in an order of his or her own, after examples of what a 1 is (nearest neighbour) and a
5 (the photograph); scores are 1 (bad), 2 (poor), 3 (fair), 4 (good), 5 (excellent). `make_test`
writes the page for the raters and the key that says what each picture is; `read_ratings` and
`summarise` turn the files that come back into means; `draw_distribution` draws their figure 5. The
methods come from the caller, as for `tables`.
"""

import base64
import csv
import hashlib
import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from srgan_keras.common.cli import progress
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import replacing
from srgan_keras.common.pictures import write_png
from srgan_keras.evaluation.tables import TEXT, Method, Sample

TEMPLATE = Path(__file__).with_name("opinion_page.html")
PAGE, PICTURES, INDEX = "page", "pictures", "index.html"  # what raters get: the folder PAGE
KEY = "key.json"  # what they do not
PHOTOGRAPH, WORST = "hr", "nearest"  # always among the methods: the test's own 5 and 1
EXAMPLES = 5
SCORES = (1, 2, 3, 4, 5)
COLUMNS = ["page", "rater", "position", "picture", "score"]


@dataclass(frozen=True)
class Ratings:
    """What one rater's file says.

    Attributes:
        rater: his or her name.
        scores: picture's id -> score from 1 to 5, in the order in which they were given.
        complete: whether every picture is there.
    """

    rater: str
    scores: dict[str, int]
    complete: bool


@dataclass(frozen=True)
class Opinion:
    """The scores that a method got.

    Attributes:
        counts: how many scores of 1, 2, 3, 4 and 5.
    """

    counts: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many scores there are."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """The mean opinion score, from 1 to 5."""
        return float(np.dot(SCORES, self.counts) / self.count)

    @property
    def standard_error(self) -> float:
        """Of the mean, from the sample's standard deviation; not a number for a single score.

        It takes the scores as independent. Those of one rater, or of one picture, are not quite.
        """
        if self.count < 2:
            return float("nan")
        squares = np.dot((np.array(SCORES) - self.mean) ** 2, self.counts)
        return float(np.sqrt(squares / (self.count - 1) / self.count))


def make_test(
    sets: Mapping[str, list[Sample]],
    methods: Mapping[str, Method],
    examples: list[Sample],
    scale: int,
    seed: int,
    folder: Path,
    one_file: bool = False,
) -> int:
    """Writes the page and its key.

    The same arguments give the same bytes, as far as the methods do: a network may round
    differently on another processor, or on another number of cores.

    Args:
        sets: samples by set, each with a photograph.
        methods: functions by name, `WORST` among them; the photograph comes to them.
        examples: samples for the scores 1 and 5 that raters see first.
        scale: int.
        seed: names the pictures, so that no name tells its method; and with them the orders.
        folder: new or empty; gets the folder `PAGE` and the file `KEY`.
        one_file: put the pictures into the page itself, which is then one file.

    Returns:
        int: how many pictures there are to rate.

    Raises:
        UserError: if the folder is not empty or a picture cannot be used.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty. Choose another `out`, or delete it.")
    pictures = folder / PAGE / PICTURES
    every = [(name, sample) for name, samples in sets.items() for sample in samples]
    rated, shown = {}, []
    for set_name, sample in progress(every, len(every), "photographs"):
        lr, hr = sample.open(scale)
        results = {name: method(lr) for name, method in methods.items()} | {PHOTOGRAPH: hr}
        for method, picture in results.items():
            name = _write(pictures, picture, seed, set_name, sample.name, method)
            rated[name] = {"set": set_name, "image": sample.name, "method": method}
    for sample in examples:
        lr, hr = sample.open(scale)
        pair = {WORST: methods[WORST](lr), PHOTOGRAPH: hr}
        shown.append([_write(pictures, p, seed, "", sample.name, name) for name, p in pair.items()])

    names = sorted([*rated, *itertools.chain(*shown)])
    number = _number(pictures, names)
    sources = {name: _source(pictures / f"{name}.png", one_file) for name in names}
    test = {
        "page": number,
        "pictures": {name: sources[name] for name in sorted(rated)},
        "examples": [[sources[name] for name in pair] for pair in shown],
    }
    facts = {"seed": seed, "scale": scale, "methods": [*methods, PHOTOGRAPH]}
    _write_page(folder, test, {"page": number, **facts, "pictures": dict(sorted(rated.items()))})
    if one_file:
        pictures.rmdir()
    return len(rated)


def name_picture(seed: int, *parts: str) -> str:
    """The id of a picture, which says nothing of what it is; no spreadsheet takes it for a number.

    Args:
        seed: of the test.
        *parts: its set, its photograph and its method.
    """
    text = "/".join((str(seed), *parts))
    return f"p{hashlib.sha256(os.fsencode(text)).hexdigest()[:12]}"


def _write(pictures: Path, picture: np.ndarray, seed: int, *parts: str) -> str:
    """Writes a picture; returns its id."""
    name = name_picture(seed, *parts)
    write_png(pictures / f"{name}.png", picture)
    return name


def _number(pictures: Path, names: list[str]) -> str:
    """The page's own id, which follows from its pictures and their names."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + (pictures / f"{name}.png").read_bytes())
    return f"t{digest.hexdigest()[:10]}"


def _source(path: Path, one_file: bool) -> str:
    """What the page's <img> takes: the file's name, or the file itself, which is then removed."""
    if not one_file:
        return f"{PICTURES}/{path.name}"
    data = base64.b64encode(path.read_bytes()).decode()
    path.unlink()
    return f"data:image/png;base64,{data}"


def _write_page(folder: Path, test: dict[str, Any], key: dict[str, Any]) -> None:
    template = TEMPLATE.read_text(encoding="utf-8")
    with replacing(folder / PAGE / INDEX) as path:
        path.write_text(template.replace("/*TEST*/", json.dumps(test)), encoding="utf-8")
    with replacing(folder / KEY) as path:
        path.write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")


def read_key(path: Path) -> dict[str, Any]:
    """Reads the key of a test.

    Raises:
        UserError: if it is missing or is none.
    """
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        methods, pictures = key["methods"], key["pictures"].values()
        if not isinstance(key["page"], str) or {p["method"] for p in pictures} != set(methods):
            raise ValueError("its methods are not those of its pictures")
    except FileNotFoundError:
        raise UserError(f"There is no {path}. Give the `key` that make wrote.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not the key of an opinion test ({error}).") from None
    return key


def read_ratings(path: Path, key: Mapping[str, Any]) -> Ratings:
    """Reads the file that a rater has sent, and refuses what the page cannot have written.

    A spreadsheet's changes (line ends, empty cells at a line's end) are none.

    Args:
        path: the CSV file.
        key: of `read_key`.

    Raises:
        UserError: if it is no such file, of another page, or was changed; in one line.
    """
    rows, checksum = _read_rows(path)
    scores = {}
    for page, _, _, picture, score in rows[1:]:
        if page != key["page"]:
            raise UserError(f"{path}: belongs to the page {page}, and the key to {key['page']}.")
        if picture not in key["pictures"]:
            raise UserError(f"{path}: was changed: {picture} is not a picture of this page.")
        if score not in map(str, SCORES):
            raise UserError(f"{path}: was changed: {picture} has the score {score}, not 1 to 5.")
        scores[picture] = int(score)
    rater = rows[1][1]
    if [row[3] for row in rows[1:]] != order_for(key, rater)[: len(rows) - 1]:
        raise UserError(f"{path}: was changed: its pictures are not in the order of {rater}.")
    if checksum != f"c{mix(chr(10).join(map(','.join, rows))):08x}":
        raise UserError(f"{path}: was changed: its checksum is that of other scores.")
    return Ratings(rater, scores, len(scores) == len(key["pictures"]))


def _read_rows(path: Path) -> tuple[list[list[str]], str]:
    """The rows of a file, its head first, each as long as the head; and its checksum."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file.") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error}).") from None
    if not rows or rows[0][: len(COLUMNS)] != COLUMNS:
        raise UserError(f"{path}: not a file of scores: it does not begin {','.join(COLUMNS)}.")
    if rows[-1][0] != "checksum":
        raise UserError(f"{path}: was changed: its last line, the checksum, is missing.")
    if len(rows) < 3:
        raise UserError(f"{path}: incomplete: it holds no score.")
    *rows, (_, checksum, *_) = [(row + [""] * len(COLUMNS))[: len(COLUMNS)] for row in rows]
    return rows, checksum


def order_for(key: Mapping[str, Any], rater: str) -> list[str]:
    """The order in which a rater sees the pictures: as the page computes it from his or her name.

    Args:
        key: of `read_key`.
        rater: the name, as in the file.
    """
    return sorted(key["pictures"], key=lambda name: (mix(f"{key['page']}/{rater}/{name}"), name))


def mix(text: str) -> int:
    """The page's 32-bit hash: FNV-1a over UTF-8 (Fowler, Noll, Vo), then MurmurHash3's last mix."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    value = (value ^ value >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    value = (value ^ value >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16


def collect(
    paths: list[Path], key: Mapping[str, Any], incomplete: bool = False
) -> tuple[list[Ratings], list[str]]:
    """Reads many files; each rater counts once, with the file that has most scores.

    Args:
        paths: the CSV files.
        key: of `read_key`.
        incomplete: count the files that lack pictures too.

    Returns:
        (what counts, a line for each file that does not).
    """
    read, problems = [], []
    for path in paths:
        try:
            ratings = read_ratings(path, key)
        except UserError as error:
            problems.append(str(error))
            continue
        if not ratings.complete and not incomplete:
            of = f"{len(ratings.scores)} of {len(key['pictures'])} pictures"
            problems.append(f"{path}: incomplete: {ratings.rater} has rated {of}.")
            continue
        read.append((path, ratings))
    counted = {}
    for path, ratings in sorted(read, key=lambda item: -len(item[1].scores)):
        first, _ = counted.setdefault(ratings.rater.casefold(), (path, ratings))
        if first is not path:
            problems.append(f"{path}: duplicate: {ratings.rater} counts already, with {first}.")
    return [ratings for _, ratings in counted.values()], problems


def list_scores(ratings: list[Ratings], key: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Joins raters' files with the key: a row for each score, with what the picture was."""
    return [
        {"rater": one.rater, "position": position, **key["pictures"][picture], "score": score}
        for one in ratings
        for position, (picture, score) in enumerate(one.scores.items(), 1)
    ]


def summarise(rows: list[dict[str, Any]], methods: list[str]) -> dict[str, Opinion]:
    """Counts the scores of each method.

    Args:
        rows: of `list_scores`.
        methods: in the order in which they are to stand; those without a score are left out.
    """
    found = {}
    for method in methods:
        own = [row["score"] for row in rows if row["method"] == method]
        if own:
            found[method] = Opinion(tuple(own.count(score) for score in SCORES))
    return found


def format_opinions(opinions: Mapping[str, Opinion]) -> str:
    """Formats the result as a Markdown table, a row for each method."""
    head = ["method", "mean", "standard error", "scores", *map(str, SCORES)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for method, opinion in opinions.items():
        error = "-" if opinion.count < 2 else f"{opinion.standard_error:.2f}"
        cells = [method, f"{opinion.mean:.2f}", error, opinion.count, *opinion.counts]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def draw_distribution(opinions: Mapping[str, Opinion], title: str) -> Figure:
    """Draws how each method's scores are distributed, as Ledig et al. 2017, figure 5.

    A column for each method; the bin of score i reaches from i - 0.5 to i + 0.5 and is the darker
    the more of the method's scores it holds. The mean is a red marker, its bar the standard error.
    """
    shares = np.array([opinion.counts for opinion in opinions.values()], float)
    shares = 100 * shares / shares.sum(axis=1, keepdims=True)
    figure = Figure(figsize=(2.2 + 0.9 * len(opinions), 4.2), layout="constrained", dpi=150)
    axes = figure.subplots()
    columns, rows = np.arange(len(opinions) + 1) - 0.5, np.arange(len(SCORES) + 1) + 0.5
    mesh = axes.pcolormesh(columns, rows, shares.T, cmap="Blues", vmin=0, edgecolors="white")
    figure.colorbar(mesh, label="share of the method's scores, %")
    means = [opinion.mean for opinion in opinions.values()]
    errors = np.nan_to_num([opinion.standard_error for opinion in opinions.values()])
    axes.errorbar(
        range(len(means)), means, errors, fmt="o", color="red", markeredgecolor="white", capsize=4
    )
    axes.set_xticks(range(len(opinions)), list(opinions), rotation=30, ha="right")
    axes.set(ylabel="opinion score", yticks=SCORES, title=title)
    return figure


def write_report(folder: Path, rows: list[dict], opinions: Mapping[str, Opinion]) -> None:
    """Writes `opinion.md` (the table), `opinion.png` (the figure) and `ratings.csv` (every score).

    Args:
        folder: made where missing.
        rows: of `list_scores`.
        opinions: of `summarise`.
    """
    with replacing(folder / "opinion.md") as path:
        path.write_text(format_opinions(opinions) + "\n", **TEXT)
    raters = len({row["rater"] for row in rows})
    title = f"{len(rows)} scores by {raters} {'person' if raters == 1 else 'people'}"
    with replacing(folder / "opinion.png") as path:
        draw_distribution(opinions, title).savefig(path)
    with replacing(folder / "ratings.csv") as path, path.open("w", newline="", **TEXT) as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
