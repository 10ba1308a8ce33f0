"""Enlarges photographs with a trained generator.

    python -m srgan_keras.upscale PHOTO...
    python -m srgan_keras.upscale PHOTO... --model RUN_OR_SAVEDMODEL --out FOLDER

This is the command line; the enlarging is `inference.upscaler`.
"""

if __name__ == "__main__":  # In front of the imports, as `start` says.
    from srgan_keras.common import cli

    cli.start("srgan_keras.upscale")


import argparse
import sys
import time
from pathlib import Path

from srgan_keras.common import cli
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import PictureError, open_picture, write_png
from srgan_keras.inference.photos import choose_targets, find_photos
from srgan_keras.inference.runtimes import PRECISIONS
from srgan_keras.inference.upscaler import CHOICES, Upscaler


def main(argv: list[str] | None = None) -> int:
    """The command line; see the module's docstring."""
    args = parse_arguments(argv)
    photos = find_photos(args.photos, args.out)
    model = Upscaler(
        args.model,
        args.blend,
        tile=args.tile,
        runtime=args.runtime,
        device=args.device,
        precision=args.precision,
    )
    targets = choose_targets(photos, args.out, model.scale)
    failed = 0
    for (photo, _), target in zip(photos, targets, strict=True):
        start = time.perf_counter()
        try:
            picture = open_picture(photo)
        except PictureError as error:
            print(f"skipped {photo}: {error.reason}", file=sys.stderr)
            failed += 1
            continue
        try:
            result = model(picture)
        except UserError as error:
            raise UserError(f"{photo}: {error}") from error
        write_png(target, result)
        (h, w, _), (new_h, new_w, _) = picture.shape, result.shape
        seconds = time.perf_counter() - start
        print(f"{photo} {w}x{h} -> {target} {new_w}x{new_h} ({seconds:.1f} s)", flush=True)
    return 2 if failed else 0


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = cli.Parser(
        prog="python -m srgan_keras.upscale",
        description="Enlarges photographs with a trained generator.",
    )
    option = parser.add_argument
    option("photos", nargs="+", type=Path, metavar="PHOTO", help="files and folders")
    option(
        "--model",
        default="srgan",
        help="srgan, srresnet, vdsr, srcnn, a run of srgan_keras.train, a .keras file, or what "
        "srgan_keras.export wrote",
    )
    option(
        "--blend",
        type=float,
        metavar="0..1",
        help="mixes srresnet (0: nearest to the photograph) with srgan (1: the most detail)",
    )
    option("--out", type=cli.folder, default="upscaled", help="folder for the results")
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
    return parser.parse_args(argv)
