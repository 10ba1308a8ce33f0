"""Writes files that are never half there, tells their checksum, and looks after folders."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from srgan_keras.common.errors import UserError

#: Of the files of a run folder, those that programs without Keras open, too.
GENERATOR = "generator.keras"
SAVED_MODEL = "saved_model"

_TEMPORARY = ".tmp-"
LOCK = ".lock"


@contextmanager
def replacing(path: Path, sync: bool = True) -> Iterator[Path]:
    """Gives a temporary path in the folder of `path`; on success it takes the name `path`.

    So whoever looks at `path` sees the old file or the whole new one, even after a kill, and after
    a power cut too where it is synced.

    Args:
        path: the file or folder to write; its folder is made where missing.
        sync: as for `publish`.

    Yields:
        The path to write to, hidden, known to `remove_temporaries`, with the suffix of `path`.

    Raises:
        OSError: with its file name set, when the file cannot be written.
    """
    with temporary_beside(path) as temporary:
        yield temporary
        publish(temporary, path, sync)


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """As `replacing`, for files whose name follows from what is in them: `publish` gives it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{path.name}")
    try:
        _remove(temporary)
        yield temporary
    except OSError as error:
        if error.filename in (None, str(temporary)):  # a full disk names no file at all
            error.filename = str(path)
        raise
    finally:
        _remove(temporary)


def publish(temporary: Path, path: Path, sync: bool = True) -> None:
    """Gives what `temporary_beside` had written its name, in place of what had that name.

    Args:
        temporary: a file or a folder.
        path: its name, in the same folder. An old folder is put aside first: a kill between the
            two steps leaves none, for no system call exchanges folders everywhere.
        sync: whether it is on the disk before it has its name, and the name before this returns.
            Waiting for that takes some 10 ms a file.
    """
    if sync:
        for file in [temporary, *temporary.rglob("*")]:
            _sync(file)
    old = path.with_name(f"{_TEMPORARY}{os.getpid()}-old-{path.name}")
    if temporary.is_dir() and path.is_dir():
        _remove(old)
        os.replace(path, old)
    os.replace(temporary, path)
    _remove(old)
    if sync:
        _sync(path.parent)


def is_temporary(path: Path) -> bool:
    """Whether a file or folder is one that `replacing` has made, and may be writing."""
    return path.name.startswith(_TEMPORARY)


def remove_temporaries(folder: Path) -> None:
    """Removes from `folder` what a killed `replacing` left there, files and folders."""
    for temporary in folder.glob(f"{_TEMPORARY}*"):
        _remove(temporary)


def remove_temporaries_of(paths: Iterable[Path]) -> None:
    """Removes what a killed `replacing` of one of these paths left, in whatever process."""
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    for folder, own in names.items():
        for temporary in folder.glob(f"{_TEMPORARY}*"):
            if temporary.name.removeprefix(_TEMPORARY).partition("-")[2] in own:
                _remove(temporary)


def in_the_way(folder: Path) -> Path | None:
    """What keeps a folder, there or not, from being written into: a file in its place, or the
    nearest folder above it that is there; None if nothing does.
    """
    there = next(one for one in (folder, *folder.parents) if one.exists())
    return None if there.is_dir() and os.access(there, os.W_OK) else there


def checksum(path: Path) -> str:
    """The SHA-256 checksum of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    if not path.is_dir():
        with path.open("r+b") as file:
            os.fsync(file.fileno())
    elif os.name != "nt":  # Windows syncs no folders.
        descriptor = os.open(path, os.O_RDONLY)
        try:
            # Some network file systems cannot; then the name is as safe as it gets there.
            with contextlib.suppress(OSError):
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a folder for this process alone, among all who ask for it this way.

    The lock is the operating system's, on the file `.lock` in the folder, and ends with the
    process, however that ends; the file may stay. Between machines it holds on NFS (Linux 2.6.12
    and later, where the server has locks) and not on every other network file system: one that has
    no locks at all is said, and the work goes on.

    Args:
        folder: made where missing; removed again if nothing but the lock is in it at the end.

    Raises:
        UserError: if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    with path.open("a") as file:
        try:
            _lock(file.fileno())
            taken = not os.path.samestat(os.fstat(file.fileno()), path.stat())
        except (BlockingIOError, PermissionError, FileNotFoundError):
            taken = True
        except OSError as error:
            taken = False
            print(f"{folder} cannot be locked ({error.strerror}): let nobody else work in it.")
        if taken:
            raise UserError(f"Another process is at work in {folder}. Wait until it has ended.")
        try:
            yield
        finally:
            if folder.is_dir() and [entry.name for entry in folder.iterdir()] == [LOCK]:
                path.unlink()
                folder.rmdir()


def _lock(descriptor: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
