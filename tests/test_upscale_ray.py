"""Enlarging on a Ray cluster, of two workers on this machine; skips where Ray is not installed."""

import csv
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srgan_keras import upscale
from srgan_keras.common.errors import UserError
from srgan_keras.inference.photos import find_photos
from srgan_keras.inference.upscaler import Upscaler

ONCE, ALWAYS = 9, 24  # widths of the pictures that kill their worker


class Mortal:
    """An upscaler whose process some pictures kill, unless it is the test's own."""

    scale, bits = 4, 16

    def __init__(self, folder, tester, *arguments, **options):
        self.folder, self.tester = folder, tester
        self.load, self.upscaler = partial(Upscaler, *arguments, **options), None

    def __call__(self, picture):
        width = picture.shape[1]
        died = self.folder / f"died-{width}"
        deadly = width == ALWAYS or (width == ONCE and not died.exists())
        if deadly and os.getpid() != self.tester:
            with died.open("a") as file:
                file.write("x")
            os.kill(os.getpid(), signal.SIGKILL)
        self.upscaler = self.upscaler or self.load()
        return self.upscaler(picture)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """24 pictures, named after their widths; one is broken."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for width in range(1, 25):
        path = tmp_path / "photos" / f"{width:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (3, width, 3), np.uint8)).save(path)
    path.with_name("07.png").write_text("broken")
    return path.parent


@pytest.fixture(scope="module")
def two_workers():
    ray = pytest.importorskip("ray", reason='Ray is not installed: pip install ".[ray]"')
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # In place of 15, which a busy machine starves.
        ray.init(
            "local",
            num_cpus=2,
            object_store_memory=80 << 20,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
    yield
    ray.shutdown()


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).glob("*.png")}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray warns of its own settings.
def test_a_cluster_does_what_one_machine_does_though_workers_die(
    two_workers, photos, saved_model, monkeypatch, capsys
):
    mortal = partial(Mortal, photos.parent, os.getpid())
    monkeypatch.setattr(upscale, "load_model", mortal)
    plain = ["photos", "--model", str(saved_model)]
    assert upscale.main([*plain, "--out", "here"]) == 2
    command = [*plain, "--out", "on-ray", "--ray", "auto", "--failures", "failed.csv"]
    capsys.readouterr()
    assert upscale.main(command) == 2
    said = capsys.readouterr().out
    here, on_ray = files("here"), files("on-ray")
    assert len(here) == 23
    assert {**on_ray, f"{ALWAYS}_x4.png": here[f"{ALWAYS}_x4.png"]} == here
    assert not list(Path("on-ray").glob(".tmp-*"))
    assert [len(Path(f"died-{width}").read_text()) for width in (ONCE, ALWAYS)] == [1, 2]
    with open("failed.csv", newline="") as file:
        failed = {Path(row["photograph"]).name: row["reason"] for row in csv.DictReader(file)}
    assert failed == {"07.png": "not an image", f"{ALWAYS}.png": "its worker died, 2 times"}
    assert "22 enlarged, 2 failed" in said
    counts = re.findall(r"^worker .+:\d+: (\d+) in [\d.]+ s, .*/s, .* CPU", said, re.MULTILINE)
    assert sum(map(int, counts)) == 22
    # A second call, of what is finished, does nothing.
    for name in ("07.png", f"{ALWAYS}.png"):
        (photos / name).unlink()
    stamps = {path: path.stat().st_mtime_ns for path in Path("on-ray").iterdir()}
    assert upscale.main(command) == 0
    assert "0 enlarged, 22 finished before" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path("on-ray").iterdir()} == stamps
    assert Path("failed.csv").read_text() == "photograph,result,reason\n"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_keeps_workers_from_starting_ends_in_one_line(two_workers, photos, monkeypatch):
    def load(*arguments, **options):
        os.kill(os.getpid(), signal.SIGKILL)

    command = ["photos", "--ray", "auto"]
    with pytest.raises(UserError, match=r"^`device` must be auto, cpu, .* Received: 'tpu'$"):
        upscale.main([*command, "--device", "tpu"])
    with pytest.raises(UserError, match="has 2 CPUs and 0 GPUs, so no room for a worker"):
        upscale.main([*command, "--ray-gpus", "1"])
    monkeypatch.setattr(upscale, "load_model", load)
    with pytest.raises(UserError, match="died"):
        upscale.main(command)


def test_without_ray_one_line_names_the_extra(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r'`ray` needs the package ray: pip install -e "\.\[ray\]"'):
        upscale.main(["photos", "--ray", "auto"])
    with pytest.raises(UserError, match="are of a cluster: set `ray`"):
        upscale.main(["photos", "--ray-workers", "2"])


def test_lists_of_photographs(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a/b.png\n\n/data/c.jpg\r\nd.png\n")
    assert find_photos([path], tmp_path / "out") == [
        (tmp_path / "a/b.png", Path("a/b.png")),
        (Path("/data/c.jpg"), Path("data/c.jpg")),
        (tmp_path / "d.png", Path("d.png")),
    ]
    path.write_text("../up.png\n")
    with pytest.raises(UserError, match=r"\.\./up\.png leads up a folder"):
        find_photos([path], tmp_path / "out")
    path.write_text("\n")
    with pytest.raises(UserError, match="There are no pictures"):
        find_photos([path], tmp_path / "out")
