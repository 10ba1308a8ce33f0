"""Which devices train: the choice of a `tf.distribute` strategy."""

import functools

import tensorflow as tf

STRATEGIES = ("auto", "mirrored", "default")


def choose_strategy(name="auto"):
    """Chooses how training is spread over this machine's devices.

    Args:
        name: `"auto"` is `"mirrored"` on a machine with a GPU and `"default"` on one without.
            `"mirrored"` copies the networks to every GPU (to the CPU if there is none) and splits
            each batch between them; `"default"` uses the first device alone.

    Returns:
        a `tf.distribute.Strategy`; build and compile the networks in its `scope()`.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}. Received: {name!r}")
    if name == "mirrored" or (name == "auto" and tf.config.list_logical_devices("GPU")):
        return _mirrored_strategy()
    return tf.distribute.get_strategy()


@functools.cache
def _mirrored_strategy():
    """One for the whole process: TensorFlow numbers the collective operations of each strategy from
    the same start, so those of a second one on the same devices would meet the first one's.
    """
    return tf.distribute.MirroredStrategy()


def use_xla():
    """Whether XLA should compile the training step: on exactly one GPU.

    On CPUs it makes an SRGAN step 1.6 to 3 times slower; over several replicas TensorFlow 2.21
    fails to compile it (tried on two logical CPUs).
    """
    return len(tf.config.list_logical_devices("GPU")) == 1


def describe_devices(strategy):
    """Returns in words the devices a strategy trains on, such as "GPU:0, GPU:1"."""
    if isinstance(strategy, tf.distribute.MirroredStrategy):
        devices = [tf.DeviceSpec.from_string(name) for name in strategy.extended.worker_devices]
        names = [f"{device.device_type}:{device.device_index}" for device in devices]
        return f"{', '.join(names)} (MirroredStrategy)"
    return "GPU:0" if tf.config.list_logical_devices("GPU") else "CPU"
