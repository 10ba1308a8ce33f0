import errno
import os
import subprocess
import sys

import pytest
from data_prep_fixtures import save_photo

from srgan_keras.common.errors import UserError
from srgan_keras.common.files import locked, remove_temporaries, replacing
from srgan_keras.common.pictures import list_pictures


def test_the_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with replacing(path) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_leaves_is_no_picture_and_is_removed(tmp_path):
    kept = save_photo(tmp_path / "a.png")
    with pytest.raises(KeyError), replacing(tmp_path / "b.png") as temporary:
        name = temporary.name
        raise KeyError
    (tmp_path / name).write_bytes(b"half")
    (tmp_path / f"{name}-folder" / "half").mkdir(parents=True)
    (tmp_path / f"{name}-link").symlink_to(tmp_path)
    assert list_pictures(tmp_path) == [kept]
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


def test_disk_full_names_the_file(tmp_path):
    with pytest.raises(OSError) as caught, replacing(tmp_path / "a.png"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.png")


def test_a_folder_takes_the_place_of_another_but_never_of_a_file_s(tmp_path):
    path = tmp_path / "folder"
    for name in ("old", "new"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).write_text(name)
    assert [file.name for file in path.iterdir()] == ["new"]
    with pytest.raises(OSError), replacing(path) as temporary:
        temporary.write_text("a file")
    assert (path / "new").exists()
    assert list(tmp_path.iterdir()) == [path]


def test_contents_are_on_the_disk_before_the_name_and_the_name_before_it_returns(
    tmp_path, monkeypatch
):
    done, replace = [], os.replace

    def sync(descriptor):
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))

    def rename(old, new):
        done.append("rename")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    with replacing(tmp_path / "folder") as temporary:
        temporary.mkdir()
        (temporary / "a").touch()
    assert done == [temporary.name, "a", "rename", tmp_path.name]
    done.clear()
    with replacing(tmp_path / "b", sync=False) as temporary:
        temporary.touch()
    assert done == ["rename"]


def test_a_locked_folder_is_refused_to_others_until_its_holder_dies(tmp_path):
    program = (
        "import os, sys; from pathlib import Path; from srgan_keras.common.files import locked\n"
        "with locked(Path(sys.argv[1])): print('mine', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"mine\n"
        with pytest.raises(UserError, match="Another process is at work"), locked(tmp_path / "run"):
            pass
        holder.kill()
    with locked(tmp_path / "run"):
        (tmp_path / "run" / "kept").touch()
    assert (tmp_path / "run" / ".lock").exists()
    with locked(tmp_path / "nothing"):
        pass
    assert not (tmp_path / "nothing").exists()
