"""Writes files that are never half there."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TEMPORARY = ".tmp-"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path in the folder of `path`; on success it takes the name `path`.

    So whoever looks at `path` sees the old file or the whole new one, even after a kill.

    Args:
        path: the file to write; its folder is made where missing.

    Yields:
        The path to write to, hidden, known to `remove_temporaries`, with the suffix of `path`.

    Raises:
        OSError: with its file name set, when the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # a full disk names no file at all
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Removes from `folder` what a killed `replacing` left there."""
    for temporary in folder.glob(f"{_TEMPORARY}*"):
        temporary.unlink(missing_ok=True)
