"""Kills a training again and again, and compares what comes out with one that nobody disturbed.

    python tests/stress_resume.py --out /tmp/stress --kills 30

No test: it takes minutes. A tiny run on noise is killed (SIGKILL) at random moments and resumed by
`--resume auto` until it has been killed so often; then it is left to its end. A moment is a number
of files that the session has synced, so that a slow machine gets as far as a fast one, and a time
after that. Writing is slowed down, so that many kills fall into it. After every second kill the
power fails too: every file of the run whose contents nobody had synced is emptied, as file systems
with delayed allocation leave them. (Names stay, even where their folder was not synced; a test of
`common.files` has the order of syncing and renaming.) What is compared: every number in the last
checkpoint, log.csv, the names of the sample pictures.

Each session is a fork of this process, which has imported TensorFlow and not used it yet.
"""

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

import h5py
import keras
import numpy as np
import tensorflow as tf  # noqa: F401  Before the forks.
from PIL import Image

from srgan_keras import train
from srgan_keras.common import files
from srgan_keras.inference import formats  # noqa: F401  Likewise.
from srgan_keras.run import METRICS, find_checkpoints
from srgan_keras.training import callbacks, loop
from srgan_keras.training.gan import SRGAN

SETTINGS = (
    "--recipe srgan-mse --crop-size 32 --filters 2 --residual-blocks 0 --discriminator-filters 2 "
    "--dense-units 2 --content-loss mse --batch-size 2 --steps-per-epoch 3 --sample-every 2 "
    "--no-check-memory --resume auto"
).split()


def main() -> int:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--out", type=Path, required=True, help="folder; its run `whole` is used again"
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds that writing stops")
    parser.add_argument("--most", type=int, default=8, help="files synced before the latest kill")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not args.out.exists():
        make_crops(args.out / "crops")
    whole, killed = args.out / "whole", args.out / "killed"
    if finish(start(whole, args, pause=0.0)) != 0:
        return 1
    rng, writing, cuts, emptied = random.Random(args.seed), 0, 0, 0
    for number in range(args.kills):
        session = start(killed, args, args.pause)
        wait_for(session, args.out / "synced", rng.randint(0, args.most))
        time.sleep(rng.uniform(0, 10 * args.pause))
        os.kill(session, signal.SIGKILL)
        code = finish(session)
        if code != -signal.SIGKILL:
            print(f"The session ended by itself with {code} after {number} kills.")
            break
        writing += any(killed.rglob(f".tmp-{session}-*"))
        if number % 2:
            cuts += 1
            emptied += cut_power(killed, args.out / "synced")
        newest = [path.name for path in find_checkpoints(killed)[:1]]
        print(f"kill {number + 1}: {newest}, writing {writing}", flush=True)
    if finish(start(killed, args, pause=0.0)) != 0:
        return 1
    print(f"{writing} kills fell into writing; {cuts} power cuts emptied {emptied} files")
    same = [compare(whole, killed) for compare in (weights_equal, logs_equal, pictures_equal)]
    return 0 if all(same) else 1


def make_crops(folder: Path) -> None:
    """Writes seven crops of noise."""
    rng = np.random.default_rng(0)
    for index in range(7):
        path = folder / ("test" if index > 4 else "train") / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(path)


def start(run: Path, args: argparse.Namespace, pause: float) -> int:
    """Begins a session, or goes on, in a process of its own; returns its number."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        log = os.open(args.out / f"{run.name}.txt", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.dup2(log, 1)
        os.dup2(log, 2)
        disturb(args.out / "synced", pause)
        data = ["--data", str(args.out / "crops"), "--epochs", str(args.epochs)]
        code = train.main([*SETTINGS, *data, "--run", str(run)])
    except BaseException as error:
        print(type(error).__name__, error, flush=True)
    finally:
        os._exit(code)


def disturb(synced: Path, pause: float) -> None:
    """Makes a checkpoint of every step, slowly, and writes down what is synced."""
    sync, replace, make, compile_gan = (
        files._sync,
        os.replace,
        callbacks.Checkpoint,
        SRGAN.compile,
    )

    def slow_sync(path):
        sync(path)
        with synced.open("a") as file:
            file.write(f"{identity(path)}\n")
        time.sleep(pause)

    def slow_replace(old, new):
        time.sleep(pause)
        replace(old, new)
        time.sleep(pause)

    files._sync, os.replace = slow_sync, slow_replace
    callbacks.Checkpoint = lambda run, minutes, keep: make(run, 0, keep)
    SRGAN.compile = lambda *arguments, **more: compile_gan(*arguments, **more, run_eagerly=True)
    # These take longer than all the rest.
    loop.export_saved_model = lambda gan, run: None
    callbacks.LossCurves = lambda run: keras.callbacks.Callback()


def wait_for(process: int, synced: Path, files: int) -> None:
    """Waits until a session has synced so many files, or has ended."""
    before = len(synced.read_text().split()) if synced.exists() else 0
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if synced.exists() and len(synced.read_text().split()) >= before + files:
            return
        time.sleep(0.02)


def finish(process: int) -> int:
    """Waits for a session's end; returns its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def cut_power(run: Path, synced: Path) -> int:
    """Empties the files that were not synced; returns how many."""
    safe = set(synced.read_text().split()) if synced.exists() else set()
    lost = [p for p in run.rglob("*") if p.is_file() and identity(p) not in safe]
    for path in lost:
        path.write_bytes(b"")
    return len(lost)


def identity(path: Path) -> str:
    """What a file keeps under another name, and not when it is written to."""
    return f"{path.stat().st_ino}-{path.stat().st_mtime_ns}"


def weights_equal(whole: Path, killed: Path) -> bool:
    """Compares every number of the last checkpoints."""
    states = [numbers(find_checkpoints(run)[0]) for run in (whole, killed)]
    differing = [name for name in states[0] if not np.array_equal(states[0][name], states[1][name])]
    names = [find_checkpoints(run)[0].name for run in (whole, killed)]
    print(f"{len(states[0])} arrays of {names[0]} and {names[1]}: {len(differing)} differ")
    return states[0].keys() == states[1].keys() and not differing


def numbers(checkpoint: Path) -> dict[str, np.ndarray]:
    """Every array in a checkpoint, by name."""
    found = {}
    with h5py.File(checkpoint) as file:
        file.visititems(
            lambda name, item: (
                found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    found.pop(METRICS)  # Of the last epoch, which is in the log.
    return found


def logs_equal(whole: Path, killed: Path) -> bool:
    """Compares the logs, byte by byte."""
    texts = [(run / "log.csv").read_text() for run in (whole, killed)]
    print(f"logs of {texts[0].count(chr(10)) - 1} rows: equal {texts[0] == texts[1]}")
    return texts[0] == texts[1]


def pictures_equal(whole: Path, killed: Path) -> bool:
    """Compares the names of the sample pictures."""
    names = [sorted(path.name for path in (run / "samples").iterdir()) for run in (whole, killed)]
    print(f"{len(names[0])} sample pictures: equal {names[0] == names[1]}")
    return names[0] == names[1]


if __name__ == "__main__":
    sys.exit(main())
