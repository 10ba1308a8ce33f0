"""Enlarges photographs with a trained generator.

    python -m srgan_keras.upscale PHOTO...
    python -m srgan_keras.upscale PHOTO... --model RUN_OR_SAVEDMODEL --out FOLDER

This is the command line; the enlarging is `inference.enlarging`.
"""

if __name__ == "__main__":  # In front of the imports, as `start` says.
    from srgan_keras.common import cli

    cli.start("srgan_keras.upscale")


import argparse
import csv
import os
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from srgan_keras import __version__
from srgan_keras.common import cli
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import remove_temporaries_of, replacing
from srgan_keras.inference.choosing import AUTO, load_model
from srgan_keras.inference.cluster import Cluster
from srgan_keras.inference.enlarging import Enlarged, Size, enlarge_files
from srgan_keras.inference.photos import (
    FORMATS,
    Finished,
    choose_targets,
    find_photos,
    identify_model,
)
from srgan_keras.inference.runtimes import PRECISIONS
from srgan_keras.inference.sources import BLENDING, PRETRAINED
from srgan_keras.inference.upscaler import CHOICES


def main(argv: list[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    args = parse_arguments(argv)
    photos = find_photos(args.photos, args.out)
    load = partial(
        load_model,
        args.model,
        args.blend,
        tile=args.tile,
        runtime=args.runtime,
        device=args.device,
        precision=args.precision,
    )
    on_ray = (args.ray, load, args.ray_workers, args.ray_cpus, args.ray_gpus)
    model = Cluster(*on_ray) if args.ray else load()
    size = Size(args.outscale, args.width, args.height)
    finished = Finished(args.out, decisive_settings(args), args.shard)
    ending = size.ending(model.scale) if args.suffix is None else args.suffix
    tasks = plan(photos, args, ending)
    del photos  # There may be millions.
    left = tasks if args.overwrite else [task for task in tasks if task not in finished]
    before = len(tasks) - len(left)
    if args.dry_run:
        for photo, target in left:
            print(f"{photo} -> {target}")
        print(f"{len(left)} to enlarge{_count_finished(before)}; nothing was written")
        return 0
    remove_temporaries_of(target for _, target in tasks)
    how = (size, args.quality, args.strip_metadata, finished)
    results = model.enlarge_files(left, *how) if args.ray else enlarge_files(left, model, *how)
    return report(results, len(left), before, args.failures)


def plan(photos: list, args: argparse.Namespace, ending: str) -> list[tuple[Path, Path]]:
    """Lists photographs with their targets: of all, those of the shard."""
    targets = choose_targets(photos, args.out, ending, args.format)
    index, count = args.shard
    pairs = zip(photos[index - 1 :: count], targets[index - 1 :: count], strict=True)
    return [(photo, target) for (photo, _), target in pairs]


def decisive_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What decides how a result looks, beside the photograph and the name of the result."""
    names = ("blend", "precision", "quality", "strip_metadata", "outscale", "width", "height")
    settings = {name: getattr(args, name) for name in names}
    return {**settings, "model": identify_model(args.model), "version": __version__}


def report(results: Iterable, total: int, before: int, failures: Path | None = None) -> int:
    """Prints a line for each photograph and, of several, in the end what was done.

    Args:
        results: as from `enlarge_files`, here or on a cluster.
        total: how many there are.
        before: how many were finished before.
        failures: file for a table of those that could not be enlarged; None: there is none.

    Returns:
        the exit code: 2 if a photograph could not be enlarged.
    """
    done, failed = 0, []
    if total > 1:
        results = cli.progress(results, total, "photographs")
    try:
        for (photo, target), result in results:
            if isinstance(result, Enlarged):
                done += 1
                (w, h), (new_w, new_h) = result.before, result.after
                line = ", ".join([f"{photo} {w}x{h} -> {target} {new_w}x{new_h}", *result.notes])
                cli.say(f"{line} ({result.seconds:.1f} s)")
            else:
                failed.append((photo, target, cli.with_flags(result.reason)))
                cli.say(f"skipped {photo}: {failed[-1][2]}", sys.stderr)
    finally:
        if total + before > 1 or before:
            share = f" of {total}" if done + len(failed) < total else ""
            print(f"{done}{share} enlarged{_count_finished(before)}, {len(failed)} failed")
            for photo, _, reason in failed:
                print(f"failed: {photo}: {reason}")
        if failures:
            write_failures(failures, failed)
    return 2 if failed else 0


def write_failures(path: Path, failed: list[tuple[Path, Path, str]]) -> None:
    """Writes a CSV table of photograph, result and reason; its head alone if none failed."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        csv.writer(file).writerows([("photograph", "result", "reason"), *failed])


def _count_finished(count: int) -> str:
    return f", {count} finished before (--overwrite makes them again)" if count else ""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = cli.Parser(
        prog="python -m srgan_keras.upscale",
        description="Enlarges photographs with a trained generator. What was finished before, from "
        "the same photographs by the same settings, stays.",
    )
    option = parser.add_argument
    option(
        "photos",
        nargs="+",
        type=Path,
        metavar="PHOTO",
        help="files and folders, and lists of files (.txt, a path a line)",
    )
    option(
        "--model",
        default=AUTO,
        help="auto: photo for a JPEG and what shows JPEG's blocks or noise, srgan for a clean "
        f"photograph; {', '.join(PRETRAINED)}, a run of srgan_keras.train, a .keras file, or what "
        "srgan_keras.export wrote",
    )
    option("--blend", type=float, metavar="0..1", help=BLENDING)
    option(
        "--tile",
        type=cli.positive_int_or_auto,
        default="auto",
        help="side of the pieces that a large photograph goes through in; less needs less memory, "
        "auto fits what there is",
    )
    option(
        "--runtime",
        choices=CHOICES,
        default="auto",
        help="what computes: auto is OpenVINO where it is installed and there is no GPU",
    )
    option("--device", default="auto", help="auto, cpu, gpu, gpu:1; npu with OpenVINO")
    option(
        "--precision",
        choices=("auto", *PRECISIONS),
        default="float32",
        help="auto is bfloat16 where the machine computes in it and a test picture comes out the "
        "same, but for one grey level",
    )
    _add_output_options(parser)
    _add_cluster_options(parser)
    args = parser.parse_args(argv)
    _check(args)
    args.quality = args.quality or 95
    if args.ray:  # Its workers are in other folders.
        args.photos, args.out = [path.absolute() for path in args.photos], args.out.absolute()
        args.model = os.path.abspath(args.model) if os.path.exists(args.model) else args.model
    return args


def _check(args: argparse.Namespace) -> None:
    """Raises a UserError if options do not go together."""
    if args.outscale and (args.width or args.height):
        raise UserError("`outscale` and `width` or `height` exclude each other.")
    if args.quality and FORMATS[args.format] in (".png", ".tiff"):
        raise UserError(f"`quality` is of jpg and webp; {args.format} is written without loss.")
    if not args.ray and (args.ray_workers or args.ray_gpus):
        raise UserError("`ray_workers` and `ray_gpus` are of a cluster: set `ray`, too.")


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument_group("results").add_argument
    option("--out", type=cli.folder, default="upscaled", help="folder for the results")
    option(
        "--format",
        choices=FORMATS,
        default="png",
        help="of the results; same: each photograph's own, or png where that is not written",
    )
    option("--quality", type=_quality, help="1 to 100, of jpg and webp (95); 100: lossless webp")
    option(
        "--outscale",
        type=cli.positive,
        metavar="FACTOR",
        help="size of the results beside the photographs, 2.5 for example; the network's result "
        "is resized",
    )
    option("--width", type=cli.positive_int, help="of the results; with --height, at most")
    option("--height", type=cli.positive_int, help="of the results; with --width, at most")
    option("--suffix", type=_suffix, help="added to the names, in place of _x4 or what the size is")
    option("--strip-metadata", action="store_true", help="leaves out EXIF, XMP, IPTC and comments")
    option("--overwrite", action="store_true", help="makes again what was finished before, too")
    option(
        "--shard",
        type=_shard,
        default="1/1",
        metavar="I/N",
        help="does the I-th of N parts of the photographs, for N machines at once",
    )
    option("--failures", type=_file, metavar="FILE", help="writes a table of what failed, CSV")
    option("--dry-run", action="store_true", help="says what would be done, and writes nothing")


def _add_cluster_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument_group("on a Ray cluster").add_argument
    option("--ray", metavar="ADDRESS", help="of its head; auto: this machine's; local: starts one")
    option("--ray-workers", type=cli.positive_int, help="how many; all that it has room for")
    option("--ray-cpus", type=cli.positive_int, default=1, help="of a worker")
    option("--ray-gpus", type=cli.positive, help="of a worker; below 1 where several share one")


def _file(text: str) -> Path:
    return cli.folder(os.path.dirname(text) or ".") / os.path.basename(text)


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 to 100. Received: {text}")
    return int(text)


def _suffix(text: str) -> str:
    if len(text) > 40 or any(letter in text for letter in ("/", "\\", "\0")):
        raise argparse.ArgumentTypeError(
            f"must be part of a file's name, 40 characters at most. Received: {text}"
        )
    return text


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"must be I/N, 1/8 to 8/8 for example. Received: {text}")
    return int(index), int(count)
