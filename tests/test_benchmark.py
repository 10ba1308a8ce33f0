from srgan_keras.benchmark import time_training_step


def test_a_case_gives_as_many_times_as_asked_for():
    seconds, memory, devices = time_training_step(32, 1, "pixel_shuffle", steps=2, warm_up=1)
    assert len(seconds) == 2
    assert min(seconds) > 0
    assert memory.endswith(" GB")
    assert devices == "CPU"
