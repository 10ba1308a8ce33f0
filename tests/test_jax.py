"""The same training on Keras' JAX backend, each backend in a process of its own."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from process_fixtures import environment

from data_prep.pack import pack
from srgan_keras import train
from srgan_keras.inference.pretrained import load_generator
from srgan_keras.systems import recipes

pytestmark = pytest.mark.skipif(not find_spec("jax"), reason="jax is not installed")

SMALL = {"crop_size": 32, "filters": 4, "epsilon": 1e-3}
GENERATOR = {**SMALL, "residual_blocks": 0, "ema_momentum": 0.5}
DENSE = {**GENERATOR, "residual_blocks": 1, "growth": 3}
#: Recipe: what is small of it here, beside the discriminator.
RECIPES = {
    "tutorial": {**GENERATOR, "content_loss": "block1_conv2", "micro_batch": 1},
    "srresnet": GENERATOR,
    "srresnet-vgg22": GENERATOR,
    "srgan-mse": {**GENERATOR, "precision": "mixed_float16", "micro_batch": 2},
    "srgan-vgg22": GENERATOR,
    "srgan-vgg54": GENERATOR,
    "srgan": GENERATOR,
    "srgan-5": GENERATOR,
    "wdrn-mse": {**DENSE, "dense_layers": 2, "normalization": "instance"},
    "wdrn": {
        **{**DENSE, "dense_layers": 1},
        **{"discriminator_filters": 4, "dense_units": 8, "critic_steps": 2},
        **{"critic_layer": "block2_conv2", "content_loss": "block2_conv2"},
    },
    "srcnn": SMALL,
    "vdsr": {**SMALL, "depth": 3},
}
PROGRAM = """
import dataclasses, functools, json, os, sys
on_jax = os.environ["KERAS_BACKEND"] == "jax"
if on_jax:
    sys.modules["tensorflow"] = None  # Keras would import it.
import keras, numpy as np
from keras import layers
from keras.applications import vgg19
from srgan_keras.common.settings import Part
from srgan_keras.data.degradations import Degraded
from srgan_keras.parts.adversarial import Logistic
from srgan_keras.parts.layers import FusedBatchNormalization
from srgan_keras.systems import get_recipe
from srgan_keras.training.gan import SRGAN
from srgan_keras.training.loop import build_gan
from srgan_keras.training.memory import frozen_networks

folder, start, recipes = *sys.argv[1:3], json.loads(sys.argv[3])
chance = np.random.default_rng(1).random((4, 3)).astype("float32")


@functools.cache
def narrow_vgg19(**options):
    x = pictures = keras.Input((None, None, 3))
    for name in sorted({"block1_conv2", "block2_conv2"} | {f"block{k}_conv4" for k in (3, 4, 5)}):
        x = layers.Conv2D(4, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(2)(x)
    return keras.Model(pictures, x)


vgg19.VGG19 = narrow_vgg19


def filled(value):
    return lambda self, shape, dtype=None: np.full(shape, value, dtype or "float32")


if start != "-":  # Weights are given, and JAX would compile a program for each shape of others.
    keras.initializers.VarianceScaling.__call__ = keras.initializers.Zeros.__call__ = filled(0)
    keras.initializers.Ones.__call__ = filled(1)


@dataclasses.dataclass(frozen=True)
class SmallDiscriminator(Part):
    def build(self, image_size, vgg_weights):
        x = pictures = keras.Input((32, 32, 3))
        for _ in range(2):
            x = FusedBatchNormalization()(layers.Conv2D(4, 3, strides=2)(x))
            x = layers.LeakyReLU(0.2)(x)
        x = layers.Dense(1, dtype="float32", name="score")(layers.Flatten()(x))
        return keras.Model(pictures, layers.Activation("sigmoid", dtype="float32")(x))


def get_small_recipe(name, settings):
    recipe = get_recipe(name, **settings)
    if recipe.discriminator and "dense_units" not in settings:
        recipe = dataclasses.replace(recipe, discriminator=SmallDiscriminator())
    return recipe


def build(recipe):
    gan = build_gan(recipe, vgg_weights=None, jit_compile=on_jax)
    gan.run_eagerly = not on_jax
    # The backends draw other numbers from a seed.
    gan.draw_chance = lambda lr: chance[: len(lr)]
    if recipe.precision == "mixed_float16":  # A scale that none of these gradients overflows.
        for optimizer in (gan.optimizer, getattr(gan, "discriminator_optimizer", None)):
            if optimizer:
                optimizer.dynamic_scale.assign(64.0)
    if recipe.name != "srcnn":  # PSNR and SSIM are the same for all, and long to compile.
        gan.scores = []
    vgg = [gan.content_loss.vgg()] if hasattr(gan.content_loss, "vgg") else []
    critic = frozen_networks(gan.discriminator) if gan.discriminator else []
    return gan, [gan, *vgg, *critic]


def train(name, settings):
    recipe = get_small_recipe(name, settings)
    gan, networks = build(recipe)
    gan.parts = 4 // (recipe.micro_batch or 4) // (2 if name == "tutorial" else 1)
    for part, network in enumerate(networks):
        if start == "-":
            np.savez(f"{folder}/{name}-{part}.npz", *network.get_weights())
        else:
            with np.load(f"{start}/{name}-{part}.npz") as file:
                network.set_weights([file[key] for key in file.files])
    rng = np.random.default_rng(0)
    lr = rng.uniform(-1, 1, (12, 8, 8, 3)).astype("float32")
    noise = rng.normal(0, 0.1, (12, 32, 32, 3)).astype("float32")
    hr = lr.repeat(4, 1).repeat(4, 2) + noise
    before = gan.generator.get_weights()
    logs = [
        gan.fit(lr[k : k + 4], hr[k : k + 4], batch_size=4, shuffle=False, verbose=0).history
        for k in range(0, 12, 4)
    ]
    if name == "tutorial":  # Validation is the same for all.
        logs.append(gan.evaluate(lr[:4], hr[:4], batch_size=4, verbose=0, return_dict=True))
    np.savez(f"{folder}/{name}-end.npz", *gan.get_weights())
    return {"logs": [{k: float(np.ravel(v)[0]) for k, v in row.items()} for row in logs],
            "paths": [w.path for w in gan.weights], "step": gan.step,
            "moved": [bool(np.any(keras.ops.convert_to_numpy(weight) != a))
                      for weight, a in zip(gan.generator.weights, before) if weight.trainable]}


def moves_of_bias(scores):
    lr, hr = keras.Input((8, 8, 3)), keras.Input((32, 32, 3))
    layer = layers.Dense(1, name="score")
    validity = layers.Activation("sigmoid")(layer(layers.Flatten()(hr)))
    gan = SRGAN(keras.Model(lr, layers.UpSampling2D(4)(lr)), keras.Model(hr, validity))
    gan.compile("sgd", ["mse", Logistic()], None, keras.optimizers.SGD(0.1))
    gan.scores = []
    moves = []
    for score in scores:
        layer.kernel.assign(0 * layer.kernel)
        layer.bias.assign([score])
        gan.fit(np.zeros((2, 8, 8, 3)), np.zeros((2, 32, 32, 3)), batch_size=2, verbose=0)
        moves.append(float(layer.bias[0]) - score)
    return moves


results = {name: train(name, settings) for name, settings in recipes.items()}
pairs = Degraded(crop_size=32, clean_share=0.0)
hr = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).repeat(4, 1).repeat(4, 2)
lr = pairs.make(hr, *pairs.draw(np.random.default_rng(1), 4, 32))[0]
np.save(f"{folder}/degraded.npy", keras.ops.convert_to_numpy(lr))
moves = moves_of_bias([-5.0, -20.0, -40.0])
print(json.dumps({"recipes": results, "moves": moves}))
"""


def run(backend, folder, start="-"):
    folder.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(folder), str(start), json.dumps(RECIPES)]
    done = subprocess.run(
        command, env=environment(backend), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_every_recipe_trains_on_jax_as_on_tensorflow(tmp_path):
    """Losses, metrics and weights after three steps from the same weights, averages included; and
    how far a discriminator moves that is surely wrong. One test, because its two processes take
    most of its time.
    """
    others = {"tutorial-fast", "paper", "demo", "photo-srresnet", "photo"}  # of the same losses
    assert RECIPES.keys() == recipes().keys() - others
    reference = run("tensorflow", tmp_path / "tensorflow")
    result = run("jax", tmp_path / "jax", tmp_path / "tensorflow")
    for name, settings in RECIPES.items():
        ours, theirs = result["recipes"][name], reference["recipes"][name]
        assert ours["step"] == theirs["step"] == 3
        assert all(ours["moved"])
        tolerance = 4e-3 if "precision" in settings else 1e-4
        for row, expected in zip(ours["logs"], theirs["logs"], strict=True):
            assert row == pytest.approx(expected, rel=10 * tolerance, abs=tolerance), name
        weights = []
        for backend in ("jax", "tensorflow"):
            with np.load(tmp_path / backend / f"{name}-end.npz") as file:
                weights.append([file[key] for key in file.files])
        for path, a, b in zip(theirs["paths"], *weights, strict=True):
            np.testing.assert_allclose(a, b, atol=tolerance, err_msg=f"{name}: {path}")

    degraded = [np.load(tmp_path / name / "degraded.npy") for name in ("jax", "tensorflow")]
    assert np.abs(degraded[0] - degraded[1]).mean() * 127.5 < 0.1

    # Photographs and generated pictures have one score; the rate is 0.1.
    scores = np.array([-5.0, -20.0, -40.0])
    expected = -0.1 * 0.5 * (2 / (1 + np.exp(-scores)) - 1)
    for moves in (reference["moves"], result["moves"]):
        np.testing.assert_allclose(moves, expected, atol=1e-5)


def train_on_jax(*commands, devices=1):
    """Runs train commands one after the other, in a process that cannot import TensorFlow.

    Returns:
        of each (exit code, what it printed, what it said of errors).
    """
    program = """
import contextlib, io, json, sys
sys.modules["tensorflow"] = None
from srgan_keras import train

for words in json.loads(sys.argv[1]):
    sys.argv, code, texts = ["train", *words], 0, [io.TextIOWrapper(io.BytesIO()) for _ in "ab"]
    with contextlib.redirect_stdout(texts[0]), contextlib.redirect_stderr(texts[1]):
        try:
            train.cli.run(train.main)
        except SystemExit as end:
            code = end.code
    print(json.dumps([code or 0, *(text.buffer.getvalue().decode() for text in texts)]))
"""
    listed = json.dumps([list(map(str, words)) for words in commands])
    done = subprocess.run(
        [sys.executable, "-c", program, listed],
        env=environment("jax", devices), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_train_command_without_tensorflow(crops, tmp_path, quick):
    """An SRResNet on packed crops ends with TensorFlow's weights, with a stop in between.

    What one device has begun four go on with; and what JAX cannot do is one line.
    """
    for number in (5, 6):  # Four are held out, which divide between four devices.
        shutil.copy(crops / "test" / f"{number}.png", crops / "test" / f"{number + 2}.png")
    for split in "train", "test":
        pack(crops / split, tmp_path / "packed" / split)
    settings = "--recipe srresnet --filters 4 --residual-blocks 0 --crop-size 32 --batch-size 4 "
    settings += "--steps-per-epoch 3 --sample-every 1 --epsilon 1e-3 --data"
    settings = [*settings.split(), str(tmp_path / "packed")]
    start, theirs, ours = (tmp_path / name for name in ("start", "tensorflow", "jax"))
    assert train.main([*settings, "--epochs", "1", "--run", str(start)]) == 0
    settings += ["--init-generator", str(start), "--run"]
    assert train.main([*settings, str(theirs), "--epochs", "2"]) == 0

    cannot = [*settings, tmp_path / "none", "--strategy", "mirrored"]
    begin = [*settings, ours, "--epochs", 1]
    go_on = ["--resume", ours, "--epochs", 2, "--micro-batch", 1]
    refused, (code, _, errors) = train_on_jax(cannot, begin)
    assert refused[0] == 2
    assert refused[2].count("\n") == 1
    assert "needs Keras' TensorFlow backend" in refused[2]
    assert code == 0, errors
    ((code, said, errors),) = train_on_jax(go_on, devices=4)
    assert code == 0, errors
    assert "Devices: 4 x cpu (JAX); batch of 4, 1 on each" in said
    assert "6 steps" in said
    assert "python -m srgan_keras.export" in said
    assert len(list((ours / "samples").iterdir())) == 3
    expected, weights = (load_generator(run).get_weights() for run in (theirs, ours))
    for a, b in zip(weights, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
