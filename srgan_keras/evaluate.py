"""Compares methods of enlarging on sets of pictures.

    python -m srgan_keras.evaluate --data Set5 Set14 --model bicubic --model RUN

This is the command line; what is measured, and how, is in `evaluation.tables`.
"""

if __name__ == "__main__":  # In front of the imports, as `start` says.
    from srgan_keras.common import cli

    cli.start("srgan_keras.evaluate")


import argparse
import sys
from pathlib import Path
from typing import Any

from srgan_keras.common import cli
from srgan_keras.common.errors import UserError
from srgan_keras.evaluation import tables
from srgan_keras.evaluation.degrading import read_degradation
from srgan_keras.evaluation.metrics import load_lpips
from srgan_keras.inference.interpolation import FILTERS, Interpolation
from srgan_keras.inference.pretrained import stored_setting
from srgan_keras.inference.sources import PRETRAINED
from srgan_keras.inference.upscaler import load_methods
from srgan_keras.training.devices import describe_session


def main(argv: list[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    args = parse_arguments(argv)
    names = args.model or ["bicubic"]
    methods = load_methods(names, args.scale, args.tile)
    if tables.COMPARISON in methods:
        raise UserError(f"A model cannot be called {tables.COMPARISON}. Rename its folder.")
    lpips = lpips_problem = None
    if args.lpips:
        try:
            lpips = load_lpips()
        except UserError as error:
            lpips_problem = str(error)
    degrade = {"degrade": read_degradation(args.degrade)} if args.degrade else {}
    sets = tables.find_sets(args.data, args.lr, args.scale)

    summaries, every_row, any_skipped = {}, [], False
    for name, samples in sets.items():
        line = tables.self_check(name, samples, args.scale, Interpolation("bicubic", args.scale))
        if line:
            print(line)
        name = " ".join(filter(None, (name, args.degrade)))
        images = args.out / name if args.images else None
        rows, skipped = tables.evaluate(
            methods, samples, args.scale, rgb=args.rgb, lpips=lpips, images=images, **degrade
        )
        for image, reason in skipped.items():
            print(f"skipped {name}/{image}: {reason}", file=sys.stderr)
        any_skipped |= bool(skipped)
        if rows:
            summaries[name] = tables.summarise(rows)
            every_row += [{"set": name, **row} for row in rows]
    if not every_row:
        raise UserError(f"None of the pictures in {', '.join(sets)} could be used.")
    table = tables.format_table(summaries, lpips_problem)
    print(table)
    tables.write_results(args.out, describe_run(names), summaries, every_row, table)
    print(f"Written to {args.out}")
    return 2 if any_skipped else 0


def describe_run(names: list[str]) -> dict[str, Any]:
    """Says what was evaluated, with what, where and when, for the files that are written."""
    seeds = {name: stored_setting(name, "seed") for name in names}
    known = {name: seed for name, seed in seeds.items() if seed is not None}
    return {**describe_session(), "seeds": known}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parses the command line.

    Raises:
        UserError: if there is nothing to evaluate on.
    """
    parser = cli.Parser(
        prog="python -m srgan_keras.evaluate", description="Compares methods of enlarging."
    )
    option = parser.add_argument
    folders = {"nargs": "+", "type": Path, "metavar": "FOLDER", "default": []}
    option("--data", **folders, help="photographs, or HR/ and LR_x4/ pairs, or crops")
    option(
        "--lr",
        **folders,
        help="small pictures without photographs: enlarged and timed, not measured",
    )
    option(
        "--model",
        action="append",
        help=f"{', '.join((*FILTERS, *PRETRAINED))}, a run, a SavedModel or a .keras file; can be "
        "repeated",
    )
    option("--scale", type=cli.positive_int, default=4, help="factor between LR and HR")
    option(
        "--tile",
        type=cli.positive_int_or_auto,
        default="auto",
        help="as for srgan_keras.upscale",
    )
    option(
        "--degrade",
        metavar="WHAT",
        help="spoil the small pictures first: jpeg50 (quality), noise10 or blur1.5 (standard "
        "deviation), or several joined by +",
    )
    option("--rgb", action="store_true", help="measure over R, G and B too")
    option("--lpips", action="store_true", help="measure LPIPS too; needs the extra lpips")
    option("--images", action="store_true", help="write every result and comparison pictures")
    option("--out", type=cli.folder, default="evaluation", help="folder for what is written")
    args = parser.parse_args(argv)
    if not args.data and not args.lr:
        raise UserError("Give pictures to evaluate on: --data FOLDER, or --lr FOLDER.")
    return args
