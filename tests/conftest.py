"""What the tests share: two logical CPUs, tiny recipes and pictures, and the folder ../shared.

TensorFlow is imported where it is used: pytest-xdist's own process, which runs no test, reads this
file too, and the workers wait for it.
"""

import os
import shutil
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
if "PYTEST_XDIST_WORKER" in os.environ:  # Each core has a worker of its own.
    os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
# Where no test says otherwise, nothing is downloaded and nothing outside is used.
os.environ.pop("SRGAN_VGG_WEIGHTS", None)

import numpy as np
import pytest
from PIL import Image

#: Files of the longest tests, which come first, so that no worker ends long after the others.
LONGEST = ("test_jax.py", "test_training_machines.py")
SHARED = Path(__file__).parents[2] / "shared" / "data"


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)
    # TensorFlow asks the processor alone for bfloat16, and crashes where oneDNN is held from it.
    if "ONEDNN_MAX_CPU_ISA" in os.environ:
        held = pytest.mark.skip(reason="ONEDNN_MAX_CPU_ISA may hold oneDNN from bfloat16")
        for item in items:
            if "bfloat16" in item.keywords:
                item.add_marker(held)


@pytest.fixture(scope="session", autouse=True)
def two_cpus():
    """In front of all that TensorFlow computes."""
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """What is prepared for other runtimes, away from the user's own."""
    monkeypatch.setenv("SRGAN_KERAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shared():
    """The development data, ../shared/data; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not there")
    return SHARED


@pytest.fixture(scope="session")
def two_replicas():
    """MirroredStrategy on two logical CPUs, one for all tests; see `devices`."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory):
    """A SavedModel of a small generator with random weights, in a folder of its own."""
    from srgan_keras.inference.formats import export
    from srgan_keras.systems.srgan import build_generator

    folder = tmp_path_factory.mktemp("run") / "saved_model"
    export(build_generator(filters=4, residual_blocks=1), folder)
    return folder


@pytest.fixture
def small_discriminators(monkeypatch):
    """A quarter of the layers."""
    from network_fixtures import small_discriminator

    from srgan_keras.systems import srgan

    def build(part, image_size, vgg_weights=None):
        return small_discriminator(image_size, part.filters, part.dense_units)

    monkeypatch.setattr(srgan.Discriminator, "build", build)


@pytest.fixture
def quick(request, monkeypatch, small_discriminators):
    """No graphs, SavedModel and curves, which take longer to make than a few steps, but in tests
    that are marked so; and small discriminators.
    """
    import keras

    from srgan_keras.training import callbacks, loop
    from srgan_keras.training.gan import SRGAN

    if "graph" not in request.keywords:
        compile_gan = SRGAN.compile
        monkeypatch.setattr(
            SRGAN, "compile", lambda *args, **more: compile_gan(*args, **more, run_eagerly=True)
        )
    if "saved_model" not in request.keywords:
        monkeypatch.setattr(loop, "export_saved_model", lambda gan, run: None)
    if "curves" not in request.keywords:
        monkeypatch.setattr(callbacks, "LossCurves", lambda run: keras.callbacks.Callback())


@pytest.fixture
def eager(monkeypatch):
    """Functions without graphs, which take longer to trace than they compute in a test."""
    import tensorflow as tf

    monkeypatch.setattr(tf, "function", lambda function=None, **_: function or (lambda f: f))


@pytest.fixture
def tiny_recipe():
    """A recipe whose networks train in milliseconds."""
    from srgan_keras.systems import get_recipe

    return get_recipe(
        "srgan-mse",
        crop_size=32,
        filters=4,
        residual_blocks=1,
        discriminator_filters=4,
        dense_units=8,
        ema_momentum=0.0,
        batch_size=2,
        steps_per_epoch=3,
        epochs=2,
        sample_every=1,
    )


@pytest.fixture
def crops(tmp_path):
    """A folder of seven 40x40 crops, split as data_prep splits them."""
    rng = np.random.default_rng(0)
    for index in range(7):
        folder = tmp_path / "crops" / ("test" if index > 4 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "crops"


@pytest.fixture(scope="module")
def chromium():
    """Debian's Chromium, without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("needs Debian's package chromium")
    arguments = ["--no-sandbox", "--disable-background-networking"]
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()
