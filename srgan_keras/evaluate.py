"""Compares methods of enlarging on sets of pictures.

    python -m srgan_keras.evaluate --data Set5 Set14 --model bicubic --model RUN

Measures PSNR and SSIM as published figures are measured (`metrics.measure`: luma, a border of
`scale` pixels left out, 8 bits, the mean over pictures), and time. Enlarging belongs to
`interpolation` and `upscale`, the pictures to look at to `comparison`.
"""

import csv
import dataclasses
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from data_prep import cli
from data_prep.pictures import PictureError, list_pictures, open_picture, replacing, write_png
from srgan_keras.comparison import draw_comparison
from srgan_keras.crops import split_folder
from srgan_keras.interpolation import FILTERS, Interpolation
from srgan_keras.metrics import WINDOW, measure
from srgan_keras.pairs import reduce_pictures
from srgan_keras.pretrained import PRETRAINED
from srgan_keras.runs import SETTINGS, read_settings, versions
from srgan_keras.upscale import TrainedModel

# What Pillow's bicubic must give (PSNR, SSIM, x4); an evaluation that differs measures otherwise.
PUBLISHED_BICUBIC = {"Set5": (28.43, 0.811), "Set14": (26.09, 0.705), "BSD100": (25.96, 0.668)}
SCORES = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "lpips")


LPIPS_HINT = 'pip install "srgan-keras[lpips]"'


@dataclasses.dataclass(frozen=True)
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

    def open(self, scale):
        """Opens both pictures, as (lr, hr), uint8; hr is None where there is none.

        Raises:
            PictureError: if one is not readable, or they do not fit together.
        """
        if self.hr is None:
            return open_picture(self.lr), None
        hr = open_picture(self.hr)
        height, width = (side - side % scale for side in hr.shape[:2])
        hr = hr[:height, :width]
        if self.lr is None:
            small = reduce_pictures(hr[None].astype(np.float32), scale)[0]
            return np.asarray(small).round().astype(np.uint8), hr
        lr = open_picture(self.lr)
        if (scale * lr.shape[0], scale * lr.shape[1]) != hr.shape[:2]:
            sizes = f"LR is {lr.shape[1]}x{lr.shape[0]}, HR {width}x{height}"
            raise PictureError(self.lr, f"{sizes}, which is not {scale} times as large")
        return lr, hr


def find_samples(folder, scale):
    """Lists what a folder offers for evaluation.

    Args:
        folder: `Path`. With subfolders `HR` and `LR_x4` (x scale): pairs of the same name; with
            `HR` alone, or none of these: photographs, from which LR is made; of a folder of crops,
            its `test` split.
        scale: int.

    Returns:
        list of `Sample`.

    Raises:
        cli.UserError: if there is nothing.
    """
    small = folder / f"LR_x{scale}"
    photos = folder / "HR"
    if not photos.is_dir():
        photos = split_folder(folder, "test") or folder
    names = [path.relative_to(photos) for path in list_pictures(photos)]
    if not names:
        raise cli.UserError(f"There are no pictures in {photos}.")
    with_lr = photos.name == "HR" and small.is_dir()
    return [Sample(str(name), photos / name, small / name if with_lr else None) for name in names]


def load_method(name, scale, tile=256):
    """Loads a method of enlarging.

    Args:
        name: a name in `interpolation.FILTERS`, or what `TrainedModel` takes.
        scale: int, what an interpolation enlarges by.
        tile: as for `TrainedModel`.

    Returns:
        a function from `(h, w, 3)` uint8 to `(scale * h, scale * w, 3)` uint8.

    Raises:
        cli.UserError: if there is no such method, or it has another scale.
    """
    if name in FILTERS:
        return Interpolation(name, scale)
    if name not in PRETRAINED and not Path(name).exists():
        names = ", ".join((*FILTERS, *PRETRAINED))
        raise cli.UserError(f"--model {name}: not a file or folder, nor one of {names}.")
    method = TrainedModel(name, tile=tile)
    if method.scale != scale:
        raise cli.UserError(f"--model {name} enlarges {method.scale} times; --scale is {scale}.")
    return method


def evaluate(methods, samples, scale, *, rgb=False, lpips=None, images=None, label="pictures"):
    """Enlarges a set with every method and measures the results.

    Args:
        methods: dict of names and functions as `load_method` gives them.
        samples: list of `Sample`.
        scale: int.
        rgb: measure over R, G and B too.
        lpips: function of (hr, sr) from `load_lpips`, or None.
        images: `Path` of a folder for every result and a comparison of each picture, or None.
        label: what the progress bar says.

    Returns:
        (list of dicts, one per picture and method, with "image", "method", "megapixels", "seconds"
        and scores; dict of pictures that were skipped and why).
    """
    rows, skipped = [], {}
    for sample in cli.progress(samples, len(samples), label):
        try:
            lr, hr = sample.open(scale)
        except PictureError as error:
            skipped[sample.name] = error.reason
            continue
        least = len(WINDOW) + 2 * scale
        if hr is not None and min(hr.shape[:2]) < least:
            skipped[sample.name] = f"smaller than {least}x{least}, too small to be measured"
            continue
        if not rows:
            for method in methods.values():
                method(lr)  # The first call of a SavedModel also prepares it.
        results = {}
        for name, method in methods.items():
            start = time.perf_counter()
            sr = results[name] = method(lr)
            seconds, megapixels = time.perf_counter() - start, sr[..., 0].size / 1e6
            row = {"image": sample.name, "method": name}
            row |= {"megapixels": megapixels, "seconds": seconds}
            if hr is not None:
                row["psnr_y"], row["ssim_y"] = measure(hr, sr, "y", scale)
                if rgb:
                    row["psnr_rgb"], row["ssim_rgb"] = measure(hr, sr, "rgb", scale)
                if lpips:
                    row["lpips"] = lpips(hr, sr)
            rows.append(row)
        if images:
            for name, sr in results.items():
                write_png(images / name / Path(sample.name).with_suffix(".png"), sr)
            scores = {row["method"]: row for row in rows if row["image"] == sample.name}
            picture = draw_comparison(lr, results, hr, scale, scores)
            write_png(images / "comparison" / Path(sample.name).with_suffix(".png"), picture)
    return rows, skipped


def summarise(rows):
    """Averages the rows of one set: a dict of each method's mean scores and seconds a megapixel."""
    summary = {}
    for name in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == name]
        scores = [key for key in SCORES if key in own[0]]
        summary[name] = {"images": len(own)}
        summary[name] |= {key: float(np.mean([row[key] for row in own])) for key in scores}
        megapixels = sum(row["megapixels"] for row in own)
        summary[name]["seconds_per_megapixel"] = sum(row["seconds"] for row in own) / megapixels
    return summary


def self_check(name, samples, scale):
    """Compares Pillow's bicubic on a published set with the figures that it must give.

    Returns:
        a line to print, or None if no figures are known for this set and scale.
    """
    if name not in PUBLISHED_BICUBIC or scale != 4:
        return None
    bicubic = {"bicubic": Interpolation("bicubic", scale)}
    rows, _ = evaluate(bicubic, samples, scale, label="self-check")
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


def load_lpips():
    """Loads LPIPS (Zhang et al. 2018, AlexNet) of the package lpips.

    Returns:
        function of two `(h, w, 3)` uint8 pictures; lower is more alike.

    Raises:
        cli.UserError: if the package or its weights are not there.
    """
    try:
        import lpips
        import torch

        network = lpips.LPIPS(net="alex", verbose=False)  # Downloads AlexNet at first.
    except ImportError as error:
        raise cli.UserError(LPIPS_HINT) from error
    except OSError as error:
        raise cli.UserError(f"AlexNet's weights cannot be downloaded: {error}") from error

    def distance(hr, sr):
        pair = [torch.from_numpy(p.transpose(2, 0, 1)[None] / 127.5 - 1).float() for p in (hr, sr)]
        with torch.no_grad():
            return float(network(*pair))

    return distance


def format_table(summaries, lpips_problem=None):
    """Formats results as a Markdown table: a row for each method, columns for each set.

    Args:
        summaries: dict of set names and what `summarise` gives.
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


def describe_run(names):
    """Says what was evaluated, with what, where and when, for the files that are written."""
    seeds = {}
    for name in names:
        if Path(name, SETTINGS).is_file():
            seeds[name] = read_settings(Path(name))["recipe"].seed
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(sys.argv),
        "hardware": f"{platform.processor() or platform.machine()}, {platform.platform()}",
        "gpus": len(tf.config.list_physical_devices("GPU")),
        "versions": versions(),
        "seeds": seeds,
    }


def write_results(folder, about, summaries, rows, table):
    """Writes `results.csv` (every picture), `results.json` and `results.md` (means)."""
    with replacing(folder / "results.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with replacing(folder / "results.json") as path:
        path.write_text(json.dumps({**about, "results": summaries}, indent=2) + "\n")
    with replacing(folder / "results.md") as path:
        facts = "\n".join(f"- {key}: {value}" for key, value in about.items())
        path.write_text(f"{table}\n\n{facts}\n")


def main(argv=None):
    """The command line; see the module's docstring."""
    parser = cli.Parser(
        prog="python -m srgan_keras.evaluate", description="Compares methods of enlarging."
    )
    option = parser.add_argument
    option(
        "--data",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        default=[],
        help="photographs, or HR/ and LR_x4/ pairs, or crops",
    )
    option(
        "--lr",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        default=[],
        help="small pictures without photographs: enlarged and timed, not measured",
    )
    option(
        "--model",
        action="append",
        help=f"{', '.join((*FILTERS, *PRETRAINED))}, a run, a SavedModel or a .keras file; can be "
        "repeated",
    )
    option("--scale", type=cli.positive_int, default=4, help="factor between LR and HR")
    option("--tile", type=cli.positive_int, default=256, help="as for srgan_keras.upscale")
    option("--rgb", action="store_true", help="measure over R, G and B too")
    option("--lpips", action="store_true", help="measure LPIPS too; needs the extra lpips")
    option("--images", action="store_true", help="write every result and comparison pictures")
    option("--out", type=Path, default=Path("evaluation"), help="folder for what is written")
    args = parser.parse_args(argv)
    if not args.data and not args.lr:
        raise cli.UserError("Give pictures to evaluate on: --data FOLDER, or --lr FOLDER.")

    names = args.model or ["bicubic"]
    methods = {
        Path(name).resolve().name: load_method(name, args.scale, args.tile) for name in names
    }
    if len(methods) < len(names):
        raise cli.UserError(f"Two of the models have the same name: {', '.join(names)}.")
    lpips = lpips_problem = None
    if args.lpips:
        try:
            lpips = load_lpips()
        except cli.UserError as error:
            lpips_problem = str(error)
    sets = {folder.resolve().name: find_samples(folder, args.scale) for folder in args.data}
    for folder in args.lr:
        small = list_pictures(folder)
        if not small:
            raise cli.UserError(f"There are no pictures in {folder}.")
        sets[folder.resolve().name] = [Sample(str(p.relative_to(folder)), None, p) for p in small]
    if len(sets) < len(args.data) + len(args.lr):
        raise cli.UserError("Two of the folders have the same name; rename one.")

    summaries, every_row = {}, []
    for name, samples in sets.items():
        line = self_check(name, samples, args.scale)
        if line:
            print(line)
        images = args.out / name if args.images else None
        rows, skipped = evaluate(
            methods, samples, args.scale, rgb=args.rgb, lpips=lpips, images=images
        )
        for image, reason in skipped.items():
            print(f"skipped {name}/{image}: {reason}", file=sys.stderr)
        if not rows:
            raise cli.UserError(f"None of the {len(samples)} pictures in {name} could be used.")
        summaries[name] = summarise(rows)
        every_row += [{"set": name, **row} for row in rows]
    table = format_table(summaries, lpips_problem)
    print(table)
    write_results(args.out, describe_run(names), summaries, every_row, table)
    print(f"Written to {args.out}")
    return 0


if __name__ == "__main__":
    cli.run(main)
