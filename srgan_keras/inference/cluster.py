"""Enlarges photographs on a Ray cluster, by workers that each hold a model.

What happens to a photograph is `enlarging.enlarge_files`, as on one machine.
"""

import logging
import os
import socket
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from srgan_keras.common import cli
from srgan_keras.common.errors import UserError, in_one_line
from srgan_keras.common.files import remove_temporaries_of
from srgan_keras.common.pictures import PictureError
from srgan_keras.inference.enlarging import Enlarged, Size, enlarge_files
from srgan_keras.inference.photos import Finished

#: How often a photograph is begun again whose worker died.
RETRIES = 1


class Worker:
    """Enlarges one photograph after another, in a process of its own."""

    def __init__(self, load: Callable[[], Callable]) -> None:
        self.load, self.name = load, f"{socket.gethostname()}:{os.getpid()}"

    def start(self) -> int:
        """Loads the model; returns by how much it enlarges."""
        # TensorFlow would take all cores, and all of a GPU. Ray sets the variable of OpenMP.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        self.model = self.load()
        return self.model.scale

    def enlarge(self, task: tuple[Path, Path], *how: Any) -> tuple:
        """Enlarges a photograph as `enlarge_files` does.

        Returns:
            result, own name, and how many seconds it took, by the clock and of the processor.
        """
        before = np.array([time.perf_counter(), time.process_time()])
        [(_, result)] = enlarge_files([task], self.model, *how)
        return result, self.name, [time.perf_counter(), time.process_time()] - before


class Cluster:
    """Workers on a Ray cluster.

    Args:
        address: of its head, as `ray.init` takes it; `auto` for the one that this machine belongs
            to, `local` to start one on this machine alone. Not looked at where the program is
            connected already.
        load: function that loads the model, on whatever machine.
        workers: how many; None: as many as the cluster has room for now.
        cpus: how many CPUs a worker takes.
        gpus: how many GPUs a worker takes; a part of one where several share it.

    Attributes:
        scale: by how much the model enlarges.

    Raises:
        UserError: if Ray is not installed, there is no such cluster or no room in it, or the model
            cannot be loaded.
    """

    def __init__(
        self,
        address: str,
        load: Callable[[], Callable],
        workers: int | None = None,
        cpus: int = 1,
        gpus: float | None = None,
    ) -> None:
        self._ray, self._load = _connect(address), load
        there, needed = self._ray.cluster_resources(), {"CPU": cpus, "GPU": gpus}
        room = min(int(there.get(kind, 0) / count) for kind, count in needed.items() if count)
        self._count = workers or room
        if not self._count:
            raise UserError(
                f"The cluster has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs, so"
                " no room for a worker: set less for `ray_cpus` or `ray_gpus`, or `ray_workers` "
                "where machines come when they are asked for."
            )
        self._actor = self._ray.remote(num_cpus=cpus, num_gpus=gpus)(Worker)
        self._calls = {}  # -> (number of the worker, worker, task; None: it starts)
        for number in range(1, self._count + 1):
            self._start(number)
        [first], _ = self._ray.wait(list(self._calls))
        self.scale = self._get(first)

    def enlarge_files(
        self,
        tasks: list[tuple[Path, Path]],
        size: Size,
        quality: int,
        strip_metadata: bool,
        finished: Finished,
    ) -> Iterator[tuple[tuple[Path, Path], Enlarged | UserError]]:
        """Enlarges files as `enlarging.enlarge_files` does, but in no order.

        A worker that dies is replaced, unless it has just been started, and its photograph begun
        again by whoever is free; one that has `RETRIES` more workers die fails alone. In the end
        each worker's throughput is printed.

        Args:
            tasks: photographs, and where the result of each is written. These paths and that of
                `finished` are absolute, and the same on all machines.
            size: as there.
            quality: likewise.
            strip_metadata: likewise.
            finished: where results are recorded, by each worker for itself.

        Raises:
            UserError: if no worker is left, or what one machine alone would end with.
        """
        left, deaths, speeds = deque(tasks), Counter(), defaultdict(lambda: np.zeros(3))
        while left or any(task for _, _, task in self._calls.values()):
            [call], _ = self._ray.wait(list(self._calls))
            number, worker, task = self._calls.pop(call)
            try:
                outcome = self._get(call)
            except _DeathError as error:
                if task:
                    deaths[task] += 1
                    self._start(number)
                elif not self._calls:
                    raise UserError(f"No worker is left: {error}") from error
                if deaths[task] > RETRIES:
                    yield task, PictureError(task[0], f"its worker died, {deaths[task]} times")
                elif task:
                    left.append(task)
                continue
            if left:  # Otherwise nobody holds the worker any more, and Ray ends it.
                how = (size, quality, strip_metadata, finished.part(number, self._count))
                call = worker.enlarge.remote(left[0], *how)
                self._calls[call] = number, worker, left.popleft()
            if task:
                result, name, seconds = outcome
                speeds[name] += [isinstance(result, Enlarged), *seconds]
                yield task, result
        remove_temporaries_of(target for _, target in tasks)
        for name, (count, seconds, cpu) in sorted(speeds.items()):
            speed = f"{count / seconds:.3g}/s, {cpu / max(count, 1):.3g} CPU seconds each"
            cli.say(f"worker {name}: {count:.0f} in {seconds:.1f} s, {speed}")

    def _start(self, number: int) -> None:
        worker = self._actor.remote(self._load)
        self._calls[worker.start.remote()] = number, worker, None

    def _get(self, call: Any) -> Any:
        """What a call returned; raises what it raised, or `_DeathError`."""
        try:
            return self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            raise _DeathError(in_one_line(error)) from error


class _DeathError(UserError):
    """A worker has died, or its machine."""


def _connect(address: str) -> ModuleType:
    """Connects to a cluster; returns the package."""
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f'`ray` needs the package ray: pip install -e ".[ray]" ({error}).'
        ) from error
    if not ray.is_initialized():
        options = {}
        if address == "local":  # Of others, their owner says what they report to Ray's makers.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            options = {"include_dashboard": False, "object_store_memory": 80 << 20}  # the least
        try:
            ray.init(address, log_to_driver=False, logging_level=logging.WARNING, **options)
        except Exception as error:  # Where it does not start in time, that is all it is called.
            raise UserError(f"`ray` {address}: {in_one_line(error)}") from error
    return ray
