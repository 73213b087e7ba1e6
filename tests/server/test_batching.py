"""Requests that wait run together, each gets its own rows, and a bad one fails alone."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from kmm.server.requests import batching
from kmm.server.requests.admission import Caller
from kmm.server.requests.batching import Batcher, count_batchable
from kmm.server.status import ServingError


def make_signature(inputs, outputs):
    """A `SignatureDef` of float tensors with these shapes; -1 is the batch."""
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

    signature = SignatureDef()
    for fields, shapes in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for name, shape in shapes.items():
            fields[name].dtype = 1
            for size in shape:
                fields[name].tensor_shape.dim.add(size=size)
    return signature


ROWS = make_signature({"x": (-1, 2)}, {"y": (-1, 2)})
SIGNATURES = {
    "serving_default": ROWS,
    "embed": ROWS,
    "explain": ROWS,
    "describe": ROWS,
    "total": make_signature({"x": (-1, 2)}, {"y": ()}),
}
SERVABLE = SimpleNamespace(signatures=SIGNATURES, batches_itself=False)


class Machine:
    """Stands for the model: doubles rows, notes each call's rows, and runs only while it is let."""

    def __init__(self, monkeypatch):
        self.sizes, self.started, self.free = [], threading.Semaphore(0), threading.Event()
        monkeypatch.setattr(batching, "run_signature", self.run)

    def run(self, servable, key, arrays, wanted):
        self.sizes.append(len(arrays["x"]))
        self.started.release()
        assert self.free.wait(10)
        if (arrays["x"] < 0).any():
            raise ServingError("INVALID_ARGUMENT", "a negative row")
        return {name: arrays["x"] * 2 for name in wanted}


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def row(number, count=1):
    return {"x": np.full((count, 2), number, np.float32)}


def send(pool, batcher, number, count=1, key="serving_default", call=None, servable=SERVABLE):
    return pool.submit(batcher.run, servable, key, row(number, count), ["y"], call)


def wait_for(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_those_that_wait_run_together_and_each_gets_its_rows(machine):
    batcher = Batcher(max_batch=8)
    with ThreadPoolExecutor(8) as pool:
        first = send(pool, batcher, 0)
        assert machine.started.acquire(timeout=10)
        others = []
        for number in range(1, 6):
            others.append(send(pool, batcher, number, count=1 + number % 2))
            wait_for(lambda: batcher.waiting == len(others))
        machine.free.set()
        for number, found in enumerate([first, *others]):
            np.testing.assert_array_equal(found.result(10)["y"], row(number, 1 + number % 2)["x"] * 2)
    assert machine.sizes == [1, 8]  # 2 + 1 + 2 + 1 + 2 rows


def test_rows_of_a_batch_are_capped(machine):
    batcher = Batcher(max_batch=3)
    with ThreadPoolExecutor(8) as pool:
        found = [send(pool, batcher, 0)]
        assert machine.started.acquire(timeout=10)
        found += [send(pool, batcher, 1, count) for count in (2, 2, 1, 5)]
        wait_for(lambda: batcher.waiting == 4)
        machine.free.set()
        assert [len(one.result(10)["y"]) for one in found] == [1, 2, 2, 1, 5]
    assert machine.sizes[0] == 1 and sum(machine.sizes) == 11 and max(machine.sizes) == 5  # a long one runs alone
    assert all(size <= 3 for size in machine.sizes if size != 5)


def test_an_idle_server_does_not_wait(machine):
    machine.free.set()
    start = time.monotonic()
    for number in range(3):
        Batcher(max_batch=8, wait_seconds=5).run(SERVABLE, "serving_default", row(number), ["y"])
    assert time.monotonic() - start < 4


def test_a_bad_row_fails_its_own_request_alone(machine):
    batcher = Batcher(max_batch=8)
    with ThreadPoolExecutor(8) as pool:
        send(pool, batcher, 0)
        assert machine.started.acquire(timeout=10)
        found = {number: send(pool, batcher, number) for number in (1, -1, 2)}
        wait_for(lambda: batcher.waiting == 3)
        machine.free.set()
        for number, one in found.items():
            if number < 0:
                with pytest.raises(ServingError, match="a negative row") as caught:
                    one.result(10)
                assert caught.value.code == "INVALID_ARGUMENT"
            else:
                np.testing.assert_array_equal(one.result(10)["y"], row(number)["x"] * 2)
    assert machine.sizes == [1, 3, 1, 1, 1]


@pytest.mark.parametrize("lost, code", [("deadline", "DEADLINE_EXCEEDED"), ("client", "CANCELLED")])
def test_who_waits_no_more_leaves_the_queue(machine, lost, code):
    batcher, call = Batcher(max_batch=8), Caller(0.1 if lost == "deadline" else None)
    with ThreadPoolExecutor(8) as pool:
        first = send(pool, batcher, 0)
        assert machine.started.acquire(timeout=10)
        late = send(pool, batcher, 1, call=call)
        wait_for(lambda: batcher.waiting == 1 or late.done())
        if lost == "client":
            call.cancel()
        with pytest.raises(ServingError) as caught:  # while the first one still runs
            late.result(10)
        assert caught.value.code == code and not first.done() and batcher.waiting == 0
        machine.free.set()
        first.result(10)
        np.testing.assert_array_equal(send(pool, batcher, 3).result(10)["y"], row(3)["x"] * 2)
    assert machine.sizes == [1, 1]


def test_what_differs_does_not_run_together(machine):
    batcher, other = Batcher(max_batch=8), SimpleNamespace(signatures=SIGNATURES, batches_itself=False)
    with ThreadPoolExecutor(8) as pool:
        found = [send(pool, batcher, 0)]
        assert machine.started.acquire(timeout=10)
        found += [send(pool, batcher, 1), send(pool, batcher, 2, key="embed"), send(pool, batcher, 3, servable=other)]
        wait_for(lambda: batcher.waiting == 3)
        machine.free.set()
        for number, one in enumerate(found):
            np.testing.assert_array_equal(one.result(10)["y"], row(number)["x"] * 2)
    assert machine.sizes == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "servable, key, arrays, rows",
    [
        (SERVABLE, "serving_default", row(1, 3), 3),
        (SERVABLE, "serving_default", row(1, 0), None),
        (SERVABLE, "serving_default", {"x": np.zeros((2, 3), np.float32)}, None),
        (SERVABLE, "serving_default", {"x": np.zeros(2, np.float32)}, None),
        (SERVABLE, "explain", row(1), None),
        (SERVABLE, "describe", row(1), None),
        (SERVABLE, "total", row(1), None),
        (SimpleNamespace(signatures={"serving_default": ROWS}, batches_itself=False), "serving_default", row(1), None),
        (SimpleNamespace(signatures=SIGNATURES, batches_itself=True), "serving_default", row(1), None),
    ],
)
def test_what_may_be_batched(servable, key, arrays, rows):
    assert count_batchable(servable, key, arrays) == rows


@pytest.mark.parametrize("running", [1, 2])
def test_many_threads_get_their_own_rows(monkeypatch, running):
    monkeypatch.setattr(batching, "run_signature", lambda servable, key, arrays, wanted: {"y": np.sin(arrays["x"])})
    batcher = Batcher(max_batch=16, wait_seconds=0.001, running=running)
    with ThreadPoolExecutor(32) as pool:
        found = [send(pool, batcher, number, 1 + number % 3) for number in range(1500)]
        for number, one in enumerate(found):
            np.testing.assert_array_equal(one.result(30)["y"], np.sin(row(number, 1 + number % 3)["x"]))
    assert batcher.waiting == 0 and batcher._free == running
