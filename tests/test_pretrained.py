import shutil

import numpy as np
import pytest

from data_prep.cli import UserError
from data_prep.pictures import open_picture, write_png
from srgan_keras import evaluate, pretrained, upscale
from srgan_keras.pretrained import PRETRAINED, WEIGHTS, load_pretrained
from srgan_keras.train import SAMPLE_IMAGES


def stated_scores(data):
    """Returns {method: PSNR} of a set from the table in the model card."""
    table = [line for line in (WEIGHTS / "README.md").read_text().splitlines() if "|" in line]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    header = next(row for row in rows if row[0] == "method")
    column = header.index(f"{data} PSNR / SSIM")
    return {
        row[0]: float(row[column].split("/")[0])
        for row in rows[rows.index(header) + 2 :]
        if len(row) == len(header)
    }


def assert_as_stated(data, folder):
    stated = stated_scores(data)
    assert set(PRETRAINED) <= stated.keys()
    methods = {name: evaluate.load_method(name, 4) for name in PRETRAINED}
    rows, skipped = evaluate.evaluate(methods, evaluate.find_samples(folder, 4), 4)
    assert not skipped
    for name, summary in evaluate.summarise(rows).items():
        assert summary["psnr_y"] == pytest.approx(stated[name], abs=0.01), name


def test_scores_on_the_sample_photographs_are_as_stated():
    assert_as_stated("sample_images", SAMPLE_IMAGES)


def test_scores_on_set5_are_as_stated(shared):
    assert_as_stated("Set5", shared / "benchmarks" / "Set5")


def test_blend_mixes_weights():
    plain, detailed = (load_pretrained(name)[0].get_weights() for name in ("srresnet", "srgan"))
    for blend in (0, 0.25, 1):
        weights = load_pretrained("srgan", blend)[0].get_weights()
        for a, b, mixed in zip(plain, detailed, weights, strict=True):
            np.testing.assert_allclose(mixed, (1 - blend) * a + blend * b, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "blend", "message"),
    [
        ("srgan", 1.5, r"srresnet \(0\) with srgan \(1\).*Received: blend=1.5"),
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
    monkeypatch.setattr(pretrained, "WEIGHTS", copy)
    load_pretrained("srgan")
    data = bytearray((copy / "srgan_x4.keras").read_bytes())
    data[-5000] ^= 1
    (copy / "srgan_x4.keras").write_bytes(data)
    with pytest.raises(UserError, match="missing or damaged"):
        load_pretrained("srgan")


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
