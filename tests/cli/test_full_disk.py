"""A disk that is full in the middle of a command: one line, and nothing half-written."""

import contextlib
import errno
import os
import resource
import shutil

import pytest

from tests.factories.commands import IMAGES_ONLY, refuse


@contextlib.contextmanager
def full_disk(size):
    """No file may grow beyond some bytes: the system then refuses to write, in the middle of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = "File too large"  # what this kind of full disk is called; a real one: No space left on device


def test_a_full_disk_while_a_set_is_drawn(tmp_path):
    with full_disk(2_000):
        refuse("data", "phantom", tmp_path / "set", "--studies", 3, says=(str(tmp_path / "set"), FULL))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_while_word_vectors_are_written(tiny_folder, tmp_path):
    arguments = ["weights", "embed", tiny_folder, "--out", tmp_path / "v.txt", "--dimensions", 9, "--epochs", 1]
    (tmp_path / "v.txt").write_text("old")
    with full_disk(500):
        refuse(*arguments, says=(str(tmp_path / "v.txt"), FULL))
    assert [path.name for path in tmp_path.iterdir()] == ["v.txt"] and (tmp_path / "v.txt").read_text() == "old"


def test_a_full_disk_while_films_are_prepared(tiny_folder, tmp_path):
    with full_disk(20_000):
        refuse("fit", tiny_folder, "--out", tmp_path, *IMAGES_ONLY, says=(str(tmp_path), FULL))
    assert not list(tmp_path.iterdir())


def test_too_little_room_for_films_is_said_before_they_are_read(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    refuse(
        "fit",
        tiny_folder,
        "--out",
        tmp_path,
        *IMAGES_ONLY,
        says=(str(tmp_path), "too little free disk space: prepared films need 0.00 GB"),
    )
    assert not list(tmp_path.iterdir())


@pytest.fixture
def trained(tiny_run, monkeypatch):
    """A fit that trains nothing and goes straight to saving."""
    import kmm.training.fit
    import kmm.training.save_run

    monkeypatch.setattr(kmm.training.fit, "fit_classifier", lambda *_, **__: tiny_run[:2])
    monkeypatch.setattr(
        kmm.training.save_run, "save_run", lambda classifier, run, folder, overwrite: classifier.save(folder)
    )


def test_a_full_disk_while_a_classifier_is_saved(tiny_folder, tmp_path, trained):
    with full_disk(20_000):
        refuse("fit", tiny_folder, "--out", tmp_path, says=(str(tmp_path), FULL))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_at_the_last_moment(tiny_folder, tmp_path, trained, model, good, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "answers.json").write_text("old")
    monkeypatch.setattr(os, "replace", fail)
    refuse("fit", tiny_folder, "--out", tmp_path, says=(str(tmp_path), "No space left on device"))
    refuse(
        "weights",
        "embed",
        tiny_folder,
        "--out",
        tmp_path / "v.txt",
        "--epochs",
        1,
        says=("v.txt", "No space left on device"),
    )
    refuse("data", "phantom", tmp_path / "set", "--studies", 3, says=("set", "No space left on device"))
    arguments = ["predict", model, good, "--json", tmp_path / "answers.json"]
    refuse(*arguments, says=("answers.json", "No space left on device"))
    assert {path.name for path in tmp_path.iterdir()} == {"answers.json"}
    assert (tmp_path / "answers.json").read_text() == "old"
