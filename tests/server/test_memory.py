"""Memory that goes back to the system after use."""

import subprocess
import sys
import threading

import numpy as np
import pytest

from kmm.server import memory
from kmm.server.memory import Workspace
from kmm.server.models import model
from kmm.server.settings import ModelSettings
from tests.factories.saved_model import make_predict
from tests.factories.servers import running

VALUES = np.ones(1, np.float32)
PROGRAM = """
import re, sys
from pathlib import Path
from kmm.server.memory import trim
from kmm.server.models.servable import load_servable
import tensorflow as tf
load_servable("tiny", 1, Path(sys.argv[1]))
def read_megabytes():
    return int(re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
before = read_megabytes()
tensors = [tf.fill([2**20], 1.0) for _ in range(300)]
full = read_megabytes()
del tensors
trim()
print(full - before, read_megabytes() - before)
"""


@pytest.fixture
def returns(monkeypatch):
    """Counts the returns of memory."""
    found = threading.Semaphore(0)
    monkeypatch.setattr(memory, "trim", found.release)
    monkeypatch.setattr(model, "trim", lambda: None)  # what loading does is another matter
    return found


@pytest.mark.large
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_what_tensors_held_goes_back_to_the_system(versions):
    command = [sys.executable, "-c", PROGRAM, str(versions / "1")]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    taken, kept = map(float, found)
    assert taken > 1000 and kept < 100


def test_the_last_user_of_a_workspace_returns_memory(returns):
    workspace = Workspace(seconds=0.01)
    with workspace.use():
        with workspace.use():
            pass
        assert not returns.acquire(timeout=0.1)
    assert returns.acquire(timeout=10)
    assert not returns.acquire(timeout=0.1)


def test_a_new_user_comes_before_the_return(returns):
    workspace = Workspace(seconds=0.2)
    for _ in range(3):
        with workspace.use():
            pass
    assert returns.acquire(timeout=10)
    assert not returns.acquire(timeout=0.5)


@pytest.mark.large
def test_an_explanation_returns_memory_and_a_prediction_does_not(versions, returns):
    with running(ModelSettings("tiny", versions)) as (_, face):
        face.predict.Predict(make_predict({"values": VALUES}, signature="double"), timeout=20)
        assert not returns.acquire(timeout=1.5)
        face.predict.Predict(make_predict({"values": VALUES}, signature="explain"), timeout=20)
        assert returns.acquire(timeout=10)
