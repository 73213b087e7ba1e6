"""Runs that were stopped, and runs of one name at once."""

import contextlib
import json
import signal
import subprocess
import sys
import time

import pytest

from tests.factories.commands import ROOT, read_one_document, run


def test_resume_finds_the_run_that_was_stopped(tiny_folder, tmp_path, fits):
    (tmp_path / "small").mkdir()
    (tmp_path / ".work-small-2" / "stages").mkdir(parents=True)
    assert run("fit", tiny_folder, "--out", tmp_path, "--resume").exit_code == 0
    assert fits[-1]["work"] == tmp_path / ".work-small-2" and (tmp_path / "small-2").exists()
    for name in ("a", "b"):
        (tmp_path / f".work-{name}").mkdir()
    result = run("fit", tiny_folder, "--out", tmp_path, "--resume")
    assert result.exit_code == 2 and "--name" in result.stderr and "a, b" in result.stderr
    assert run("fit", tiny_folder, "--out", tmp_path, "--resume", "--name", "b").exit_code == 0


def test_starting_over_a_stopped_run_needs_overwrite(tiny_folder, tmp_path, fits):
    (tmp_path / ".work-small" / "stages").mkdir(parents=True)
    result = run("fit", tiny_folder, "--out", tmp_path)
    assert result.exit_code == 2 and "--resume" in result.stderr and "--overwrite" in result.stderr
    assert run("fit", tiny_folder, "--out", tmp_path, "--overwrite").exit_code == 0


def test_a_second_run_of_the_same_name_is_refused(tiny_folder, tmp_path, fits):
    import fcntl

    with open(tmp_path / ".lock-small", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run("fit", tiny_folder, "--out", tmp_path)
    assert result.exit_code == 2 and "another run of this name" in result.stderr


SMALL = ("text_epochs=16", "patience=16", "length=12", "embedding_size=8", "text_filters=8", "bootstrap_repeats=2")
LONG = ["--image-encoder", "none", "--epochs", 16, "--batch-size", 16]
LONG += [part for setting in SMALL for part in ("--set", setting)]
START = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from kmm.cli import main; main()"


@contextlib.contextmanager
def start_fit(folder, out, *options):
    """A fit in a process of its own, in which Ctrl-C works even where the tests run in the background."""
    command = [sys.executable, "-c", START, "fit", folder, "--out", out, "--name", "x", *LONG, *options]
    process = subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_epoch(process, out, epoch):
    stage, end = out / ".work-x" / "stages" / "text", time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        now = max((int(path.stem.split("-")[1]) for path in stage.glob("epoch-*.npz")), default=-1)
        if now >= epoch:
            return now
        time.sleep(0.01)
    raise AssertionError("the fit ended, or did not begin, before it could be stopped")


@pytest.mark.large
def test_after_ctrl_c_and_a_kill_resume_ends_in_the_same_metrics(tiny_folder, tmp_path):
    out = tmp_path / "stopped"
    with start_fit(tiny_folder, out) as process:
        first = wait_for_epoch(process, out, 2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1].startswith("kmm: interrupted.") and "Traceback" not in said
    assert not (out / "x").exists()
    with start_fit(tiny_folder, out, "--resume") as process:
        wait_for_epoch(process, out, first + 3)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL and not (out / "x").exists()

    result = run("fit", tiny_folder, "--out", out, "--name", "x", *LONG, "--seed", 1, "--resume")
    assert result.exit_code == 2 and "seed changed since this run started" in result.stderr
    resumed = run("fit", tiny_folder, "--out", out, "--name", "x", *LONG, "--resume", "--json", "-")
    assert resumed.exit_code == 0, resumed.stderr
    assert sorted(path.name for path in out.iterdir() if path.name != ".cache") == ["x"]
    whole = run("fit", tiny_folder, "--out", tmp_path / "whole", *LONG, "--json", "-")
    assert read_one_document(resumed.stdout) == read_one_document(whole.stdout)
    assert json.loads((out / "x" / "history.json").read_text()) == json.loads(
        (tmp_path / "whole" / "small" / "history.json").read_text()
    )
