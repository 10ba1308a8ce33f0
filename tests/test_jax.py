"""The same training on Keras' JAX backend, each backend in a process of its own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from data_prep.pack import pack
from srgan_keras import runs

pytest.importorskip("jax")

PROGRAM = """
import json, sys
import keras, numpy as np
from keras.losses import BinaryCrossentropy
from keras.optimizers import LossScaleOptimizer
from srgan_keras.gan import SRGAN
from srgan_keras.losses import VGGLoss
from srgan_keras.models import build_discriminator, build_generator
from srgan_keras.optimizers import FusedAdam

folder, start, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
keras.config.set_dtype_policy(sys.argv[4])
if keras.backend.backend() == "jax":
    assert "tensorflow" not in sys.modules
keras.utils.set_random_seed(0)
generator = build_generator(filters=4, residual_blocks=2, upsampling="pixel_shuffle")
discriminator = build_discriminator(image_size=32, filters=4, dense_units=8)
content_loss = VGGLoss("block2_conv1", weights=None, preprocessing="vgg", feature_scale=0.1)
gan = SRGAN(generator, discriminator, label_noise=0.0, ema_momentum=0.5)
optimizers = [FusedAdam(1e-3, epsilon=1e-3) for _ in range(2)]
if sys.argv[4] == "mixed_float16":  # A scale that none of these gradients overflows.
    optimizers = [LossScaleOptimizer(x, initial_scale=64.0) for x in optimizers]
gan.compile(
    optimizer=optimizers[0],
    discriminator_optimizer=optimizers[1],
    loss=[content_loss, BinaryCrossentropy()],
    loss_weights=[1.0, 1e-3],
)
networks = {"gan": gan, "vgg": content_loss.vgg()}
for name, network in networks.items():
    if start == "-":
        np.savez(f"{folder}/start-{name}.npz", *network.get_weights())
    else:
        with np.load(f"{start}/start-{name}.npz") as file:
            network.set_weights([file[key] for key in file.files])
rng = np.random.default_rng(0)
lr = rng.uniform(-1, 1, (steps * 4, 8, 8, 3)).astype("float32")
hr = lr.repeat(4, 1).repeat(4, 2) + rng.normal(0, 0.1, (steps * 4, 32, 32, 3)).astype("float32")
logs = [
    gan.fit(lr[k : k + 4], hr[k : k + 4], batch_size=4, shuffle=False, verbose=0).history
    for k in range(0, len(lr), 4)
]
logs.append(gan.evaluate(lr[:4], hr[:4], batch_size=4, verbose=0, return_dict=True))
np.savez(f"{folder}/end.npz", *gan.get_weights())
print(json.dumps({"logs": [{k: float(np.ravel(v)[0]) for k, v in row.items()} for row in logs],
                  "paths": [w.path for w in gan.weights], "step": gan.step}))
"""


def run(backend, folder, precision, start="-", steps=4):
    folder.mkdir()
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", PROGRAM, str(folder), str(start), str(steps), precision]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "end.npz") as file:
        weights = [file[key] for key in file.files]
    return json.loads(done.stdout.splitlines()[-1]), weights


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("mixed_float16", 4e-3)])
def test_jax_trains_as_tensorflow_does(tmp_path, precision, tolerance):
    """Losses, metrics and weights after four steps of both networks, averages included."""
    reference, expected = run("tensorflow", tmp_path / "tensorflow", precision)
    result, weights = run("jax", tmp_path / "jax", precision, tmp_path / "tensorflow")
    assert result["step"] == reference["step"] == 4
    for ours, theirs in zip(result["logs"], reference["logs"], strict=True):
        assert ours == pytest.approx(theirs, rel=10 * tolerance, abs=tolerance)
    for path, a, b in zip(reference["paths"], weights, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=tolerance, err_msg=path)


def train(backend, *arguments):
    """Runs the train command in a process in which, for JAX, TensorFlow cannot be imported."""
    block = "sys.modules['tensorflow'] = None; " if backend == "jax" else ""
    program = f"import sys; {block}from srgan_keras import train; train.cli.run(train.main)"
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_train_command_without_tensorflow(crops, tmp_path):
    """An SRResNet on packed crops ends with TensorFlow's weights, with a stop in between."""
    for split in "train", "test":
        pack(crops / split, tmp_path / "packed" / split)
    settings = "--recipe srresnet --filters 4 --residual-blocks 1 --crop-size 32 --batch-size 2 "
    settings += "--steps-per-epoch 3 --sample-every 1 --epsilon 1e-3 --data"
    settings = [*settings.split(), tmp_path / "packed"]
    start = tmp_path / "start"
    done = train("tensorflow", *settings, "--epochs", 1, "--run", start)
    assert done.returncode == 0, done.stderr

    settings += ["--init-generator", start, "--run"]
    for backend in "tensorflow", "jax":
        run = tmp_path / backend
        done = train(backend, *settings, run, "--epochs", 1)
        assert done.returncode == 0, done.stderr
        done = train(backend, "--resume", run, "--epochs", 2)
        assert done.returncode == 0, done.stderr
        assert "6 steps" in done.stdout
        assert len(list((run / "samples").iterdir())) == 3
    assert "python -m srgan_keras.export" in done.stdout
    expected, weights = (
        runs.load_generator(tmp_path / name)[0].get_weights() for name in ("tensorflow", "jax")
    )
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_what_jax_cannot_do_is_one_line(crops, tmp_path):
    arguments = [
        "--recipe",
        "srresnet",
        "--data",
        crops,
        "--crop-size",
        "32",
        "--run",
        tmp_path / "run",
    ]
    done = train("jax", *arguments, "--strategy", "mirrored")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "needs Keras' TensorFlow backend" in done.stderr
