import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from srgan_keras import upscale
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import PictureError, open_picture
from srgan_keras.inference import enlarging
from srgan_keras.inference.enlarging import WAITING, work_off
from srgan_keras.inference.photos import choose_targets, find_photos, identify_model
from srgan_keras.inference.sources import PRETRAINED
from srgan_keras.inference.upscaler import Upscaler
from srgan_keras.systems.srgan import build_generator
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
    assert set(before) == {"a.png", "b.png", "a_x4.png", "b_x4.png", ".upscaled.jsonl"}
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


def test_clear_errors(saved_model, tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="There is no file"):
        main([str(tmp_path / "none.jpg"), "--model", str(saved_model)])
    with pytest.raises(UserError, match="There are no pictures"):
        main([str(tmp_path), "--model", str(saved_model)])
    Image.fromarray(picture(4, 4)).save(tmp_path / "a.png")

    def fail(self, *arguments):
        raise MemoryError

    monkeypatch.setattr(Upscaler, "_enlarge", fail)
    arguments = [str(tmp_path / "a.png"), "--model", str(saved_model), "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert "a.png: Out of memory on 4x4 pixels." in capsys.readouterr().err


class Repeat:
    """Stands for a network: repeats pixels, and counts how often."""

    scale, bits, calls = 4, 16, 0

    def __call__(self, picture):
        Repeat.calls += 1
        return picture.repeat(4, axis=0).repeat(4, axis=1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Eight photographs in folders, `tmp_path` the current folder, and `Repeat` for any model."""
    monkeypatch.setattr(upscale, "load_model", lambda *arguments, **options: Repeat())
    monkeypatch.setattr(Repeat, "calls", 0)
    monkeypatch.chdir(tmp_path)
    for index in range(8):
        path = tmp_path / "photos" / f"{index % 3}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(4, 4 + index)).save(path)
    return tmp_path


def results(folder):
    return sorted(path.name for path in (folder / "upscaled").rglob("*.*") if path.suffix == ".png")


def test_what_is_finished_stays(folder, capsys):
    assert main(["photos"]) == 0
    assert capsys.readouterr().out.endswith("8 enlarged, 0 failed\n")
    times = {path: path.stat().st_mtime_ns for path in (folder / "upscaled").rglob("*.png")}
    assert len(times) == 8
    assert main(["photos"]) == 0
    said = capsys.readouterr().out
    assert said == "0 enlarged, 8 finished before (--overwrite makes them again), 0 failed\n"
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert main(["photos", "--overwrite"]) == 0
    assert Repeat.calls == 16


def test_what_is_no_longer_what_is_asked_for_is_made_again(folder, capsys):
    main(["photos"])
    result, photo = folder / "upscaled/0/0_x4.png", folder / "photos/1/1.png"
    result.write_bytes(result.read_bytes()[:-9])  # as a power cut leaves a file
    Image.fromarray(picture(5, 5)).save(photo)
    (folder / "upscaled/2/2_x4.png").unlink()
    assert main(["photos"]) == 0
    assert "3 enlarged, 5 finished before" in capsys.readouterr().out
    for options in (["--blend", "0.5"], ["--strip-metadata"], ["--model", "srresnet"]):
        main(["photos", *options])
        assert "8 enlarged, 0 failed" in capsys.readouterr().out
    main(["photos", "--format", "jpg", "--quality", "90"])
    main(["photos", "--format", "jpg", "--quality", "80"])
    assert capsys.readouterr().out.count("8 enlarged, 0 failed") == 2


def test_another_model_of_the_same_name_is_another(folder):
    run = folder / "run"
    (run / "saved_model" / "variables").mkdir(parents=True)
    (run / "generator.keras").write_text("one")
    before = identify_model(run)
    (run / "saved_model" / "variables" / "variables.index").write_text("one")
    between = identify_model(run)
    (run / "generator.keras").write_text("two")
    assert before != between != identify_model(run) != before
    assert identify_model(run / "generator.keras") != identify_model(run)


def test_another_shipped_generator_of_the_same_name_is_another(monkeypatch):
    before = identify_model("auto")
    assert before != identify_model("srgan")
    monkeypatch.setitem(PRETRAINED, "srgan", "0" * 64)
    assert identify_model("auto") != before


def test_a_run_goes_on_where_it_was_stopped(folder, monkeypatch, capsys):
    enlarge = Repeat.__call__

    def stop(self, picture):
        if Repeat.calls == 5:
            raise KeyboardInterrupt
        return enlarge(self, picture)

    monkeypatch.setattr(Repeat, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        main(["photos"])
    made = results(folder)
    assert 3 <= len(made) <= 5
    assert re.search(r"[1-5] of 8 enlarged, 0 failed\n$", capsys.readouterr().out)
    leftover = folder / "upscaled" / "0" / ".tmp-123-6_x4.png"
    leftover.touch()
    other = folder / "upscaled" / "0" / ".tmp-123-of-another_x4.png"
    other.touch()
    record = folder / "upscaled" / ".upscaled.jsonl"
    record.write_bytes(record.read_bytes() + b'\n["0/6_x4.p')  # half a line, as a power cut leaves
    monkeypatch.setattr(Repeat, "__call__", enlarge)
    assert main(["photos"]) == 0
    assert f"{8 - len(made)} enlarged, {len(made)} finished before" in capsys.readouterr().out
    assert Repeat.calls == 5 + 8 - len(made)
    assert not leftover.exists()
    assert other.exists()
    main(["photos"])
    assert "0 enlarged, 8 finished before" in capsys.readouterr().out


def test_shards_do_all_and_nothing_twice(folder, capsys):
    for index in (1, 2, 3):
        before = set(results(folder)) if index > 1 else set()
        assert main(["photos", "--shard", f"{index}/3"]) == 0
        assert len(set(results(folder)) - before) in (2, 3)
    assert Repeat.calls == len(results(folder)) == 8
    assert main(["photos"]) == 0
    assert "8 finished before" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(folder, capsys):
    assert main(["photos", "--dry-run", "--format", "webp"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "photos/0/0.png -> upscaled/0/0_x4.webp"
    assert said[-1] == "8 to enlarge; nothing was written"
    assert not (folder / "upscaled").exists()


def test_failed_photographs_are_named_at_the_end(folder, capsys):
    (folder / "photos" / "0" / "text.png").write_text("text")
    (folder / "photos" / "1" / "cut.png").write_bytes(
        (folder / "photos" / "1" / "1.png").read_bytes()[:50]
    )
    assert main(["photos"]) == 2
    said = capsys.readouterr()
    assert said.out.splitlines()[-3:] == [
        "8 enlarged, 2 failed",
        "failed: photos/0/text.png: not an image",
        "failed: photos/1/cut.png: truncated",
    ]
    assert "skipped photos/0/text.png: not an image" in said.err
    assert main(["photos"]) == 2  # And again: they are not finished.
    assert "0 enlarged, 8 finished before" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("--suffix=-large", {"0-large.png", "1-large.png", "2-large.png"}),
        ("--outscale 2.5", {"0_x2.5.png", "1_x2.5.png", "2_x2.5.png"}),
        ("--width 9 --format tiff", {"0_9x.tiff", "1_9x.tiff", "2_9x.tiff"}),
        ("--format same", {"0_x4.png", "1_x4.JPG", "2_x4.png"}),
    ],
)
def test_names_of_results(options, names, folder):
    for name in ("0.png", "1.JPG", "2.bmp"):
        Image.fromarray(picture(4, 4)).save(folder / name)
    assert main([*("0.png", "1.JPG", "2.bmp"), *options.split()]) == 0
    assert {path.name for path in (folder / "upscaled").glob("[!.]*")} == names


def test_photographs_of_one_stem_meet_in_one_format_alone(folder):
    for name in ("a.png", "a.jpg"):
        Image.fromarray(picture(4, 4)).save(folder / name)
    names = [(folder / name, Path(name)) for name in ("a.png", "a.jpg")]
    for format_, expected in (
        ("png", ["a.png_x4.png", "a.jpg_x4.png"]),
        ("same", ["a_x4.png", "a_x4.jpg"]),
    ):
        targets = choose_targets(names, folder / "out", "_x4", format_)
        assert [target.name for target in targets] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--outscale 2 --width 100", "`outscale` and `width` or `height` exclude"),
        ("--quality 90", "`quality` is of jpg and webp; png is written without loss"),
        ("--quality 90 --format tiff", "tiff is written without loss"),
    ],
)
def test_options_that_contradict(options, message, folder):
    with pytest.raises(UserError, match=message):
        main(["photos", *options.split()])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--quality 101", "from 1 to 100. Received: 101"),
        ("--outscale nan", "above 0. Received: nan"),
        ("--outscale 0", "above 0. Received: 0"),
        ("--shard 9/8", "must be I/N, 1/8 to 8/8 for example. Received: 9/8"),
        ("--shard 1", "Received: 1"),
        ("--suffix a/b", "part of a file's name"),
        ("--format bmp", "invalid choice: 'bmp'"),
    ],
)
def test_options_that_cannot_be(options, message, folder, capsys):
    with pytest.raises(SystemExit):
        main(["photos", *options.split()])
    assert message in capsys.readouterr().err


def test_the_work_waits_for_nobody_and_does_not_pile_up():
    """Reading goes ahead and writing stays behind by `WAITING` at most, in order."""
    events, lock = [], threading.Lock()

    def note(what):
        def function(task, *_):
            with lock:
                events.append((what, task))
            if task == 7 and what == "compute":
                raise PictureError(Path("7"), "seven")
            return task

        return function

    done = list(work_off(range(40), *(note(what) for what in ("read", "compute", "write"))))
    assert [task for task, _ in done] == list(range(40))
    assert str(done[7][1]) == "7: seven"
    assert all(result == task for task, result in done if task != 7)
    for index, (what, task) in enumerate(events):
        past = {kind: sum(e[0] == kind for e in events[:index]) for kind in ("read", "compute")}
        if what == "read":
            assert task - past["compute"] <= WAITING + 1
    read, computed, written = ({t for w, t in events if w == what} for what in STEPS)
    assert len(read) == len(computed) == 40
    assert written == set(range(40)) - {7}


STEPS = ("read", "compute", "write")


def test_what_cannot_be_written_at_all_ends_the_work(folder, monkeypatch):
    def fill_disk(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(enlarging, "save_photograph", fill_disk)
    with pytest.raises(OSError, match="No space left"):
        main(["photos"])
    assert not list((folder / "upscaled").rglob("*.png"))


def test_16_bits_through_a_network(tmp_path, saved_model):
    """Between the values of 8 bits, from a generator; 8 bits from a SavedModel alone."""
    generator = build_generator(filters=4, residual_blocks=1, upsampling="nearest")
    generator.save(tmp_path / "generator.keras")
    model = Upscaler(tmp_path / "generator.keras", tile=8)
    rng = np.random.default_rng(0)
    small = rng.uniform(0, 255, (11, 19, 3)).astype(np.float32)
    large = model.upscale_float(small)
    expected = 127.5 * (np.asarray(generator(small[None] / 127.5 - 1))[0] + 1)
    np.testing.assert_allclose(large, expected.clip(0, 255), atol=2e-3)
    assert large.dtype == np.float32
    assert model.bits == 16
    whole = picture(11, 19)
    assert np.abs(model.upscale_float(whole.astype(np.float32)) - model(whole)).max() < 0.51
    alone = Upscaler(saved_model)
    assert alone.bits == 16  # It has its stages; one of version 0.1 gives 8.


def test_knows_no_model_code(saved_model, tmp_path):
    """And a SavedModel none of ours at all: TensorFlow alone loads it, in a process of its own."""
    Image.fromarray(picture(5, 5)).save(tmp_path / "a.png")
    shutil.copytree(saved_model, tmp_path / "model")
    program = """
import sys, tensorflow as tf
serve = tf.saved_model.load("model").signatures["serving_default"]
sr = serve(pixels=tf.zeros((1, 3, 5, 3), tf.uint8))["pixels"]
assert sr.shape == (1, 12, 20, 3) and sr.dtype == tf.uint8
assert not [name for name in sys.modules if name.startswith("srgan_keras")]

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
