import os

import pytest

from kmm.storage.files import replace_file


def test_a_file_is_replaced_in_one_step(tmp_path):
    path = tmp_path / "a.weights.h5"
    path.write_text("old")
    with replace_file(path) as place:
        place.write_text("new")
        assert path.read_text() == "old" and place.parent == tmp_path and place.name.endswith(".weights.h5")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ValueError), replace_file(path) as place:
        place.write_text("half")
        raise ValueError("no")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch):
    path = tmp_path / "none" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught, replace_file(path) as place:
        place.write_text("a")
    assert caught.value.filename == str(path)
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "folder.txt" / "full").touch()
    with pytest.raises(OSError) as caught, replace_file(tmp_path / "folder.txt") as place:
        place.write_text("a")
    assert str(os.getpid()) not in str(caught.value.filename) and caught.value.filename2 is None
    assert [file.name for file in tmp_path.iterdir()] == ["folder.txt"]
