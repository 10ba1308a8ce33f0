"""A trained generator as a SavedModel that takes and gives 8-bit pictures.

    python -m srgan_keras.export RUN

Scaling, clipping and rounding are inside: whoever loads it needs TensorFlow and nothing of this
package.
"""

import json
import math
import shutil
from pathlib import Path

import keras
import tensorflow as tf

from data_prep import cli
from srgan_keras import pixels
from srgan_keras.models.layers import PixelShuffle


def export(generator, folder, lr_range="-1..1"):
    """Writes a generator as a SavedModel.

    Its serving signature takes `pixels`, uint8 `(batch, h, w, 3)` of any size, and gives `pixels`,
    uint8 `(batch, scale * h, scale * w, 3)`. The loaded object has two numbers for programs that
    upscale piece by piece: `scale`, and `margin`, how far in LR pixels a result looks around.

    Args:
        generator: model from `build_generator`.
        folder: path of the SavedModel; replaced if it is one already.
        lr_range: the value range that the generator was trained to read.

    Raises:
        cli.UserError: if `folder` exists and is not a SavedModel.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "saved_model.pb").exists():
        raise cli.UserError(f"{folder} exists and is not a SavedModel. Choose another folder.")

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="pixels")])
    def serve(lr):
        sr = generator(pixels.from_8bit(lr, lr_range), training=False)
        return {"pixels": pixels.to_8bit(sr)}

    module = tf.Module()
    module.weights = generator.weights
    scale, margin = reach(generator)
    module.scale, module.margin = tf.Variable(scale), tf.Variable(margin)
    unfinished = folder.with_name(f".unfinished-{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    tf.saved_model.save(module, unfinished, signatures={"serving_default": serve})
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def run_folder(source):
    """Returns the run folder that `source`, itself or a .keras file in it, is about."""
    return source.parent if source.suffix == ".keras" else source


def load_generator(source):
    """Loads a trained generator and the value range that it reads.

    Args:
        source: `Path` of a run folder, or of a .keras file in one.

    Returns:
        (the generator, a name in `pixels.RANGES`).

    Raises:
        cli.UserError: if there is no generator, it does not load, or its run's settings are gone.
    """
    file = source if source.suffix == ".keras" else source / "generator.keras"
    settings = run_folder(source) / "recipe.json"
    for path in (file, settings):
        if not path.is_file():
            raise cli.UserError(f"{source} is not a run folder or a file in one: no {path}.")
    try:
        generator = keras.models.load_model(file, compile=False)
        return generator, json.loads(settings.read_text())["recipe"]["lr_range"]
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise cli.UserError(f"{file} or {settings} is broken: {error}") from error


def reach(generator):
    """Returns a generator's scale, and the distance in LR pixels from which it draws.

    Both are read off its convolutions and upsampling layers.
    """
    scale, margin = 1, 0.0
    for layer in generator.layers:
        if isinstance(layer, keras.layers.Conv2D):
            margin += (layer.kernel_size[0] // 2) / scale
        elif isinstance(layer, keras.layers.UpSampling2D):
            scale *= layer.size[0]
        elif isinstance(layer, PixelShuffle):
            scale *= layer.scale
    return scale, math.ceil(margin)


def main(argv=None):
    """The command line; see the module's docstring."""
    parser = cli.Parser(
        prog="python -m srgan_keras.export",
        description="Writes the generator of a training run as a SavedModel.",
    )
    parser.add_argument(
        "source", type=Path, metavar="RUN", help="a run folder, or a .keras file in one"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="folder to write; default: RUN/saved_model"
    )
    args = parser.parse_args(argv)

    generator, lr_range = load_generator(args.source)
    out = args.out or run_folder(args.source) / "saved_model"
    export(generator, out, lr_range)
    print(f"{out}: upscale with python -m srgan_keras.upscale PHOTO --model {out}")


if __name__ == "__main__":
    cli.run(main)
