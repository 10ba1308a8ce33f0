import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import open_picture
from srgan_keras.inference.photos import find_photos
from srgan_keras.inference.upscaler import Upscaler
from srgan_keras.upscale import main


def picture(height=31, width=45):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def test_command_on_files_and_folders(saved_model, tmp_path, capsys):
    folder = tmp_path / "photos" / "sub"
    folder.mkdir(parents=True)
    Image.fromarray(picture(9, 7)).save(folder / "a.png")
    Image.new("LA", (6, 5), (100, 128)).save(tmp_path / "alpha.png")
    Image.new("L", (1, 1), 50).save(tmp_path / "dot.png")
    photos = [tmp_path / "photos", tmp_path / "alpha.png", tmp_path / "dot.png"]
    out = tmp_path / "out"
    assert main([*map(str, photos), "--model", str(saved_model.parent), "--out", str(out)]) == 0
    shapes = {path.relative_to(out): open_picture(path).shape for path in out.rglob("*.png")}
    assert shapes == {
        Path("sub/a_x4.png"): (36, 28, 3),
        Path("alpha_x4.png"): (20, 24, 3),
        Path("dot_x4.png"): (4, 4, 3),
    }
    assert "7x9 -> " in capsys.readouterr().out


def test_bad_photographs_are_named_and_the_others_done(saved_model, tmp_path, capsys):
    (tmp_path / "text.jpg").write_text("not a picture")
    Image.fromarray(picture(4, 4)).save(tmp_path / "good.png")
    arguments = [str(tmp_path / "text.jpg"), str(tmp_path / "good.png")]
    code = main([*arguments, "--model", str(saved_model), "--out", str(tmp_path / "out")])
    assert code == 2
    assert (tmp_path / "out" / "good_x4.png").is_file()
    assert "text.jpg" in capsys.readouterr().err


def test_two_arguments_with_photographs_of_one_name(saved_model, tmp_path):
    for name in ("a/same.png", "b/same.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(picture(4, 4)).save(tmp_path / name)
    arguments = [str(tmp_path / name) for name in ("a", "b")]
    with pytest.raises(UserError, match=r"Two pictures would be written to same\.png_x4\.png"):
        main([*arguments, "--model", str(saved_model), "--out", str(tmp_path / "out")])


def test_a_folder_can_take_its_own_enlargements_but_loses_no_photograph(saved_model, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.fromarray(picture(5, 4)).save(photos / "a.png")
    Image.fromarray(picture(4, 5)).save(photos / "b.png")
    arguments = ["--model", str(saved_model), "--out", str(photos)]
    assert main([str(photos), *arguments]) == 0
    before = {path.name: path.read_bytes() for path in photos.iterdir()}
    assert set(before) == {"a.png", "b.png", "a_x4.png", "b_x4.png"}
    # Once more, the enlargements are among the photographs, and in the way of others.
    with pytest.raises(UserError, match=r"a\.png would be written over .*a_x4\.png"):
        main([str(photos), *arguments])
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == before
    assert main([str(photos / "a.png"), *arguments]) == 0  # The same file by itself is no input.
    assert {path.name: path.read_bytes() for path in photos.iterdir()} == before


def test_a_photograph_is_not_written_over_by_another_way_to_it(saved_model, tmp_path):
    photo, other = tmp_path / "a.png", tmp_path / "a_x4.png"
    for path in (photo, other):
        Image.fromarray(picture(5, 4)).save(path)
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    arguments = [str(photo), str(other), "--model", str(saved_model)]
    with pytest.raises(UserError, match="would be written over"):
        main([*arguments, "--out", str(tmp_path / "link")])


def test_a_folder_of_results_within_the_photographs_is_left_out(tmp_path):
    for name in ("a.png", "out/a_x4.png", "out/deep/b_x4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [name for _, name in find_photos([tmp_path], tmp_path / "out")] == [Path("a.png")]
    deep = tmp_path / "out" / "deep"
    assert find_photos([deep], tmp_path / "out") == [(deep / "b_x4.png", Path("b_x4.png"))]


def test_clear_errors(saved_model, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="There is no file"):
        main([str(tmp_path / "none.jpg"), "--model", str(saved_model)])
    with pytest.raises(UserError, match="There are no pictures"):
        main([str(tmp_path), "--model", str(saved_model)])
    Image.fromarray(picture(4, 4)).save(tmp_path / "a.png")

    def fail(self, *arguments):
        raise MemoryError

    monkeypatch.setattr(Upscaler, "_enlarge", fail)
    with pytest.raises(UserError, match=r"a\.png: Out of memory on 4x4 pixels"):
        main([str(tmp_path / "a.png"), "--model", str(saved_model), "--out", str(tmp_path)])


def test_knows_no_model_code(saved_model, tmp_path):
    Image.fromarray(picture(5, 5)).save(tmp_path / "a.png")
    shutil.copytree(saved_model, tmp_path / "model")
    program = """
import sys
from srgan_keras.upscale import main
main(["a.png", "--model", "model"])
loaded = {name for name in sys.modules if name.startswith("srgan_keras.")}
floors = {name.removeprefix("srgan_keras.").split(".")[0] for name in loaded}
assert floors == {"common", "data", "inference", "upscale"}, loaded
ours = {name.rpartition(".")[2] for name in loaded if name.startswith("srgan_keras.inference.")}
assert not ours & {"formats", "graph", "pretrained", "timing"}, loaded
assert "srgan_keras.common.pixels" not in loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert open_picture(tmp_path / "upscaled" / "a_x4.png").shape == (20, 20, 3)
