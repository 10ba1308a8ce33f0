"""Several processes that train together on JAX, on loopback.

One program imports everything once and forks a process for each: importing takes longer than all
they train.
"""

import json
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
from process_fixtures import environment

from srgan_keras import train as train_command
from srgan_keras.common.errors import UserError
from srgan_keras.run import find_checkpoints, read_log, step_of

pytest.importorskip("jax")

PROGRAM = """
import itertools, json, os, sys, time
sys.modules["tensorflow"] = None  # Keras would import it.
import jax, keras, numpy as np
from srgan_keras import train
from srgan_keras.training import callbacks, loop


def session(name, arguments, signals):
    out = os.open(f"{name}.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(out, 1)
    os.dup2(out, 2)
    build, fit, make = loop.build_gan, loop.fit_or_roll_back, callbacks.Checkpoint
    steps, look = itertools.count(1), callbacks.StopOnSignal.on_train_batch_end

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
    loop.Health = lambda *arguments: keras.callbacks.Callback()
    callbacks.LossCurves = lambda run: keras.callbacks.Callback()
    callbacks.SamplePictures.on_train_begin = lambda self, logs=None: None  # The last one does.
    callbacks.Checkpoint = lambda run, minutes, keep: make(run, 0, keep)  # at every step
    callbacks.StopOnSignal.on_train_batch_end = look_after_signal
    sys.argv = ["train", *arguments]
    train.cli.run(train.main)


started, names = time.monotonic(), {}
for name, arguments, signals in json.loads(sys.argv[1]):
    process = os.fork()
    if not process:
        session(name, arguments, signals)
    names[process] = name
ends = {}
while names:
    process, status = os.wait()
    ends[names.pop(process)] = os.waitstatus_to_exitcode(status), time.monotonic() - started
print(json.dumps(ends))
"""
SETTINGS = (
    "--recipe srresnet --crop-size 32 --filters 2 --residual-blocks 0 --epsilon 1e-3 "
    "--batch-size 4 --steps-per-epoch 2 --epochs 2 --sample-every 2 --no-check-memory"
).split()


def train(folder, sessions, devices):
    """Runs sessions side by side.

    Args:
        folder: where each leaves NAME.txt, what it said, and NAME.npz, its weights.
        sessions: name -> (arguments, {step: signal that it sends itself}).
        devices: logical devices of each.

    Returns:
        of each (exit code, seconds).
    """
    own = {
        # What a session compiles, a later one has.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    listed = [
        [str(folder / name), list(map(str, words)), sent]
        for name, (words, sent) in sessions.items()
    ]
    # JAX warns of forks, for it has threads where it has been used.
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(listed)]
    done = subprocess.run(
        command,
        env={**environment("jax", devices), **own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    return [ends[name] for name, _, _ in listed]


def train_two(folder, name, arguments, signals):
    """Runs two processes that train together; the second sends itself the signals."""
    # The port stays ours until JAX has it: both bind it for sharing, and only JAX listens.
    with socket.socket(socket.AF_INET6) as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port.bind(("::", 0))
        words = ["--coordinator-address", f"localhost:{port.getsockname()[1]}"]
        words += ["--num-processes", "2", *arguments, "--process-id"]
        pair = {f"{name}-0": ([*words, 0], {}), f"{name}-1": ([*words, 1], signals)}
        return train(folder, pair, devices=1)


def weights(path):
    with np.load(path) as file:
        return [file[key] for key in file.files]


def test_two_processes_train_as_one_does_through_a_kill(crops, tmp_path):
    """One test, because starting processes takes most of its time."""
    start = [*SETTINGS, "--data", crops, "--resume", "auto", "--run"]
    one, two = tmp_path / "one", tmp_path / "two"
    ends = train(tmp_path, {"alone": ([*start, one], {})}, devices=2)
    said = (tmp_path / "alone.txt").read_text()
    assert ends[0][0] == 0, said
    assert "Devices: 2 x cpu (JAX); batch of 4, 2 on each" in said

    ends = train_two(tmp_path, "killed", [*start, two], {3: signal.SIGKILL})
    said = [(tmp_path / f"killed-{k}.txt").read_text() for k in (0, 1)]
    assert [code for code, _ in ends] == [2, -signal.SIGKILL], said
    assert ends[0][1] - ends[1][1] < 60
    assert "Devices: 2 x cpu in 2 processes (JAX); batch of 4, 2 on each" in said[0]
    assert "error: Another process has ended" in said[0].splitlines()[-1]
    assert "Devices" not in said[1]
    step = step_of(find_checkpoints(two)[0])
    assert step in (2, 3)  # The first may have missed the third step's end.

    ends = train_two(tmp_path, "resumed", [*start, two], {})
    said = [(tmp_path / f"resumed-{k}.txt").read_text() for k in (0, 1)]
    assert [code for code, _ in ends] == [0, 0], said
    assert f"Run folder: {two}, from step {step}" in said[0]
    ours, theirs, expected = (
        weights(tmp_path / f"{name}.npz") for name in ("resumed-0", "resumed-1", "alone")
    )
    for a, b, c in zip(ours, theirs, expected, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, atol=1e-5)
    for row, reference in zip(read_log(two), read_log(one), strict=True):
        numbers, wanted = (
            {name: float(value) for name, value in each.items() if value != "NA"}
            for each in (row, reference)
        )
        assert numbers == pytest.approx(wanted, rel=1e-4)
    names = [{path.name for path in (run / "samples").iterdir()} for run in (one, two)]
    assert names[0] == names[1]


def test_tensorflow_refuses_several_machines_and_says_what_trains_on_them(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", "--num-processes", "2"])
    with pytest.raises(UserError, match=r"KERAS_BACKEND=jax python -m .* --num-processes 2"):
        train_command.main(["--num-processes", "2"])
