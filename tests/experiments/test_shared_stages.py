"""Stages that variants have in common are trained once, with the same results; a kill repeats what was running."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import psutil
import pytest

from kmm.experiments.comparison import Comparison
from kmm.experiments.run_comparison import TASKS
from kmm.experiments.tables import select
from kmm.experiments.tasks.task import RESULT, STATES
from tests.factories.commands import ROOT, run
from tests.factories.stages import name_stage, record_stages
from tests.factories.studies import TINY

pytestmark = pytest.mark.large
SETTINGS = [word for name, value in {**TINY, "tune_epochs": 0}.items() for word in ("--set", f"{name}={value}")]
VARY = ("--vary", "image-fit=letterbox|stretch")
FIRST = ("--splits", 1, *VARY)  # the first split alone
TABLES = {"rows": "value", "predictions": "probability", "history": "value"}


@pytest.fixture(scope="module", autouse=True)
def no_pages():
    """Comparisons of this process write no page, whose figures take longer than the models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kmm.experiments.run_comparison.write_pages", lambda *given: None)
        yield


def list_words(folder, out, *words):
    return [str(word) for word in ("compare", folder, "--out", out, "--cache", out.parent / "cache", *SETTINGS, *words)]


def read_states(out):
    """The epoch of each stage whose state is there, and whether it is done."""
    found = {}
    for folder in out.glob(f"{TASKS}/{STATES}*/stages/[!.]*"):
        with contextlib.suppress(FileNotFoundError, ValueError):  # replaced meanwhile, or not there yet
            newest = max(folder.glob("epoch-*.npz"), key=lambda path: int(path.stem.partition("-")[2]))
            with np.load(newest) as stored:
                state = json.loads(stored["state"].tobytes())
            found[name_stage(folder)] = state["epoch"], state["done"]
    return found


def assert_same(found, expected, atol=0.0, **chosen):
    for table, number in TABLES.items():
        one, other = getattr(found, table), select(getattr(expected, table), **chosen)
        assert len(one[number]) == len(other[number]) > 40
        for name in set(one) - {number, "threshold", *chosen}:
            np.testing.assert_array_equal(one[name], other[name])
        np.testing.assert_allclose(one[number], other[number], rtol=0, atol=atol)


@pytest.fixture(scope="module")
def whole(no_pages, tiny_folder, tmp_path_factory):
    """A comparison of two variants on two splits that nothing interrupts, and the stages that it trained."""
    out = tmp_path_factory.mktemp("whole") / "out"
    with record_stages() as stages:
        result = run(*list_words(tiny_folder, out, "--splits", 2, *VARY))
    assert result.exit_code == 0, result.output
    return out, stages


def test_the_text_stage_of_variants_of_the_image_is_trained_once_per_split(whole):
    out, stages = whole
    assert all(epoch == 0 for _, epoch in stages) and len(set(stages)) == len(stages)
    counts = Counter((name[: len(STATES) + 3], name.partition("/")[2].rpartition("-")[0]) for name, _ in stages)
    for split in ("001", "002"):
        own = {stage: count for (place, stage), count in counts.items() if place == STATES + split}
        assert own == {"text": 1, "image": 2, "joint-head": 2}
    assert not list(out.glob(f"{TASKS}/{STATES}*")) and len(list(out.glob(f"{TASKS}/*/{RESULT}"))) == 4


def test_results_are_those_of_a_comparison_that_shares_nothing(whole, tiny_folder, tmp_path):
    """The second variant of the shared comparison found the text stage that the first one had trained."""
    with record_stages() as stages:
        result = run(*list_words(tiny_folder, tmp_path / "out", "--splits", 1, "--set", "image_fit=stretch"))
    assert result.exit_code == 0 and len(stages) == 3, result.output
    assert_same(Comparison.load(tmp_path / "out"), Comparison.load(whole[0]), split="1", variant="image_fit=stretch")


@contextlib.contextmanager
def start(log, *words):
    """A comparison in a process of its own, which writes what it says into a file."""
    command = [sys.executable, "-m", "kmm", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with open(log, "w") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(process, out, holds, seconds=600):
    """Waits until the states of the stages are as wanted."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if holds(states := read_states(out)):
            return states
        time.sleep(0.02)
    raise AssertionError(f"the comparison ended, or was too slow: {process.poll()}")


def has_begun_the_second(states):
    """Whether one stage is done, and another one has saved an epoch."""
    return any(done for _, done in states.values()) and any(epoch and not done for epoch, done in states.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("engine", ["process", "workers", "ray"])
def test_after_a_kill_no_finished_stage_is_trained_again(whole, tiny_folder, tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    out = tmp_path / "out"
    words = list_words(tiny_folder, out, *FIRST)
    workers = () if engine == "process" else ("--workers", "2")
    with start(tmp_path / "log.txt", *words, "--engine", engine, *workers) as process:
        before = wait_for(process, out, has_begun_the_second)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with record_stages() as stages:
        result = run(*words)
    assert result.exit_code == 0, result.output
    for name, epoch in stages:
        saved, done = before.get(name, (0, False))
        assert not done and epoch >= saved, name
    assert_same(Comparison.load(out), Comparison.load(whole[0]), atol=1e-4, split="1")  # threads sum in another order
    assert not list(out.glob(f"{TASKS}/{STATES}*"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the processes of Linux")
def test_a_killed_worker_leaves_its_stage_to_another(whole, tiny_folder, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log.txt"
    words = list_words(tiny_folder, out, *FIRST, "--engine", "workers", "--workers", 2)
    with start(log, *words) as process:
        wait_for(process, out, has_begun_the_second)
        workers = [one for one in psutil.Process(process.pid).children() if "spawn_main" in " ".join(one.cmdline())]
        assert len(workers) == 2
        workers[0].kill()
        assert process.wait(timeout=600) == 0, log.read_text()
    assert_same(Comparison.load(out), Comparison.load(whole[0]), atol=1e-4, split="1")
