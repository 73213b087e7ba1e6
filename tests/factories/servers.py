"""Servers on free ports of this host, and calls to them."""

import contextlib
import tempfile
import threading
import time
from pathlib import Path

import grpc
import numpy as np

from kmm.server.settings import ServeSettings
from tests.factories.saved_model import Stubs, make_predict


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


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def ask(face, **spec):
    return face.predict.Predict(make_predict(**spec), timeout=20).outputs["version"].float_val[0]


DOUBLE = {"values": np.array([1], np.float32)}


class Door:
    """Stands before runs of the signatures `double` and `explain`: they wait until it opens."""

    def __init__(self, run):
        self._run, self._open = run, threading.Event()
        self.entered = threading.Semaphore(0)
        self.runs = 0

    def run(self, servable, key, arrays, wanted):
        if key != "serving_default":
            self.runs += 1
            self.entered.release()
            assert self._open.wait(20)
        return self._run(servable, key, arrays, wanted)

    def open(self):
        self._open.set()


def send(face, signature="double", **options):
    return face.predict.Predict.future(make_predict(DOUBLE, signature=signature), **{"timeout": 20, **options})
