import pytest
import tensorflow as tf

from srgan_keras.training.devices import choose_strategy, describe_devices, use_xla


def test_a_cpu_trains_without_a_strategy_of_its_own():
    strategy = choose_strategy("auto")
    assert not isinstance(strategy, tf.distribute.MirroredStrategy)
    assert strategy.num_replicas_in_sync == 1
    assert describe_devices(strategy) == "CPU"
    assert not use_xla()


@pytest.mark.parametrize("gpus", [1, 2])
def test_a_gpu_trains_under_mirrored_strategy(monkeypatch, gpus):
    """CI has no GPU: two logical CPUs stand in for what TensorFlow would list."""
    devices = tf.config.list_logical_devices("CPU")[:gpus]
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind=None: devices)
    strategy = choose_strategy("auto")
    assert isinstance(strategy, tf.distribute.MirroredStrategy)
    assert choose_strategy("mirrored") is strategy
    assert use_xla() == (gpus == 1)
    assert choose_strategy("default").num_replicas_in_sync == 1
    assert not isinstance(choose_strategy("default"), tf.distribute.MirroredStrategy)


def test_devices_are_named(two_replicas):
    assert describe_devices(two_replicas) == "CPU:0, CPU:1 (MirroredStrategy)"


def test_unknown_strategy():
    with pytest.raises(ValueError, match=r"one of auto, mirrored, default\. Received: 'tpu'"):
        choose_strategy("tpu")
