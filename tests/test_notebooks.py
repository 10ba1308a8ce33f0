"""The notebooks: executed with small settings, and as they are stored.

They are executed in this process, cell by cell, because a kernel takes longer to import TensorFlow
than all of them to run; and warnings are errors here.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from data_prep_fixtures import SmallCoco
from PIL import Image

from srgan_keras.common.pictures import open_picture
from srgan_keras.systems.srgan import build_generator

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
#: What stands in place of the parameters.
SMALL = {
    "1_coco_data.ipynb": """
COCO, SPLIT, CROPS, NUM_IMAGES, SIZE, BATCH = "coco", "val2017", "crops", 5, 96, 2
""",
    "2_tutorial.ipynb": """
CROPS, START, RUN, EAGERLY = "crops", None, "run", True
FILTERS, RESIDUAL_BLOCKS, DISCRIMINATOR_FILTERS, DENSE_UNITS = 4, 1, 4, 8
CROP, BATCH, EPOCHS, STEPS, VGG_LAYER = 32, 2, 2, 1, "block1_conv1"
""",
    "3_inference.ipynb": """
MODEL, BLENDS, PHOTO, SAVED_MODEL, SIDE = "small.keras", (), "photo.png", "saved_model", 96
""",
    "4_comparison.ipynb": """
METHODS, DATA, RATED = ["nearest", "bicubic", "lanczos", "srcnn"], "crops", ["bicubic"]
RATERS, OPINION = 2, "opinion"
""",
    "5_wdrn.ipynb": """
CROPS, PIXEL_STEPS, STEPS, OUT = "crops", 1, 1, "wdrn"
BOTH = {"filters": 4, "crop_size": 32, "batch_size": 2, "residual_blocks": 1}
DENSE = {"growth": 2, "dense_layers": 1}
CRITIC, VGG = {"discriminator_filters": 4, "dense_units": 8}, {"content_loss": "block1_conv1"}
CRITIC_VGG = {"critic_layer": "block1_conv1"}
""",
}


def code_cells(name):
    cells = nbformat.read(NOTEBOOKS / name, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def execute(name):
    """Runs the cells in this process; returns what they have defined."""
    names = {"__name__": "__main__"}
    for number, cell in enumerate(code_cells(name), 1):
        source = SMALL[name] if "parameters" in cell.metadata.get("tags", []) else cell.source
        exec(compile(source, f"{name}, code cell {number}", "exec"), names)
    return names


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """A folder `crops` to work beside, whose pictures are smooth and not all the same."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 2)):
        folder = tmp_path / "crops" / split
        folder.mkdir(parents=True)
        for number in range(count):
            rough = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
            rough.resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{number}.png")


def test_every_notebook_is_here():
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} == set(SMALL)


def test_coco_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = SmallCoco(tmp_path / "coco", count=6, split="val2017", width=112, height=100)
    for one in small.annotations:
        one |= {"segmentation": [[0, 0, 10, 0, 10, 10, 0, 10]], "area": 100}
    small.save()
    file, licence = tmp_path / "coco" / "annotations" / "instances_val2017.json", "//licence/by"
    file.write_text(file.read_text().replace(licence, "//creativecommons.org/licenses/by/2.0/"))
    names = execute("1_coco_data.ipynb")
    assert names["lr"].shape == (24, 24, 3)
    assert names["hr_batch"].shape == (2, 24, 24, 3)
    assert np.array_equal(names["again"][1], next(iter(names["dataset"]))[1])


def test_tutorial(photographs):
    names = execute("2_tutorial.ipynb")
    assert names["losses"]["brighter by 12"][1] < names["losses"]["bicubic enlargement"][1]
    assert len(names["history"]["content_loss"]) == 2
    assert (names["run"] / "losses.png").is_file()


def test_inference(photographs, tmp_path):
    build_generator(filters=4, residual_blocks=1).save("small.keras")
    Image.linear_gradient("L").resize((100, 96)).save("photo.png")
    names = execute("3_inference.ipynb")
    assert names["large"].shape == (96, 96, 3)
    assert abs(names["tiled"] - names["whole"]).max() <= 1


def test_comparison(photographs):
    names = execute("4_comparison.ipynb")
    assert set(names["summary"]) == {"nearest", "bicubic", "lanczos", "srcnn"}
    scores = [names["measure"](names["hr"], picture)[0] for picture in names["equal"].values()]
    assert max(scores) - min(scores) < 1  # Rounding to 8 bits leaves some.
    assert all(one.count == 2 * 2 for one in names["opinions"].values())


def test_wdrn(photographs, quick, eager):
    names = execute("5_wdrn.ipynb")
    assert {row["method"] for row in names["rows"]} >= {"srgan-5", "wdrn", "bicubic"}
    assert open_picture("wdrn/runs/wdrn/samples/epoch-0001.png").shape[2] == 3


@pytest.mark.parametrize("name", SMALL)
def test_stored_as_a_whole_run_left_it(name):
    """With outputs and pictures, and without warnings, errors or paths of the machine."""
    assert (NOTEBOOKS / name).stat().st_size < 1.5e6
    cells = code_cells(name)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data"}
    assert all(output.name == "stdout" for output in outputs if output.output_type == "stream")
    texts = [output.get("text") or output.data.get("text/plain", "") for output in outputs]
    for text in texts:
        assert not any(place in text for place in ("/work", "/tmp", "/home", "/root", "Warning"))
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) >= 1


def test_the_first_cell_installs_from_the_clone(tmp_path, monkeypatch):
    (first,) = {code_cells(name)[0].source for name in SMALL}
    asked = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(NOTEBOOKS)
    exec(first, {})
    assert asked == [[sys.executable, *"-m pip install --quiet -e".split(), str(NOTEBOOKS.parent)]]
    assert sys.path[0] == str(NOTEBOOKS.parent)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="git clone"):
        exec(first, {})
