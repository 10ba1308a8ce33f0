"""Enlarges photographs in the browser, on a page that this machine serves.

    python -m srgan_keras.web
    python -m srgan_keras.web --model RUN_OR_SAVEDMODEL --port 8000

This is the command line; the page is `inference.page`.
"""

if __name__ == "__main__":  # In front of the imports, as `start` says.
    from srgan_keras.common import cli

    cli.start("srgan_keras.web")


import argparse
import os
import signal
import sys
import threading
from typing import NoReturn

from srgan_keras.common import cli
from srgan_keras.inference import page
from srgan_keras.inference.choosing import AUTO
from srgan_keras.inference.sources import PRETRAINED


def main(argv: list[str] | None = None) -> NoReturn:
    """The command line; see the module's docstring."""
    args = parse_arguments(argv)
    models = list(dict.fromkeys([*args.model, AUTO, *PRETRAINED]))
    pixels = round(1e6 * args.megapixels)
    end = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: end.set())
    with page.served(models, pixels, args.address, args.port) as url:
        if args.address not in page.LOCAL:
            print(
                f"Whoever reaches {args.address} can use the page: it has no password "
                "(SECURITY.md).",
                file=sys.stderr,
            )
        print(f"Open {url} in a browser; Ctrl-C ends it and removes its files.")
        end.wait()
    # At once: a job that is at work would bring the interpreter down while that cleans up.
    sys.stdout.flush()
    os._exit(0)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = cli.Parser(
        prog="python -m srgan_keras.web",
        description="Serves a page that enlarges photographs in the browser.",
    )
    option = parser.add_argument
    option(
        "--model",
        action="append",
        default=[],
        help="a run, a .keras file or a SavedModel to choose from beside those that ship; may be "
        "given several times",
    )
    option(
        "--megapixels",
        type=cli.positive,
        default=4,
        help="the most that a photograph may have; results have sixteen times as many",
    )
    option("--address", default="127.0.0.1", help="to which the page is bound")
    option("--port", type=cli.positive_int, help="the first that is free from 7860 on, if not set")
    return parser.parse_args(argv)
