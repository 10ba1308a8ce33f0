import keras
import numpy as np
import pytest
from keras import layers

from srgan_keras.common import pixels
from srgan_keras.inference.graph import fold_batch_normalization, reach
from srgan_keras.inference.upscaler import Upscaler
from srgan_keras.parts.layers import NarrowConv2D, PixelShuffle
from srgan_keras.systems.srgan import build_generator


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def network(*chain):
    """A model of a chain of layers; each batch normalisation in it is not the identity."""
    x = keras.Input((None, None, 3))
    y = x
    for layer in chain:
        y = layer(y)
    model = keras.Model(x, y)
    for _ in range(3):
        model(noise(2, 8, 8, 3) + 0.5, training=True)
    return model


def norms(model):
    return [x for x in model.layers if isinstance(x, layers.BatchNormalization)]


def assert_same_map(folded, model):
    x = noise(1, 6, 5, 3)
    np.testing.assert_allclose(folded(x), model(x, training=False), atol=1e-5)


@pytest.fixture(params=["nearest", "pixel_shuffle"])
def generator(request):
    """Its batch normalisations are not the identity: they have seen a few batches."""
    model = build_generator(filters=4, residual_blocks=2, upsampling=request.param)
    for _ in range(3):
        model(noise(2, 8, 8, 3), training=True)
    return model


def test_folding_leaves_no_batch_normalisation_and_the_same_map(generator):
    folded = fold_batch_normalization(generator)
    assert not norms(folded)
    assert_same_map(folded, generator)


def test_a_batch_normalisation_that_cannot_be_folded_stays():
    conv = layers.Conv2D
    for chain, left in (
        ([conv(4, 3, padding="same", activation="relu"), layers.BatchNormalization()], 1),
        ([layers.Rescaling(0.5, 0.5), layers.BatchNormalization(), conv(3, 1, padding="same")], 1),
        ([conv(4, 3, padding="same"), *(layers.BatchNormalization() for _ in range(2))], 1),
        ([conv(4, 3, padding="same", use_bias=False), layers.BatchNormalization(scale=False)], 0),
        ([NarrowConv2D(4, 3), layers.BatchNormalization(center=False)], 0),
    ):
        model = network(layers.UpSampling2D(2), *chain)
        folded = fold_batch_normalization(model)
        assert len(norms(folded)) == left
        assert_same_map(folded, model)


def test_a_convolution_that_another_layer_reads_keeps_its_weights():
    x = keras.Input((None, None, 3))
    y = layers.Conv2D(3, 3, padding="same")(x)
    model = keras.Model(x, layers.Add()([y, layers.BatchNormalization()(y)]))
    model(noise(2, 8, 8, 3) + 0.5, training=True)
    folded = fold_batch_normalization(model)
    assert len(norms(folded)) == 1
    assert_same_map(folded, model)


def test_a_sequential_model_is_a_generator_too():
    chain = [layers.UpSampling2D(2), layers.Conv2D(3, 5, padding="same")]
    model = keras.Sequential([keras.Input((None, None, 3)), *chain, layers.BatchNormalization()])
    model(noise(2, 8, 8, 3) + 0.5, training=True)
    assert reach(model) == (2, 1)
    folded = fold_batch_normalization(model)
    assert not norms(folded)
    assert_same_map(folded, model)


@pytest.mark.parametrize(
    "precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.bfloat16)]
)
def test_precision_is_that_of_all_but_the_output(generator, precision):
    folded = fold_batch_normalization(generator, precision)
    assert {weight.dtype for weight in folded.weights} == {precision}
    assert keras.backend.standardize_dtype(folded(noise(1, 4, 4, 3)).dtype) == "float32"


def test_margin_is_as_far_as_a_result_looks(generator):
    """A pixel of LR that lies further away than the margin changes nothing; one at it may."""
    scale, margin = reach(generator)
    assert scale == 4
    lr = np.zeros((1, 2 * margin + 9, 3, 3), np.float32)
    sr = np.asarray(generator(lr, training=False))
    lr[0, margin + 4] = 1
    changed = np.abs(np.asarray(generator(lr, training=False)) - sr).max(axis=(0, 2, 3)) > 0
    rows = np.flatnonzero(changed) // scale
    assert rows.min() >= 4
    assert rows.max() <= 2 * margin + 4


def test_full_generators_reach():
    assert reach(build_generator(upsampling="nearest")) == (4, 40)
    assert reach(build_generator(scale=2)) == (2, 40)
    assert reach(build_generator(lr_range="0..1")) == (4, 40)


def test_reach_follows_the_longest_branch_and_every_setting():
    x = keras.Input((None, None, 3))
    wide = layers.Conv2D(12, 3, padding="same", dilation_rate=4)(x)
    branch = layers.Conv2D(12, (5, 1), padding="same")(x)
    joined = layers.Concatenate()([wide, layers.Activation("relu")(branch)])
    assert reach(keras.Model(x, joined)) == (1, 4)
    large = PixelShuffle(2)(joined)
    assert reach(keras.Model(x, layers.Conv2D(3, 4, padding="same")(large))) == (2, 5)
    assert reach(keras.Model(x, layers.Conv2D(3, 6, padding="same")(large))) == (2, 6)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos3"])
def test_an_interpolating_network_leaves_no_seams(interpolation, tmp_path):
    """As SRCNN and its like: the enlarged picture, plus what convolutions make of it."""
    x = keras.Input((None, None, 3))
    enlarged = layers.UpSampling2D(3, interpolation=interpolation)(x)
    change = layers.Conv2D(3, 5, padding="same")(enlarged)
    model = keras.Model(x, layers.Add()([enlarged, change]))
    model.save(tmp_path / "model.keras")
    picture = np.random.default_rng(0).integers(0, 256, (23, 17, 3), np.uint8)
    whole = np.asarray(pixels.to_8bit(model(pixels.from_8bit(picture[None]))))[0].astype(int)
    for tile in (64, 7):
        tiled = Upscaler(tmp_path / "model.keras", tile=tile)(picture)
        assert np.abs(whole - tiled).max() <= 1


@pytest.mark.parametrize("function", [reach, fold_batch_normalization])
@pytest.mark.parametrize(
    ("layer", "received"),
    [
        (lambda: layers.Conv2D(3, 3), "Conv2D, padding valid"),
        (lambda: layers.Conv2D(3, 3, strides=2, padding="same"), r"Conv2D, .*strides \(2, 2\)"),
        (lambda: layers.Conv2DTranspose(3, 3, padding="same", name="deconv"), "deconv"),
        (lambda: layers.UpSampling2D((2, 3)), r"UpSampling2D, size \(2, 3\)"),
        (lambda: layers.ZeroPadding2D(), "ZeroPadding2D"),
        (lambda: build_generator(filters=1, residual_blocks=0), r"generator \(Functional\)"),
        (lambda: lambda x: x + 1.0, r"add.* \(Add\)"),
    ],
)
def test_a_layer_that_is_not_known_is_refused(function, layer, received):
    x = keras.Input((None, None, 3))
    model = keras.Model(x, layer()(x))
    with pytest.raises(ValueError, match=f"must consist of layers.*Received: .*{received}"):
        function(model)


def test_a_network_that_is_no_chain_of_known_steps_is_refused():
    x = keras.Input((None, None, 3))
    conv = layers.Conv2D(3, 3, padding="same", name="shared")
    with pytest.raises(ValueError, match=r"once\. Received: shared \(Conv2D\), used again"):
        reach(keras.Model(x, conv(conv(x))))
    mixed = layers.Concatenate(name="mixed")([x, layers.UpSampling2D(2)(x)])
    with pytest.raises(ValueError, match=r"mixed must join .* one scale\. Received: .*\[1, 2\]"):
        reach(keras.Model(x, mixed))
    with pytest.raises(ValueError, match=r"one input and one output\. Received: two \(Functional"):
        reach(keras.Model(x, [x, mixed], name="two"))
