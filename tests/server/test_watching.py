"""Values of files that change: taken when they are complete and good, and else left as they were."""

import logging
import os
import threading
import time

import pytest

import kmm.server.watching as watching
from kmm.errors import InputError
from kmm.server.watching import WatchedFiles, Watcher


def parse_numbers(*contents):
    try:
        return [int(content) for content in contents]
    except ValueError:
        raise InputError("expected numbers") from None


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setattr(watching, "SETTLE_SECONDS", 0)
    for name in "ab":
        (tmp_path / name).write_text("1\n")
    return tmp_path


def watch(files, *names, parse=parse_numbers):
    return WatchedFiles("numbers", [(files / name, "a number") for name in names], parse)


def list_errors(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_files_that_change_are_taken_together(files):
    watched = watch(files, "a", "b")
    assert (watched.value, watched.reload()) == ([1, 1], False)
    (files / "a").write_text("2\n")
    (files / "b").write_text("3\n")
    assert (watched.reload(), watched.value, watched.reload()) == (True, [2, 3], False)


@pytest.mark.parametrize("fault", [b"x\n", b"", b"\xff\n", bytes(2**20 + 1), None])
def test_a_fault_leaves_the_last_good_value_and_is_said_once(files, caplog, fault):
    watched = watch(files, "a")
    for _ in range(2):
        (files / "a").unlink() if fault is None else (files / "a").write_bytes(fault)
        for _ in range(4):
            assert (watched.reload(), watched.value) == (False, [1])
        (files / "a").write_text("1\n")
        assert watched.reload() is False
    assert len(list_errors(caplog)) == 2  # once each time that it happened
    assert all(
        said.startswith("numbers: not reloaded, the last valid ones stay in use: ") for said in list_errors(caplog)
    )
    (files / "a").write_text("5\n")
    assert (watched.reload(), watched.value) == (True, [5])


def test_what_is_still_being_written_waits(files, monkeypatch):
    """Between the two reads of a look the file grows; a line without an end must be the same at the next look."""
    watched = watch(files, "a")
    (files / "a").write_text("12\n")
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: (files / "a").write_text("123\n"))
    assert (watched.reload(), watched.value) == (False, [1])
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: None)
    assert (watched.reload(), watched.value) == (True, [123])
    for text in ("4", "45", "456"):
        (files / "a").write_text(text)
        assert (watched.reload(), watched.value) == (False, [123])
    assert (watched.reload(), watched.value) == (True, [456])
    (files / "a").write_text("7")
    assert (watched.reload(at_once=True), watched.value) == (True, [7])


def test_a_link_that_is_pointed_elsewhere_is_a_change(files):
    """As Kubernetes replaces secrets: the file is a link through the link ..data; size and times may be equal."""
    for name, text in (("first", "1\n"), ("second", "2\n")):
        (files / name).mkdir()
        (files / name / "number").write_text(text)
        os.utime(files / name / "number", (1, 1))
    (files / "..data").symlink_to("first")
    (files / "number").symlink_to("..data/number")
    watched = watch(files, "number")
    (files / "..new").symlink_to("second")
    os.replace(files / "..new", files / "..data")
    assert (watched.reload(), watched.value) == (True, [2])


def test_an_error_that_passes_is_tried_again(files):
    """Such as a lack of descriptors: it says nothing about the files."""
    faults = [OSError("Too many open files")]

    def parse(content):
        if content == b"2\n" and faults:
            raise faults.pop()
        return int(content)

    watched = watch(files, "a", parse=parse)
    (files / "a").write_text("2\n")
    with pytest.raises(OSError, match="Too many"):
        watched.reload()
    assert (watched.value, watched.reload(), watched.value) == (1, True, 2)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_is_read_once(files):
    os.mkfifo(files / "pipe")
    writer = threading.Thread(target=(files / "pipe").write_text, args=("3\n",))
    writer.start()
    watched = watch(files, "pipe")
    writer.join()
    assert (watched.reload(), watched.value) == (False, [3])


@pytest.mark.parametrize("name", ["none", "."])
def test_a_file_that_cannot_be_read_is_named(files, name):
    with pytest.raises(InputError, match=r"expected a number\. (No such file|Is a directory)"):
        watch(files, name)


def test_a_watcher_looks_in_time_and_when_it_is_woken(caplog):
    looks = []

    def look(*, at_once):
        looks.append(at_once)
        if len(looks) > 2:
            raise KeyError("Cough")

    for seconds, woken in ((0.01, False), (0, True)):
        looks.clear()
        watcher = Watcher("kmm-test", seconds, look)
        watcher.start()
        end = time.monotonic() + 10
        while len(looks) < 5 and time.monotonic() < end:
            if woken:
                watcher.wake()
            time.sleep(0.005)
        watcher.close()
        assert set(looks[:5]) == {woken} and len(looks) >= 5
    assert len(list_errors(caplog)) == 2 and "Cough" not in caplog.text  # the fault of each, once
