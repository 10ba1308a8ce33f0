"""Methods of enlarging x sets of pictures -> a table.

Measures PSNR and SSIM as published figures are measured (`metrics.measure`: luma, a border of
`scale` pixels left out, 8 bits, the mean over pictures), and time. The methods come from the
caller: functions from `(h, w, 3)` uint8 to `(scale * h, scale * w, 3)` uint8.
"""

import csv
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from srgan_keras.common.cli import progress
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import replacing
from srgan_keras.common.pictures import (
    PictureError,
    list_pictures,
    name_results,
    open_picture,
    write_png,
)
from srgan_keras.data.crops import split_folder
from srgan_keras.data.pairs import reduce_pictures
from srgan_keras.evaluation.comparison import draw_comparison
from srgan_keras.evaluation.metrics import WINDOW, measure

Method = Callable[[np.ndarray], np.ndarray]

# What Pillow's bicubic must give (PSNR, SSIM, x4); an evaluation that differs measures otherwise.
PUBLISHED_BICUBIC = {"Set5": (28.43, 0.811), "Set14": (26.09, 0.705), "BSD100": (25.96, 0.668)}
SCORES = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "lpips")
COMPARISON = "comparison"  # the folder of pictures with all methods side by side
TEXT = {"encoding": "utf-8", "errors": "backslashreplace"}  # File names need not be valid text.


@dataclass(frozen=True)
class Sample:
    """A picture to enlarge, and the photograph it was made from where there is one.

    Attributes:
        name: its file name, with subfolders.
        hr: file of the photograph, or None.
        lr: file of the small picture; None to make it from `hr`.
    """

    name: str
    hr: Path | None
    lr: Path | None = None

    def open(self, scale: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Opens both pictures, as (lr, hr), uint8; hr is None where there is none.

        Raises:
            PictureError: if one is not readable or too small, or they do not fit together.
        """
        if self.hr is None:
            return open_picture(self.lr), None
        hr = open_picture(self.hr)
        height, width = (side - side % scale for side in hr.shape[:2])
        least = len(WINDOW) + 2 * scale
        if min(height, width) < least:
            reason = f"smaller than {least}x{least}, too small to be measured"
            raise PictureError(self.hr, reason)
        hr = hr[:height, :width]
        if self.lr is None:
            small = reduce_pictures(hr[None].astype(np.float32), scale)[0]
            return np.asarray(small).round().astype(np.uint8), hr
        lr = open_picture(self.lr)
        if (scale * lr.shape[0], scale * lr.shape[1]) != hr.shape[:2]:
            sizes = f"LR is {lr.shape[1]}x{lr.shape[0]}, HR {width}x{height}"
            raise PictureError(self.lr, f"{sizes}, which is not {scale} times as large")
        return lr, hr


def find_samples(folder: Path, scale: int) -> list[Sample]:
    """Lists what a folder offers for evaluation.

    Args:
        folder: with subfolders `HR` and `LR_x4` (x scale): pairs of the same name; with `HR` alone,
            or none of these: photographs, from which LR is made; of a folder of crops, its `test`
            split.
        scale: int.

    Raises:
        UserError: if there is nothing.
    """
    small = folder / f"LR_x{scale}"
    photos = folder / "HR"
    if not photos.is_dir():
        photos = split_folder(folder, "test") or folder
    names = [path.relative_to(photos) for path in list_pictures(photos)]
    if not names:
        raise UserError(f"There are no pictures in {photos}.")
    with_lr = photos.name == "HR" and small.is_dir()
    return [Sample(str(name), photos / name, small / name if with_lr else None) for name in names]


def find_small_samples(folder: Path) -> list[Sample]:
    """Lists the pictures of a folder that have no originals.

    Raises:
        UserError: if there are none.
    """
    samples = [Sample(str(p.relative_to(folder)), None, p) for p in list_pictures(folder)]
    if not samples:
        raise UserError(f"There are no pictures in {folder}.")
    return samples


def find_sets(data: list[Path], small: list[Path], scale: int) -> dict[str, list[Sample]]:
    """Lists sets of samples by name.

    Args:
        data: folders, as `find_samples` takes them.
        small: folders of pictures that have no originals.
        scale: int.

    Raises:
        UserError: if there is nothing in one of them, or two have the same name.
    """
    sets = {folder.resolve().name: find_samples(folder, scale) for folder in data}
    sets |= {folder.resolve().name: find_small_samples(folder) for folder in small}
    if len(sets) < len(data) + len(small):
        raise UserError("Two of the folders have the same name; rename one.")
    return sets


def evaluate(
    methods: Mapping[str, Method],
    samples: list[Sample],
    scale: int,
    *,
    rgb: bool = False,
    lpips: Callable[[np.ndarray, np.ndarray], float] | None = None,
    images: Path | None = None,
    label: str = "pictures",
    degrade: Method = lambda lr: lr,
) -> tuple[list[dict], dict[str, str]]:
    """Enlarges a set with every method and measures the results.

    Args:
        methods: functions by name.
        samples: list of `Sample`.
        scale: int.
        rgb: measure over R, G and B too.
        lpips: function of (hr, sr) from `metrics.load_lpips`, or None.
        images: folder for every result and a comparison of each picture, or None.
        label: what the progress bar says.
        degrade: what is done to the small pictures first, as from `read_degradation`.

    Returns:
        (list of dicts, one per picture and method, with "image", "method", "megapixels", "seconds"
        and scores; dict of pictures that were skipped and why).
    """
    rows, skipped = [], {}
    files = name_results([Path(sample.name) for sample in samples])
    pairs = zip(samples, files, strict=True)
    for sample, file in progress(pairs, len(samples), label):
        try:
            lr, hr = sample.open(scale)
            lr = degrade(lr)
            if not rows:
                for method in methods.values():
                    method(lr)  # The first call of a SavedModel also prepares it.
            results, own = enlarge(methods, lr)
            for name, row in own.items():
                if hr is not None:
                    row |= score(hr, results[name], scale, rgb, lpips)
            if images:
                for name, sr in results.items():
                    write_png(images / name / file, sr)
                picture = draw_comparison(lr, results, hr, scale, own)
                write_png(images / COMPARISON / file, picture)
        except (UserError, MemoryError, OSError) as error:
            skipped[sample.name] = _reason(error)
            continue
        rows += [{"image": sample.name, **row} for row in own.values()]
    return rows, skipped


def enlarge(
    methods: Mapping[str, Method], lr: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """Enlarges a picture with every method.

    Returns:
        (the results by method, dicts with "method", "megapixels" and "seconds").
    """
    results, rows = {}, {}
    for name, method in methods.items():
        start = time.perf_counter()
        sr = results[name] = method(lr)
        seconds, megapixels = time.perf_counter() - start, sr[..., 0].size / 1e6
        rows[name] = {"method": name, "megapixels": megapixels, "seconds": seconds}
    return results, rows


def score(
    hr: np.ndarray, sr: np.ndarray, scale: int, rgb: bool = False, lpips: Callable | None = None
) -> dict[str, float]:
    """Measures a result; arguments as for `evaluate`."""
    scores = dict(zip(("psnr_y", "ssim_y"), measure(hr, sr, "y", scale), strict=True))
    if rgb:
        scores |= zip(("psnr_rgb", "ssim_rgb"), measure(hr, sr, "rgb", scale), strict=True)
    if lpips:
        scores["lpips"] = lpips(hr, sr)
    return scores


def _reason(error: Exception) -> str:
    """Says in one line why a picture was skipped."""
    if isinstance(error, PictureError):
        return error.reason
    if isinstance(error, MemoryError):
        return "too large for this machine's memory"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def summarise(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Averages the rows of one set: each method's mean scores and seconds a megapixel."""
    summary = {}
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        scores = [key for key in SCORES if key in own[0]]
        summary[name] = {"images": len(own)}
        summary[name] |= {key: float(np.mean([row[key] for row in own])) for key in scores}
        megapixels = sum(row["megapixels"] for row in own)
        summary[name]["seconds_per_megapixel"] = sum(row["seconds"] for row in own) / megapixels
    return summary


def self_check(name: str, samples: list[Sample], scale: int, bicubic: Method) -> str | None:
    """Compares bicubic on a published set with the figures that it must give.

    Args:
        name: of the set.
        samples: list of `Sample`.
        scale: int.
        bicubic: Pillow's.

    Returns:
        a line to print, or None if no figures are known for this set and scale.
    """
    if name not in PUBLISHED_BICUBIC or scale != 4:
        return None
    rows, _ = evaluate({"bicubic": bicubic}, samples, scale, label="self-check")
    if not rows:
        return None
    scores = summarise(rows)["bicubic"]
    found = f"{scores['psnr_y']:.2f} dB / {scores['ssim_y']:.3f}"
    psnr, ssim = PUBLISHED_BICUBIC[name]
    expected = f"{psnr:.2f} dB / {ssim:.3f}"
    if found == expected:
        return f"Self-check: bicubic on {name} gives {found}, as published."
    return (
        f"WARNING: bicubic on {name} gives {found}, published is {expected}. These pictures are "
        "not the published set, and figures measured on them compare with no others."
    )


def format_table(summaries: Mapping[str, dict], lpips_problem: str | None = None) -> str:
    """Formats results as a Markdown table: a row for each method, columns for each set.

    Args:
        summaries: set names and what `summarise` gives.
        lpips_problem: what stands in the column of LPIPS if it was asked for and cannot be had.
    """
    columns = []
    for name, summary in summaries.items():
        keys = list(next(iter(summary.values())))
        pairs = [("psnr_y", "ssim_y", ""), ("psnr_rgb", "ssim_rgb", " RGB")]
        for psnr, ssim, suffix in pairs:
            if psnr in keys:
                columns.append(
                    (f"{name} PSNR / SSIM{suffix}", name, f"{{{psnr}:.2f}} / {{{ssim}:.3f}}")
                )
        if "lpips" in keys:
            columns.append((f"{name} LPIPS", name, "{lpips:.3f}"))
        elif lpips_problem and "psnr_y" in keys:
            columns.append((f"{name} LPIPS", name, lpips_problem))
        columns.append((f"{name} s/megapixel", name, "{seconds_per_megapixel:.3f}"))
    methods = dict.fromkeys(method for summary in summaries.values() for method in summary)
    lines = ["| method | " + " | ".join(title for title, _, _ in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for method in methods:
        cells = [template.format(**summaries[name][method]) for _, name, template in columns]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_results(
    folder: Path, about: dict[str, Any], summaries: Mapping[str, dict], rows: list[dict], table: str
) -> None:
    """Writes `results.csv` (every picture), `results.json` and `results.md` (means).

    Args:
        folder: made where missing.
        about: what was evaluated, with what, where and when, as JSON values.
        summaries: as for `format_table`.
        rows: of `evaluate`, with the set's name.
        table: of `format_table`.
    """
    columns = dict.fromkeys(key for row in rows for key in row)
    with replacing(folder / "results.csv") as path, path.open("w", newline="", **TEXT) as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
    with replacing(folder / "results.json") as path:
        path.write_text(json.dumps({**about, "results": summaries}, indent=2) + "\n", **TEXT)
    with replacing(folder / "results.md") as path:
        facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
        path.write_text(f"{table}\n\n{facts}\n", **TEXT)
