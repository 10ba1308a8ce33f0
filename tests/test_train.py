import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from srgan_keras import train
from srgan_keras.common import pixels
from srgan_keras.common.errors import UserError
from srgan_keras.common.files import locked
from srgan_keras.common.pictures import list_pictures, open_picture
from srgan_keras.data import SAMPLE_IMAGES
from srgan_keras.inference.pretrained import load_generator
from srgan_keras.inference.upscaler import Upscaler
from srgan_keras.parts.content import VGGWeightsError
from srgan_keras.run import (
    curve_of,
    find_checkpoints,
    load_checkpoint,
    read_log,
    read_settings,
    rewind_log,
    write_settings,
)
from srgan_keras.systems import get_recipe
from srgan_keras.training import callbacks, devices, loop, memory

TINY = (
    "--recipe srgan-mse --crop-size 32 --filters 4 --residual-blocks 0 --discriminator-filters 4 "
    "--dense-units 8 --label-noise 0.2 --batch-size 2 --steps-per-epoch 3 --epochs 2 "
    "--sample-every 2"
).split()

#: Three convolutions, for what does not depend on what is trained.
PLAIN = (
    "--recipe srcnn --crop-size 32 --filters 4 --batch-size 2 --steps-per-epoch 3 --epochs 2 "
    "--sample-every 2"
).split()


pytestmark = pytest.mark.usefixtures("quick")


def tiny(crops, run, *more):
    return [*TINY, "--data", str(crops), "--run", str(run), *more]


def plain(crops, run, *more):
    return [*PLAIN, "--data", str(crops), "--run", str(run), *more]


def state(run):
    """Every number in a run's checkpoint, by name."""
    numbers = {}
    with h5py.File(find_checkpoints(run)[0]) as file:
        file.visititems(
            lambda name, item: (
                numbers.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return numbers


def assert_same_state(run, other, atol=0):
    ours, theirs = state(run), state(other)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=0, atol=atol, err_msg=name)


def test_a_run_without_its_recipe_s_discriminator_is_read_as_such(tmp_path):
    recipe = get_recipe("srgan-vgg54", adversarial_weight=0)
    write_settings(tmp_path / "run", recipe, {"data": "", "vgg_weights": "imagenet"}, False)
    assert read_settings(tmp_path / "run")["recipe"] == recipe


@pytest.mark.saved_model
@pytest.mark.curves
def test_a_run_leaves_everything_in_its_folder(crops, tmp_path, capsys):
    run = tmp_path / "run"
    assert train.main(tiny(crops, run)) == 0
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert names >= {
        "recipe.json",
        "log.csv",
        "losses.png",
        "samples/epoch-0000.png",
        "samples/epoch-0002.png",
        "generator.keras",
        "best_generator.keras",
        "discriminator.keras",
        "saved_model/saved_model.pb",
    }
    assert any((run / "tensorboard").iterdir())
    kept = [path.name.split("-")[1] for path in find_checkpoints(run)]
    assert kept == ["000000006", "000000000"]
    settings = json.loads((run / "recipe.json").read_text())
    assert settings["recipe"]["crop_size"] == 32
    assert settings["recipe"]["seed"] == 0
    assert settings["data"] == str(crops)
    with open(run / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert [row["val_psnr"] == "NA" for row in rows] == [True, False]

    said = capsys.readouterr().out
    for word in (
        "crop_size=32",
        "Devices: CPU",
        "Parameters: generator",
        "Memory: about",
        "5 crops for training, 2 held out for validation; 3 steps an epoch, 6 in all",
        "peak memory",
        f"srgan_keras.upscale PHOTO --model {run}",
    ):
        assert word in said


AVERAGED = (
    "--recipe srresnet --crop-size 32 --filters 4 --residual-blocks 0 --batch-size 2 "
    "--steps-per-epoch 3 --epochs 2 --sample-every 2 --ema-momentum 0.9 --content-loss mae "
    "--precision mixed_bfloat16 --learning-rate-decay-steps 6"
).split()


def test_resumed_runs_equal_an_uninterrupted_one_bit_for_bit(crops, tmp_path, monkeypatch, capsys):
    """With what they leave, wherever they were stopped."""
    first, whole, stopped = (tmp_path / name for name in ("first", "whole", "stopped"))
    settings = [*TINY, "--ema-momentum", "0.9", "--learning-rate-drop-step", "4"]
    settings += ["--data", str(crops), "--run"]
    # The very first execution of a convolution in a process can round otherwise than later ones.
    assert train.main([*settings, str(first), "--epochs", "1", "--steps-per-epoch", "1"]) == 0
    assert train.main([*settings, str(whole)]) == 0

    class StopAfter(callbacks.StopOnSignal):
        """In the middle of the first epoch, after its last step, and in the second's validation."""

        def on_train_batch_end(self, batch, logs=None):
            if self.model.step in (1, 3):
                self.stop(signal.SIGTERM, None)
            super().on_train_batch_end(batch, logs)

        def on_test_batch_end(self, batch, logs=None):
            raise callbacks.Stopped

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "StopOnSignal", StopAfter)
        assert train.main([*settings, str(stopped)]) == 130
        for step, epoch in (3, "Epoch 1/2"), (6, "Epoch 2/2"):
            capsys.readouterr()
            assert train.main(["--resume", str(stopped)]) == 130
            assert state(stopped)["optimizer/vars/0"] == step
            assert epoch in capsys.readouterr().out
    assert train.main(["--resume", str(stopped)]) == 0
    assert_same_state(whole, stopped)
    assert (whole / "log.csv").read_bytes() == (stopped / "log.csv").read_bytes()
    pictures = [
        sorted(path.name for path in (run / "samples").iterdir()) for run in (whole, stopped)
    ]
    assert pictures[0] == pictures[1]
    assert tensorboard_points(whole) == tensorboard_points(stopped)


def tensorboard_points(run):
    (events,) = (run / "tensorboard").iterdir()
    points = []
    for record in tf.data.TFRecordDataset(str(events)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        points += [
            (event.step, v.tag, tf.make_ndarray(v.tensor).item()) for v in event.summary.value
        ]
    return sorted(points)


@pytest.mark.bfloat16
@pytest.mark.saved_model
def test_what_an_averaged_mixed_run_leaves_computes_in_float32(crops, tmp_path):
    run = tmp_path / "run"
    assert train.main([*AVERAGED, "--data", str(crops), "--run", str(run)]) == 0
    assert not (run / "discriminator.keras").exists()
    generator = load_generator(run)
    assert {layer.compute_dtype for layer in generator.layers} == {"float32"}
    assert generator.trainable_variables
    lr = np.zeros((1, 6, 5, 3), np.uint8)
    upscaled = Upscaler(run)(lr[0]).astype(int)
    expected = pixels.to_8bit(generator(pixels.from_8bit(lr)))[0]
    assert np.abs(upscaled - np.asarray(expected)).max() <= 1
    assert [epoch for epoch, _ in curve_of(read_log(run), "val_content_loss")] == [2]


@pytest.mark.graph
def test_several_steps_an_execution_change_nothing(crops, tmp_path):
    one, three = tmp_path / "one", tmp_path / "three"
    settings = "--epochs 1 --ema-momentum 0.9 --learning-rate-decay-steps 6".split()
    assert train.main(plain(crops, one, *settings)) == 0
    assert train.main(plain(crops, three, *settings, "--steps-per-execution", "3")) == 0
    assert_same_state(one, three, atol=1e-5)  # Another graph may add in another order.
    with pytest.raises(UserError, match="do not divide into executions of 2"):
        train.main(plain(crops, tmp_path / "two", "--steps-per-execution", "2"))


def test_a_killed_run_s_log_is_taken_back_to_its_checkpoint(tmp_path):
    text = "epoch,loss\n0,3.0\n1,2.0\n2,1.0\n"
    (tmp_path / "log.csv").write_text(text)
    rewind_log(tmp_path, 3)
    assert (tmp_path / "log.csv").read_text() == text
    rewind_log(tmp_path, 1)
    assert read_log(tmp_path) == [{"epoch": "0", "loss": "3.0"}]


def test_ctrl_c_stops_cleanly_and_can_be_resumed(crops, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "srgan_keras.train", *plain(crops, run, "--epochs", "100000")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    try:
        while not (run / "losses.png").exists() and process.poll() is None:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert f"python -m srgan_keras.train --resume {run}" in said
    assert state(run)["optimizer/vars/0"] >= 3


def test_the_sample_photographs_are_what_the_demonstration_needs():
    photographs = list_pictures(SAMPLE_IMAGES)
    assert len(photographs) >= 12
    assert sum(path.stat().st_size for path in photographs) <= 3_000_000
    with open(SAMPLE_IMAGES / "LICENSES.csv", newline="") as file:
        licences = {row["file"]: row for row in csv.DictReader(file)}
    assert {str(path.relative_to(SAMPLE_IMAGES)) for path in photographs} == set(licences)
    for path in photographs:
        assert open_picture(path).shape == (384, 384, 3)
        row = licences[str(path.relative_to(SAMPLE_IMAGES))]
        assert all(row[key] for key in ("author", "licence", "source", "source_file"))


def test_the_demonstration_starts_from_what_ships(crops, tmp_path, monkeypatch, capsys):
    """Without a download: Keras is not asked for one. Its pictures show the start as well.

    On crops smaller than the sample photographs; with a small generator, once it is clear that the
    recipe's own is the one that ships.
    """

    def download(*args, **more):
        raise AssertionError("a download")

    monkeypatch.setattr("keras.utils.get_file", download)
    shipped, recipe = load_generator("srresnet"), get_recipe("demo")
    assert loop.describe_network(shipped) == loop.describe_network(recipe.generator.build())
    start = recipe.with_settings(filters=4, residual_blocks=0).generator.build()
    monkeypatch.setattr(loop, "load_generator", lambda source: {"srresnet": start}[source])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "SAMPLE_IMAGES", crops)
    small = "--crop-size 32 --discriminator-filters 4 --batch-size 1 --steps-per-epoch 1 --epochs 1"
    small = [*small.split(), "--residual-blocks", "0", "--filters"]
    assert train.main([*small, "4"]) == 0
    said = capsys.readouterr().out
    assert "Generator: starts from srresnet" in said
    assert "crops/test/5.png" in said.splitlines()[-1]
    (run,) = (tmp_path / "runs").iterdir()
    before, after = (
        open_picture(run / "samples" / name) for name in ("epoch-0000.png", "epoch-0001.png")
    )
    lr, sr, hr = np.hsplit(before, 3)
    np.testing.assert_array_equal(np.hsplit(after, 4)[:2], [lr, sr])
    np.testing.assert_array_equal(np.hsplit(after, 4)[3], hr)
    with pytest.raises(UserError, match=r"srresnet does not fit.*`init_generator` none"):
        train.main([*small, "8"])
    assert train.main([*small, "8", "--init-generator", "none", "--run", "nothing"]) == 0


def test_deeper_layers_need_vgg(crops, tmp_path, monkeypatch):
    monkeypatch.setenv("SRGAN_VGG_WEIGHTS", str(tmp_path / "none.h5"))
    with pytest.raises(VGGWeightsError, match="`vgg_weights`"):
        train.main(tiny(crops, tmp_path / "run", "--content-loss", "block3_conv1"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--recipe nosuch", "There is no recipe 'nosuch'"),
        ("--recipe tutorial", "needs crops: `data` FOLDER"),
        ("--data {tmp}/none", "none"),
        ("--data {crops} --crop-size 96", "smaller `crop_size`"),
        ("--data {crops} --crop-size 30", "multiple of the scale"),
        ("--resume {tmp}", "not a run folder"),
        ("--run {crops} --data {crops}", "is not empty"),
    ],
)
def test_bad_input(crops, tmp_path, arguments, message):
    arguments = arguments.format(tmp=tmp_path, crops=crops).split()
    with pytest.raises(UserError, match=message):
        train.main([*TINY, *arguments] if "--data" in arguments else arguments)


def test_broken_runs_are_one_error_each(crops, tmp_path):
    run = tmp_path / "run"
    assert train.main(plain(crops, run, "--epochs", "1")) == 0
    settings = (run / "recipe.json").read_text()
    for broken in ("{", "{}", "[]", settings.replace("filters", "filtres"), '{"recipe": {}}'):
        (run / "recipe.json").write_text(broken)
        with pytest.raises(UserError, match="is broken"):
            train.main(["--resume", str(run)])
    (run / "recipe.json").write_text(settings.replace('"filters": 4', '"filters": 5'))
    with pytest.raises(UserError, match=r"step-0+3-\w+.weights.h5 does not load"):
        train.main(["--resume", str(run)])
    (run / "recipe.json").write_text(settings)
    for path in find_checkpoints(run):
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"0003.* does not load \(its checks.*`init_generator`"):
        train.main(["--resume", str(run)])
    for path in find_checkpoints(run):
        path.unlink()
    with pytest.raises(UserError, match=r"cannot be resumed.*delete it"):
        train.main(["--resume", str(run)])
    with pytest.raises(UserError, match=r"is not empty.*delete it"):
        train.main(plain(crops, run))


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(crops, tmp_path, capsys):
    """One changed bit of an optimizer's moment loads, and only the checksum shows it."""
    run = tmp_path / "run"
    assert train.main(plain(crops, run, "--epochs", "1")) == 0
    newest = find_checkpoints(run)[0]
    with h5py.File(newest, "r+") as file:
        file["optimizer/vars/2"][...] = 1.9e36
    (run / ".tmp-1-saved_model" / "half").mkdir(parents=True)  # of a kill during the export
    capsys.readouterr()
    assert train.main(["--resume", str(run), "--epochs", "1"]) == 0
    said = capsys.readouterr().out
    assert f"{newest} does not load (its checksum is not that of its name)" in said
    assert f"{run}, from step 0" in said
    assert [row["epoch"] for row in read_log(run)] == ["0"]
    assert [path.name.split("-")[1] for path in find_checkpoints(run)] == ["000000003", "000000000"]
    assert not list(run.glob(".tmp*"))


def test_a_run_of_the_layout_before_goes_on(crops, tmp_path, capsys):
    run = tmp_path / "run"
    assert train.main(plain(crops, run, "--epochs", "1")) == 0
    newest, before = find_checkpoints(run)
    before.unlink()
    with h5py.File(newest, "r+") as file:
        del file["metrics of the epoch"]
    newest.rename(run / "checkpoints" / "latest.weights.h5")
    settings = json.loads((run / "recipe.json").read_text())
    del settings["crops"], settings["steps_per_epoch"], settings["recipe"]["augment"]
    (run / "recipe.json").write_text(json.dumps(settings))
    assert train.main(["--resume", str(run), "--epochs", "2"]) == 0
    said = capsys.readouterr().out
    assert f"{run} does not say, and takes what the recipe has today: augment True" in said
    assert json.loads((run / "recipe.json").read_text())["recipe"]["augment"] is True
    assert [row["epoch"] for row in read_log(run)] == ["0", "1"]
    assert len(find_checkpoints(run)) == 2


def test_a_run_in_which_another_process_is_at_work_is_refused(crops, tmp_path):
    run = tmp_path / "run"
    with locked(run), pytest.raises(UserError, match="Another process is at work"):
        train.main(plain(crops, run))
    assert train.main(plain(crops, run, "--epochs", "1")) == 0
    with locked(run), pytest.raises(UserError, match="Another process is at work"):
        train.main(["--resume", str(run), "--epochs", "2"])


def test_other_crops_than_at_the_start_are_refused_until_they_are_given(crops, tmp_path, capsys):
    """Then epochs stay as long as they were, and so do log and rows."""
    run = tmp_path / "run"
    start = plain(crops, run, "--steps-per-epoch", "0", "--epochs", "1", "--init-generator")
    assert train.main([*start, str(run_of(crops, tmp_path / "first"))]) == 0
    log = (run / "log.csv").read_text()
    moved = crops.rename(tmp_path / "moved")
    for number in (7, 8, 9):
        shutil.copy(moved / "train" / "0.png", moved / "train" / f"{number}.png")
    resume = ["--resume", str(run), "--epochs", "2"]
    with pytest.raises(UserError, match=r"crops, from which .* is not there.* `data` FOLDER"):
        train.main(resume)
    with pytest.raises(UserError, match=r"\(training 5, held out 2, .*than there are \(training 8"):
        train.main([*start[:-1], "--resume", "auto", "--data", str(moved), "--epochs", "2"])
    capsys.readouterr()
    assert train.main([*resume, "--data", str(moved)]) == 0
    assert "It goes on with these" in capsys.readouterr().out
    assert (run / "log.csv").read_text().startswith(log)
    assert [row["epoch"] for row in read_log(run)] == ["0", "1"]
    assert state(run)["optimizer/vars/0"] == 4
    settings = read_settings(run)
    assert settings["data"] == str(moved)
    assert settings["init_generator"] == str(tmp_path / "first")
    assert settings["crops"]["training"] == 8


def run_of(crops, run):
    assert train.main(plain(crops, run, "--epochs", "1", "--steps-per-epoch", "1")) == 0
    return run


def test_resume_auto_begins_and_goes_on(crops, tmp_path, capsys):
    run = tmp_path / "run"
    with pytest.raises(UserError, match="`resume` auto needs `run`"):
        train.main(["--resume", "auto"])
    run.mkdir()
    (run / "recipe.json").touch()  # It was killed before its first checkpoint.
    assert train.main(plain(crops, run, "--resume", "auto", "--epochs", "1")) == 0
    assert train.main(plain(crops, run, "--resume", "auto", "--epochs", "2")) == 0
    assert f"{run}, from step 3" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"keeps the run's own settings.*Received: filters"):
        train.main(plain(crops, run, "--resume", "auto", "--filters", "8"))


def test_a_folder_removed_under_the_run_is_one_error(crops, tmp_path, monkeypatch):
    run = tmp_path / "run"

    class Remove(callbacks.SamplePictures):
        def on_epoch_end(self, epoch, logs=None):
            shutil.rmtree(run)

    monkeypatch.setattr(callbacks, "SamplePictures", Remove)
    with pytest.raises(UserError, match="run has been removed while it was trained in"):
        train.main(plain(crops, run))


# The run ends with its log open, as the program is about to.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_report_that_cannot_be_written_costs_no_training(crops, tmp_path):
    run = tmp_path / "run"

    def fill_disk(*args):
        raise OSError(28, "No space left on device", "epoch-0001.png")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks, "write_png", fill_disk)
        with pytest.raises(OSError, match="No space left"):
            train.main(plain(crops, run, "--sample-every", "1"))
    assert state(run)["optimizer/vars/0"] == 0

    with pytest.MonkeyPatch.context() as patch:
        usage = type("Usage", (), {"free": 1000})
        patch.setattr(callbacks.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(UserError, match=r"has 0 MB free.*Make room"):
            train.main(["--resume", str(run)])


def test_resume_keeps_the_run_s_settings(crops, tmp_path):
    """Of one whose steps take two batches of one crop, into which one crop could not be split."""
    run = tmp_path / "run"
    batches = ["--critic-steps", "2", "--batch-size", "1"]
    assert train.main(tiny(crops, run, "--epochs", "1", *batches)) == 0
    assert read_settings(run)["recipe"].batches_per_step == 2
    with pytest.raises(UserError, match=r"keeps the run's own settings.*Received: filters"):
        train.main(["--resume", str(run), "--filters", "8"])


def assert_equal_networks(*files):
    """What was trained in two networks is the same, bit for bit."""
    ours, theirs = (keras.models.load_model(f, compile=False).trainable_variables for f in files)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_can_start_from_another_one_s_generator(crops, tmp_path, capsys):
    first, second = tmp_path / "first", tmp_path / "second"
    assert train.main(plain(crops, first, "--epochs", "1")) == 0
    arguments = ["--epochs", "1", "--learning-rate", "0", "--init-generator"]
    assert train.main(plain(crops, second, *arguments, str(first))) == 0
    assert f"Generator: starts from {first}" in capsys.readouterr().out
    assert_equal_networks(first / "generator.keras", second / "generator.keras")
    with pytest.raises(UserError, match=r"does not fit this recipe\. .*: `filters` 4"):
        train.main(plain(crops, tmp_path / "third", *arguments, str(first), "--filters", "8"))
    with pytest.raises(UserError, match="no generator"):
        train.main(plain(crops, tmp_path / "third", *arguments, str(tmp_path / "none")))


def test_a_run_can_start_from_another_one_s_discriminator(crops, tmp_path, capsys):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert train.main(tiny(crops, first, "--epochs", "1")) == 0
    arguments = ["--epochs", "1", "--learning-rate", "0", "--init-discriminator", str(first)]
    assert train.main(tiny(crops, second, *arguments)) == 0
    assert f"Discriminator: starts from {first}" in capsys.readouterr().out
    assert_equal_networks(first / "discriminator.keras", second / "discriminator.keras")
    assert train.main(["--resume", str(second), "--init-discriminator", str(first)]) == 0
    with pytest.raises(UserError, match=r"keeps the run's own.*Received: init_discriminator"):
        train.main(["--resume", str(second), "--init-discriminator", str(third)])
    with pytest.raises(UserError, match=r"does not fit .*: `discriminator_filters` 4; or begin"):
        train.main(tiny(crops, third, *arguments, "--discriminator-filters", "8"))
    with pytest.raises(UserError, match=r"does not fit .*: `crop_size` 32; or begin"):
        train.main(tiny(crops, third, *arguments, "--crop-size", "40"))
    with pytest.raises(UserError, match="srcnn has no discriminator"):
        train.main(plain(crops, third, *arguments))


def test_the_recipe_paper_trains_and_lowers_its_learning_rate(crops, tmp_path):
    """Blurred LR in [0, 1], pixel shuffle; the rate drops and is right after resuming."""
    run = tmp_path / "run"
    small = (
        "--recipe paper --crop-size 32 --filters 4 --residual-blocks 0 --discriminator-filters 4 "
        "--dense-units 8 --content-loss mse --batch-size 2 --steps-per-epoch 2 --epochs 1 "
        "--learning-rate-drop-step 2"
    ).split()
    assert train.main([*small, "--data", str(crops), "--run", str(run)]) == 0
    recipe = read_settings(run)["recipe"]
    assert (recipe.generator.lr_range, recipe.generator.upsampling) == ("0..1", "pixel_shuffle")
    assert recipe.pairs.lr_blur_sigma == 1.0
    gan = loop.build_gan(recipe)
    assert float(gan.optimizer.learning_rate) == pytest.approx(1e-4)
    load_checkpoint(run, gan)
    assert float(gan.optimizer.learning_rate) == pytest.approx(1e-5)
    assert float(gan.discriminator_optimizer.learning_rate) == pytest.approx(1e-5)


def test_a_batch_must_divide_between_the_devices(crops, tmp_path, monkeypatch, two_replicas):
    monkeypatch.setattr(loop, "choose_strategy", lambda name: two_replicas)
    with pytest.raises(UserError, match="multiple of 2"):
        train.main(tiny(crops, tmp_path / "run", "--batch-size", "3"))


@pytest.mark.graph
@pytest.mark.saved_model
def test_two_replicas_train_export_and_resume(crops, tmp_path, monkeypatch, capsys, two_replicas):
    """Their steps are in the tests of `gan`."""
    monkeypatch.setattr(loop, "choose_strategy", lambda name: two_replicas)
    run = tmp_path / "run"
    assert train.main(plain(crops, run, "--epochs", "1")) == 0
    assert (run / "saved_model" / "saved_model.pb").is_file()
    monkeypatch.setattr(loop, "export_saved_model", lambda gan, run: None)  # It is as the first.
    assert train.main(["--resume", str(run), "--epochs", "2"]) == 0
    assert "Devices: CPU:0, CPU:1 (MirroredStrategy)" in capsys.readouterr().out
    assert state(run)["optimizer/vars/0"] == 6


def test_too_little_memory_is_said_before_training(crops, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "device_memory", lambda: memory.FRAMEWORK_BYTES + 100_000)
    with pytest.raises(UserError, match=r"needs about .* and there are .*smaller `crop_size`"):
        train.main(plain(crops, tmp_path / "run"))
    assert train.main(plain(crops, tmp_path / "run", "--no-check-memory", "--epochs", "1")) == 0


def test_a_broken_crop_is_named(crops, tmp_path):
    path = crops / "train" / "2.png"
    path.write_bytes(path.read_bytes()[:600])
    run = tmp_path / "run"
    with pytest.raises(UserError, match=r"2.png cannot be read"):
        train.main(plain(crops, run))
    assert state(run)


@pytest.mark.parametrize("arguments", ["--crop-sise 96", "--recipe nosuch", "--strategy tpu"])
def test_errors_are_one_line_and_exit_code_2(arguments, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", *arguments.split()])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(SystemExit) as caught:
        train.cli.run(train.main)
    sys.stderr.flush()
    lines = sys.stderr.buffer.getvalue().decode().splitlines()
    assert caught.value.code == 2
    assert len(lines) == 1
    assert "error:" in lines[0]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ("--recipe srresnet --label-noise 0.1", "label_noise"),
        ("--recipe srresnet --pixel-weight 1", "pixel_weight"),
        ("--recipe demo --adversarial-weight 0 --dense-units=8", "dense_units"),
        ("--recipe demo --content-loss mse --vgg-feature-scale 1", "vgg_feature_scale"),
    ],
)
def test_a_setting_that_the_recipe_s_parts_do_not_have_is_refused(crops, arguments, name):
    with pytest.raises(UserError, match=f"has no setting '{name}'"):
        train.main([*arguments.split(), "--data", str(crops)])


LETTER = (
    "--recipe tutorial --crop-size 32 --filters 2 --residual-blocks 0 --discriminator-filters 2 "
    "--dense-units 2 --content-loss mse --batch-size 2 --epochs 2 --save-every 2"
).split()


def test_the_tutorial_to_the_letter_leaves_what_the_tutorial_leaves(crops, tmp_path, monkeypatch):
    """Pictures after the first epoch, both networks every so often, in parts that fit."""
    run = tmp_path / "run"
    sizes = []
    monkeypatch.setattr(
        memory, "training_memory", lambda gan, loss, size, n: sizes.append(n) or (1e6, n * 1e9)
    )
    monkeypatch.setattr(memory, "device_memory", lambda: memory.FRAMEWORK_BYTES + 1.5e9)
    assert train.main([*LETTER, "--data", str(crops), "--run", str(run)]) == 0
    names = {path.name for path in (run / "samples").iterdir()}
    assert names == {"epoch-0000.png", "epoch-0001.png", "epoch-0002.png"}
    kept = {path.name for path in (run / "checkpoints").glob("epoch-*")}
    assert kept == {"epoch-0002-generator.keras", "epoch-0002-discriminator.keras"}
    assert len(read_log(run)) == 2
    assert sizes[-1] == 1  # of a batch of 2, in two parts


def test_the_discriminator_is_there_after_a_stop(crops, tmp_path, monkeypatch):
    run = tmp_path / "run"

    class StopAtOnce(callbacks.StopOnSignal):
        def on_train_batch_end(self, batch, logs=None):
            raise callbacks.Stopped

    monkeypatch.setattr(callbacks, "StopOnSignal", StopAtOnce)
    assert train.main(tiny(crops, run)) == 130
    discriminator = keras.models.load_model(run / "discriminator.keras", compile=False)
    assert discriminator.layers[-1].name == "validity"


@pytest.mark.bfloat16
def test_slow_bfloat16_is_said(crops, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(devices, "bfloat16_factor", lambda: 3.4)
    arguments = plain(crops, tmp_path / "run", "--epochs", "1", "--precision", "mixed_bfloat16")
    assert train.main(arguments) == 0
    assert "takes 3.4 times as long as in float32" in capsys.readouterr().out
    monkeypatch.setattr(devices, "bfloat16_factor", lambda: 0.6)
    devices.warn_of_slow_bfloat16("precision bfloat16")
    assert not capsys.readouterr().out


def test_runs_of_version_0_1(crops, tmp_path):
    """Their generators go on; their checkpoints, whose parts had other names, say what to do."""
    run = tmp_path / "run"
    command = [*AVERAGED, "--precision", "float32", "--data", str(crops), "--epochs", "1"]
    command += ["--adversarial-weight", "0"]
    assert train.main([*command, "--run", str(run)]) == 0
    settings = json.loads((run / "recipe.json").read_text())
    settings["recipe"] |= {"label_noise": 0.2, "lr_range": "-1..1", "adversarial_weight": 0.0}
    (run / "recipe.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"of another version.*init_generator"):
        train.main(["--resume", str(run)])
    again = ["--init-generator", str(run), "--run", str(tmp_path / "again")]
    assert train.main([*command, *again]) == 0
