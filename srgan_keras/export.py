"""Writes a trained generator in a format that takes and gives 8-bit pictures, and checks it.

    python -m srgan_keras.export RUN_OR_NAME
    python -m srgan_keras.export RUN_OR_NAME --format onnx

This is the command line; the formats are `inference.formats`, the check is `inference.parity`.
"""

if __name__ == "__main__":  # In front of the imports, as `start` says.
    from srgan_keras.common import cli

    cli.start("srgan_keras.export")


import argparse
import shlex
from pathlib import Path

from srgan_keras.common import cli
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import SAVED_MODEL
from srgan_keras.inference.formats import check_replaceable, export, export_file
from srgan_keras.inference.graph import reach
from srgan_keras.inference.parity import SIDE, check_parity
from srgan_keras.inference.pretrained import load_generator
from srgan_keras.inference.runtimes import RUNTIMES, check_installed
from srgan_keras.inference.sources import BLENDING, PRETRAINED
from srgan_keras.training.devices import warn_of_slow_bfloat16

FORMATS = ("savedmodel", "onnx", "litert", "openvino")
#: Format -> what is worth knowing before it is used elsewhere.
LIMITS = {
    "litert": "LiteRT on the GPUs of telephones wants pictures of one size: set it there.",
    "openvino": "The .bin file beside it belongs to it.",
}


def main(argv: list[str] | None = None) -> None:
    """The command line; see the module's docstring."""
    args = parse_arguments(argv)
    suffix = "" if args.format == "savedmodel" else RUNTIMES[args.format][2]
    if suffix:
        check_installed(args.format)
    generator = load_generator(args.source, args.blend)
    out = args.out or default_out(args.source, suffix, generator)
    if out.suffix != suffix and suffix:
        raise UserError(f"`out` must end in {suffix} for {args.format}. Received: {out}")
    if not suffix:
        check_replaceable(out)
    if args.precision == "bfloat16":
        warn_of_slow_bfloat16("--precision bfloat16")
    if suffix:
        export_file(generator, out, args.precision)
    else:
        export(generator, out, args.precision)
    found = check_parity(generator, out)
    print(f"{out}, checked on a photograph of {SIDE}x{SIDE} pixels: {found}.")
    if args.format in LIMITS:
        print(LIMITS[args.format])
    print("Upscale a picture with it:")
    print(f"  python -m srgan_keras.upscale PHOTO --model {shlex.quote(str(out))} --out upscaled")


def default_out(source: str, suffix: str, generator: object) -> Path:
    """Where a generator goes: beside its own file, or here under its name and scale."""
    if source in PRETRAINED:
        return Path(f"{source}_x{reach(generator)[0]}{suffix}")
    path = Path(source)
    if not suffix:
        return (path.parent if path.suffix == ".keras" else path) / SAVED_MODEL
    return path.with_suffix(suffix) if path.suffix == ".keras" else path / f"generator{suffix}"


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = cli.Parser(
        prog="python -m srgan_keras.export",
        description="Writes a trained generator in a format for other programs, and checks it.",
    )
    parser.add_argument(
        "source", metavar="RUN", help="a run, a .keras file, or a name such as srresnet"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="savedmodel", help="of what is written"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="folder (of a SavedModel) or file to write; default: beside the generator, or NAME_x4",
    )
    parser.add_argument("--blend", type=float, metavar="0..1", help=BLENDING)
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="of weights and arithmetic; bfloat16 for SavedModels, int8 for LiteRT",
    )
    args = parser.parse_args(argv)
    home = {"bfloat16": "savedmodel", "int8": "litert"}.get(args.precision, args.format)
    if args.format != home:
        parser.error(f"--precision {args.precision} is for --format {home} alone")
    if args.out:
        try:
            cli.folder(args.out if args.format == "savedmodel" else args.out.parent)
        except argparse.ArgumentTypeError as error:
            parser.error(f"argument --out: {error}")
    return args
