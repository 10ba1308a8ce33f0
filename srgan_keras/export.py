"""Writes a trained generator as a SavedModel that takes and gives 8-bit pictures.

    python -m srgan_keras.export RUN_OR_NAME

This is the command line; the format is `inference.formats`.
"""

if __name__ == "__main__":  # In front of the imports, as `start` says.
    from srgan_keras.common import cli

    cli.start("srgan_keras.export")


import shlex
from pathlib import Path

from srgan_keras.common import cli
from srgan_keras.common.files import SAVED_MODEL
from srgan_keras.inference.formats import PRECISIONS, check_replaceable, export
from srgan_keras.inference.graph import reach
from srgan_keras.inference.pretrained import PRETRAINED, load_generator
from srgan_keras.training.devices import warn_of_slow_bfloat16


def main(argv: list[str] | None = None) -> None:
    """The command line; see the module's docstring."""
    parser = cli.Parser(
        prog="python -m srgan_keras.export",
        description="Writes a trained generator as a SavedModel.",
    )
    parser.add_argument(
        "source", metavar="RUN", help="a run, a .keras file, or a name such as srresnet"
    )
    parser.add_argument(
        "--out",
        type=cli.folder,
        metavar="FOLDER",
        help="folder to write; default: RUN/saved_model, or NAME_x4",
    )
    parser.add_argument(
        "--blend",
        type=float,
        metavar="0..1",
        help="mixes srresnet (0: nearest to the photograph) with srgan (1: the most detail)",
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="of weights and arithmetic"
    )
    args = parser.parse_args(argv)

    if args.out:
        check_replaceable(args.out)
    generator = load_generator(args.source, args.blend)
    if args.precision == "bfloat16":
        warn_of_slow_bfloat16("--precision bfloat16")
    run = Path(args.source)
    if args.source in PRETRAINED:
        default = Path(f"{args.source}_x{reach(generator)[0]}")
    else:
        default = (run.parent if run.suffix == ".keras" else run) / SAVED_MODEL
    out = args.out or default
    export(generator, out, args.precision)
    print("Upscale a picture with it:")
    print(f"  python -m srgan_keras.upscale PHOTO --model {shlex.quote(str(out))} --out upscaled")
