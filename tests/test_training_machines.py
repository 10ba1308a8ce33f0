"""Several processes that train together on JAX, on loopback.

One program imports everything once and forks a process for each: importing takes longer than all
they train.
"""

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from process_fixtures import environment

from srgan_keras import train as train_command
from srgan_keras.common.errors import UserError
from srgan_keras.run import read_log

pytestmark = pytest.mark.skipif(not find_spec("jax"), reason="jax is not installed")

PROGRAM = """
import itertools, json, os, sys, time
import jax, keras, numpy as np
from srgan_keras import train
from srgan_keras.training import callbacks, health, loop


def session(name, arguments, signals, collapses):
    out = os.open(f"{name}.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(out, 1)
    os.dup2(out, 2)
    build, fit, make = loop.build_gan, loop.fit_or_roll_back, callbacks.Checkpoint
    steps, look = itertools.count(1), callbacks.StopOnSignal.on_train_batch_end
    epochs = itertools.count(1)

    def build_without_scores(*arguments):  # They take long to compile.
        gan = build(*arguments)
        gan.scores = []
        return gan

    def fit_and_keep(gan, *arguments):
        finished = fit(gan, *arguments)
        np.savez(f"{name}.npz", *gan.get_weights())
        return finished

    def look_after_signal(self, batch, logs=None):
        if number := signals.get(str(next(steps))):
            os.kill(os.getpid(), number)
        look(self, batch, logs)

    loop.build_gan, loop.fit_or_roll_back = build_without_scores, fit_and_keep
    health.diagnose = lambda *seen: {"not finite"} if next(epochs) in collapses else set()
    callbacks.LossCurves = lambda run: keras.callbacks.Callback()
    callbacks.SamplePictures.on_train_begin = lambda self, logs=None: None  # The last one does.
    callbacks.Checkpoint = lambda run, minutes, keep: make(run, 0, keep)  # at every step
    callbacks.StopOnSignal.on_train_batch_end = look_after_signal
    sys.argv = ["train", *arguments]
    train.cli.run(train.main)


ends, flags = {}, os.environ["XLA_FLAGS"]  # which XLA reads when it is first used
for sessions in json.loads(sys.argv[1]):
    started, names = time.monotonic(), {}
    for name, devices, *arguments in sessions:
        process = os.fork()
        if not process:
            os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}"
            session(name, *arguments)
        names[process] = name
    while names:
        process, status = os.wait()
        ends[names.pop(process)] = os.waitstatus_to_exitcode(status), time.monotonic() - started
print(json.dumps(ends))
"""
SETTINGS = (
    "--recipe srresnet --crop-size 32 --filters 2 --residual-blocks 0 --epsilon 1e-3 "
    "--batch-size 4 --steps-per-epoch 2 --epochs 2 --sample-every 2 --no-check-memory"
).split()


def train(folder, *groups):
    """Runs groups of sessions, one group after the other, the sessions of each side by side.

    Args:
        folder: where each leaves NAME.txt, what it said, and NAME.npz, its weights.
        groups: lists of sessions (name, logical devices, arguments, {step: signal that it sends
            itself}, [epochs at whose end it collapses]); steps and epochs of the session, from 1.

    Returns:
        {name: (exit code, seconds)}.
    """
    own = {
        # What a session compiles, a later one has.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    listed = [
        [
            [str(folder / name), devices, list(map(str, words)), signals, collapses]
            for name, devices, words, signals, collapses in group
        ]
        for group in groups
    ]
    # JAX warns of forks, for it has threads where it has been used.
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(listed)]
    done = subprocess.run(
        command, env={**environment("jax"), **own}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return {Path(name).name: end for name, end in json.loads(done.stdout).items()}


@contextlib.contextmanager
def two(name, arguments, signals, collapses):
    """Two processes that train together; the second sends itself the signals."""
    # The port stays ours until JAX has it: both bind it for sharing, and only JAX listens.
    with socket.socket(socket.AF_INET6) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port.bind(("::", 0))
        words = ["--coordinator-address", f"localhost:{port.getsockname()[1]}"]
        words += ["--num-processes", "2", *arguments, "--process-id"]
        yield [
            (f"{name}-0", 1, [*words, 0], {}, collapses),
            (f"{name}-1", 1, [*words, 1], signals, collapses),
        ]


def weights(path):
    with np.load(path) as file:
        return [file[key] for key in file.files]


def test_two_processes_train_as_one_does_through_a_collapse_and_a_kill(crops, tmp_path):
    """One test, because starting processes takes most of its time."""
    start = [*SETTINGS, "--data", crops, "--resume", "auto", "--on-collapse", "rollback", "--run"]
    one, several = tmp_path / "one", tmp_path / "several"
    alone = [("alone", 2, [*start, one], {}, [2])]
    with (
        two("killed", [*start, several], {5: signal.SIGKILL}, [2]) as killed,
        two("resumed", [*start, several], {}, []) as resumed,
    ):
        ends = train(tmp_path, alone + killed, resumed)
    said = {name: (tmp_path / f"{name}.txt").read_text() for name in ends}
    codes = {"alone": 0, "killed-0": 2, "killed-1": -signal.SIGKILL, "resumed-0": 0, "resumed-1": 0}
    assert {name: code for name, (code, _) in ends.items()} == codes, said
    assert "Devices: 2 x cpu (JAX); batch of 4, 2 on each" in said["alone"]
    assert ends["killed-0"][1] - ends["killed-1"][1] < 60
    assert "Devices: 2 x cpu in 2 processes (JAX); batch of 4, 2 on each" in said["killed-0"]
    assert "error: Another process has ended" in said["killed-0"].splitlines()[-1]
    assert "Devices" not in said["killed-1"]
    assert said["killed-1"].splitlines()[-1].startswith("error: This process was killed")
    for name in ("alone", "killed-0"):
        assert "the generated pictures hold values that are no numbers" in said[name]
        assert "Back to step 2, with learning_rate 0.00025." in said[name]
    # The first may have missed the third step's end, the fifth of the session.
    assert re.search(rf"Run folder: {several}, from step [23]\b", said["resumed-0"])
    ours, theirs, expected = (
        weights(tmp_path / f"{name}.npz") for name in ("resumed-0", "resumed-1", "alone")
    )
    for a, b, c in zip(ours, theirs, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, atol=1e-5)
    for row, reference in zip(read_log(several), read_log(one), strict=True):
        numbers, wanted = (
            {name: float(value) for name, value in each.items() if value != "NA"}
            for each in (row, reference)
        )
        assert numbers == pytest.approx(wanted, rel=1e-4)
    names = [{path.name for path in (run / "samples").iterdir()} for run in (one, several)]
    assert names[0] == names[1]


def test_tensorflow_refuses_several_machines_and_says_what_trains_on_them(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "--num-processes", "2"])
    with pytest.raises(UserError, match=r"KERAS_BACKEND=jax python -m .* --num-processes 2"):
        train_command.main(["--num-processes", "2"])
