"""The devices that train, for TensorFlow and JAX: which, how many, and with how much memory."""

import contextlib
import functools
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import keras

from srgan_keras.common import processes
from srgan_keras.common.errors import UserError
from srgan_keras.parts.adversarial import input_gradient
from srgan_keras.run import versions

STRATEGIES = ("auto", "mirrored", "default")


def on_jax() -> bool:
    """Whether Keras runs on JAX (`KERAS_BACKEND=jax`)."""
    return keras.backend.backend() == "jax"


def require_tensorflow(what: str) -> None:
    """Raises a UserError where Keras runs on another backend than TensorFlow.

    Args:
        what: string, what it is needed for.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UserError(
            f"{what} needs Keras' TensorFlow backend. Received: KERAS_BACKEND={backend}"
        )


def list_gpus() -> list:
    """Returns this process's GPUs (on JAX, accelerators of any kind), as the backend has them."""
    if on_jax():
        import jax

        return [device for device in jax.local_devices() if device.platform != "cpu"]
    import tensorflow as tf

    return tf.config.list_logical_devices("GPU")


def describe_session() -> dict[str, Any]:
    """Says what is run, with what, where and when, as JSON values, for files of results."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(sys.argv),
        "hardware": f"{platform.processor() or platform.machine()}, {platform.platform()}",
        "gpus": len(list_gpus()),
        "versions": versions(),
    }


def choose_strategy(name: str = "auto") -> Any:
    """Chooses how training is spread over this machine's devices.

    Args:
        name: `"auto"` is `"mirrored"` on a machine with a GPU and `"default"` on one without.
            `"mirrored"` copies the networks to every GPU (to the CPU if there is none) and splits
            each batch between them; `"default"` uses the first device alone. On JAX `"auto"` splits
            each batch between all devices, for the whole process.

    Returns:
        a `tf.distribute.Strategy`, or on JAX what stands in for one; build and compile the networks
        in its `scope()`.

    Raises:
        ValueError: if the name is unknown.
        UserError: if JAX is to mirror, several processes are to use one device, or Keras runs on
            yet another backend.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}. Received: {name!r}")
    if name == "mirrored":
        require_tensorflow("`strategy` mirrored")
    if on_jax():
        if name == "default" and processes.own_process()[1] > 1:
            raise UserError("`strategy` default is one device's; several processes need auto.")
        return _FirstDevice() if name == "default" else _AllDevices()
    require_tensorflow("Training, where it is not on JAX,")
    import tensorflow as tf

    if name == "mirrored" or (name == "auto" and list_gpus()):
        return _mirrored_strategy()
    return tf.distribute.get_strategy()


@functools.cache
def _mirrored_strategy():
    """One for the whole process: TensorFlow numbers the collective operations of each strategy from
    the same start, so those of a second one on the same devices would meet the first one's.
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy()


class _FirstDevice:
    """JAX on its first device, with what training asks of a `tf.distribute.Strategy`."""

    num_replicas_in_sync = 1
    scope = contextlib.nullcontext


class _AllDevices(_FirstDevice):
    """JAX on all devices of all processes: each has the weights and a part of every batch.

    Batch statistics and chance are those of the whole batch, as on one device.

    Raises:
        UserError: if some processes have more devices than others.
    """

    def __init__(self) -> None:
        import jax

        # A process's devices stand side by side, since its pictures do; on TPUs they may not.
        names = zip(jax.devices(), keras.distribution.list_devices(), strict=True)
        devices = [name for _, name in sorted(names, key=lambda pair: pair[0].process_index)]
        self.num_replicas_in_sync = len(devices)
        if len(devices) != jax.process_count() * jax.local_device_count():
            raise UserError(
                "All processes must have equally many devices. Received: "
                f"{jax.local_device_count()} of {len(devices)} in one of {jax.process_count()}"
            )
        if len(devices) > 1:
            keras.distribution.set_distribution(
                keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
            )


def use_xla() -> bool:
    """Whether XLA should compile the training step: on JAX, and for exactly one GPU.

    On CPUs it makes TensorFlow's SRGAN step 1.6 to 3 times slower; over several replicas TensorFlow
    2.21 fails to compile it (tried on two logical CPUs).
    """
    return on_jax() or len(list_gpus()) == 1


def describe_devices(strategy: Any) -> str:
    """Returns in words the devices a strategy trains on, such as "GPU:0, GPU:1"."""
    if on_jax():
        import jax

        kind, count = jax.devices()[0].device_kind, strategy.num_replicas_in_sync
        several = f" in {jax.process_count()} processes" if jax.process_count() > 1 else ""
        return f"{kind} (JAX)" if count == 1 else f"{count} x {kind}{several} (JAX)"
    import tensorflow as tf

    if isinstance(strategy, tf.distribute.MirroredStrategy):
        devices = [tf.DeviceSpec.from_string(name) for name in strategy.extended.worker_devices]
        names = [f"{device.device_type}:{device.device_index}" for device in devices]
        return f"{', '.join(names)} (MirroredStrategy)"
    return "GPU:0" if list_gpus() else "CPU"


def is_out_of_memory(error: Exception) -> bool:
    """Whether an exception says that a device's memory is full."""
    if on_jax():
        import jax

        return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    import tensorflow as tf

    return isinstance(error, tf.errors.ResourceExhaustedError)


def machine_memory() -> int | None:
    """Returns the bytes of memory this machine or container has; None if Python cannot tell."""
    limit = Path("/sys/fs/cgroup/memory.max")  # a container's, on Linux
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return min(memory, int(limit.read_text())) if limit.exists() else memory
    except (AttributeError, OSError):
        return None
    except ValueError:  # "max": the container has no limit
        return memory


def device_memory() -> int | None:
    """Returns the bytes of memory of a device that trains: of the first GPU, or this machine's.

    Of several processes' the least, so that all take the same decisions.
    """
    return processes.least(_own_device_memory())


def _own_device_memory() -> int | None:
    gpus = list_gpus()
    if not gpus:
        return machine_memory()
    if on_jax():
        return (gpus[0].memory_stats() or {}).get("bytes_limit")
    from tensorflow.python.client import device_lib  # The public API does not tell.

    limits = [x.memory_limit for x in device_lib.list_local_devices() if x.device_type == "GPU"]
    return limits[0] if limits else None


def bfloat16_factor() -> float:
    """Measures how many times as long a convolution with its gradient takes in bfloat16.

    As in float32, that is. Processors that do not compute in bfloat16 convert to float32 and back.
    """
    ops, seconds = keras.ops, {}
    for dtype in ("float32", "bfloat16"):
        x, kernel = ops.ones((4, 48, 48, 64), dtype), ops.ones((3, 3, 64, 64), dtype)
        times = []
        for _ in range(3):  # The first prepares it.
            started = time.perf_counter()
            gradient = input_gradient(lambda k, x=x: ops.conv(x, k, padding="same"), kernel)
            float(ops.cast(gradient[0, 0, 0, 0], "float32"))  # waits for it
            times.append(time.perf_counter() - started)
        seconds[dtype] = min(times[1:])
    return seconds["bfloat16"] / seconds["float32"]


def warn_of_slow_bfloat16(option: str) -> None:
    """Prints a warning if bfloat16 is slower here than float32.

    Args:
        option: how the user asked for it.
    """
    factor = bfloat16_factor()
    if factor > 1.0:
        print(
            f"WARNING: {option} is slow here: this processor does not compute in it, and a "
            f"convolution with its gradient takes {factor:.1f} times as long as in float32.",
            flush=True,
        )


def peak_memory() -> str:
    """Returns in words the most memory that this process, or its first GPU, has held."""
    if gpus := list_gpus():
        if on_jax():
            peak = gpus[0].memory_stats()["peak_bytes_in_use"]
        else:
            import tensorflow as tf

            peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
        return f"{gigabytes(peak)} on GPU:0"
    try:
        import resource
    except ImportError:  # Windows has no such module.
        return "not known"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return gigabytes(peak if sys.platform == "darwin" else 1024 * peak)


def gigabytes(count: float) -> str:
    """Returns a count of bytes in words."""
    return f"{count / 1e9:.1f} GB"
