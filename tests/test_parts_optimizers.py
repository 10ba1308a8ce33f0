import keras
import numpy as np
import pytest
from keras.optimizers.schedules import PiecewiseConstantDecay

from srgan_keras.parts.optimizers import FusedAdam


@pytest.mark.parametrize("rate", [1e-2, PiecewiseConstantDecay([2], [1e-2, 1e-3])])
def test_updates_are_those_of_keras_adam(rate):
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 3, 4, 8), (8,), (5, 1))]
    results = []
    for adam in (keras.optimizers.Adam, FusedAdam):
        variables = [keras.Variable(value) for value in start]
        optimizer = adam(rate, beta_1=0.8, beta_2=0.99, epsilon=1e-6)
        noise = np.random.default_rng(1)
        for _ in range(5):
            gradients = [noise.normal(size=v.shape).astype(np.float32) for v in variables]
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], variables)
        results.append([np.array(v) for v in [*variables, *optimizer.variables[2:]]])
    assert not np.allclose(results[0][0], start[0], atol=1e-3)
    for theirs, ours in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_survives_saving():
    config = keras.optimizers.serialize(FusedAdam(2e-4, beta_1=0.5))
    loaded = keras.optimizers.deserialize(config)
    assert isinstance(loaded, FusedAdam)
    assert loaded.beta_1 == 0.5
