"""Kills an enlarging of thousands of pictures again and again, and compares with one in one go.

    python tests/stress_upscale.py --out /tmp/stress --pictures 2000 --kills 3

No test: it takes minutes. The pictures are small, in folders: PNG and JPEG, some clear, some with
16 bits, a few broken; the network is tiny, unless `--model` names another. A run is killed when a
random share of the results is there (SIGKILL), started again by the same command until it has been
killed so often, then left to its end. What must hold: the results are byte for byte those of a run
that nobody disturbed, nothing else is left, and no result that was finished at a kill has been
written again. The memory of the process is sampled.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

import odd_files

from srgan_keras.systems.srgan import build_generator

ROOT = Path(__file__).parents[1]


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--model")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    make_pictures(args.out / "photos", args.pictures, args.side)
    if not args.model:
        args.model = args.out / "tiny.keras"
        build_generator(filters=4, residual_blocks=1).save(args.model)
    print("in one go")
    run(args, "whole")
    chance, kept, twice = random.Random(args.seed), {}, 0
    for share in [*sorted(chance.random() for _ in range(args.kills)), None]:
        run(args, "killed", share and round(share * args.pictures))
        now = results(args.out / "killed")
        twice += sum(now.get(path) != stamp for path, stamp in kept.items())
        kept = now
    whole, killed = (describe(args.out / name) for name in ("whole", "killed"))
    temporaries = list((args.out / "killed").rglob(".tmp-*"))
    same = whole == killed and not temporaries
    print(f"{len(whole)} and {len(killed)} results, the same: {same}; written twice: {twice}")
    return 0 if same and not twice else 1


def make_pictures(folder: Path, count: int, side: int) -> None:
    """Writes noise and waves, so that every result is another."""
    rng = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index % 20:02}" / f"{index:06}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 60, (side, side, 4), np.uint8) + odd_files.photo(side, side, 4) // 2
        if index % 50 == 7:
            path.write_bytes(odd_files.png_16(noise[..., :3].astype(np.uint16) * 257))
        elif index % 50 == 9:
            Image.fromarray(noise).save(path)
        elif index % 500 == 11:
            path.write_bytes(b"broken")
        elif index % 2:
            Image.fromarray(noise[..., :3]).save(path.with_suffix(".jpg"), quality=95)
        else:
            Image.fromarray(noise[..., :3]).save(path)


def run(args: argparse.Namespace, name: str, kill_at: int | None = None) -> None:
    """Runs the command, kills it when `kill_at` results are there, and prints what it took."""
    out = args.out / name
    command = [sys.executable, "-m", "srgan_keras.upscale", str(args.out / "photos")]
    command += ["--model", str(args.model), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
    started, memory = time.monotonic(), []
    with (args.out / f"{name}.log").open("a") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        while process.poll() is None:
            time.sleep(0.2)
            done = len(results(out))
            memory.append((done, resident(process.pid)))
            if kill_at is not None and done >= kill_at:
                os.kill(process.pid, signal.SIGKILL)
        process.wait()
    seconds = time.monotonic() - started
    working = [megabytes for done, megabytes in memory if done > memory[0][0] + 20 and megabytes]
    parts = [max(part) for part in np.array_split(working, 4) if len(part)] if working else []
    print(
        f"{name}: exit code {process.returncode}, {len(results(out))} results, {seconds:.0f} s, "
        f"MB in each quarter {[int(part) for part in parts]}",
        flush=True,
    )


def resident(pid: int) -> float:
    """Megabytes of a process in memory; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def results(out: Path) -> dict[str, tuple[int, int]]:
    """The results by their paths, with what changes when one is written again."""
    stamps = {}
    for path in out.glob("*/[!.]*.png"):
        status = path.stat()
        stamps[path.relative_to(out).as_posix()] = (status.st_ino, status.st_mtime_ns)
    return stamps


def describe(out: Path) -> dict[str, bytes]:
    """The results by their paths, with what is in them."""
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("[!.]*.png")}


if __name__ == "__main__":
    sys.exit(main())
