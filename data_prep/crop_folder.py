"""A folder of crops that can be continued after a kill and never mixes settings.

It holds `train/*.png` and `test/*.png`, `manifest.csv` with a row per crop, `crops.json` with the
settings it was made with, and `skipped.csv` where photographs were skipped. Which photographs go
in is left to the commands, and cutting to `crops`.
"""

import csv
import functools
import io
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from pathlib import Path

from data_prep.crops import SPLITS, Crop, Photo, Rule, crop_paths, cut
from srgan_keras.common import cli
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import remove_temporaries, replacing

NAMES_SHOWN = 20  # of skipped photographs; skipped.csv has them all
_SECONDS_BETWEEN_SAVES = 5  # of the manifest: the work that a kill can cost


class CropFolder:
    """A folder of crops: keeps what is there, adds what is missing, removes what is outdated.

    Attributes:
        crops: what this run has made or kept, path in the folder -> manifest row.
        skipped: what this run has skipped, source -> reason.
    """

    def __init__(self, out: Path, rule: Rule, settings: dict, workers: int) -> None:
        """Opens or creates the folder.

        Args:
            out: the folder.
            rule: how crops are cut.
            settings: everything that decides which crops there are, as JSON values.
            workers: processes to use.

        Raises:
            UserError: the folder was made with other settings, or by someone else.
        """
        check_settings(out, settings)
        self.out, self.rule, self.workers = out, rule, workers
        self.crops: dict[str, Crop] = {}
        self.skipped: dict[str, str] = {}
        self._kept = 0
        self._before = _read_manifest(out / "manifest.csv")
        for folder in (out, *(out / split for split in SPLITS)):
            remove_temporaries(folder)
        _write_text(out / "crops.json", json.dumps(settings, indent=2) + "\n")

    def add(self, photos: list[Photo]) -> list[Photo]:
        """Cuts the crops of these photographs, or keeps those that are there already.

        Args:
            photos: whose crops the folder shall hold.

        Returns:
            The photographs that could not be used; `skipped` says why.
        """
        todo, failed = [], []
        for photo in photos:
            kept = self.rows_there(photo)
            self.crops |= kept
            self._kept += len(kept)
            if not kept:
                todo.append(photo)
        saved = time.monotonic()
        with closing(_cut_all(todo, self.rule, self.out, self.workers)) as results:
            try:
                for photo, result in cli.progress(results, len(todo), "photographs"):
                    if isinstance(result, str):
                        self.skipped[photo.source] = result
                        failed.append(photo)
                    else:
                        self.crops |= {row.crop: row for row in result}
                    if time.monotonic() - saved > _SECONDS_BETWEEN_SAVES:
                        self._save()
                        saved = time.monotonic()
            finally:
                self._save()
        return failed

    def rows_there(self, photo: Photo) -> dict[str, Crop]:
        """Crops of the photograph that an earlier run made as this one would, path -> row."""
        side = self.rule.size * self.rule.reduce
        wanted = {"source": photo.source, "split": photo.split, "width": side, "height": side}
        wanted |= {"licence": photo.licence, "flickr_url": photo.flickr_url}
        names = [name for name in crop_paths(photo, self.rule) if name in self._before]
        rows = {name: self._before[name] for name in names}
        agree = all(row == row._replace(**wanted) for row in rows.values())
        return rows if agree and all((self.out / name).is_file() for name in names) else {}

    def _save(self) -> None:
        """Writes the manifest; rows of earlier runs stay until `finish` tells the outdated."""
        rows = self._before | self.crops
        _write_table(self.out / "manifest.csv", Crop._fields, sorted(rows.values()))

    def finish(self) -> str:
        """Removes outdated crops, writes the manifest and the skipped photographs.

        Returns:
            The summary to print.
        """
        outdated = self._before.keys() - self.crops.keys()
        for name in outdated:
            (self.out / name).unlink(missing_ok=True)
        self._before = {}
        self._save()
        _write_skipped(self.out / "skipped.csv", self.skipped)
        counts = Counter(row.split for row in self.crops.values())
        summary = f"{len(self.crops)} crops: {counts['train']} train, {counts['test']} test"
        if self._kept:
            summary += f"; {self._kept} already there"
        if outdated:
            summary += f"; {len(outdated)} outdated ones removed"
        return summary + describe_skipped(self.skipped, self.out)


def describe_skipped(skipped: dict[str, str], out: Path) -> str:
    """Says how many photographs were skipped and names the first, each with its reason."""
    if not skipped:
        return ""
    lines = [f"; skipped {len(skipped)}:"]
    lines += [f"  {source}: {skipped[source]}" for source in sorted(skipped)[:NAMES_SHOWN]]
    if len(skipped) > NAMES_SHOWN:
        lines.append(f"  and {len(skipped) - NAMES_SHOWN} more, all in {out / 'skipped.csv'}")
    return "\n".join(lines)


def check_settings(out: Path, settings: dict) -> None:
    """Refuses a folder whose crops would be mixed with others.

    Args:
        out: folder of crops, there or not.
        settings: what its crops are to be made with, as JSON values.

    Raises:
        UserError: it was made with other settings, or holds files that this program did not make.
    """
    file = out / "crops.json"
    advice = "Choose another `out` or delete this folder first"
    if not any(any((out / split).glob("*")) for split in SPLITS):
        return  # no crops yet: nothing can be mixed
    if not file.exists():
        raise UserError(f"{out}: train/ or test/ holds files of another origin. {advice}")
    try:
        before = dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError):
        raise UserError(f"{file}: broken. {advice}") from None
    different = [
        f"{key.replace('_', ' ')} {before.get(key)} (now {settings.get(key)})"
        for key in sorted(before.keys() | settings.keys())
        if before.get(key) != settings.get(key)
    ]
    if different:
        raise UserError(f"{out} was made with another {', '.join(different)}. {advice}")


def _read_manifest(file: Path) -> dict[str, Crop]:
    """Rows by crop; a broken row is as good as none, its crop is made again."""
    if not file.exists():
        return {}
    text = file.read_text(encoding="utf-8", errors="replace").replace("\0", "")
    rows = {}
    with suppress(csv.Error):
        for values in csv.reader(io.StringIO(text, newline="")):
            with suppress(ValueError, TypeError):
                row = Crop(*values[:3], *map(int, values[3:7]), *values[7:])
                if re.fullmatch(rf"({'|'.join(SPLITS)})/[^/\\]+\.png", row.crop):
                    rows[row.crop] = row
    return rows


def _write_skipped(file: Path, skipped: dict[str, str]) -> None:
    if skipped:
        _write_table(file, ("source", "reason"), sorted(skipped.items()))
    else:
        file.unlink(missing_ok=True)


def _write_table(file: Path, header: Iterable[str], rows: Iterable[tuple]) -> None:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    _write_text(file, table.getvalue())


def _write_text(file: Path, text: str) -> None:
    """Writes the file unless it says the same already."""
    if file.exists() and file.read_bytes() == text.encode():
        return
    with replacing(file) as temporary:
        temporary.write_bytes(text.encode())


def _start_worker() -> None:
    """Leaves Ctrl-C to the parent, and ends with it, even when it is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _cut_all(
    photos: list[Photo], rule: Rule, out: Path, workers: int
) -> Iterator[tuple[Photo, list[Crop] | str]]:
    cut_one = functools.partial(cut, rule=rule, out=out)
    workers = min(workers, len(photos))
    if workers <= 1:
        yield from ((photo, cut_one(photo)) for photo in photos)
        return
    # Spawned, not forked: the caller may be a notebook in which TensorFlow's threads run.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        yield from zip(photos, pool.map(cut_one, photos, chunksize=4), strict=True)
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, perhaps for want of memory; try `workers` 1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
