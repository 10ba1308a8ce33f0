import json
import shutil

import pytest

from srgan_keras import study
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import SAVED_MODEL
from srgan_keras.common.pictures import open_picture
from srgan_keras.evaluation.tables import find_sets
from srgan_keras.run import GENERATOR, LOG, SETTINGS, find_checkpoints, read_log, read_settings
from srgan_keras.systems import get_recipe
from srgan_keras.systems.srgan import Generator
from srgan_keras.training import callbacks

TINY = {"crop_size": "24", "filters": "4", "residual_blocks": "1", "batch_size": "2"}
TINY_GAN = {**TINY, "discriminator_filters": "4", "dense_units": "8", "content_loss": "mse"}
STEPS = 2


pytestmark = pytest.mark.usefixtures("quick")


def tiny_plan(name, **settings):
    plan = study.make_plan([name], 4, 0, settings)
    return plan.shorten(dict.fromkeys(plan.recipes, STEPS))


def test_gans_start_from_their_generator_trained_on_pixels():
    settings = {"filters": "4", "residual_blocks": "1"}
    plan = study.make_plan(["srgan-vgg54", "srresnet", "tutorial"], 4, 3, settings)
    assert list(plan.recipes) == ["srresnet", "srgan-vgg54", "tutorial-start", "tutorial"]
    assert plan.starts == {"srgan-vgg54": "srresnet", "tutorial": "tutorial-start"}
    start, recipe = plan.recipes["tutorial-start"], plan.recipes["tutorial"]
    assert start.generator == recipe.generator  # nearest, where srresnet shuffles pixels
    assert start.discriminator is None
    assert start.optimizer == get_recipe("srresnet").optimizer
    assert {one.seed for one in plan.recipes.values()} == {3}


def test_settings_change_what_has_them():
    settings = {"dense_units": "8", "augment": "false", "residual_blocks": "0"}
    plan = study.make_plan(["srresnet", "srgan-vgg54"], 2, 0, settings)
    assert plan.recipes["srgan-vgg54"].discriminator.dense_units == 8
    assert all(one.pairs.scale == 2 for one in plan.recipes.values())
    assert not any(one.pairs.augment for one in plan.recipes.values())


def test_recipes_without_the_scale_are_left_out(monkeypatch):
    build = Generator.build

    def only_x4(self, scale):
        if self.upsampling == "nearest" and scale == 2:
            raise UserError("scale must be 4")
        return build(self, scale)

    monkeypatch.setattr(Generator, "build", only_x4)
    plan = study.make_plan(["tutorial-fast", "srresnet"], 2, 0, {"residual_blocks": "0"})
    assert list(plan.recipes) == ["srresnet"]
    assert plan.left_out == {"tutorial-fast": "scale must be 4"}
    with pytest.raises(UserError, match="No recipe has the `scale` 2"):
        study.make_plan(["tutorial-fast"], 2, 0, {})


@pytest.mark.parametrize(
    "names, settings, message",
    [
        (["cubic"], {}, "There is no recipe 'cubic'"),
        (["srresnet"], {"dense_units": "8"}, "has no setting 'dense_units'"),
        (["srresnet"], {"batch_size": "many"}, "batch_size must be of type int"),
        (["srresnet"], {"augment": "perhaps"}, "augment must be of type bool"),
        (["srresnet"], {"batch_size": "0"}, "batch_size must be from 1"),
        (["srresnet"], {"epochs": "3"}, "A study chooses epochs itself"),
    ],
)
def test_clear_errors(names, settings, message):
    with pytest.raises(UserError, match=message):
        study.make_plan(names, 4, 0, settings)


def test_schedules_are_shortened_in_proportion():
    """srresnet: a half cosine over its 100,000 steps; averages over some 1,000 of them."""
    short = study.shorten(get_recipe("srresnet"), 2000)
    assert (short.epochs, short.steps_per_epoch) == (20, 100)
    assert short.optimizer.decay_steps == 2000
    assert short.ema_momentum == pytest.approx(1 - 1 / 20)
    gan = study.shorten(get_recipe("srgan-vgg54"), 50)  # drops after half of 200,000
    assert (gan.epochs, gan.steps_per_epoch, gan.optimizer.drop_step) == (10, 5, 25)
    assert gan.ema_momentum == 0.0  # 200,000 steps in place of 50: an average of less than one
    kept = study.shorten(get_recipe("srresnet", ema_momentum=0.9), 2000, ["ema_momentum"])
    assert kept.ema_momentum == 0.9
    free = study.shorten(get_recipe("tutorial"), 7)  # without a length in steps of its own
    assert (free.epochs, free.steps_per_epoch, free.optimizer.drop_step) == (7, 1, 0)


@pytest.mark.saved_model
def test_a_study_that_was_stopped_goes_on(crops, tmp_path, saved_model, monkeypatch, capsys):
    plan = tiny_plan("srgan-vgg54", **TINY_GAN)
    done, stopped = (tmp_path / study.RUNS / name for name in ("srresnet", "srgan-vgg54"))
    shutil.copytree(saved_model, done / SAVED_MODEL)
    plan.recipes["srresnet"].generator.build(4).save(done / GENERATOR)
    (done / LOG).write_text("epoch,content_loss,psnr\n0,0.2,12.0\n1,0.1,15.0\n")
    stopped.mkdir()
    (stopped / SETTINGS).write_text("of a training that was killed before its first checkpoint")

    class StopEarly(callbacks.StopOnSignal):
        def on_train_batch_end(self, batch, logs=None):
            self.told = True
            super().on_train_batch_end(batch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "StopOnSignal", StopEarly)
        assert not study.train_runs(plan, tmp_path, crops, "imagenet")
    said = capsys.readouterr().out
    assert "2 of 2: srgan-vgg54" in said
    assert "1 of 2" not in said  # It was done.
    assert f"starts from {done}" in said
    assert find_checkpoints(stopped)
    assert not (stopped / SAVED_MODEL).exists()
    before = study.read_seconds(tmp_path)

    assert study.train_runs(plan, tmp_path, crops, "imagenet")
    assert "from step 1" in capsys.readouterr().out
    assert study.read_seconds(tmp_path)["srgan-vgg54"] > before["srgan-vgg54"]
    assert read_settings(stopped)["init_generator"] == str(done)
    assert [row["epoch"] for row in read_log(stopped)] == ["0", "1"]

    def never(*args, **more):
        raise AssertionError("nothing is left to train")

    monkeypatch.setattr(study, "train", never)
    assert study.train_runs(plan, tmp_path, crops, "imagenet")
    sets = find_sets([crops], [], 4)
    rows = study.measure_methods(plan, tmp_path, sets, 4)
    methods = ["nearest", "bilinear", "bicubic", "lanczos", "srresnet", "srgan-vgg54"]
    assert list(dict.fromkeys(row["method"] for row in rows)) == methods
    assert len(rows) == 2 * len(methods)
    assert all(row["set"] == "crops" and row["psnr_y"] > 5 for row in rows)
    monkeypatch.setattr(study, "load_method", never)
    assert study.measure_methods(plan, tmp_path, sets, 4) == rows
    lines = study.format_runs(plan, tmp_path).splitlines()
    assert lines[3].startswith("| srgan-vgg54 | srresnet | 2 | 2 | 24 | ")
    check_curves(plan, tmp_path)


def check_curves(plan, folder):
    axes = study.draw_curves(plan, folder).axes
    titles = [one.get_title() for one in axes if one.axison]
    assert titles == [title for title, _ in list(study.PANELS.values())[:4]]
    assert [len(one.lines) for one in axes] == [2, 2, 1, 1]
    assert list(axes[0].lines[0].get_xdata()) == [1, 2]  # steps


def test_the_picture_shows_the_runs_between_lr_and_hr(crops, tmp_path, monkeypatch):
    loaded = []

    def load(source, scale):
        loaded.append(source)
        return lambda lr: lr.repeat(scale, 0).repeat(scale, 1)

    monkeypatch.setattr(study, "load_method", load)
    (sample, _) = find_sets([crops], [], 4)["crops"]
    drawn = study.draw_picture(["one", "two"], sample, tmp_path, 4, [])
    assert loaded == [str(tmp_path / study.RUNS / name) for name in ("one", "two")]
    hr = open_picture(sample.hr)
    assert drawn.shape[1] == 4 * max(hr.shape[1] * 5, 170) + 3 * 8


def test_a_picture_that_cannot_be_used_ends_the_study(crops, tmp_path):
    (crops / "test" / "5.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"crops/5.png: .*\. Remove it"):
        study.measure_methods(study.Plan({}, {}, {}), tmp_path, find_sets([crops], [], 4), 4)


def test_other_settings_are_refused_and_named(tmp_path):
    plan = tiny_plan("srresnet", **TINY)
    study.keep_plan(tmp_path, plan, {"data": "crops", "steps": {"srresnet": 4}})
    study.keep_plan(tmp_path, plan, {"data": "crops", "steps": {"srresnet": 4}})
    changed = tiny_plan("srresnet", **TINY | {"batch_size": "3", "augment": "false"})
    message = "holds a study with other data, augment, batch_size. Choose another `out`"
    with pytest.raises(UserError, match=message):
        study.keep_plan(tmp_path, changed, {"data": "photos", "steps": {"srresnet": 4}})
    with pytest.raises(UserError, match="with other recipes"):
        study.keep_plan(
            tmp_path, tiny_plan("srgan-mse", **TINY), {"data": "crops", "steps": {"srresnet": 4}}
        )


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"")
    with pytest.raises(UserError, match="is not empty and holds no study"):
        study.read_plan(tmp_path)


def test_minutes_become_steps_once(crops, tmp_path, monkeypatch):
    folder = tmp_path / "study"
    folder.mkdir()
    plan = tiny_plan("srresnet", **TINY)
    assert study.seconds_per_step(plan.recipes["srresnet"], crops, "imagenet") > 0
    monkeypatch.setattr(study, "seconds_per_step", lambda *_: 0.5)
    steps = study.choose_steps(plan, folder, 3, crops, "imagenet")
    assert steps == {"srresnet": 360}
    before = {"minutes": 3, "steps": {"srresnet": 340}, "runs": {}}
    (folder / study.PLAN).write_text(json.dumps(before))
    assert study.choose_steps(plan, folder, 3, crops, "imagenet") == {"srresnet": 340}
    assert study.choose_steps(plan, folder, 4, crops, "imagenet") == {"srresnet": 480}
