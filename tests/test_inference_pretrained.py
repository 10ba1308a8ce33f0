import io
import json
import re
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from keras import layers

from srgan_keras import upscale
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import open_picture, write_png
from srgan_keras.data import SAMPLE_IMAGES
from srgan_keras.evaluation import tables
from srgan_keras.inference import sources
from srgan_keras.inference.pretrained import load_generator, load_pretrained, stored_setting
from srgan_keras.inference.sources import PRETRAINED, WEIGHTS
from srgan_keras.inference.upscaler import load_method
from srgan_keras.systems.srgan import build_generator


def stated_psnr(name, data):
    """What the card of a generator states for a set."""
    lines = (WEIGHTS / f"{name}.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|")]
    header = next(row for row in rows if row[1] == "method")
    (column,) = (index for index, title in enumerate(header) if title.startswith(f"{data} PSNR"))
    (own,) = (row for row in rows if row[1] == f"`{name}`" and len(row) == len(header))
    return float(own[column].split("/")[0])


@pytest.mark.parametrize("name", PRETRAINED)
def test_each_has_a_card_as_hugging_face_wants_it(name):
    card = (WEIGHTS / f"{name}.md").read_text()
    _, front, body = card.split("---\n", 2)
    facts = ["library_name: keras", "license: mit", "pipeline_tag: image-to-image", "tags:"]
    assert front.splitlines()[:5] == [*facts, "  - super-resolution"]
    assert body.startswith(f"\n# `{name}`\n")
    assert f"[`{name}`]({name}.md)" in (WEIGHTS / "README.md").read_text()
    assert all(stated_psnr(name, data) for data in ("sample_images", "Set5", "Set14"))
    for target in re.findall(r"\]\(([^)#:]+)", body):
        assert (WEIGHTS / target).exists(), target


def assert_as_stated(data, folder, names):
    """A part of what cards state, all of which `srgan_keras.evaluate` gives in a few minutes."""
    methods = {name: load_method(name, 4) for name in names}
    rows, skipped = tables.evaluate(methods, tables.find_samples(folder, 4), 4)
    assert not skipped
    for name, summary in tables.summarise(rows).items():
        assert summary["psnr_y"] == pytest.approx(stated_psnr(name, data), abs=0.01), name


def test_scores_on_the_sample_photographs_are_as_stated():
    assert_as_stated("sample_images", SAMPLE_IMAGES, ["srcnn", "srgan"])


def test_scores_on_set5_are_as_stated(shared):
    assert_as_stated("Set5", shared / "benchmarks" / "Set5", ["srresnet"])


def test_blend_mixes_weights(monkeypatch):
    load, shipped = keras.models.load_model, {}

    def load_and_keep(file, **options):
        model = load(file, **options)
        shipped[Path(file).name] = model.get_weights()
        return model

    monkeypatch.setattr(keras.models, "load_model", load_and_keep)
    weights = load_pretrained("srgan", 0.25).get_weights()
    plain, detailed = shipped["srresnet_x4.keras"], shipped["srgan_x4.keras"]
    for a, b, mixed in zip(plain, detailed, weights, strict=True):
        np.testing.assert_allclose(mixed, 0.75 * a + 0.25 * b, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "blend", "message"),
    [
        ("srgan", 1.5, "mixes srresnet with srgan or photo-.*: 0 is .*Received: blend=1.5"),
        ("srresnet", 0.5, "Received: blend=0.5 for srresnet"),
        ("esrgan", None, "no generator 'esrgan'. Names: srresnet, srgan"),
    ],
)
def test_errors(name, blend, message):
    with pytest.raises(UserError, match=message):
        load_pretrained(name, blend)


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    copy = tmp_path / "weights"
    shutil.copytree(WEIGHTS, copy)
    monkeypatch.setattr(sources, "WEIGHTS", copy)
    load_pretrained("srcnn")
    data = bytearray((copy / "srcnn_x4.keras").read_bytes())
    data[-5000] ^= 1
    (copy / "srcnn_x4.keras").write_bytes(data)
    with pytest.raises(UserError, match="missing or damaged"):
        load_pretrained("srcnn")


def test_upscale_needs_no_more_than_a_photograph(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photo = next((SAMPLE_IMAGES / "test").iterdir())
    write_png(tmp_path / "small.png", open_picture(photo)[:20, :30])
    assert upscale.main(["small.png"]) == 0
    assert upscale.main(["small.png", "--blend", "0", "--out", "faithful"]) == 0
    results = [
        open_picture(tmp_path / folder / "small_x4.png") for folder in ("upscaled", "faithful")
    ]
    assert results[0].shape == (80, 120, 3)
    assert not np.array_equal(*results)


def test_a_generator_by_name_run_or_file(tmp_path):
    assert load_generator("srcnn").count_params() == load_pretrained("srcnn").count_params()
    generator = build_generator(filters=2, residual_blocks=1)
    generator.trainable = False
    generator.save(tmp_path / "generator.keras")
    # No recipe.json, or a broken one, is no reason not to have the weights.
    for settings in (None, "{", "[]", '{"recipe": 3}', json.dumps({"recipe": {"seed": 3}})):
        if settings:
            (tmp_path / "recipe.json").write_text(settings)
        for source in (tmp_path, str(tmp_path / "generator.keras")):
            loaded = load_generator(source)
            assert len(loaded.trainable_variables) == len(loaded.get_weights()) - 6
            for weight, expected in zip(loaded.weights, generator.weights, strict=True):
                np.testing.assert_array_equal(weight, expected)
    assert stored_setting(tmp_path, "seed") == 3
    assert stored_setting(tmp_path, "other") is None
    assert stored_setting(tmp_path / "none", "seed") is None


def network(inputs, *chain):
    x = y = keras.Input(inputs)
    for layer in chain:
        y = layer(y)
    return keras.Model(x, y)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: network((32, 32, 3), layers.UpSampling2D(2)), "turn pictures into pictures"),
        (lambda: network((None, None, 1), layers.Conv2D(3, 1)), "turn pictures into pictures"),
        (lambda: network((None, None, 3), layers.Conv2D(1, 1)), "turn pictures into pictures"),
        (lambda: network((7,), layers.Dense(3)), "turn pictures into pictures"),
        (
            lambda: network((None, None, 3), layers.Conv2D(3, 3, name="valid")),
            r"cannot be used: .*Received: valid \(Conv2D, padding valid",
        ),
        (lambda: network((None, None, 3), layers.MaxPooling2D()), "Received: max_pooling2d"),
    ],
)
def test_another_network_is_refused_in_one_line(model, message, tmp_path):
    model().save(tmp_path / "model.keras")
    with pytest.raises(UserError, match=message) as error:
        load_generator(tmp_path / "model.keras")
    assert "\n" not in str(error.value)


def rewrite(file, member, change):
    """Changes a member of a .keras file."""
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name == member else content)


def declare_more(weights):
    """An array of 80 MB of which no byte is written."""
    file = io.BytesIO(weights)
    with h5py.File(file, "a") as groups:
        groups.create_dataset("more", (20_000_000,), "float32", chunks=(1000,), compression="gzip")
    return file.getvalue()


@pytest.mark.parametrize(
    ("member", "change", "message"),
    [
        ("model.weights.h5", lambda content: bytes(20_000_000), "unpacks to more than 10 times"),
        ("model.weights.h5", declare_more, r"asks for 20,0\d\d,\d\d\d weights"),
        (
            "config.json",
            lambda content: re.sub(rb'("filters": |null, )2\b', rb"\g<1>3000000000", content),
            r"asks for [\d,]{15,} weights",
        ),
    ],
)
def test_a_file_that_would_take_much_memory_is_refused(tmp_path, member, change, message):
    file = tmp_path / "generator.keras"
    convolutions = [layers.Conv2D(count, 3, padding="same") for count in (2, 3)]
    network((None, None, 3), *convolutions).save(file)
    rewrite(file, member, lambda content: content)
    assert load_generator(file).count_params()
    rewrite(file, member, change)
    with pytest.raises(UserError, match=rf"does not load \(it .*{message}"):
        load_generator(file)


def test_a_file_that_keras_does_not_load_is_refused_in_one_line(tmp_path):
    file = tmp_path / "generator.keras"
    with pytest.raises(UserError, match="There is no generator"):
        load_generator(tmp_path)
    file.write_text("nothing")
    with pytest.raises(UserError, match="does not load"):
        load_generator(tmp_path)
    network((None, None, 3), layers.Lambda(lambda x: x)).save(file)  # code that it would run
    with pytest.raises(UserError, match=r"does not load .*Lambda") as error:
        load_generator(file)
    assert "\n" not in str(error.value)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(UserError, match="does not load"):
        load_generator(file)
