"""Times training, upscaling and the input pipeline, beside this machine's own limit.

    python -m srgan_keras.benchmark
    python -m srgan_keras.benchmark --baseline      also the tutorial's way, in the same run

The limit is the speed of a matrix product, measured between the repeats of whatever is timed, since
a machine's speed drifts. VGG19 has random weights here; they cost the same.
"""

import itertools
import json
import platform
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from keras.losses import BinaryCrossentropy
from keras.optimizers import Adam
from matplotlib.figure import Figure

from data_prep import cli
from data_prep.pictures import open_picture, replacing, write_png
from srgan_keras import data, runs
from srgan_keras.crops import list_crops
from srgan_keras.devices import (
    choose_strategy,
    describe_devices,
    peak_memory,
    require_tensorflow,
    use_xla,
)
from srgan_keras.export import export
from srgan_keras.models import FusedBatchNormalization, NarrowConv2D, build_generator
from srgan_keras.recipes import get_recipe
from srgan_keras.train import SAMPLE_IMAGES, build_content_loss, build_gan
from srgan_keras.upscale import TrainedModel

MATRIX = 2048  # side of the matrices whose product is the limit
WARM_UP = 2
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}  # name: Keras' policy


def measure(run, repeats, flops=0.0, precision="float32"):
    """Times a function, and a matrix product beside it.

    Args:
        run: function without arguments; its work is done when what it returns can be read.
        repeats: int, how many times are taken, after `WARM_UP` more.
        flops: float, floating-point operations of one call; 0 if they are not counted.
        precision: `"float32"` or `"bfloat16"`, of the matrix product.

    Returns:
        dict: `seconds` (list), their `median`, `peak_gflops` (the product's speed) and, if flops
        are given, `gflop`, `gflops` and `share` (of the product's speed).
    """
    a = tf.cast(tf.random.stateless_normal((MATRIX, MATRIX), (0, 0)), precision)
    product = tf.function(lambda: tf.matmul(a, a)[:1, :1])
    times = {product: [], run: []}
    for function in [*times] * (WARM_UP + repeats):
        started = time.perf_counter()
        tf.nest.map_structure(np.asarray, function())
        times[function].append(time.perf_counter() - started)
    seconds = times[run][WARM_UP:]
    result = {
        "seconds": seconds,
        "median": float(np.median(seconds)),
        "peak_gflops": 2e-9 * MATRIX**3 / float(np.median(times[product][WARM_UP:])),
    }
    if flops:
        gflops = 1e-9 * flops / result["median"]
        share = gflops / result["peak_gflops"]
        result |= {"gflop": 1e-9 * flops, "gflops": gflops, "share": share}
    return result


def count_flops(model, size):
    """Counts the operations of a network's convolutions and dense layers.

    Args:
        model: functional model of pictures.
        size: int, side of the square picture that goes in.

    Returns:
        (multiplications and additions forwards, those of the first layer alone). `NarrowConv2D`
        counts as the convolution that it stands for.
    """
    counted = [layer for layer in model.layers if isinstance(layer, (layers.Conv2D, layers.Dense))]
    outputs = keras.Model(model.input, [layer.output for layer in counted])
    shapes = outputs.compute_output_shape((1, size, size, 3))
    flops = [
        2.0 * np.prod(layer.kernel.shape) * np.prod(shape[1:-1])
        for layer, shape in zip(counted, shapes, strict=True)
    ]
    return sum(flops), flops[0]


def count_step_flops(gan, vgg, recipe):
    """Counts the operations of a training step, each network's as often as it must run.

    Backwards, a layer costs what it costs forwards for its weights' gradient and again for its
    input's. VGG19's weights need none, nor does an input that is no other network's output.
    """
    generator, generator_first = count_flops(gan.generator, recipe.crop_size // recipe.scale)
    discriminator, discriminator_first = count_flops(gan.discriminator, recipe.crop_size)
    features, _ = count_flops(vgg, recipe.crop_size)
    generator_update = 3 * generator - generator_first + 2 * discriminator + 3 * features
    discriminator_update = 2 * (3 * discriminator - discriminator_first)
    return recipe.batch_size * (generator_update + discriminator_update)


def step_recipe(crop_size, batch_size, upsampling, precision="float32", head="flatten"):
    """Returns the recipe tutorial with what a case changes."""
    return get_recipe(
        "tutorial",
        crop_size=crop_size,
        batch_size=batch_size,
        upsampling=upsampling,
        precision=PRECISIONS[precision],
        discriminator_head=head,
    )


def random_batch(recipe):
    """Returns `(lr, hr)`, a batch of noise."""
    return tuple(
        tf.random.stateless_uniform((recipe.batch_size, side, side, 3), (0, 0), -1.0, 1.0)
        for side in (recipe.crop_size // recipe.scale, recipe.crop_size)
    )


def time_step(repeats, *case):
    """Times the tutorial's training step, on the first device.

    Args:
        repeats: int.
        *case: as `step_recipe` takes them.

    Returns:
        dict, as from `measure`, with the peak of the process's `memory`.
    """
    recipe = step_recipe(*case)
    content_loss = build_content_loss(recipe, None)
    gan = build_gan(recipe, content_loss)
    batch = random_batch(recipe)
    step = tf.function(lambda: gan.train_step(batch), jit_compile=use_xla() or None)
    flops = count_step_flops(gan, content_loss.vgg(), recipe)
    precision = "float32" if recipe.precision == "float32" else "bfloat16"
    return measure(step, repeats, flops, precision) | {"memory": peak_memory()}


def time_tutorial_step(repeats, *case):
    """Times the same step, of the same networks, the tutorial's way and with Keras' own layers.

    That is: generated pictures by `predict`, the discriminator's `train_on_batch` on photographs
    and on those, and that of the two-output model in which the discriminator is frozen.

    Args:
        repeats: int.
        *case: as `step_recipe` takes them.

    Returns:
        dict, as from `time_step`.
    """
    recipe = step_recipe(*case)
    content_loss = build_content_loss(recipe, None)
    gan = build_gan(recipe, content_loss)
    flops = count_step_flops(gan, content_loss.vgg(), recipe)
    generator, discriminator = (
        with_keras_layers(gan.generator),
        with_keras_layers(gan.discriminator),
    )
    del gan
    lr, hr = map(np.asarray, random_batch(recipe))
    ones, zeros = np.ones((len(hr), 1)), np.zeros((len(hr), 1))

    discriminator.compile(Adam(1e-4), BinaryCrossentropy())
    discriminator.train_on_batch(hr, ones)  # Traced before it is frozen for the other model.
    discriminator.trainable = False
    sr = generator(generator.input)
    combined = keras.Model(generator.input, [sr, discriminator(sr)])
    combined.compile(Adam(1e-4), [content_loss, BinaryCrossentropy()], loss_weights=[1.0, 1e-3])

    def step():
        sr = generator.predict(lr, batch_size=len(lr), verbose=0)
        discriminator.train_on_batch(hr, ones)
        discriminator.train_on_batch(sr, zeros)
        return combined.train_on_batch(lr, [hr, ones])

    return measure(step, repeats, flops) | {"memory": peak_memory()}


def with_keras_layers(model):
    """Returns a copy of a model, of Keras' layers where it has this package's faster ones."""
    plain = {FusedBatchNormalization: layers.BatchNormalization, NarrowConv2D: layers.Conv2D}

    def clone(layer):
        return plain.get(type(layer), type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def time_parts(repeats, *case):
    """Times what a training step consists of, each part on its own.

    Returns:
        dict of seconds (medians); their sum is not the step's time, because parts overlap in it.
    """
    recipe = step_recipe(*case)
    content_loss = build_content_loss(recipe, None)
    gan = build_gan(recipe, content_loss)
    lr, hr = random_batch(recipe)
    generator, discriminator = gan.generator, gan.discriminator

    @tf.function
    def generate():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(generator(lr, training=True))
        return tape.gradient(loss, generator.trainable_variables)

    @tf.function
    def compare_features():
        with tf.GradientTape() as tape:
            tape.watch(hr)
            loss = content_loss(-hr, hr)
        return tape.gradient(loss, hr)

    @tf.function
    def judge():
        with tf.GradientTape() as tape:
            loss = gan.compute_discriminator_loss(gan.judge(hr, -hr, training=True))
        with tf.GradientTape() as generator_tape:
            generator_tape.watch(hr)
            adversarial = tf.reduce_mean(discriminator(hr, training=True))
        variables = discriminator.trainable_variables
        return tape.gradient(loss, variables), generator_tape.gradient(adversarial, hr)

    @tf.function
    def update():
        for optimizer, model in (
            (gan.optimizer, generator),
            (gan.discriminator_optimizer, discriminator),
        ):
            variables = model.trainable_variables
            optimizer.apply([tf.ones(variable.shape) for variable in variables], variables)
        return gan.optimizer.iterations.value

    parts = {
        "generator": generate,
        "VGG19": compare_features,
        "discriminator": judge,
        "optimizers": update,
    }
    times = {name: measure(run, repeats)["median"] for name, run in parts.items()}
    crops_per_second = time_input(repeats, recipe.crop_size, recipe.batch_size)["crops_per_second"]
    return times | {"input": recipe.batch_size / crops_per_second}


def time_upscaling(repeats, side, precision):
    """Times the enlargement of a square picture by 4 with an exported pixel-shuffle generator.

    Returns:
        dict, as from `time_step`.
    """
    generator = build_generator(upsampling="pixel_shuffle")
    picture = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        export(generator, Path(folder, "model"), precision=precision)
        model = TrainedModel(Path(folder, "model"))
        flops, _ = count_flops(generator, side)
        repeats = repeats if side < 512 else 2  # a megapixel takes long enough
        result = measure(lambda: model(picture), repeats, flops, precision)
    return result | {"memory": peak_memory()}


def time_input(repeats, crop_size, batch_size):
    """Times the input pipeline on PNG crops of 384 pixels, cut from the sample photographs.

    Returns:
        dict, as from `measure`, with `crops_per_second`.
    """
    recipe = step_recipe(crop_size, batch_size, "pixel_shuffle")
    with tempfile.TemporaryDirectory() as folder:
        for index, photo in enumerate(sorted((SAMPLE_IMAGES / "train").iterdir())):
            picture = open_picture(photo)[:384, :384]
            write_png(Path(folder, f"{index}.png"), picture)
        crops = list_crops(Path(folder), recipe.crop_size)
        batches = iter(data.training_batches(crops, recipe))
        several = 10  # What was made ahead must not count.
        result = measure(lambda: [next(batches) for _ in range(several)][-1][0], repeats)
    return result | {"crops_per_second": several * batch_size / result["median"]}


STEPS = [
    *itertools.product([96], [4], ["pixel_shuffle", "nearest"], PRECISIONS),
    *itertools.product([384], [1], ["pixel_shuffle", "nearest"], PRECISIONS),
    (384, 1, "pixel_shuffle", "float32", "pooling"),
]
PARTS = (96, 4, "pixel_shuffle")
UPSCALINGS = list(itertools.product([96, 1024], PRECISIONS))
SECTIONS = ("step", "parts", "upscale", "input")


def main(argv=None):
    """The command line; see the module's docstring."""
    parser = cli.Parser(
        prog="python -m srgan_keras.benchmark",
        description="Times training, upscaling and the input pipeline on this machine.",
    )
    parser.add_argument("--repeats", type=cli.positive_int, default=7, help="times in each case")
    parser.add_argument("--baseline", action="store_true", help="time the tutorial's way too")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections")
    parser.add_argument(
        "--out", type=Path, default=Path("benchmark"), help="folder for benchmark.json, parts.png"
    )
    args = parser.parse_args(argv)
    require_tensorflow("The benchmark")

    machine = {
        **runs.versions(),
        "platform": platform.platform(),
        "devices": describe_devices(choose_strategy("default")),
        "date": time.strftime("%Y-%m-%d"),
    }
    print(", ".join(f"{name}: {value}" for name, value in machine.items()))
    report = {"machine": machine, "repeats": args.repeats}
    args.out.mkdir(parents=True, exist_ok=True)
    # A process for each case, so that the peak of its memory is its own.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:

        def time_it(function, *case):
            return pool.submit(function, args.repeats, *case).result()

        if "step" in args.only:
            report["step"] = []
            print_header("training step", "crop, batch, upsampling, precision, head")
            for case in STEPS:
                report["step"].append(print_row(case, time_it(time_step, *case)))
                if args.baseline and case[2:] == ("pixel_shuffle", "float32"):
                    result = time_it(time_tutorial_step, *case)
                    report["step"].append(print_row((*case[:3], "the tutorial's way"), result))
        if "parts" in args.only:
            report["parts"] = {
                precision: time_it(time_parts, *PARTS, precision) for precision in PRECISIONS
            }
            print(f"\nParts of the step at 96 pixels, batch 4: {args.out / 'parts.png'}")
            for precision, parts in report["parts"].items():
                words = ", ".join(f"{name} {seconds:.3f} s" for name, seconds in parts.items())
                print(f"  {precision}: {words}")
            draw_parts(report["parts"], args.out / "parts.png")
        if "upscale" in args.only:
            print_header("upscaling", "side, precision")
            report["upscale"] = [
                print_row(case, time_it(time_upscaling, *case)) for case in UPSCALINGS
            ]
        if "input" in args.only:
            report["input"] = time_it(time_input, 96, 16)
            speed = report["input"]["crops_per_second"]
            print(f"\nInput pipeline: {speed:.0f} crops/s (96 of 384 pixels, batch 16)")
    with replacing(args.out / "benchmark.json") as path:
        path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"Written to {args.out}")


def print_header(*names):
    """Prints the head of a table of timings."""
    columns = [": ".join(names), "s (median)", "least to most", "GFLOP/s", "of product", "memory"]
    print("\n|", " | ".join(columns), "|\n" + "|---" * len(columns) + "|", flush=True)


def print_row(case, result):
    """Prints a timing as a table's row; returns it with its case."""
    cells = [
        ", ".join(map(str, case)),
        f"{result['median']:.3f}",
        f"{min(result['seconds']):.3f} to {max(result['seconds']):.3f}",
        f"{result['gflops']:.0f} of {result['peak_gflops']:.0f}",
        f"{result['share']:.2f}",
        result["memory"],
    ]
    print("|", " | ".join(cells), "|", flush=True)
    return {"case": case, **result}


def draw_parts(report, path):
    """Draws the parts of a step as one bar for each precision."""
    figure = Figure(figsize=(9, 2.4), layout="constrained")
    axes = figure.subplots()
    left = np.zeros(len(report))
    for name in next(iter(report.values())):
        seconds = [parts[name] for parts in report.values()]
        axes.barh(list(report), seconds, left=left, label=name)
        left += seconds
    axes.set(xlabel="seconds", title="Training step, 96 pixels, batch 4: its parts timed alone")
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.35))
    with replacing(path) as unfinished:
        figure.savefig(unfinished)


if __name__ == "__main__":
    cli.run(main)
