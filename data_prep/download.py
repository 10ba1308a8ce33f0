"""Fetches files over HTTP: continued where they broke off, tried again, several at a time.

Which files, and where they belong, is left to the callers.
"""

import functools
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from srgan_keras.common import cli
from srgan_keras.common.errors import UserError

Check = Callable[[Path], str]

THREADS = 8
TIMEOUT = 30  # seconds without an answer
WAITS = (1, 2, 4)  # seconds before each further attempt
_CHUNK = 1 << 20
_UNREACHABLE = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
)


class Refused(Exception):
    """The server answers that this one file is not to be had; the message is its answer."""


def fetch_all(files: dict[Path, str], check: Check | None = None) -> dict[Path, str]:
    """Fetches files, THREADS at a time, with a progress bar.

    Args:
        files: path to write -> address.
        check: as for `fetch`.

    Returns:
        path -> the server's answer, of those files that it refuses.

    Raises:
        UserError: the server cannot be reached.
        OSError: a file cannot be written.
    """
    refused = {}
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            answers = pool.map(functools.partial(_try_fetch, check), files.values(), files.keys())
            for path, answer in cli.progress(zip(files, answers, strict=True), len(files), "files"):
                if answer:
                    refused[path] = answer
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return refused


def _try_fetch(check: Check | None, url: str, path: Path) -> str:
    try:
        fetch(url, path, check)
    except Refused as error:
        return str(error)
    return ""


def fetch(url: str, path: Path, check: Check | None = None, *, show_progress: bool = False) -> None:
    """Fetches one file; `path` appears when it is complete, until then `path` + ".part" grows.

    Args:
        url: its address, http or https.
        path: the file to write; its folder is made where missing.
        check: function of the complete file that says what is wrong with it, or nothing; the page
            on which a hotel's network asks for a password comes under any address.
        show_progress: whether to show a progress bar of megabytes.

    Raises:
        Refused: the server answers with an error that is final, such as 404, or with another file.
        UserError: the server cannot be reached, after len(WAITS) further attempts.
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for wait in (*WAITS, None):
        try:
            _fetch_rest(url, part, show_progress)
            if wrong := check and check(part):
                part.unlink()
                raise Refused(wrong)
            os.replace(part, path)
            return
        except urllib.error.HTTPError as error:
            error.close()
            problem = f"{error.code} {error.reason}"
            if error.code < 500 and error.code not in (408, 416, 429):
                raise Refused(problem) from None
        except _UNREACHABLE as error:
            problem = getattr(error, "reason", error)
            problem = getattr(problem, "strerror", None) or problem
        if wait is not None:
            time.sleep(wait)
    raise UserError(f"cannot fetch {url}: {problem}; run again to continue")


def _fetch_rest(url: str, part: Path, show_progress: bool) -> None:
    """Appends to `part` what is missing; writes all of it where the server serves no ranges."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing comes after what we have: it is all there, or not this file
            if error.headers.get("Content-Range") == f"bytes */{have}":
                error.close()
                return
            part.unlink()
        raise
    with response:
        if response.status == 206:
            if not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                part.unlink()
                raise ConnectionError("the server sends another range than asked for")
        else:
            have = 0
        expected = response.headers.get("Content-Length")
        if expected and not expected.isdecimal():
            raise ConnectionError(f"the server sends a Content-Length of {expected!r}")
        chunks = iter(lambda: response.read(_CHUNK), b"")
        if show_progress and expected:
            chunks = cli.progress(chunks, -(-int(expected) // _CHUNK), f"{part.stem}, MB")
        with part.open("ab" if have else "wb") as file:
            for chunk in chunks:
                file.write(chunk)
            if expected and file.tell() != have + int(expected):
                raise ConnectionError("the connection broke off")
