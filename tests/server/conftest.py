"""Tiny models, and servers of them on free ports of this host."""

import shutil

import pytest

from kmm.server.requests import batching
from kmm.server.settings import ModelSettings
from tests.factories.servers import Door, running


@pytest.fixture
def folder(versions, tmp_path):
    """A model's folder that a test may change, with version 1."""
    shutil.copytree(versions / "1", tmp_path / "tiny" / "1")
    return tmp_path / "tiny"


@pytest.fixture(scope="session")
def tiny(versions):
    """A server of both versions of the tiny model, over gRPC and HTTP: (server, stubs)."""
    from kmm.server.policy import VersionPolicy

    model = ModelSettings("tiny", versions, VersionPolicy("all"), {"stable": 1})
    with running(model, rest_port=0, allow_reload=True) as found:
        yield found


@pytest.fixture
def door(monkeypatch):
    door = Door(batching.run_signature)
    monkeypatch.setattr(batching, "run_signature", door.run)
    yield door
    door.open()
