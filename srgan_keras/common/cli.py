"""What every command shares: the argument parser, one-line errors, and a progress bar.

What a command does is left to its own module; this one names no pictures and no models.
"""

import argparse
import difflib
import importlib.util
import math
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NoReturn, TextIO, TypeVar

from srgan_keras.common.chatter import without_chatter
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import in_the_way

Item = TypeVar("Item")
BACKENDS = ("tensorflow", "jax")  # of Keras
_SCRIPT = "srgan-"  # What the names of installed scripts begin with.


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that say something, so neither None nor the False of a switch."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, with the closest option for a mistyped one."""

    def __init__(self, **kwargs) -> None:
        """Takes the keyword arguments of `argparse.ArgumentParser`; a script goes by its name."""
        called = Path(sys.argv[0]).stem
        if called.startswith(_SCRIPT):
            kwargs["prog"] = called
        super().__init__(**{"allow_abbrev": False, "formatter_class": _HelpFormatter} | kwargs)

    def parse_args(self, args=None, namespace=None) -> argparse.Namespace:
        """Parses `args` (default: the command line); exits with 2 on an unknown argument."""
        for word in sys.argv[1:] if args is None else args:
            is_option = word.split("=")[0] in self._option_string_actions
            if word.startswith("-") and not is_option and os.path.lexists(word):
                self.error(f"{word} would be an option; the file of that name is ./{word}")
        namespace, unknown = self.parse_known_args(args, namespace)
        if unknown:
            option = unknown[0].split("=")[0]
            close = difflib.get_close_matches(option, self._option_string_actions, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; --help lists the options"
            self.error(f"unknown argument {option}{hint}")
        return namespace

    def error(self, message: str) -> NoReturn:
        """Prints `prog: error: message` as one line on stderr and exits with 2."""
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}\n")


def positive_int(text: str) -> int:
    """Argument type: a whole number of at least 1."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0. Received: {text}")
    return int(text)


def positive_int_or_auto(text: str) -> int | str:
    """Argument type: a whole number of at least 1, or the word auto."""
    return text if text == "auto" else positive_int(text)


def ratio(text: str) -> float:
    """Argument type: a number in [0, 1]."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1. Received: {text}")
    return value


def positive(text: str) -> float:
    """Argument type: a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0. Received: {text}")
    return value


def folder(text: str) -> Path:
    """Argument type: a folder to write into, there or not, so that no work is done in vain."""
    if obstacle := in_the_way(Path(text)):
        raise argparse.ArgumentTypeError(f"{obstacle} is not a folder that can be written into")
    return Path(text)


def start(module: str) -> NoReturn:
    """Imports a command's module, and runs its `main` as `run` does.

    Called in front of a command's imports, which take seconds: so Ctrl-C in the midst of them ends
    as quietly as later, and a backend of Keras that is not there in one line.

    Args:
        module: its name; `python -m` has it as `__main__`.
    """
    previous = signal.signal(signal.SIGINT, _quit)  # Extension modules make of an exception others.

    def main(argv: list[str] | None) -> int | None:
        backend = os.environ.get("KERAS_BACKEND")
        if backend and (backend not in BACKENDS or importlib.util.find_spec(backend) is None):
            raise UserError(
                f"Keras' backend {backend!r} (environment variable KERAS_BACKEND) is not installed "
                f"or not one that this runs on: {', '.join(BACKENDS)}."
            )
        with without_chatter():
            command = importlib.import_module(module)
        signal.signal(signal.SIGINT, previous)
        return command.main(argv)

    run(main)


def script() -> NoReturn:
    """Runs the command that an installed script is named after, as `start` does.

    `srgan-train` is srgan_keras.train, `srgan-prep-coco` is data_prep.coco.
    """
    name = Path(sys.argv[0]).stem.removeprefix(_SCRIPT)
    package, name = ("data_prep", name[5:]) if name.startswith("prep-") else ("srgan_keras", name)
    start(f"{package}.{name}")


def _quit(number: int, frame: object) -> NoReturn:
    os.write(2, b"interrupted\n")
    os._exit(130)


def run(main: Callable[[list[str] | None], int | None]) -> NoReturn:
    """Runs a command and exits with its code; what the user can cause ends in one line.

    Args:
        main: the command; takes the arguments (None: the command line's) and returns the exit
            code (None: 0). Its UserError and OSError exit with 2, Ctrl-C with 130.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by `>&-`
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
        # File names need not be valid text; in a log both streams keep their order.
        getattr(sys, name).reconfigure(errors="backslashreplace", line_buffering=True)
    try:
        code = main(None)
        sys.stdout.flush()
    except UserError as error:
        code = _fail(f"error: {with_flags(str(error))}", 2)
    except KeyboardInterrupt:
        code = _fail("interrupted", 130)
    except BrokenPipeError:  # the reader, such as `head`, has left: what is unsaid stays unsaid
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = _fail(f"error: {where}{error.strerror or error}", 2)
    sys.exit(code)


def with_flags(message: str) -> str:
    """Turns the settings that an error names in backquotes into the options of a command."""
    return re.sub(r"`(\w+)`", lambda name: "--" + name[1].replace("_", "-"), message)


def _fail(message: str, code: int) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return code


def say(line: str, file: TextIO | None = None) -> None:
    """Prints a line (None: on stdout), over the bar of `progress` where a terminal shows both."""
    file = file or sys.stdout
    live = file.isatty() and sys.stderr.isatty()
    print(f"\r{line:<70}" if live else line, file=file, flush=True)


def progress(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """Passes `items` through and reports count, rate and remaining time on stderr.

    Args:
        items: what to pass through.
        total: how many items there are.
        label: what is counted, such as "crops".

    Yields:
        The items. A terminal sees one line that changes, anything else a line every 10 %.
    """
    live = sys.stderr.isatty()
    every = 1 if live else -(-total // 10)
    start = time.monotonic()
    shown = 0.0
    try:
        for done, item in enumerate(items, 1):
            yield item
            now = time.monotonic()
            if done < total and (done % every or (live and now - shown < 0.1)):
                continue
            shown = now
            rate = done / max(now - start, 1e-9)
            line = f"{label}: {done}/{total}, {rate:.1f}/s, {(total - done) / rate:.0f} s left"
            print(f"\r{line:<70}" if live else line, end="" if live else "\n", file=sys.stderr)
            sys.stderr.flush()
    finally:
        if live and shown:
            print(file=sys.stderr)
