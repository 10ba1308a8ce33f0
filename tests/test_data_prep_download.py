import http.server
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from data_prep_fixtures import SmallCoco, file_server

from data_prep import coco, download
from srgan_keras.common.errors import UserError

ROOT = Path(__file__).parents[1]
DATA = bytes(range(256)) * 20


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(download, "WAITS", (0, 0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server(tmp_path):
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "a.bin").write_bytes(DATA)
    with file_server(tmp_path / "server") as server:
        yield server


def test_file_is_fetched_whole(server, tmp_path):
    download.fetch(f"{server.url}/a.bin", tmp_path / "new" / "a.bin")
    assert (tmp_path / "new" / "a.bin").read_bytes() == DATA
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.bin"]


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("have", [1000, len(DATA)])
def test_part_is_continued(server, tmp_path, ranges, have):
    server.ranges = ranges
    (tmp_path / "a.bin.part").write_bytes(DATA[:have])
    download.fetch(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert server.requests == [("/a.bin", f"bytes={have}-")]


def test_part_of_a_longer_file_is_fetched_anew(server, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(DATA * 2)
    download.fetch(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_connection_that_breaks_off_is_continued(server, tmp_path):
    server.cut_short = True
    download.fetch(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert server.requests == [("/a.bin", None), ("/a.bin", "bytes=100-")]


def test_server_errors_are_tried_again(server, tmp_path):
    server.failures = [503, 429]
    download.fetch(f"{server.url}/a.bin", tmp_path / "a.bin")
    server.failures = [500] * 3
    with pytest.raises(UserError, match="500 Internal Server Error; run again"):
        download.fetch(f"{server.url}/a.bin", tmp_path / "b.bin")


def test_missing_file_is_refused_at_once(server, tmp_path):
    with pytest.raises(download.Refused, match="404 Not Found"):
        download.fetch(f"{server.url}/none", tmp_path / "none")
    assert len(server.requests) == 1


def test_no_network_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"cannot fetch http://127.0.0.1:9/a: Connection refused"):
        download.fetch_all({tmp_path / "a": "http://127.0.0.1:9/a"})


def test_progress_of_a_large_file(server, tmp_path, capsys):
    download.fetch(f"{server.url}/a.bin", tmp_path / "a.bin", show_progress=True)
    assert "a.bin, MB: 1/1" in capsys.readouterr().err


@pytest.fixture
def mirror(server):
    """A server with all of a small COCO, its annotations zipped as COCO's are."""
    server.coco = SmallCoco(server.root)
    with zipfile.ZipFile(server.root / coco.ANNOTATIONS, "w") as archive:
        name = "annotations/instances_train2017.json"
        archive.write(server.root / name, name)
        archive.writestr("annotations/captions_train2017.json", "{}")
    return server


def run(mirror, root: Path, *options: str, count: int = 4) -> None:
    arguments = ["--coco", str(root), "--out", str(root.parent / "out"), "--crop-size", "32"]
    arguments += ["--num-images", str(count), "--splits", "train2017", "--workers", "1"]
    coco.main([*arguments, "--download", "--base-url", f"{mirror.url}/", *options])


def test_everything_missing_is_fetched_once(mirror, tmp_path, capsys):
    root = tmp_path / "coco"
    run(mirror, root)
    assert "4 crops: 3 train, 1 test" in capsys.readouterr().out
    assert [path.name for path in (root / "annotations").glob("*.json")] == [
        "instances_train2017.json"
    ]
    assert len(list((root / "train2017").iterdir())) == 4
    assert len(mirror.requests) == 5
    run(mirror, root)
    assert len(mirror.requests) == 5
    assert "4 already there" in capsys.readouterr().out


def test_crops_stay_without_download(mirror, tmp_path, capsys):
    run(mirror, tmp_path / "coco")
    arguments = ["--coco", str(tmp_path / "coco"), "--out", str(tmp_path / "out")]
    coco.main([*arguments, "--crop-size", "32", "--num-images", "4", "--splits", "train2017"])
    text = capsys.readouterr().out
    assert "6 are not in" in text
    assert "4 already there" in text


def test_photographs_that_are_cropped_need_not_be_there(mirror, tmp_path):
    run(mirror, tmp_path / "coco")
    for path in (tmp_path / "coco" / "train2017").iterdir():
        path.unlink()
    run(mirror, tmp_path / "coco")
    assert len(mirror.requests) == 5


def test_refused_photographs_are_replaced(mirror, tmp_path, capsys):
    for i in range(1, 6):
        mirror.coco.photo(i).unlink()
    run(mirror, tmp_path / "coco", count=5)
    text = capsys.readouterr().out
    assert "5 crops: 4 train, 1 test; skipped" in text
    assert "cannot be fetched: 404 Not Found" in text


def test_server_without_any_of_the_photographs(mirror, tmp_path):
    for i in range(1, 11):
        mirror.coco.photo(i).unlink()
    with pytest.raises(UserError, match="has none of the 4 photographs: 404 Not Found"):
        run(mirror, tmp_path / "coco")


def test_a_page_in_place_of_photographs_is_not_kept(mirror, tmp_path):
    """As a network that asks for a password first answers."""
    kept = {i: mirror.coco.photo(i).read_bytes() for i in range(1, 11)}
    for i in kept:
        mirror.coco.photo(i).write_text("<html>Please log in</html>")
    with pytest.raises(UserError, match=r"none of the 4 photographs: what came is no picture"):
        run(mirror, tmp_path / "coco")
    assert not list((tmp_path / "coco" / "train2017").iterdir())
    for i, data in kept.items():
        mirror.coco.photo(i).write_bytes(data)
    run(mirror, tmp_path / "coco")


def test_a_length_that_is_no_number_is_one_clear_error(tmp_path, monkeypatch):
    with file_server(tmp_path) as server:
        (tmp_path / "a.bin").write_bytes(DATA)
        monkeypatch.setattr(
            "data_prep_fixtures._Handler.send_header",
            lambda self, name, value: http.server.BaseHTTPRequestHandler.send_header(
                self, name, "abc" if name == "Content-Length" else value
            ),
        )
        with pytest.raises(UserError, match="Content-Length of 'abc'"):
            download.fetch(f"{server.url}/a.bin", tmp_path / "copy.bin")
    assert not (tmp_path / "copy.bin").exists()


def test_dry_run_lists_and_writes_nothing(mirror, tmp_path, capsys):
    root = tmp_path / "coco"
    run(mirror, root, "--dry-run")
    text = capsys.readouterr().out
    assert f"would fetch the annotations, 241 MB, to {root}: {mirror.url}/annotations/" in text
    assert not root.exists()
    assert mirror.requests == []
    (root / "annotations").mkdir(parents=True)
    name = "annotations/instances_train2017.json"
    (root / name).write_bytes((mirror.root / name).read_bytes())
    run(mirror, root, "--dry-run")
    text = capsys.readouterr().out
    assert f"would fetch 4 photographs, about 0.6 MB, to {root}\n  {mirror.url}/train2017/0" in text
    assert "would cut 4 crops of 32x32" in text
    assert mirror.requests == []
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("data", "message"), [(b"no zip", "what came is no archive"), (None, "404 Not Found")]
)
def test_annotations_that_cannot_be_had(mirror, tmp_path, data, message):
    archive = mirror.root / coco.ANNOTATIONS
    if data is None:
        archive.unlink()
    else:
        archive.write_bytes(data)
    with pytest.raises(UserError, match=message):
        run(mirror, tmp_path / "coco")


def test_annotations_of_an_unknown_split(mirror, tmp_path):
    with pytest.raises(UserError, match=r"no item named 'annotations/instances_x\.json'"):
        run(mirror, tmp_path / "coco", "--splits", "x")


def test_command_line_without_network(tmp_path):
    command = [sys.executable, "-c", "from data_prep import coco, download; "]
    command[-1] += "download.WAITS = (0,); coco.cli.run(coco.main)"
    command += ["--coco", str(tmp_path / "coco"), "--out", str(tmp_path / "out"), "--download"]
    command += ["--base-url", "http://127.0.0.1:9"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot fetch http://127.0.0.1:9/annotations/")
    assert result.stderr.count("\n") == 1
