"""Processes that train together, one on each machine, on Keras' JAX backend: which one this is.

JAX connects them and finds the dead; each makes its own part of every batch, and the first alone
writes. All take the same decisions, because all see the same numbers: whatever a decision depends
on is the same in all of them, or `check_same` says that it is not.
"""

import atexit
import contextlib
import hashlib
import itertools
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from srgan_keras.common.errors import UserError

HEARTBEAT = 30  # seconds without a sign of life, after which a process counts as dead
PATIENCE = 3600  # seconds that those who have ended wait for the one that is still writing
AGAIN = "Start all again with --resume auto: they go on from the last checkpoint."

_steps = itertools.count()  # at which `told_to_stop` has looked


def own_process() -> tuple[int, int]:
    """The number of this process, from 0, and how many train together."""
    if keras.backend.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def is_first() -> bool:
    """Whether this is the process that writes: the only one, or the first."""
    return own_process()[0] == 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, this process works by itself: variables that it makes are not the others' too.

    Saving needs it, since Keras makes an optimizer then, to compare with.
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def own_cpu() -> contextlib.AbstractContextManager:
    """Inside, Keras computes on the CPU; `keras.device("cpu")` would be the first process's."""
    if keras.backend.backend() != "jax":
        return keras.device("cpu")
    import jax

    return keras.device(jax.local_devices(backend="cpu")[0])


def own_rows(count: int) -> slice:
    """Which pictures of a batch this process makes; those of all make up the batch in order."""
    number, processes = own_process()
    return slice(number * count // processes, (number + 1) * count // processes)


def connect(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Connects this process with the others, and waits until all are there.

    If one does not come within five minutes, JAX ends the process (SIGABRT), as when one dies.

    Args:
        coordinator_address: HOST:PORT of the first process, reachable by all; what is None here JAX
            finds out itself under Slurm and Open MPI and on TPUs.
        num_processes: how many there are.
        process_id: the number of this one, from 0.

    Raises:
        UserError: if Keras runs on TensorFlow, or they cannot be connected.
    """
    if keras.backend.backend() != "jax":
        raise UserError(
            "On TensorFlow, Keras 3 does not train on several machines (keras-team/keras#20585). "
            "On JAX it does: KERAS_BACKEND=jax python -m srgan_keras.train "
            f"{shlex.join(sys.argv[1:])}"
        )
    import jax

    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes cannot be connected ({_first_line(error)}). Give each "
            "`coordinator_address` HOST:PORT of the first, `num_processes`, and its own "
            "`process_id` from 0; Slurm, Open MPI and TPUs need none of them."
        ) from error


@contextlib.contextmanager
def last_words() -> Iterator[None]:
    """Inside, a shell waits beside this process, and says so if it is killed.

    JAX kills a process itself (SIGABRT) when another is lost, and leaves Python no time to speak.
    """
    words = f"error: This process was killed, by JAX if another one was lost. {AGAIN}"
    command = ["sh", "-c", 'read -r end || echo "$0" >&2', words]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as shell:
        try:
            yield
        finally:
            shell.communicate(b"end\n")


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Inside, the first process alone prints, and an error ends this process at once.

    An ordinary end would first wait for the others, which would wait for this one.

    Raises:
        UserError: if another process is lost.
    """
    import jax

    try:
        with contextlib.ExitStack() as stack:
            if not is_first():
                nowhere = stack.enter_context(open(os.devnull, "w"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield
    except (UserError, OSError):
        leave_at_once(2)
        raise
    except Exception as error:
        if not isinstance(error, jax.errors.JaxRuntimeError) and "Gloo" not in str(error):
            leave_at_once(1)
            raise
        leave_at_once(2)
        raise UserError(
            f"Another process has ended, or cannot be reached any more ({_first_line(error)}). "
            f"What it has said tells why. {AGAIN}"
        ) from error
    except BaseException:
        leave_at_once(130)
        raise


def leave_at_once(code: int) -> None:
    """Lets this process end with an exit code as soon as it has said why."""
    atexit.register(os._exit, code)  # The last one registered comes first: before JAX's own.


def told_to_stop() -> bool:
    """Whether all stop at this step, because one of them has had a SIGTERM.

    To be called by all at every step, where there are several.
    """
    from jax.experimental import multihost_utils

    return multihost_utils.reached_preemption_sync_point(next(_steps))


def check_same(what: str, value: Any) -> None:
    """Raises a UserError if not all processes have the same value.

    Args:
        what: its name, a plural.
        value: JSON value.
    """
    digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).digest()
    if len({tuple(each) for each in _gather(np.frombuffer(digest, np.uint8))}) > 1:
        raise UserError(
            f"The {what} are not the same on all machines. All need the same version of this "
            f"package, the same arguments, crops and run folder. Here: {str(value)[:200]}"
        )


def least(value: float | None) -> float | None:
    """The least of the values that the processes have; None if one has none."""
    if own_process()[1] == 1:
        return value
    known = _gather(np.float32(np.nan if value is None else value))
    return None if np.isnan(known).any() else float(known.min())


def _gather(value: np.ndarray) -> np.ndarray:
    """The values of all processes, one below the other."""
    if own_process()[1] == 1:
        return value[None]
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(value)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
