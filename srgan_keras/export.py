"""A trained generator as a SavedModel that takes and gives 8-bit pictures.

    python -m srgan_keras.export RUN_OR_NAME

Scaling, clipping and rounding are inside: whoever loads it needs TensorFlow and nothing of this
package.
"""

import math
import shlex
import shutil
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from data_prep import cli
from data_prep.pictures import replacing
from srgan_keras import pixels, runs
from srgan_keras.devices import require_tensorflow
from srgan_keras.models.layers import PixelShuffle
from srgan_keras.pretrained import PRETRAINED

PRECISIONS = ("float32", "bfloat16")


def serving_module(generator, lr_range="-1..1", precision="float32"):
    """Wraps a generator into a module that takes and gives 8-bit pictures.

    Args:
        generator: model from `build_generator`.
        lr_range: the value range that the generator was trained to read.
        precision: `"float32"`, or `"bfloat16"`, which halves memory and file; it halves the time
            too on processors that compute in it (CPUs with AVX512-BF16 or AMX, recent GPUs).

    Returns:
        `tf.Module` with `serve`, a function of `pixels`, uint8 `(batch, h, w, 3)` of any size, that
        gives a dict of `pixels`, uint8 `(batch, scale * h, scale * w, 3)`; and with two numbers for
        programs that upscale piece by piece: `scale`, and `margin`, how far in LR pixels a result
        looks around. Batch normalisations are folded into the convolutions.

    Raises:
        ValueError: if the precision is unknown.
        cli.UserError: if Keras does not run on TensorFlow.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {PRECISIONS}. Received: {precision!r}")
    require_tensorflow("A SavedModel")
    folded = fold_batch_normalization(generator, precision)

    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8, name="pixels")])
    def serve(lr):
        sr = folded(pixels.from_8bit(lr, lr_range), training=False)
        return {"pixels": pixels.to_8bit(sr)}

    module = tf.Module()
    module.weights, module.serve = folded.weights, serve
    module.scale, module.margin = map(tf.Variable, reach(generator))
    return module


def export(generator, folder, lr_range="-1..1", precision="float32"):
    """Writes a generator as a SavedModel: its module, with `serve` as serving signature.

    Args:
        generator: as for `serving_module`.
        folder: path of the SavedModel; replaced if it is one already.
        lr_range: as for `serving_module`.
        precision: as for `serving_module`.

    Raises:
        cli.UserError: if `folder` exists and is not a SavedModel, or cannot be written.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "saved_model.pb").exists():
        raise cli.UserError(f"{folder} exists and is not a SavedModel. Choose another folder.")
    module = serving_module(generator, lr_range, precision)
    with replacing(folder) as unfinished:
        try:
            tf.saved_model.save(module, unfinished, signatures={"serving_default": module.serve})
        except BaseException as error:
            shutil.rmtree(unfinished, ignore_errors=True)
            if isinstance(error, tf.errors.OpError):
                raise cli.UserError(f"{folder} cannot be written: {error.message}") from error
            raise
        shutil.rmtree(folder, ignore_errors=True)


def fold_batch_normalization(generator, precision="float32"):
    """Returns the generator without its batch normalisations, which the convolutions take over.

    At inference a batch normalisation multiplies and shifts each feature map by constants; so does
    the convolution before it, with other weights.

    Args:
        generator: functional model in which every batch normalisation follows a convolution.
        precision: dtype of the new model's weights and arithmetic; its output is float32.
    """
    weights = {layer.name: layer.get_weights() for layer in generator.layers}
    for layer in generator.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            gamma, beta, mean, variance = weights.pop(layer.name)
            convolution = layer.input._keras_history.operation
            kernel, bias = weights[convolution.name]
            factor = gamma / np.sqrt(variance + layer.epsilon)
            weights[convolution.name] = [kernel * factor, (bias - mean) * factor + beta]

    def clone(layer):
        last = layer.output is generator.output
        return layer.__class__.from_config(
            {**layer.get_config(), "dtype": "float32" if last else precision}
        )

    def call(layer, x, **options):
        return x if isinstance(layer, keras.layers.BatchNormalization) else layer(x)

    folded = keras.models.clone_model(generator, clone_function=clone, call_function=call)
    for name, values in weights.items():
        folded.get_layer(name).set_weights(values)
    return folded


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
        "source", metavar="RUN", help="a run folder, a .keras file in one, srgan or srresnet"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder to write; default: RUN/saved_model, or NAME_x4",
    )
    parser.add_argument("--blend", type=float, help="of srresnet (0) and srgan (1)")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="float32", help="of weights and arithmetic"
    )
    args = parser.parse_args(argv)

    generator, recipe = runs.load_generator(args.source, args.blend)
    run = Path(args.source)
    if args.source in PRETRAINED:
        out = Path(f"{args.source}_x{recipe.scale}")
    else:
        out = (run.parent if run.suffix == ".keras" else run) / runs.SAVED_MODEL
    out = args.out or out
    export(generator, out, recipe.lr_range, args.precision)
    print("Upscale a picture with it:")
    print(f"  python -m srgan_keras.upscale PHOTO --model {shlex.quote(str(out))} --out upscaled")


if __name__ == "__main__":
    cli.run(main)
