import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from data_prep_fixtures import SmallCoco, save_photo

from data_prep import coco
from data_prep.annotations import list_photos, load_annotations
from srgan_keras.common.errors import UserError
from srgan_keras.common.pictures import open_picture

ROOT = Path(__file__).parents[1]


@pytest.fixture
def small(tmp_path):
    return SmallCoco(tmp_path / "coco")


def run(small: SmallCoco, *options: str, out: str = "out", count: int = 10) -> Path:
    out = small.root.parent / out
    arguments = ["--coco", str(small.root), "--out", str(out), "--workers", "1"]
    coco.main([*arguments, "--crop-size", "32", "--num-images", str(count), *options])
    return out


def manifest(out: Path) -> list[dict[str, str]]:
    with (out / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def contents(out: Path) -> dict[str, bytes]:
    files = [path for path in out.rglob("*") if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_the_number_of_crops_can_change(small):
    sources = {row["source"] for row in manifest(run(small, count=10))}
    fewer = {row["source"] for row in manifest(run(small, count=5))}
    assert len(fewer) == 5
    assert fewer < sources
    assert contents(run(small, count=10)) == contents(run(small, out="fresh", count=10))


def test_crops_are_chosen_split_and_listed(small, capsys):
    out = run(small)
    rows = manifest(out)
    assert len(list((out / "train").iterdir())) == 8
    assert len(list((out / "test").iterdir())) == 2
    assert rows[0] | {"crop": "", "source": "", "split": "", "flickr_url": ""} == {
        "crop": "",
        "source": "",
        "split": "",
        "x": "8",
        "y": "4",
        "width": "32",
        "height": "32",
        "licence": "http://licence/by",
        "flickr_url": "",
    }
    for row in rows:
        number = int(Path(row["crop"]).stem)
        assert row["crop"] == f"{row['split']}/{number:012d}.png"
        assert row["source"] == f"train2017/{number:012d}.jpg"
        assert row["flickr_url"] == f"http://flickr/{number}"
        assert open_picture(out / row["crop"]).shape == (32, 32, 3)
    text = capsys.readouterr().out
    assert "10 photographs qualify; 0 have a side below 32" in text
    assert "10 crops: 8 train, 2 test" in text
    assert "loading annotations into memory" not in text


def test_seed_decides_the_choice(small):
    first, same = run(small, count=5), run(small, out="same", count=5)
    other = run(small, "--seed", "1", out="other", count=5)
    assert contents(first) == contents(same)
    assert [row["crop"] for row in manifest(first)] != [row["crop"] for row in manifest(other)]


def test_second_run_says_that_all_is_there(small, capsys):
    out = run(small)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    run(small)
    assert "10 already there" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_settings_of_another_run_are_refused(small):
    run(small, "--seed", "1")
    with pytest.raises(UserError, match=r"crop centre \(now random\), seed 1 \(now 0\)"):
        run(small, "--crop", "random")


def test_photographs_with_a_short_side_do_not_qualify(small, capsys):
    small.images[0]["height"] = 31
    small.save()
    run(small, count=9)
    assert "9 photographs qualify; 1 have a side below 32" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "numbers"), [("cat", {2, 4, 6, 8, 10}), ("dog, cat", None)])
def test_categories(small, options, numbers):
    count = 5 if numbers else 10
    rows = manifest(run(small, "--categories", options, count=count))
    assert {int(Path(row["crop"]).stem) for row in rows} == (numbers or set(range(1, 11)))


@pytest.mark.parametrize(("name", "hint"), [("catt", "did you mean cat"), ("x", "'cat', 'dog'")])
def test_unknown_category_lists_what_there_is(small, name, hint):
    with pytest.raises(UserError, match=f"unknown category {name}; .*{hint}"):
        run(small, "--categories", name)


def test_object_crops_lie_on_the_largest_object(small):
    small.annotations[0:1] = [
        {"id": 50, "image_id": 1, "category_id": 2, "iscrowd": 0, "bbox": [40, 0, 5, 5]},
        {"id": 51, "image_id": 1, "category_id": 2, "iscrowd": 0, "bbox": [38, 20, 9, 9]},
        {"id": 52, "image_id": 1, "category_id": 2, "iscrowd": 1, "bbox": [0, 0, 48, 40]},
        {"id": 53, "image_id": 1, "category_id": 2, "iscrowd": 0, "bbox": [0, 0, "x"]},
    ]
    small.annotations.pop()  # the last photograph shows nothing
    small.save()
    rows = {int(Path(row["crop"]).stem): row for row in manifest(run(small, "--crop", "object"))}
    assert (rows[1]["x"], rows[1]["y"]) == ("16", "8")
    assert (rows[2]["x"], rows[2]["y"]) == ("0", "0")
    assert (rows[10]["x"], rows[10]["y"]) == ("8", "4")


def test_unusable_photographs_are_named_and_replaced(small, capsys):
    small.photo(1).write_bytes(small.photo(1).read_bytes()[:500])
    small.photo(2).write_text("text")
    small.photo(3).write_bytes(b"")
    save_photo(small.photo(4).with_suffix(".png"), 1, 1).rename(small.photo(4))
    out = run(small, count=6)
    rows = manifest(out)
    assert {int(Path(row["crop"]).stem) for row in rows} == {5, 6, 7, 8, 9, 10}
    assert [row["split"] for row in rows].count("train") == 5
    text = capsys.readouterr().out
    with pytest.raises(UserError, match="only 6 of the 7 crops"):
        run(small, out="all", count=7)
    text = capsys.readouterr().out
    for line in (
        "skipped 4:",
        "train2017/000000000001.jpg: truncated",
        "train2017/000000000002.jpg: not an image",
        "train2017/000000000003.jpg: empty file",
        "train2017/000000000004.jpg: 1x1, smaller than 32x32",
    ):
        assert line in text


def test_fewer_than_asked_for_is_an_error_unless_allowed(small, capsys):
    with pytest.raises(UserError, match="only 10 of the 99 crops asked for"):
        run(small, count=99)
    assert "10 crops: 8 train, 2 test" in capsys.readouterr().out
    run(small, "--allow-fewer", count=99)
    for i in range(1, 11):
        small.photo(i).write_bytes(b"")
    with pytest.raises(UserError, match="only 0 of the 99"):
        run(small, "--allow-fewer", count=99, out="none")


def test_photographs_not_on_disk_are_counted(small, capsys):
    small.photo(3).unlink()
    out = run(small, count=9)
    text = capsys.readouterr().out
    assert f"1 are not in {small.root}, such as train2017/000000000003.jpg" in text
    assert len(manifest(out)) == 9


@pytest.mark.parametrize(
    "name",
    [
        "../../secret.jpg",
        "/etc/passwd",
        "..\\secret.jpg",
        "a\\b.jpg",
        "C:\\x.jpg",
        "C:x.jpg",
        "//server/x.jpg",
        "nul\0.jpg",
        "\ud800.jpg",
        "",
        ".",
        "..",
        "x" * 300,
        "link.jpg",
        "folder/secret.jpg",
    ],
)
def test_file_names_cannot_lead_out_of_the_folder(small, name, capsys):
    secret = save_photo(small.root.parent / "secret.jpg", 48, 40)
    (small.root / "train2017" / "link.jpg").symlink_to(secret)
    (small.root / "train2017" / "folder").symlink_to(secret.parent)
    small.add(name)
    out = run(small)
    text = capsys.readouterr().out
    assert "skipped 1:" in text
    assert "unsafe file name or link" in text
    assert len(manifest(out)) == 10


def test_names_in_subfolders_and_with_line_breaks_are_fine(small):
    for name in ("sub/a.jpg", "other/a.jpg", "a\nb.jpg"):
        save_photo(small.root / "train2017" / name, 48, 40)
        small.add(name)
    rows = manifest(run(small, count=13))
    assert len({row["crop"] for row in rows}) == 13
    assert "train2017/a\\nb.jpg" in {row["source"] for row in rows}


def test_rows_that_cannot_be_used_are_named(small, capsys):
    small.images += [{"id": 77}, None, dict(small.images[0]), small.images[1] | {"id": 78}]
    small.annotations += [{"id": 1}, [], {"id": 90, "image_id": [], "category_id": 1}]
    small.save()
    assert len(manifest(run(small))) == 10
    text = capsys.readouterr().out
    for line in (
        "instances_train2017.json images[10]: no valid file_name, width, height",
        "instances_train2017.json images[11]: no valid id, file_name, width, height",
        "instances_train2017.json images[12]: duplicate id 1",
        "train2017/000000000002.jpg (id 78): listed twice",
        "instances_train2017.json annotations[10]: no valid image_id, category_id",
        "instances_train2017.json annotations[12]: no valid image_id",
    ):
        assert line in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no valid JSON"),
        ("\xff", "no valid JSON"),
        ("[" * 100_000, "no valid JSON"),
        ("[]", 'no list of "images"'),
        ("{}", 'no list of "images"'),
        ('{"images": {}}', 'no list of "images"'),
    ],
)
def test_broken_annotation_file(tmp_path, text, message):
    file = tmp_path / "instances_x.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=message):
        load_annotations(file)


def test_images_alone_are_enough(small):
    small.annotations = small.categories = None
    small.save()
    assert len(list_photos(small.root, ["train2017"], 32, None, True).photos) == 10


def test_several_splits(small):
    SmallCoco(small.root, 3, "val2017")
    rows = manifest(run(small, count=13))
    assert sum(row["source"].startswith("val2017/") for row in rows) == 3
    assert len({row["crop"] for row in rows}) == 13
    rows = manifest(run(small, "--splits", "val2017", out="val", count=3))
    assert {row["source"].split("/")[0] for row in rows} == {"val2017"}
    with pytest.raises(UserError, match=r"annotated: train2017, val2017"):
        run(small, "--splits", "test2017", out="test")


def test_dry_run_writes_nothing(small, capsys):
    out = run(small, "--dry-run", count=5)
    assert not out.exists()
    assert "would cut 5 crops of 32x32" in capsys.readouterr().out


def test_command_line_errors_are_one_line(small, tmp_path):
    file = small.root / "annotations" / "instances_train2017.json"
    command = [sys.executable, "-m", "data_prep.coco", "--out", str(tmp_path / "out"), "--coco"]
    cases = [
        ([str(small.root), "--crop", "top"], "invalid choice"),
        ([str(tmp_path / "none")], "--download fetches COCO's annotations"),
        ([str(small.root), "--crop-size", "500"], "no photograph for these options"),
    ]
    for arguments, message in cases:
        result = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 2
        assert message in result.stderr
        assert result.stderr.count("\n") == 1
        assert not (tmp_path / "out").exists()
    file.write_text("{")
    result = subprocess.run([*command, small.root], cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)


def test_real_photographs(shared, tmp_path):
    command = [sys.executable, "-m", "data_prep.coco", "--coco", str(shared / "coco")]
    command += ["--out", str(tmp_path / "out"), "--num-images", "20", "--crop", "object"]
    for expected in ("20 crops: 16 train, 4 test\n", "20 already there\n"):
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout.endswith(expected)
    rows = manifest(tmp_path / "out")
    assert len(rows) == 20
    for row in rows:
        assert open_picture(tmp_path / "out" / row["crop"]).shape == (384, 384, 3)
        assert "flickr.com" in row["flickr_url"]
    settings = json.loads((tmp_path / "out" / "crops.json").read_text())
    assert settings["crop"] == "object"
