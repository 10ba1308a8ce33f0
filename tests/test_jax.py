"""The same training on Keras' JAX backend, each backend in a process of its own."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from data_prep.pack import pack
from srgan_keras import train
from srgan_keras.inference.pretrained import load_generator

pytest.importorskip("jax")

#: Case: (step, precision, parts of a batch, adversarial loss).
CASES = {
    "joint": ("joint", "float32", 1, "logistic"),
    "float16 parts": ("joint", "mixed_float16", 2, "logistic"),
    "tutorial": ("tutorial", "float32", 2, "logistic"),
    "wasserstein": ("joint", "float32", 1, "wasserstein"),
}
PROGRAM = """
import json, sys
import keras, numpy as np
from keras import layers
from keras.optimizers import LossScaleOptimizer
from srgan_keras.data.degradations import Degraded
from srgan_keras.parts.adversarial import Logistic, Wasserstein
from srgan_keras.parts.content import VGGLoss
from srgan_keras.parts.layers import FusedBatchNormalization
from srgan_keras.parts.optimizers import FusedAdam
from srgan_keras.systems.srgan import build_generator
from srgan_keras.training.gan import SRGAN, TutorialSRGAN

on_jax = keras.backend.backend() == "jax"
assert not on_jax or "tensorflow" not in sys.modules
folder, start, cases = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


def build_discriminator(adversarial):
    pictures = keras.Input((32, 32, 3))
    x = layers.Conv2D(4, 3, strides=2, activation="tanh")(pictures)
    if adversarial == "wasserstein":
        return keras.Model(pictures, layers.Dense(1, dtype="float32")(layers.Flatten()(x)))
    x = layers.LeakyReLU(0.2)(FusedBatchNormalization()(layers.Conv2D(4, 3, strides=2)(x)))
    x = layers.Dense(1, dtype="float32", name="score")(layers.Flatten()(x))
    return keras.Model(pictures, layers.Activation("sigmoid", dtype="float32")(x))


chance = np.random.default_rng(1).random((4, 3)).astype("float32")


def train(name, step, precision, parts, adversarial):
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(0)
    generator = build_generator(filters=4, residual_blocks=1, upsampling="pixel_shuffle")
    loss = {"logistic": Logistic(label_noise=0.2, generator_label_noise=0.1),
            "wasserstein": Wasserstein()}[adversarial]
    content_loss = VGGLoss("0.2*block1_conv1+0.8*block1_conv2", None, "vgg", 0.5, 0.5, True, 1e-3)
    gan = {"joint": SRGAN, "tutorial": TutorialSRGAN}[step](
        generator, build_discriminator(adversarial), ema_momentum=0.5, parts=parts
    )
    # The backends draw other numbers from a seed.
    gan.draw_chance = lambda lr: chance[: len(lr)]
    optimizers = [FusedAdam(1e-3, epsilon=1e-3) for _ in range(2)]
    if precision == "mixed_float16":  # A scale that none of these gradients overflows.
        optimizers = [LossScaleOptimizer(x, initial_scale=64.0) for x in optimizers]
    gan.compile(optimizers[0], [content_loss, loss], [1.0, 1e-3], optimizers[1],
                run_eagerly=not on_jax)
    for part, network in {"gan": gan, "vgg": content_loss.vgg()}.items():
        if start == "-":
            np.savez(f"{folder}/{name}-{part}.npz", *network.get_weights())
        else:
            with np.load(f"{start}/{name}-{part}.npz") as file:
                network.set_weights([file[key] for key in file.files])
    rng = np.random.default_rng(0)
    lr = rng.uniform(-1, 1, (12, 8, 8, 3)).astype("float32")
    noise = rng.normal(0, 0.1, (12, 32, 32, 3)).astype("float32")
    hr = lr.repeat(4, 1).repeat(4, 2) + noise
    logs = [
        gan.fit(lr[k : k + 4], hr[k : k + 4], batch_size=4, shuffle=False, verbose=0).history
        for k in range(0, 12, 4)
    ]
    logs.append(gan.evaluate(lr[:4], hr[:4], batch_size=4, verbose=0, return_dict=True))
    np.savez(f"{folder}/{name}-end.npz", *gan.get_weights())
    return {"logs": [{k: float(np.ravel(v)[0]) for k, v in row.items()} for row in logs],
            "paths": [w.path for w in gan.weights], "step": gan.step}


def moves_of_bias(scores):
    gan = SRGAN(build_generator(filters=2, residual_blocks=0), build_discriminator("logistic"))
    gan.compile(keras.optimizers.SGD(0.1), ["mse", "binary_crossentropy"], run_eagerly=not on_jax)
    layer = gan.discriminator.get_layer("score")
    moves = []
    for score in scores:
        layer.kernel.assign(0 * layer.kernel)
        layer.bias.assign([score])
        gan.fit(np.zeros((2, 8, 8, 3)), np.zeros((2, 32, 32, 3)), batch_size=2, verbose=0)
        moves.append(float(layer.bias[0]) - score)
    return moves


results = {name: train(name, *case) for name, case in cases.items()}
keras.config.set_dtype_policy("float32")
pairs = Degraded(crop_size=32, clean_share=0.0)
hr = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).repeat(4, 1).repeat(4, 2)
lr = pairs.make(hr, *pairs.draw(np.random.default_rng(1), 4, 32))[0]
np.save(f"{folder}/degraded.npy", keras.ops.convert_to_numpy(lr))
print(json.dumps({"cases": results, "moves": moves_of_bias([-5.0, -20.0, -40.0])}))
"""


def environment(backend):
    """Of a process on this backend, in which XLA compiles quickly rather than well."""
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    own = {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "XLA_FLAGS": quick}
    return {**os.environ, **own}


def run(backend, folder, start="-"):
    folder.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(folder), str(start), json.dumps(CASES)]
    done = subprocess.run(
        command, env=environment(backend), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_jax_trains_as_tensorflow_does(tmp_path):
    """Losses, metrics and weights after steps of both networks from the same weights, averages
    included; and how far a discriminator moves that is surely wrong. One test, because its two
    processes take most of its time.
    """
    reference = run("tensorflow", tmp_path / "tensorflow")
    result = run("jax", tmp_path / "jax", tmp_path / "tensorflow")
    for case in CASES:
        ours, theirs = result["cases"][case], reference["cases"][case]
        assert ours["step"] == theirs["step"] == 3
        tolerance = 4e-3 if "float16" in case else 1e-4
        for row, expected in zip(ours["logs"], theirs["logs"], strict=True):
            assert row == pytest.approx(expected, rel=10 * tolerance, abs=tolerance), case
        weights = []
        for backend in ("jax", "tensorflow"):
            with np.load(tmp_path / backend / f"{case}-end.npz") as file:
                weights.append([file[key] for key in file.files])
        for path, a, b in zip(theirs["paths"], *weights, strict=True):
            np.testing.assert_allclose(a, b, atol=tolerance, err_msg=f"{case}: {path}")

    degraded = [np.load(tmp_path / name / "degraded.npy") for name in ("jax", "tensorflow")]
    assert np.abs(degraded[0] - degraded[1]).mean() * 127.5 < 0.1

    # Photographs and generated pictures have one score; the rate is 0.1.
    scores = np.array([-5.0, -20.0, -40.0])
    expected = -0.1 * 0.5 * (2 / (1 + np.exp(-scores)) - 1)
    for moves in (reference["moves"], result["moves"]):
        np.testing.assert_allclose(moves, expected, atol=1e-5)


def train_on_jax(*arguments):
    """Runs the train command in a process in which TensorFlow cannot be imported."""
    program = "import sys; sys.modules['tensorflow'] = None; from srgan_keras import train; "
    command = [sys.executable, "-c", program + "train.cli.run(train.main)", *map(str, arguments)]
    return subprocess.run(
        command, env=environment("jax"), capture_output=True, text=True, check=False
    )


def test_the_train_command_without_tensorflow(crops, tmp_path):
    """An SRResNet on packed crops ends with TensorFlow's weights, with a stop in between."""
    for split in "train", "test":
        pack(crops / split, tmp_path / "packed" / split)
    settings = "--recipe srresnet --filters 4 --residual-blocks 1 --crop-size 32 --batch-size 2 "
    settings += "--steps-per-epoch 3 --sample-every 1 --epsilon 1e-3 --data"
    settings = [*settings.split(), str(tmp_path / "packed")]
    start, theirs, ours = (tmp_path / name for name in ("start", "tensorflow", "jax"))
    assert train.main([*settings, "--epochs", "1", "--run", str(start)]) == 0
    settings += ["--init-generator", str(start), "--run"]
    assert train.main([*settings, str(theirs), "--epochs", "2"]) == 0

    for arguments in ([*settings, ours, "--epochs", 1], ["--resume", ours, "--epochs", 2]):
        done = train_on_jax(*arguments)
        assert done.returncode == 0, done.stderr
    assert "6 steps" in done.stdout
    assert "python -m srgan_keras.export" in done.stdout
    assert len(list((ours / "samples").iterdir())) == 3
    expected, weights = (load_generator(run).get_weights() for run in (theirs, ours))
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
    done = train_on_jax(*arguments, "--strategy", "mirrored")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "needs Keras' TensorFlow backend" in done.stderr
