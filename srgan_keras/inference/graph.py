"""A generator as a graph of layers: how far it looks around, what can be folded away, and where it
can be cut in two.

Both are known only for the layers in the tables below; a network with another one is refused. And
how many weights any network has, before there is memory for them.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from srgan_keras.common.errors import UserError
from srgan_keras.inference.runtimes import Extent
from srgan_keras.parts.layers import (
    BicubicUpsampling,
    ClipPictures,
    FusedBatchNormalization,
    Luma,
    NarrowConv2D,
    PixelShuffle,
    WeightedConcatenation,
)

CONVOLUTIONS = {layers.Conv2D, NarrowConv2D}
NORMALIZATIONS = {layers.BatchNormalization, FusedBatchNormalization}
#: Layers that make a pixel of the same pixel alone.
POINTWISE = {
    *NORMALIZATIONS,
    ClipPictures,
    Luma,
    WeightedConcatenation,
    layers.Activation,
    layers.Add,
    layers.Average,
    layers.Concatenate,
    layers.Dropout,
    layers.Identity,
    layers.InputLayer,
    layers.LeakyReLU,
    layers.Multiply,
    layers.PReLU,
    layers.ReLU,
    layers.Rescaling,
    layers.Subtract,
}
#: The distance from which layers draw that look at the whole picture: no picture is larger.
WHOLE_PICTURE = 2**28
#: How many pixels away interpolations look.
INTERPOLATIONS = {"nearest": 0, "bilinear": 1, "bicubic": 2, "lanczos3": 3, "lanczos5": 5}
#: How far in LR pixels the second stage of a generator may look around.
NEAR = 8


def reach(generator: keras.Model) -> tuple[int, int]:
    """Reads a generator's scale, and how far around it looks, off its layers.

    Args:
        generator: functional or sequential model, LR in and SR out.

    Returns:
        (by how much it enlarges, the distance in LR pixels from which it draws; `WHOLE_PICTURE` if
        it has group or instance normalisation, whose statistics are those of the whole picture).

    Raises:
        UserError: if a layer is not one of those above, or branches of different scale meet.
    """
    graph = _graph(generator)
    scale, margin = _extents(_steps(graph))[id(graph.output)]
    return scale, min(math.ceil(margin), WHOLE_PICTURE)


def split(generator: keras.Model) -> list[tuple[keras.Model, Extent]]:
    """Cuts a generator where all that follows reads one tensor alone and looks not far around.

    Most of a generator's layers work on few channels at the size of LR, and together look far
    around: they can have a whole picture, or large pieces of it, at once. The last few need most
    of the memory and look `NEAR` at most: small pieces with little around them are enough.

    Args:
        generator: as for `reach`.

    Returns:
        two stages, cut at the narrowest such tensor (the last of several); or one, if there is no
        such tensor behind the first layer. Each is a model with its `Extent`; the memory is that of
        the feature maps that are needed at one time, in float32.

    Raises:
        UserError: as `reach`.
    """
    graph = _graph(generator)
    steps = _steps(graph)
    extents, needed = _extents(steps), _needed(steps, graph.output)
    end, far = len(steps) - 1, extents[id(graph.output)][1]
    cuts = {}  # index of a step whose output is all that is needed behind it: channels
    for index, (layer, _) in enumerate(steps[1:end], 1):
        scale, distance = extents[id(layer.output)]
        if len(needed[index]) == 1 and scale == 1 and far - distance <= NEAR:
            cuts[index] = layer.output.shape[-1]
    cut = min(reversed(cuts), key=cuts.get, default=0)

    def stage(first, last):
        start, output = steps[first - 1][0].output, steps[last][0].output
        alive = [[*needed[index - 1], steps[index][0].output] for index in range(first, last + 1)]
        memory = max(sum(4 * x.shape[-1] * extents[id(x)][0] ** 2 for x in xs) for xs in alive)
        scale, distance = extents[id(output)]
        margin = min(math.ceil(distance - extents[id(start)][1]), WHOLE_PICTURE)
        model = keras.Model(start, output, name=f"{graph.name}_from_{first}")
        return model, Extent(scale, margin, memory)

    return [stage(1, cut), stage(cut + 1, end)] if cut else [stage(1, end)]


def fold_batch_normalization(generator: keras.Model, precision: str = "float32") -> keras.Model:
    """Returns the generator with its batch normalisations folded into convolutions.

    At inference a batch normalisation multiplies and shifts each feature map by constants; so does
    the convolution before it, with other weights. One that does not follow a convolution, or whose
    convolution has an activation or another reader, stays.

    Args:
        generator: functional or sequential model.
        precision: dtype of the new model's weights and arithmetic; its output is float32.

    Raises:
        UserError: as `reach`.
    """
    graph = _graph(generator)
    steps = _steps(graph)
    makers = {id(layer.output): layer for layer, _ in steps}
    weights = {layer.name: layer.get_weights() for layer in graph.layers}
    folded = {}  # name of a batch normalisation: the convolution that it goes into
    for layer, convolution in _find_foldable(steps, makers):
        folded[layer.name] = convolution
        factor, shift = _affine(layer)
        kernel, *bias = weights[convolution.name]
        bias = bias[0] if bias else 0.0
        weights[convolution.name] = [kernel * factor, bias * factor + shift]
        del weights[layer.name]
    end = makers[id(graph.output)]
    end = folded.get(end.name, end)

    def clone(layer):
        config = {**layer.get_config(), "dtype": "float32" if layer is end else precision}
        if layer in folded.values():
            config["use_bias"] = True
        return type(layer).from_config(config)

    def call(layer, *args, **kwargs):
        return args[0] if layer.name in folded else layer(*args, **kwargs)

    result = keras.models.clone_model(graph, clone_function=clone, call_function=call)
    for name, values in weights.items():
        if values:
            result.get_layer(name).set_weights(values)
    return result


def count_weights(build: Callable[[], keras.Model]) -> int:
    """Counts the weights of a network without making room for them.

    Args:
        build: function without arguments that builds it, and loads nothing into it.
    """

    def count():
        with keras.StatelessScope(initialize_variables=False):
            return build().count_params()

    # Keras makes up for variables without a value later on, in the thread where they were made.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(count).result()


def replace_layers(model: keras.Model, kinds: Mapping[type, type]) -> keras.Model:
    """Returns a copy of a functional model with layers of other classes in place of some.

    Args:
        model: functional model.
        kinds: classes of layers, and those with the same settings and weights that replace them.
    """

    def clone(layer):
        return kinds.get(type(layer), type(layer)).from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def _graph(generator: keras.Model) -> keras.Model:
    """The same layers as a functional model."""
    ends = [getattr(generator, name, None) or [] for name in ("inputs", "outputs")]
    if [len(tensors) for tensors in ends] != [1, 1]:
        raise UserError(
            "a generator must be a functional or sequential model with one input and one output. "
            f"Received: {generator.name} ({type(generator).__name__})"
        )
    return keras.Model(ends[0][0], ends[1][0], name=generator.name)


def _steps(graph: keras.Model) -> list[tuple[Any, list]]:
    """Lists each layer with the tensors that it reads, in the order in which they run."""
    steps = [(layer, keras.tree.flatten(layer.input)) for layer in graph.operations]
    made = {id(layer.output) for layer, _ in steps}
    for layer, _ in steps:
        _effect(layer)
    for x in [graph.output, *(x for _, inputs in steps for x in inputs)]:
        if id(x) not in made:  # Keras tells of a layer's first use alone.
            again = x._keras_history.operation
            raise UserError(
                "a generator must use each of its layers once. "
                f"Received: {again.name} ({type(again).__name__}), used again"
            )
    return steps


def _extents(steps: list) -> dict[int, tuple[int, Fraction]]:
    """Says of each tensor, by its id, its scale and how many LR pixels away it looks."""
    found = {}
    for layer, inputs in steps:
        factor, distance = _effect(layer)
        before = [found[id(x)] for x in inputs] or [(1, Fraction(0))]
        scale, margin = before[0][0], max(margin for _, margin in before)
        if any(other != scale for other, _ in before):
            scales = sorted(other for other, _ in before)
            raise UserError(
                f"{layer.name} must join feature maps of one scale. Received: scales {scales}"
            )
        found[id(layer.output)] = (scale * factor, margin + Fraction(distance, scale))
    return found


def _needed(steps: list, output: Any) -> list[list]:
    """Lists for each step the tensors that are made by then and needed afterwards."""
    last = {id(x): index for index, (_, inputs) in enumerate(steps) for x in inputs}
    last[id(output)] = len(steps)
    needed = []
    for index, (layer, _) in enumerate(steps):
        made = [*(needed[-1] if needed else []), layer.output]
        needed.append([x for x in made if last.get(id(x), -1) > index])
    return needed


def _effect(layer: Any) -> tuple[int, int]:
    """Returns by how much a layer enlarges, and how many pixels of its input away it looks."""
    kind = type(layer)
    if kind in POINTWISE and getattr(layer, "axis", -1) in (-1, 3):
        return 1, 0
    if kind in CONVOLUTIONS and layer.padding == "same" and set(layer.strides) == {1}:
        sides = zip(layer.kernel_size, layer.dilation_rate, strict=True)
        return 1, max(-(-dilation * (size - 1) // 2) for size, dilation in sides)
    if kind is layers.UpSampling2D and len(set(layer.size)) == 1:
        return layer.size[0], INTERPOLATIONS[layer.interpolation]
    if kind is BicubicUpsampling:
        return layer.scale, INTERPOLATIONS["bicubic"]
    if kind is PixelShuffle:
        return layer.scale, 0
    if kind is layers.GroupNormalization:
        return 1, WHOLE_PICTURE
    config = layer.get_config() if isinstance(layer, keras.layers.Layer) else {}
    names = ("padding", "strides", "size", "axis")
    settings = "".join(f", {name} {config[name]}" for name in names if name in config)
    raise UserError(
        "a generator must consist of layers that srgan_keras.inference.graph knows: convolutions "
        "with padding same and stride 1, upsampling, and what acts on each pixel by itself. "
        f"Received: {layer.name} ({kind.__name__}{settings})"
    )


def _find_foldable(steps: list, makers: dict) -> list[tuple[Any, Any]]:
    """Lists the batch normalisations that fold, each with the convolution before it."""
    readers = Counter(id(x) for _, inputs in steps for x in inputs)
    pairs = [(x, makers[id(inputs[0])]) for x, inputs in steps if type(x) in NORMALIZATIONS]
    return [
        (layer, before)
        for layer, before in pairs
        if type(before) in CONVOLUTIONS
        and before.activation is keras.activations.linear
        and readers[id(before.output)] == 1
    ]


def _affine(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a batch normalisation at inference multiplies by, and what it then adds."""
    mean, variance = map(ops.convert_to_numpy, (layer.moving_mean, layer.moving_variance))
    factor = (ops.convert_to_numpy(layer.gamma) if layer.scale else 1.0) / np.sqrt(
        variance + layer.epsilon
    )
    return factor, (ops.convert_to_numpy(layer.beta) if layer.center else 0.0) - mean * factor
