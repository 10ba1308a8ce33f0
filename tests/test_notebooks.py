import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from srgan_keras.common.pictures import open_picture

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SMALL = {
    "walkthrough.ipynb": """
from srgan_keras.data import SAMPLE_IMAGES

PHOTOS = SAMPLE_IMAGES
WORK = "work"
SETTINGS = {
    "content_loss": "mse", "filters": 4, "residual_blocks": 1, "discriminator_filters": 4,
    "crop_size": 32, "batch_size": 4, "steps_per_epoch": 2, "epochs": 1,
}
"""
}


def test_every_notebook_is_tested():
    assert {path.name for path in NOTEBOOKS.glob("*.ipynb")} == set(SMALL)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_notebook_runs_from_top_to_bottom(name, tmp_path, monkeypatch):
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)
    (parameters,) = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    parameters.source = SMALL[name]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOKS.parent)]))
    client = NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    assert open_picture(tmp_path / "work" / "enlarged.png").shape == (4 * 77, 4 * 123, 3)
