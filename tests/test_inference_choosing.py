"""The rule that chooses between `srgan` and `photo`, and what is loaded of them."""

import io
import re
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from srgan_keras import upscale
from srgan_keras.common.errors import UserError
from srgan_keras.common.photograph import Photograph, open_photograph
from srgan_keras.common.pictures import list_pictures
from srgan_keras.data import SAMPLE_IMAGES
from srgan_keras.inference import choosing, page, sources
from srgan_keras.inference.choosing import Chooser, find_flaw
from srgan_keras.inference.interpolation import Interpolation

BLOCKS, NOISE = "shows JPEG's blocks", "shows noise"


def reduced():
    """The sample photographs, half as wide and as high: clean."""
    for path in list_pictures(SAMPLE_IMAGES):
        with Image.open(path) as image:
            yield np.asarray(image.resize((192, 192), Image.Resampling.BICUBIC))


def compressed(picture, quality):
    """What is left of a picture in a JPEG; 4:2:0 below 90, as most programs do."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def noisy(picture, deviation):
    noise = np.random.default_rng(0).normal(0, deviation, picture.shape)
    return (picture + noise).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("spoil", "flaw"),
    [
        (lambda picture: picture, None),
        (lambda picture: compressed(picture, 30), BLOCKS),
        (lambda picture: compressed(picture, 50)[3:, 5:], BLOCKS),  # the blocks begin elsewhere
        (lambda picture: compressed(picture, 70)[:, ::-1], BLOCKS),
        (lambda picture: compressed(picture, 90), BLOCKS),
        (lambda picture: compressed(picture, 95).astype(np.uint16) * 257, BLOCKS),
        (lambda picture: noisy(picture, 6), NOISE),
        (lambda picture: noisy(picture, 10)[:40, :50], NOISE),
    ],
    ids=["clean", "30", "50, cut", "70, mirrored", "90", "95, 16 bits", "noise", "much, small"],
)
def test_of_sample_photographs_nearly_all_are_told(spoil, flaw):
    found = [find_flaw(Photograph(spoil(picture))) for picture in reduced()]
    assert len(found) == 16
    assert found.count(flaw) >= 15


def test_set14_is_told(shared):
    """All of it, as docs/upscaling.md says; no limit was chosen by it."""
    pictures = [open_photograph(path) for path in list_pictures(shared / "benchmarks/Set14/LR_x4")]
    assert [find_flaw(picture) for picture in pictures] == [None] * 14
    for quality in (30, 50, 70, 90):
        spoilt = (Photograph(compressed(picture.colours, quality)) for picture in pictures)
        assert [find_flaw(picture) for picture in spoilt] == [BLOCKS] * 14


def test_a_large_photograph_is_looked_at_in_squares():
    """And the blocks begin in all of them where they begin in the first."""
    small = next(reduced())
    large = np.tile(small, (5, 6, 1))[:-3, :-1]
    assert find_flaw(Photograph(large)) is None
    assert find_flaw(Photograph(compressed(large, 80)[4:, 1:])) == BLOCKS


def test_a_jpeg_is_a_jpeg(tmp_path):
    plain = Image.new("RGB", (40, 30), "red")
    plain.save(tmp_path / "a.png", "JPEG", quality=100, subsampling=0)  # whatever its suffix says
    plain.save(tmp_path / "two.jpg", "MPO", save_all=True, append_images=[plain])
    plain.save(tmp_path / "b.png")
    flaws = [find_flaw(open_photograph(tmp_path / name)) for name in ("a.png", "two.jpg", "b.png")]
    assert flaws == ["a JPEG", "a JPEG", None]


@pytest.mark.parametrize("size", [(1, 1), (31, 400), (32, 32), (1, 7000)])
def test_pictures_of_any_size(size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    assert find_flaw(Photograph(noise)) == (NOISE if min(size) >= 32 else None)


def test_the_choice_needs_no_keras():
    program = "import sys, srgan_keras.inference.choosing\nassert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


class Repeat(Interpolation):
    """Stands for a generator: repeats pixels, and notes when it is loaded and released."""

    events: ClassVar[list] = []

    def __init__(self, name, blend, **options):
        super().__init__("nearest", 4)
        self.release = lambda: self.events.append(f"release {name}")
        self.events.append((name, blend, options.get("runtime")))


@pytest.fixture
def events(monkeypatch):
    monkeypatch.setattr(choosing, "Upscaler", Repeat)
    monkeypatch.setattr(Repeat, "events", [])
    return Repeat.events


def test_a_folder_of_both_kinds(events, tmp_path, monkeypatch, capsys):
    """Each generator is loaded once, when it is first needed; the line says which, and why."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    first, second, *_ = (picture[:64, :64] for picture in reduced())
    Image.fromarray(first).save("photos/1.png")
    Image.fromarray(second).save("photos/2.webp", lossless=True)
    command = ["photos", "--blend", "0.5", "--runtime", "onnx"]
    assert upscale.main([*command, "--dry-run"]) == 0
    assert not events
    assert upscale.main(command) == 0
    assert events == [("srgan", 0.5, "onnx")]

    Image.fromarray(noisy(first, 12)).save("photos/3.png")
    Image.fromarray(second).save("photos/4.jpg")
    Image.fromarray(first).save("photos/5.png")
    events.clear()
    capsys.readouterr()
    assert upscale.main([*command, "--overwrite"]) == 0
    said = re.findall(r" 256x256, (.*) \(", capsys.readouterr().out)
    clean, noise, jpeg = "by srgan: clean", "by photo: shows noise", "by photo: a JPEG"
    assert said == [clean, clean, noise, jpeg, clean]
    other = ["release srgan", "release srgan", "release photo"]  # before pictures 3, 4 and 5
    assert events == [("srgan", 0.5, "onnx"), ("photo", 0.5, "onnx"), *other]


def test_the_page_chooses_too(events, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "_load", choosing.load_model)
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    (shown,) = page.work([str(tmp_path / "a.jpg")], "auto", 0.5, 10_000, tmp_path)
    assert page.describe(shown).startswith("<li>a.jpg: 40x30 to 160x120, by photo: a JPEG, ")
    assert events == [("photo", 0.5, None)]


def test_a_generator_that_does_not_load_ends_it(tmp_path, monkeypatch):
    """And is not taken for a fault of each photograph."""
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    command = [str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]
    with pytest.raises(UserError, match="`blend` mixes srresnet with srgan or photo-srresnet with"):
        upscale.main([*command, "--blend", "2"])
    with pytest.raises(UserError, match=r"`device` must be auto, cpu, gpu.* Received: 'tpu'"):
        upscale.main([*command, "--device", "tpu"])
    monkeypatch.setattr(sources, "WEIGHTS", tmp_path)
    with pytest.raises(UserError, match=r"srgan_x4\.keras is missing or damaged"):
        Chooser()
