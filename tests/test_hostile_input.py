"""Bad inputs over all commands: each ends with exit code 2 and one clear line and harms nothing."""

import importlib
import io
import os
import re
import shlex
import shutil
import stat
import sys
import zipfile

import keras
import numpy as np
import pytest
from data_prep_fixtures import SmallCoco, png_header, save_photo
from keras import layers
from PIL import Image

from data_prep import download
from srgan_keras import upscale
from srgan_keras.common import cli
from srgan_keras.inference.choosing import load_model
from srgan_keras.inference.interpolation import Interpolation
from srgan_keras.run import write_settings
from srgan_keras.systems import get_recipe
from srgan_keras.systems.srgan import build_generator
from srgan_keras.training import memory

TRAIN = "train --data crops --recipe srresnet --crop-size 32 --filters 2 --residual-blocks 1"
GAN = "train --data crops --recipe srgan-mse --crop-size 32 --filters 2 --discriminator-filters 4"
# What is typed; what the line must say, as a pattern; and what may be written all the same.
CASES = [
    # Nothing like it, or nothing in it
    ("train --recipe nosuch", "There is no recipe 'nosuch'. Recipes: .*srgan"),
    ("train --recipe tutorial", "needs crops: --data FOLDER"),
    ("train --data none", "none: no such folder"),
    ("train --data text.txt", "text.txt: not a folder"),
    ("train --data empty", "no picture in empty"),
    ("train --resume none", "none is not a run folder"),
    ("train --resume empty", "empty is not a run folder"),
    ("upscale", "required: PHOTO"),
    ("upscale none.png", "no file none.png"),
    ("upscale empty", "no pictures in empty"),
    ("upscale photos --model none", "no generator none"),
    ("upscale photos --model empty", "no generator empty/generator.keras"),
    ("upscale photos --model srgam --blend 0.5", "no generator 'srgam'"),
    ("evaluate", "Give pictures to evaluate on: --data"),
    ("evaluate --data none", "none: no such folder"),
    ("evaluate --data empty", "no pictures in empty"),
    ("evaluate --data photos --model nosuch", "--model nosuch is not a file or folder, nor one of"),
    ("export", "required: RUN"),
    ("export none", "no generator none/generator.keras"),
    ("export empty", "no generator empty/generator.keras"),
    ("compare --data crops --sets none", "none: no such folder"),
    ("compare --data crops --sets photos --recipes nosuch", "no recipe 'nosuch'"),
    ("rate", "required: make"),
    ("rate make --sets none", "none: no such folder"),
    ("rate report none.csv --key none.json", "no none.json. Give the --key"),
    ("coco --coco none --out out", "no none/annotations/instances_train2017.json"),
    ("folder --photos none --out out", "none: no such folder"),
    ("folder --photos empty --out out", "empty: no pictures"),
    ("folder --photos photos --out out --split-from a b", "--split-from must name two folders"),
    ("pack --crops none --out out", "none: no such folder"),
    ("pack --crops empty --out out", "empty: no crops; make some"),
    # Options and values that cannot be
    ("train --crop-sise 96", "unknown argument --crop-sise; did you mean --crop-size"),
    ("train --crop-size abc", "--crop-size: invalid int value: 'abc'"),
    ("train --data crops --crop-size 8", "crop_size must be from 24 to 4096. Received: 8"),
    ("train --data crops --crop-size 30", "multiple of the scale, 4. Received: 30"),
    ("train --data crops --crop-size 32 --lr-blur-sigma 10.6", "lr_blur_sigma must be .* 10.6"),
    ("train --learning-rate nan", "learning_rate must be .* Received: nan"),
    ("train --epochs 0", "epochs must be from 1 .* Received: 0"),
    ("train --batch-size -1", "batch_size must be from 1 .* Received: -1"),
    ("train --seed -1", "seed must be from 0 .* Received: -1"),
    ("train --strategy tpu", "--strategy: invalid choice: 'tpu'"),
    ("train --content-loss block9_conv9", "content_loss must be .* Received: 'block9_conv9'"),
    ("train --recipe srresnet --data crops --label-noise 0.1", "no setting 'label_noise'"),
    ("train --checkpoint-minutes 0", "above 0. Received: 0"),
    ("train --data large --crop-size 2048 --content-loss mse", "8,.* weights: .* --crop-size"),
    ("upscale photos --tile 0", "--tile: must be a whole number above 0. Received: 0"),
    ("upscale photos --blend 2", "--blend mixes .* Received: blend=2"),
    ("upscale -dash.png", "-dash.png would be an option; the file of that name is ./-dash.png"),
    ("evaluate --data photos --scale 0", "--scale: must be a whole number above 0"),
    ("evaluate --data photos --degrade jpeg0", "degrade must be jpeg .* Received: 'jpeg0'"),
    ("evaluate --data photos photos", "have the same name"),
    ("export srgan --blend nan", "--blend mixes .* Received: blend=nan"),
    ("export srgan --precision int8", "--precision int8 is for --format litert alone"),
    ("export srgan --precision int4", "--precision: invalid choice: 'int4'"),
    ("benchmark --repeats 0", "--repeats: must be a whole number above 0. Received: 0"),
    ("benchmark --only everything", "--only: invalid choice: 'everything'"),
    ("compare --data crops --sets photos --set crop_size", "NAME=VALUE. Received: crop_size"),
    ("compare --data crops --sets photos --set scale=2", "A study chooses scale itself"),
    (
        "compare --data crops --sets photos --recipes srcnn --set batch_size=x",
        "batch_size must be of type int. Received: 'x'",
    ),
    ("rate guess", "invalid choice: 'guess'"),
    ("coco --coco coco --out out --num-images 0", "--num-images: .* above 0. Received: 0"),
    ("coco --coco coco --out out --train-ratio 2", "--train-ratio: .* from 0 to 1. Received: 2"),
    ("coco --coco coco --out out --categories ca", "unknown category ca; did you mean cat"),
    ("coco --coco coco --out out --base-url ftp://x", "begin with http:// .* Received: ftp://x"),
    ("coco --coco coco --out out --base-url 'http://['", r"server's address. Received: http://\["),
    ("coco --coco coco --out out --base-url http://a:b", "server's address. Received: http://a:b"),
    ("coco --coco coco --out out --base-url http://a..b", "server's address. Received: http://a"),
    ("folder --photos photos --out out --crop-size 0", "--crop-size: .* above 0. Received: 0"),
    # Files that are not what their names say
    (f"{TRAIN} --init-generator lying", "lying does not fit this recipe. .* with; or start"),
    (f"{GAN} --init-discriminator lying", "no discriminator lying/discriminator.keras. Give a run"),
    (f"{GAN} --init-discriminator lying/generator.keras", "lying/.* does not fit this recipe. "),
    (f"{GAN} --init-discriminator models/lambda.keras", "lambda.keras does not load .*Lambda"),
    ("train --data pipe", "pipe/p.png: not a file. Remove it"),
    ("train --data circle", "circle/c.png: too many levels of symbolic links. Remove it"),
    ("train --data text", "text/t.png: not an image. Remove it"),
    ("train --data zero", "zero/z.png: empty file. Remove it"),
    ("train --data bomb", r"bomb/b.png: too large \(decompression bomb\).* Remove it"),
    ("train --data cut --crop-size 32 --recipe srresnet", "cut/x.png cannot be read: truncated"),
    ("train --data tiny", "tiny/n.png is 3x50 pixels and crop_size is"),
    ("train --data broken_npy", "8x8.npy cannot be read: .*Pack the crops again"),
    ("train --data pickled", "p.npy cannot be read: .*Python objects"),
    ("train --data both", "both holds pictures and packed crops"),
    ("train --resume run_broken", "run_broken/recipe.json is broken"),
    ("train --resume run_deep", "run_deep/recipe.json is broken"),
    ("upscale photos pipe/p.png --model nearest", "skipped pipe/p.png: not a file", "upscaled"),
    ("upscale photos circle --model nearest", "skipped circle/c.png: too many levels", "upscaled"),
    ("upscale photos text/t.png --model nearest", "skipped text/t.png: not an image", "upscaled"),
    ("upscale photos zero --model nearest", "skipped zero/z.png: empty file", "upscaled"),
    ("upscale photos cut --model nearest", "skipped cut/x.png: truncated", "upscaled"),
    ("upscale photos bomb --model nearest", "skipped bomb/b.png: too large", "upscaled"),
    ("upscale photos --model models/text.keras", "models/text.keras does not load"),
    ("upscale photos --model models/lambda.keras", "lambda.keras does not load .*Lambda"),
    ("upscale photos --model models/bomb.keras", "bomb.keras does not load .*10 times its size"),
    ("upscale photos --model models/way_out.keras", "way_out.keras does not load"),
    ("upscale photos --model models/nested.keras", "nested.keras cannot be used: .*inside"),
    ("upscale photos --model models/foreign.keras", "cannot be used: .*Conv2DTranspose"),
    ("upscale photos --model broken_model", "broken_model does not load"),
    ("evaluate --data pipe photos", "skipped pipe/p.png: not a file", "evaluation"),
    ("evaluate --data circle photos", "skipped circle/c.png: too many levels", "evaluation"),
    ("evaluate --data tiny photos", "skipped tiny/n.png: smaller than 19x19", "evaluation"),
    ("evaluate --lr cut photos", "skipped cut/x.png: truncated", "evaluation"),
    ("evaluate --data photos --model models/nested.keras", "nested.keras cannot be used"),
    ("export models/text.keras", "models/text.keras does not load"),
    ("rate report none.csv --key text.txt", "text.txt is not the key of an opinion test"),
    ("rate report none.csv --key deep.json", "deep.json is not the key of an opinion test"),
    ("coco --coco coco_text --out out", "instances_train2017.json: no valid JSON"),
    ("coco --coco coco_deep --out out", "instances_train2017.json: no valid JSON"),
    ("coco --coco coco_list --out out", 'instances_train2017.json: no list of "images"'),
    ("pack --crops text --out out", "text/t.png: not an image"),
    ("pack --crops pipe --out out", "pipe/p.png: not a file"),
    ("pack --crops cut --out out", "cut/x.png: truncated"),
    # What would be lost, or is in the way
    ("train --data crops --run photos --recipe srresnet --crop-size 32", "photos is not empty"),
    ("upscale chain --out chain --model nearest", "would be written over chain/a_x4.png"),
    ("upscale photos other --model nearest", "Two pictures would be written to good.png_x4.png"),
    ("upscale photos --out blocked --model nearest", "blocked/good_x4.png is in the way"),
    ("upscale photos --out text.txt/out", "--out: text.txt is not a folder that can be written"),
    ("evaluate --data photos --out text.txt", "--out: text.txt is not a folder"),
    ("export srresnet --out photos", "photos exists and is not a SavedModel"),
    ("export srresnet --out mine", "mine/notes.txt is not of the SavedModel"),
    ("benchmark --out text.txt", "--out: text.txt is not a folder"),
    ("train --data crops --run text.txt", "--run: text.txt is not a folder"),
    ("rate make --sets photos --out text.txt", "--out: text.txt is not a folder"),
    ("compare --data crops --sets photos --recipes srcnn --out photos", "photos is not empty"),
    ("compare --data crops --sets photos --recipes srcnn --out study", "study is not empty"),
    ("rate make --sets photos --methods bicubic --examples photos --out photos", "photos is not e"),
    ("folder --photos photos --out photos", "--photos photos lies in --out photos"),
    ("folder --photos photos --out crops", "crops: train/ or test/ holds files of another origin"),
    ("folder --photos photos --out crops_deep", "crops_deep/crops.json: broken"),
    ("pack --crops crops --out crops/packed", "--out crops/packed lies in --crops crops"),
    ("pack --crops crops --out packed", "packed/train holds packed crops already"),
    ("coco --coco coco --out crops", "crops: train/ or test/ holds files of another origin"),
]

COMMANDS = {name: f"data_prep.{name}" for name in ("coco", "folder", "pack")}
PROGRESS = re.compile(r"[\w, -]+: \d+/\d+, .* s left")


class Harm:
    """Touches a file when it is unpickled."""

    def __reduce__(self):
        return open, ("harm", "w")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with all the files of the cases, hostile and not."""
    root = tmp_path_factory.mktemp("world")
    for name in ("photos/good", "other/good", "chain/a", "chain/a_x4", "-dash"):
        save_photo(root / f"{name}.png", 24, 24)
    for name in ("crops/train/0", "crops/train/1", "crops/test/2", "both/0", "crops_deep/train/0"):
        save_photo(root / f"{name}.png")
    texts = {
        "text.txt": "text",
        "text/t.png": "text",
        "zero/z.png": "",
        "deep.json": "[" * 100_000,
        "run_broken/recipe.json": "{",
        "run_deep/recipe.json": "[" * 100_000,
        "crops_deep/crops.json": "[" * 100_000,
        "study/plan.json": "[" * 100_000,
        "coco_text/annotations/instances_train2017.json": "text",
        "coco_deep/annotations/instances_train2017.json": "[" * 100_000,
        "coco_list/annotations/instances_train2017.json": "[]",
        "models/text.keras": "text",
        "broken_model/saved_model.pb": "text",
        "mine/saved_model.pb": "text",
        "mine/notes.txt": "mine",
        "packed/train/8x8.npy": "text",
        "broken_npy/8x8.npy": "text",
        "both/8x8.npy": "text",
    }
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in ("empty", "pipe", "circle", "cut", "bomb", "pickled", "blocked/good_x4.png"):
        (root / name).mkdir(parents=True)
    os.mkfifo(root / "pipe" / "p.png")
    (root / "circle" / "c.png").symlink_to("c.png")
    whole = save_photo(root / "cut" / "x.png").read_bytes()
    (root / "cut" / "x.png").write_bytes(whole[: len(whole) // 2])
    (root / "bomb" / "b.png").write_bytes(png_header(60_000, 60_000))
    save_photo(root / "tiny" / "n.png", 3, 50)
    (root / "large").mkdir()
    Image.new("L", (2048, 2048)).save(root / "large" / "l.png")
    array = np.array([Harm()], object)
    with (root / "pickled" / "p.npy").open("wb") as file:
        np.lib.format.write_array(file, array, allow_pickle=True)
    SmallCoco(root / "coco", count=1)
    recipe = get_recipe("srresnet", filters=2, residual_blocks=1)
    write_settings(root / "lying", recipe, {"data": "", "vgg_weights": ""}, resume=False)
    build_generator(filters=3, residual_blocks=1).save(root / "lying" / "generator.keras")
    save_models(root / "models")
    return root


def save_models(folder):
    """Files that Keras would load, and should not."""
    x = keras.Input((None, None, 3))
    inside = keras.Model(x, layers.Conv2D(3, 3, padding="same")(x), name="inside")
    foreign = layers.Conv2DTranspose(3, 4, 2, padding="same")
    for name, layer in {
        "lambda": layers.Lambda(lambda y: y),
        "nested": inside,
        "foreign": foreign,
    }.items():
        keras.Model(x, layer(x)).save(folder / f"{name}.keras")
    with zipfile.ZipFile(folder / "nested.keras") as archive:
        config = archive.read("config.json")
    for name, member in {"bomb": "model.weights.h5", "way_out": "../../harm"}.items():
        with zipfile.ZipFile(folder / f"{name}.keras", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("config.json", config)
            archive.writestr(member, bytes(20_000_000 if name == "bomb" else 10))


def describe(folder):
    """Every file but folders, and what is in it."""
    modes = {path: path.lstat().st_mode for path in folder.rglob("*")}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if stat.S_ISREG(mode) else mode
        for path, mode in modes.items()
        if not stat.S_ISDIR(mode)
    }


def run(command, monkeypatch):
    """Runs a command as `python -m` does; returns its exit code and what it says on stderr."""
    name, *arguments = shlex.split(command)
    main = importlib.import_module(COMMANDS.get(name, f"srgan_keras.{name}")).main
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    streams[1].flush()
    return stop.value.code, streams[1].buffer.getvalue().decode()


@pytest.fixture
def here(world, monkeypatch):
    """The world as current folder; `nearest` for a model, little memory, no patience."""
    monkeypatch.chdir(world)
    monkeypatch.setattr(download, "WAITS", ())
    monkeypatch.setattr(memory, "device_memory", lambda: 8e9)

    def load(model, blend, **options):
        if model == "nearest":
            return Interpolation(model, 4)
        return load_model(model, blend, **options)

    monkeypatch.setattr(upscale, "load_model", load)
    return world


@pytest.mark.parametrize("case", CASES, ids=[command for command, *_ in CASES])
def test_bad_input(case, here, monkeypatch):
    command, message, *written = case
    before = describe(here)
    code, said = run(command, monkeypatch)
    after = describe(here)
    lines = [line for line in said.splitlines() if not PROGRESS.fullmatch(line)]
    assert code == 2, said
    assert len(lines) == 1, said
    assert re.search(message, lines[0]), said
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    left = {name for name in changed if name.split("/")[0] not in written}
    assert not left
    assert bool(changed) == bool(written)


@pytest.fixture(autouse=True)
def clean(request):
    """Removes what a case has rightly written."""
    yield
    if "world" in request.fixturenames:
        for name in ("upscaled", "evaluation", "out"):
            shutil.rmtree(request.getfixturevalue("world") / name, ignore_errors=True)


def test_results_of_names_that_are_no_text_or_meet(here, monkeypatch):
    """Names that a file system allows are no bad input."""
    folder = here / "evaluation" / "names"
    names = [b"\xff.png", b"x.png", b"x.jpg", b"l" * 251 + b".png"]
    for name in names:
        path = save_photo(folder / "a.png", 24, 24)
        path.rename(folder / os.fsdecode(name))
    code, said = run("evaluate --data evaluation/names --images --out out", monkeypatch)
    assert code == 0, said
    assert len(list((here / "out" / "names" / "bicubic").iterdir())) == len(names)
    code, said = run("upscale evaluation/names --model nearest --out upscaled", monkeypatch)
    assert code == 0, said
    assert len(list((here / "upscaled").glob("[!.]*"))) == len(names)
