"""Tiny models, and servers of them on free ports of this host."""

import contextlib
import shutil
import tempfile
from pathlib import Path

import grpc
import pytest

from kmm.server.settings import ModelSettings, ServeSettings
from tests.server.tiny_model import Stubs, save_tiny


@pytest.fixture(scope="session")
def versions(tmp_path_factory):
    """A folder with the versions 1 and 2 of the tiny model."""
    folder = tmp_path_factory.mktemp("exports")
    for version in (1, 2):
        save_tiny(folder / str(version), version)
    return folder


@pytest.fixture
def folder(versions, tmp_path):
    """A model's folder that a test may change, with version 1."""
    shutil.copytree(versions / "1", tmp_path / "tiny" / "1")
    return tmp_path / "tiny"


def running(*models, **settings):
    """A server of models, and the stock stubs on a channel to it."""
    return running_list(list(models), **settings)


@contextlib.contextmanager
def running_list(models, *, options=(), credentials=None, token=None, **settings):
    """As `running`, of a list of models or a `ModelList`; a token is written to a file of its own."""
    from kmm.server.server import Server

    if token is not None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "tokens")
            path.write_text(f"{token}\n")
            with running_list(models, options=options, credentials=credentials, token_file=path, **settings) as found:
                yield found
        return
    settings = {"port": 0, "rest_port": None, "poll_seconds": 0, "grace_seconds": 5, **settings}
    with Server(models, ServeSettings(**settings)) as server:
        address = f"localhost:{server.port}"
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), *options]
        if credentials is None:
            channel = grpc.insecure_channel(address, options)
        else:
            channel = grpc.secure_channel(address, credentials, options)
        with channel:
            yield server, Stubs(channel)


@pytest.fixture(scope="session")
def tiny(versions):
    """A server of both versions of the tiny model, over gRPC and HTTP: (server, stubs)."""
    from kmm.server.policy import VersionPolicy

    model = ModelSettings("tiny", versions, VersionPolicy("all"), {"stable": 1})
    with running(model, rest_port=0, allow_reload=True) as found:
        yield found
