"""What a runtime needs of a generator: made once with Keras, then kept.

It is kept in `$SRGAN_KERAS_CACHE`, or else in the user's cache folder, under a name that follows
from the generator's own file, and with checksums. Nothing in it is needed: all of it can be
deleted.
"""

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path

from srgan_keras import __version__
from srgan_keras.common.files import (
    SAVED_MODEL,
    checksum,
    in_the_way,
    is_temporary,
    publish,
    temporary_beside,
)
from srgan_keras.inference.runtimes import RUNTIMES, import_tensorflow
from srgan_keras.inference.sources import find_generator

#: How many generators are kept: those that were used last.
KEPT = 16
SUMS = "sha256.json"


def cache_folder() -> Path:
    """The folder of what is kept, there or not."""
    if own := os.environ.get("SRGAN_KERAS_CACHE"):
        return Path(own)
    home = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return Path(home or Path.home() / ".cache") / "srgan-keras"


def can_keep() -> bool:
    """Whether the cache's folder can be written into."""
    return in_the_way(cache_folder()) is None


def prepare(source: str | os.PathLike, blend: float | None, runtime: str) -> list[Path]:
    """Returns the stages of a generator as files of a runtime; makes them where they are not yet.

    Args:
        source: as for `sources.find_generator`.
        blend: likewise.
        runtime: `"tensorflow"`, which has one SavedModel, `"openvino"` or `"onnx"`.

    Raises:
        UserError: if there is no such generator, or it does not load.
        OSError: if the cache cannot be written.
    """
    sums = [checksum(file) for file in find_generator(source, blend)]
    made_of = json.dumps([*sums, blend, runtime, __version__])
    folder = cache_folder() / f"{runtime}-{hashlib.sha256(made_of.encode()).hexdigest()[:32]}"
    if not _is_whole(folder):
        _make(source, blend, runtime, folder)
    os.utime(folder)
    return sorted(folder.glob(f"*{RUNTIMES[runtime][2] or SAVED_MODEL}"))


def _is_whole(folder: Path) -> bool:
    """Whether everything is there as it was written."""
    try:
        sums = json.loads((folder / SUMS).read_text())
        return all(checksum(folder / name) == value for name, value in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _make(source: str | os.PathLike, blend: float | None, runtime: str, folder: Path) -> None:
    # Here, because whoever has the files needs none of them.
    import_tensorflow()
    from srgan_keras.inference.formats import write_stages
    from srgan_keras.inference.pretrained import load_generator

    generator = load_generator(source, blend)
    print(f"Preparing {source} for {runtime}, once: {folder}", file=sys.stderr, flush=True)
    with temporary_beside(folder) as unfinished:
        unfinished.mkdir()
        write_stages(generator, runtime, unfinished)
        files = sorted(path for path in unfinished.rglob("*") if path.is_file())
        sums = {path.relative_to(unfinished).as_posix(): checksum(path) for path in files}
        (unfinished / SUMS).write_text(json.dumps(sums))
        if not _is_whole(folder):  # Another process may have made it, and be reading it.
            publish(unfinished, folder)
    others = [path for path in folder.parent.iterdir() if path.is_dir() and not is_temporary(path)]
    for path in sorted(others, key=lambda path: path.stat().st_mtime)[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
