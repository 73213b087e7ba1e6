"""Runners do every batch once, whoever is killed, and pass on what a worker raises. No model is needed for that."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kmm.engines.runners import RUNNERS, choose_runner
from kmm.errors import ImageError, InputError
from kmm.explain.folder.worker import Job
from kmm.image.decoding import count_cores


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """Makes a worker that other processes can import too."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    from stub_worker import StubWorker

    return lambda **how: StubWorker(tmp_path, **how)


def run(name, worker, names, *, count=2, begin=lambda: None, notify=lambda batch, count: None):
    batches = [Job(name, (), (), ()) for name in names]
    return {
        batch.name: reply
        for batch, reply in choose_runner(name, count=count)(worker, lambda workers: batches, begin, notify)
    }


def test_processes_share_batches_and_cores(stub):
    begun = []
    replies = run("workers", stub(), [f"well-{number}" for number in range(6)], begin=lambda: begun.append(1))
    assert len(replies) == 6 and begun == [1]
    lines = [line for reply in replies.values() for line in reply]
    assert os.getpid() not in {line["process"] for line in lines}
    assert {line["threads"] for line in lines} == {str(max(1, count_cores() // 2))}


@pytest.mark.parametrize("name", ["process", "workers"])
def test_what_a_worker_tells_on_the_way_is_passed_on(stub, name):
    told = []
    run(name, stub(), ["well-1", "well-2"], notify=lambda batch, count: told.append((batch.name, count)))
    assert sorted(told) == [("well-1", 1), ("well-2", 1)]


@pytest.mark.large
def test_a_killed_process_is_replaced_and_its_batch_done_again_twice(stub, tmp_path):
    replies = run("workers", stub(), ["well-1", "kill-2", "kill-9", "well-2"])
    assert [isinstance(replies[name], list) for name in ("well-1", "kill-2", "kill-9", "well-2")] == [1, 1, 0, 1]
    assert replies["kill-9"] == "the process that worked on it was killed 3 times (signal 9)."
    assert [(tmp_path / name).stat().st_size for name in ("kill-2", "kill-9")] == [3, 3]


@pytest.mark.large
@pytest.mark.parametrize("name", ["process", "workers"])
def test_errors_of_a_worker_end_the_run(stub, name):
    with pytest.raises(OSError) as full:
        run(name, stub(), ["well", "full"], count=1)
    assert (full.value.errno, full.value.filename) == (errno.ENOSPC, "out/1.png")
    with pytest.raises(RuntimeError if name == "workers" else ZeroDivisionError, match="division by zero"):
        run(name, stub(), ["bug"])


@pytest.mark.parametrize("name", ["process", "workers"])
def test_nothing_begins_before_the_model_is_loaded(stub, name):
    begun = []
    with pytest.raises(ImageError, match=r"^expected a model\.$"):
        run(name, stub(load="refused"), ["well"], begin=lambda: begun.append(1))
    assert begun == []


def test_processes_that_are_killed_while_they_load_are_not_tried_for_ever(stub):
    with pytest.raises(InputError, match=r"while they loaded the model \(signal 9\)"):
        run("workers", stub(load="killed"), ["well"])


ORPHAN = """
import sys
from types import SimpleNamespace
from stub_worker import StubWorker
from kmm.engines.runners import choose_runner

batches = [SimpleNamespace(name=f"slow-{number}") for number in range(2)]
if __name__ == "__main__":
    run = choose_runner("workers", count=2)
    list(run(StubWorker(sys.argv[1]), lambda count: batches, lambda: None, lambda *told: None))
"""


def test_a_worker_whose_parent_was_killed_writes_nothing_more(tmp_path):
    (tmp_path / "run.py").write_text(ORPHAN, encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    run = subprocess.Popen([sys.executable, tmp_path / "run.py", out], env={**os.environ, "PYTHONPATH": path})
    while not (out / "3.txt").exists():
        assert run.poll() is None
        time.sleep(0.01)
    run.kill()
    run.wait()
    time.sleep(0.2)
    left = sorted(out.iterdir())
    time.sleep(1)
    assert sorted(out.iterdir()) == left


@pytest.mark.large
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data")  # Ray warns of its own defaults
def test_ray_replaces_a_killed_actor_and_passes_errors_on(stub, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    replies = run("ray", stub(), ["well", "kill-1", "kill-9"])
    assert isinstance(replies["well"], list) and isinstance(replies["kill-1"], list)
    assert replies["kill-9"] == "the process that worked on it was killed 3 times."
    with pytest.raises(OSError, match="No space left"):
        run("ray", stub(), ["full"], count=1)


def test_unknown_runners_are_refused():
    with pytest.raises(InputError, match=f"Known: {', '.join(RUNNERS)}"):
        choose_runner("cloud")
    with pytest.raises(InputError, match="at least 1 worker"):
        choose_runner("workers", count=0)
