import math

import numpy as np
import pytest

from srgan_keras import train
from srgan_keras.common.errors import UserError
from srgan_keras.run import find_checkpoints, read_log, read_settings
from srgan_keras.systems import get_recipe
from srgan_keras.training import callbacks, health, loop
from srgan_keras.training.gan import SRGAN
from srgan_keras.training.health import AILMENTS, PATIENCE, Collapsed, Health, diagnose, least_loss

RECIPE = get_recipe("srgan-vgg54", label_noise=0.0)
PICTURES = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 8, 8, 3)).astype("float32")


def enlarge(lr):
    return lr.repeat(4, 1).repeat(4, 2)


def logs(loss=0.4):
    return {"loss": 1.0, "discriminator_loss": loss}


@pytest.mark.parametrize(
    ("found", "loss", "spoil"),
    [
        (set(), 0.4, lambda sr: sr),
        ({"not finite"}, 0.4, lambda sr: np.where(sr > 0.8, np.nan, sr)),
        ({"always right"}, 0.004, lambda sr: sr),
        ({"undecided"}, math.log(2), lambda sr: sr),
        ({"plain"}, 0.4, lambda sr: 0.01 * sr),
        ({"saturated"}, 0.4, lambda sr: np.sign(sr)),
        ({"drift"}, 0.4, lambda sr: sr + np.float32([0.3, 0, 0])),
    ],
)
def test_each_ailment_is_seen_and_nothing_else(found, loss, spoil):
    assert diagnose(logs(loss), PICTURES, spoil(enlarge(PICTURES)), RECIPE) == found


def test_what_a_discriminator_s_loss_can_be_depends_on_its_labels():
    assert least_loss(0.0) == 0
    assert least_loss(0.2) == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    noisy = RECIPE.with_settings(label_noise=0.2)
    assert diagnose(logs(0.33), PICTURES, enlarge(PICTURES), noisy) == {"always right"}
    for other in (get_recipe("wdrn"), get_recipe("srresnet")):
        assert not diagnose(logs(0.0), PICTURES, enlarge(PICTURES), other)


class Model:
    """As much of an SRGAN as is looked at."""

    def __init__(self, spoil=lambda sr: sr):
        self.spoil = spoil

    def averaged_generator(self, lr, training):
        return self.spoil(enlarge(lr))


def watch(on_collapse, epochs, spoil=lambda sr: sr, loss=0.4):
    well = []
    callback = Health(PICTURES, RECIPE, on_collapse, lambda: well.append(True))
    callback.set_model(Model(spoil))
    for epoch in range(epochs):
        callback.on_epoch_end(epoch, logs(loss))
    return well


def test_it_is_said_once_in_plain_words_with_what_helps(capsys):
    assert not watch("warn", PATIENCE - 1, loss=0.004)
    assert not capsys.readouterr().out
    watch("warn", PATIENCE + 2, loss=0.004)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(
        "Epoch 3: the discriminator is never wrong any more, so the generator learns nothing from "
        "it, since epoch 1. What usually helps: --label-noise 0.1"
    )
    assert len(watch("warn", 4)) == 4
    assert not capsys.readouterr().out


@pytest.mark.parametrize("on_collapse", ["stop", "rollback"])
def test_a_collapse_ends_training_where_that_is_wanted_and_other_ailments_do_not(on_collapse):
    with pytest.raises(Collapsed, match="all but plain"):
        watch(on_collapse, PATIENCE, lambda sr: 0 * sr)
    watch(on_collapse, PATIENCE, loss=math.log(2))
    with pytest.raises(Collapsed, match="no numbers"):
        watch("warn", 1, lambda sr: sr + np.inf)


def test_a_setting_that_helps_is_one_that_there_is():
    names = set(get_recipe("srgan-vgg54").every_option())
    options = {"init_generator"}
    for ailment in AILMENTS.values():
        named = set(ailment.helps.split("`")[1::2])
        assert named <= names | options, named


TINY = (
    "--recipe srcnn --crop-size 32 --filters 4 --batch-size 2 --steps-per-epoch 1 --epochs 4"
).split()
pytestmark = pytest.mark.usefixtures("quick")


def train_with_a_collapse(crops, run, times, *options):
    """The generator's weights become NaN in the third step, so many times."""
    train_step, left = SRGAN.train_step, [times]

    def break_it(gan, data):
        logs = train_step(gan, data)
        if gan.step == 3 and left[0]:
            left[0] -= 1
            weight = gan.generator.trainable_variables[0]
            weight.assign(np.full(weight.shape, np.nan))
        return logs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SRGAN, "train_step", break_it)
        return train.main([*TINY, "--data", str(crops), "--run", str(run), *options])


def test_after_a_collapse_training_goes_on_from_where_all_was_well(
    crops, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    monkeypatch.setattr(health, "diagnose", diagnose_numbers_only)
    make = callbacks.Checkpoint
    monkeypatch.setattr(callbacks, "Checkpoint", lambda run, minutes, keep: make(run, 0, keep))
    assert train_with_a_collapse(crops, run, 2, "--on-collapse", "rollback") == 0
    said = capsys.readouterr().out
    assert said.count("Back to step 2, with learning_rate ") == 2
    rate = get_recipe("srcnn").optimizer.learning_rate
    assert read_settings(run)["recipe"].optimizer.learning_rate == rate / 4
    assert [row["epoch"] for row in read_log(run)] == ["0", "1", "2", "3"]
    assert all(math.isfinite(float(row["loss"])) for row in read_log(run))
    assert "000000004" in find_checkpoints(run)[0].name


def diagnose_numbers_only(logs, lr, sr, recipe):
    return set() if np.isfinite(sr).all() else {"not finite"}


def test_after_three_times_or_without_it_a_collapse_is_an_error(crops, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no numbers|The loss is nan"):
        train_with_a_collapse(crops, tmp_path / "a", 1)
    assert "000000000" in find_checkpoints(tmp_path / "a")[-1].name
    monkeypatch.setattr(loop, "ROLLBACKS", 1)
    with pytest.raises(UserError, match=r"no numbers|The loss is nan"):
        train_with_a_collapse(crops, tmp_path / "b", 9, "--on-collapse", "rollback")
    assert "000000000" in find_checkpoints(tmp_path / "b")[-1].name
