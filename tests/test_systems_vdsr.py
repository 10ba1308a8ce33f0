import numpy as np
import pytest
from keras import layers

from srgan_keras import evaluate, train, upscale
from srgan_keras.common import pixels
from srgan_keras.common.pictures import open_picture
from srgan_keras.inference.graph import reach
from srgan_keras.inference.pretrained import load_generator
from srgan_keras.parts.layers import BicubicUpsampling
from srgan_keras.systems import get_recipe
from srgan_keras.systems.vdsr import VDSR


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def test_parameters_are_the_paper_s():
    model = VDSR().build(4)
    convolutions = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)]
    assert len(convolutions) == 20
    weights = 3 * 3 * (1 * 64 + 18 * 64 * 64 + 64 * 1)
    assert weights == sum(layer.kernel.shape.num_elements() for layer in convolutions) == 664_704
    assert model.count_params() == weights + 19 * 64 + 1 == 665_921
    assert reach(model) == (4, 7)  # 2 for the enlargement, 20 of the enlarged picture's pixels


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_untrained_it_is_the_bicubic_enlargement(scale):
    lr = noise(2, 5, 7, 3)
    enlarged = np.clip(BicubicUpsampling(scale)(lr), -1, 1)
    np.testing.assert_array_equal(VDSR(filters=4, depth=3).build(scale)(lr), enlarged)


def test_chroma_is_the_enlargement_s():
    """What is not clipped differs from it by the same in all three channels."""
    model = VDSR(filters=4, depth=3).build(2)
    model.layers[-3].set_weights([noise(3, 3, 4, 1), np.float32([0.1])])
    lr = noise(1, 6, 6, 3) / 8
    change = np.asarray(model(lr) - BicubicUpsampling(2)(lr))
    assert change.std() > 0.01
    np.testing.assert_allclose(change[..., :2], change[..., 1:], atol=1e-6)
    assert reach(model) == (2, 4)


def test_a_rate_that_drops_again_and_again_and_clipped_gradients():
    optimizer = get_recipe("vdsr", learning_rate_drop_step=5).optimizer.build()
    for step, rate in ((0, 1e-3), (4, 1e-3), (5, 1e-4), (9, 1e-4), (10, 1e-5)):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(rate)
    assert optimizer.global_clipnorm == get_recipe("vdsr").optimizer.clip_norm == 0.02
    assert get_recipe("srresnet").optimizer.build().global_clipnorm is None


@pytest.mark.saved_model
def test_scale_3_from_crops_to_an_enlarged_picture(quick, crops, tmp_path, capsys):
    """Trained, exported, upscaled in tiles, and evaluated, by the commands."""
    run, photo, data = tmp_path / "run", crops / "test" / "5.png", str(crops)
    settings = "--recipe vdsr --scale 3 --crop-size 24 --filters 4 --depth 3 --batch-size 2 "
    settings += "--steps-per-epoch 3 --epochs 1 --sample-every 1"
    assert train.main([*settings.split(), "--data", data, "--run", str(run)]) == 0
    generator = load_generator(run)
    picture = open_picture(photo)
    whole = np.asarray(pixels.to_8bit(generator(pixels.from_8bit(picture[None]))))[0].astype(int)
    assert whole.shape == (120, 120, 3)

    enlarge = [str(photo), "--model", str(run), "--out", str(tmp_path), "--tile", "16"]
    assert upscale.main(enlarge) == 0
    assert np.abs(open_picture(tmp_path / "5_x3.png") - whole).max() <= 1
    methods = ["--scale", "3", "--model", "bicubic", "--model", str(run)]
    out = ["--out", str(tmp_path / "evaluation")]
    assert evaluate.main(["--data", data, *methods, *out]) == 0
    assert "| run | " in capsys.readouterr().out
