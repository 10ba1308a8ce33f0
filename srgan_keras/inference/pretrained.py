"""Trained generators from their .keras files: those that ship with the package, and a run's own.

What the shipped ones were trained on, their scores and their limits stand in their cards in
weights/.
"""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras

from srgan_keras.common.errors import UserError, in_one_line
from srgan_keras.inference.graph import count_weights, reach
from srgan_keras.inference.sources import PRETRAINED, find_generator, find_shipped
from srgan_keras.run import SETTINGS

UNPACKED = 10  # times a file's size, and a megabyte: the most that it may unpack to


def load_pretrained(name: str = "srgan", blend: float | None = None) -> keras.Model:
    """Loads a generator that ships with the package.

    Args:
        name: `"srgan"`, or `"photo"` for JPEGs and noise, which make detail up; or one that leaves
            out what it cannot know: `"srresnet"`, `"photo-srresnet"`, `"vdsr"` or `"srcnn"`.
        blend: None, or for one in `sources.FORERUNNERS` a float from 0 to 1: how much of it is
            mixed with 1 - blend of its forerunner, weight by weight (Wang et al. 2018, ESRGAN,
            section 3.4).

    Returns:
        functional `keras.Model`, built by its system. It enlarges by 4, and takes and gives
        pictures in [-1, 1].

    Raises:
        UserError: as `find_shipped`.
    """
    plain, *detailed = (
        keras.models.load_model(file, compile=False) for file in find_shipped(name, blend)
    )
    if not detailed:
        return plain
    (generator,) = detailed
    pairs = zip(plain.get_weights(), generator.get_weights(), strict=True)
    generator.set_weights([(1 - blend) * a + blend * b for a, b in pairs])
    return generator


def load_generator(source: str | os.PathLike = "srgan", blend: float | None = None) -> keras.Model:
    """Loads a trained generator.

    Args:
        source: a name in `PRETRAINED`, of one that ships with the package; or the path of a run
            folder, or of a generator's .keras file.
        blend: as for `load_pretrained`; None with a path.

    Returns:
        `keras.Model` from `(batch, h, w, 3)` to `(batch, scale * h, scale * w, 3)`, both float32 in
        [-1, 1]. It computes in float32, and all of it can be trained.

    Raises:
        UserError: if there is no such generator, it does not load, or another network is in it.
    """
    if str(source) in PRETRAINED or blend is not None:
        return load_pretrained(str(source), blend)
    (file,) = find_generator(source)
    generator, shapes = load_network(file)
    if shapes != ((None, None, 3), (None, None, 3)):
        raise UserError(f"{file} is not a generator: it does not turn pictures into pictures.")
    try:
        reach(generator)
    except UserError as error:
        raise UserError(f"{file} cannot be used: {error}") from error
    rescales = any(isinstance(layer, keras.layers.Rescaling) for layer in generator.layers)
    if stored_setting(file.parent, "lr_range") == "0..1" and not rescales:
        raise UserError(
            f"The run {file.parent} was made by version 0.1 with lr_range 0..1, which its "
            "generator does not hold. Give its folder saved_model, or export it with that version."
        )
    return generator


def load_network(file: Path) -> tuple[keras.Model, tuple]:
    """Loads a network from a .keras file, wherever it comes from.

    Returns:
        (the network, which computes in float32 and all of which can be trained; the shapes of what
        it takes and gives, without the batch).

    Raises:
        UserError: if it does not load.
    """
    try:
        refuse_bomb(file)
        network = keras.models.load_model(file, compile=False, safe_mode=True)
        shapes = network.input_shape[1:], network.output_shape[1:]
        network.trainable = True  # an averaged generator is saved as it was, not to be trained
        for layer in network.layers:  # whatever precision it was trained in
            layer.dtype_policy = "float32"
    except Exception as error:  # Keras passes on whatever a broken archive makes others raise.
        raise UserError(f"{file} does not load ({in_one_line(error)}).") from error
    return network, shapes


def refuse_bomb(file: Path) -> None:
    """Looks whether a .keras file would take far more memory than it has bytes.

    Raises:
        ValueError: if it unpacks to much more than its size, or its arrays or the network that it
            describes have more numbers than it has bytes. (Keras takes four for a weight.)
        Exception: whatever a broken archive makes others raise.
    """
    size = file.stat().st_size
    with zipfile.ZipFile(file) as archive:
        if sum(member.file_size for member in archive.infolist()) > UNPACKED * size + 1e6:
            raise ValueError(f"it unpacks to more than {UNPACKED} times its size")
        config = json.loads(archive.read("config.json"))
        counts = []
        with archive.open("model.weights.h5") as weights, h5py.File(weights, "r") as groups:
            groups.visititems(lambda _, item: counts.append(getattr(item, "size", 0)))
    config.pop("compile_config", None)
    count = sum(counts)
    if count <= size:
        count = count_weights(lambda: keras.saving.deserialize_keras_object(config, safe_mode=True))
    if count > size:
        raise ValueError(f"it asks for {count:,} weights and has {size:,} bytes")


def stored_setting(run: str | os.PathLike, name: str) -> Any:
    """Returns a setting of a run as its file has it, of whatever version; None if it is not there.

    Args:
        run: path of the run folder.
        name: of a setting of its recipe.
    """
    try:
        return json.loads(Path(run, SETTINGS).read_text(encoding="utf-8"))["recipe"].get(name)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
