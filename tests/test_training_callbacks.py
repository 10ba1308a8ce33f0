import csv
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from srgan_keras.common.errors import UserError
from srgan_keras.data import batches as data
from srgan_keras.data.crops import list_crops
from srgan_keras.run import find_checkpoints, load_checkpoint
from srgan_keras.training import callbacks
from srgan_keras.training.loop import build_gan


@pytest.fixture
def gan(tiny_recipe, small_discriminators):
    gan = build_gan(tiny_recipe)
    gan.run_eagerly = True  # A graph takes longer to trace than these few steps.
    return gan


@pytest.fixture
def batches(crops, tiny_recipe):
    return data.training_batches(list_crops(crops / "train", 32), tiny_recipe.pairs, 2)


def fit(gan, batches, *reports, epochs=1):
    gan.fit(batches, steps_per_epoch=2, epochs=epochs, shuffle=False, verbose=0, callbacks=reports)


def test_checkpoint_restores_the_state(gan, batches, tmp_path, tiny_recipe):
    fit(gan, batches, callbacks.Checkpoint(tmp_path))
    again = build_gan(tiny_recipe)
    load_checkpoint(tmp_path, again)
    for ours, theirs in zip(gan.variables, again.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    generator = keras.models.load_model(tmp_path / "generator.keras", compile=False)
    lr = np.zeros((1, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(generator(lr), gan.generator(lr))
    assert not list(tmp_path.rglob(".*"))


def test_checkpoint_saves_on_the_way_when_its_time_has_come(gan, batches, tmp_path):
    saved = []

    class Watch(callbacks.Checkpoint):
        def save(self):
            super().save()
            saved.append(self.model.step)

    fit(gan, batches, Watch(tmp_path, minutes=0))
    assert saved == [1, 2, 2]
    steps = [path.name.split("-")[1] for path in find_checkpoints(tmp_path)]
    # The last two, and the last at which all was known to be well: here the start.
    assert steps == ["000000002", "000000001", "000000000"]


def test_checkpoint_never_saves_a_diverged_network(gan, batches, tmp_path):
    fit(gan, batches, callbacks.Checkpoint(tmp_path))
    good = (tmp_path / "generator.keras").read_bytes()
    gan.generator.trainable_variables[0].assign(
        np.full(gan.generator.trainable_variables[0].shape, np.nan)
    )
    with pytest.raises(UserError, match=r"diverged.*`learning_rate`"):
        fit(gan, batches, callbacks.Checkpoint(tmp_path))
    assert (tmp_path / "generator.keras").read_bytes() == good


def test_sample_pictures_are_pixel_for_pixel(gan, crops, tmp_path, tiny_recipe):
    paths = list_crops(crops / "test", 32)
    lr, hr = data.sample_pairs(paths, tiny_recipe.pairs)
    report = callbacks.SamplePictures(tmp_path, (lr, hr), tiny_recipe)
    report.set_model(gan)
    report.write(3)
    picture = np.asarray(Image.open(tmp_path / "samples/epoch-0003.png"))
    assert picture.shape == (2 * 40, 3 * 40, 3)
    np.testing.assert_array_equal(
        picture[:40, 80:], np.asarray(Image.open(crops / "test" / "5.png"))
    )
    np.testing.assert_array_equal(picture[0:4, 0:4], np.broadcast_to(picture[0, 0], (4, 4, 3)))
    sr = np.asarray(gan.generator(lr[:1], training=False))[0]
    np.testing.assert_array_equal(picture[:40, 40:80], np.clip(np.round((sr + 1) * 127.5), 0, 255))


def test_sample_pictures_come_at_the_start_every_so_often_and_at_the_end(
    gan, batches, crops, tmp_path, tiny_recipe
):
    pairs = data.sample_pairs(list_crops(crops / "test", 32), tiny_recipe.pairs)
    recipe = tiny_recipe.with_settings(sample_every=2, epochs=3)
    fit(gan, batches, callbacks.SamplePictures(tmp_path, pairs, recipe), epochs=3)
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names == ["epoch-0000.png", "epoch-0002.png", "epoch-0003.png"]


def test_loss_curves_and_tensorboard_show_the_log(gan, batches, tmp_path):
    makers = callbacks.TensorBoardLogs, callbacks.Log, callbacks.LossCurves
    fit(gan, batches, *(make(tmp_path) for make in makers), epochs=2)

    with Image.open(tmp_path / "losses.png") as picture:
        assert picture.size == (1000, 700)
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    (events,) = (tmp_path / "tensorboard").iterdir()
    points = {}
    for record in tf.data.TFRecordDataset(str(events)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            points[event.step, value.tag] = tf.make_ndarray(value.tensor).item()
    expected = {
        (int(row["epoch"]) + 1, name): pytest.approx(float(row[name]), rel=1e-6)
        for row in rows
        for name in row
        if name in set(rows[0]) - {"epoch"} and not name.startswith("val_")
    }
    assert points == expected
    assert len(points) == 16


def test_a_signal_ends_training_after_the_step(gan, batches):
    before = signal.getsignal(signal.SIGINT)
    steps = []

    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            steps.append(batch)
            signal.raise_signal(signal.SIGINT)

    signals = callbacks.StopOnSignal()
    with pytest.raises(callbacks.Stopped):
        fit(gan, batches, Interrupt(), signals, epochs=3)
    assert steps == [0]
    signals.on_train_end()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_signal_ends_it_at_once():
    signals = callbacks.StopOnSignal()
    signals.told = True
    with pytest.raises(KeyboardInterrupt):
        signals.stop(signal.SIGINT, None)


def test_the_best_generator_is_that_of_the_lowest_content_loss_in_validation(tmp_path, gan):
    checkpoint = callbacks.Checkpoint(tmp_path)
    checkpoint.set_model(gan)
    checkpoint.on_train_begin()
    file, saved = tmp_path / "best_generator.keras", []
    for epoch, loss in enumerate([3.0, None, 2.0, 2.5]):
        file.unlink(missing_ok=True)
        logs = {"loss": 1.0} if loss is None else {"loss": 1.0, "val_content_loss": loss}
        checkpoint.on_epoch_end(epoch, logs)
        saved.append(file.exists())
    assert saved == [True, False, True, False]

    (tmp_path / "log.csv").write_text("epoch,val_content_loss\n0,3.0\n1,NA\n2,2.0\n")
    resumed = callbacks.Checkpoint(tmp_path)
    resumed.set_model(gan)
    resumed.on_train_begin()
    assert resumed.best == 2.0
