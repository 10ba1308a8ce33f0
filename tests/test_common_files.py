import errno

import pytest
from data_prep_fixtures import save_photo

from srgan_keras.common.files import remove_temporaries, replacing
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
    assert list_pictures(tmp_path) == [kept]
    remove_temporaries(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


def test_disk_full_names_the_file(tmp_path):
    with pytest.raises(OSError) as caught, replacing(tmp_path / "a.png"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(tmp_path / "a.png")
