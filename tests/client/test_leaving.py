"""Whoever leaves early waits for nothing: requests under way are cancelled, not waited for."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from kmm.client import AsyncClient, Client
from kmm.errors import InputError, ServerError
from kmm.protocol.tensors import decode_tensor
from tests.client.calls import make_studies
from tests.factories.stub_server import serve

SECONDS = 10  # within which all must have ended; a request would take 20


@pytest.fixture
def slow(stub):
    """A server that answers reports of at most three letters, and no other before the test ends; its address."""
    done = threading.Event()

    def hold(request):
        if "report" in request.inputs and len(decode_tensor(request.inputs["report"])[0]) > 3:
            done.wait(20)

    stub.hold = hold
    with serve(stub) as port:
        yield f"127.0.0.1:{port}/openi"
        done.set()


@pytest.fixture
def timed():
    """Fails a test that took longer than it may."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SECONDS


def wait_until_left(stub):
    """Waits until the server sees that its clients are gone."""
    until = time.monotonic() + SECONDS
    while any(context.is_active() for context in stub.contexts) and time.monotonic() < until:
        time.sleep(0.01)
    assert not any(context.is_active() for context in stub.contexts)


def test_closing_what_was_returned(stub, slow, timed):
    with Client(slow) as client:
        rows = client.predict_folder(make_studies(50), concurrency=4)
        assert [next(rows).study.id for _ in range(3)] == ["0", "1", "2"]
        rows.close()
        wait_until_left(stub)  # before the client is closed
        assert client.status()


def test_leaving_the_loop_collects_it(stub, slow, timed):
    client = Client(slow)
    for number, row in enumerate(client.predict_folder(make_studies(50), concurrency=4)):
        assert row.prediction
        if number == 2:
            break
    gc.collect()
    wait_until_left(stub)
    client.close()


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_loop(stub, slow, timed, kind):
    client = Client(slow)
    with pytest.raises(kind):
        for row in client.predict_folder(make_studies(50), concurrency=4):
            if row.study.id == "2":
                raise kind
    wait_until_left(stub)
    client.close()


def test_an_error_of_the_studies(stub, slow, timed):
    def list_some():
        yield from make_studies(5)
        raise OSError("the disk is gone")

    with Client(slow) as client, pytest.raises(OSError, match="the disk is gone"):
        list(client.predict_folder(list_some(), concurrency=8))


def test_no_study_begins_after_leaving(stub, slow):
    begun = []

    def list_some():
        for study in make_studies(50):
            begun.append(study)
            yield study

    with Client(slow) as client:
        rows = client.predict_folder(list_some(), concurrency=4)
        for _ in range(3):
            next(rows)
        rows.close()
        count = len(begun)
        wait_until_left(stub)
        time.sleep(0.2)
        assert len(begun) == count < 20


@pytest.mark.parametrize("ask", ["predict", "predict_folder"])
def test_closing_the_client_from_another_thread(stub, slow, timed, ask):
    client = Client(slow)
    closing = threading.Timer(0.3, client.close)
    closing.start()
    with pytest.raises((ServerError, InputError), match="closed"):
        if ask == "predict":
            client.predict(None, "abcd")
        else:
            list(client.predict_folder(make_studies(50), concurrency=4))
    closing.join()
    wait_until_left(stub)


@pytest.mark.parametrize("ask", ["predict", "predict_folder"])
def test_closing_an_async_client_from_another_task(stub, slow, timed, ask):

    async def work():
        client = AsyncClient(slow)

        async def close():
            await asyncio.sleep(0.3)
            await client.close()

        closing = asyncio.create_task(close())
        with pytest.raises((ServerError, InputError), match="closed"):
            if ask == "predict":
                await client.predict(None, "abcd")
            else:
                [row async for row in client.predict_folder(make_studies(50), concurrency=4)]
        await closing

    asyncio.run(work())
    wait_until_left(stub)


@pytest.mark.parametrize("way", ["aclose", "break", "error", "cancel"])
def test_leaving_an_async_loop(stub, slow, timed, way):
    async def go_through(client):
        rows = client.predict_folder(make_studies(50), concurrency=4)
        async for row in rows:
            if row.study.id == "2" and way != "cancel":
                if way == "error":
                    raise ValueError
                break
        if way == "aclose":
            await rows.aclose()

    async def work():
        client = AsyncClient(slow)
        task = asyncio.create_task(go_through(client))
        if way == "cancel":
            await asyncio.sleep(0.3)
            task.cancel()
        try:
            await task
        except (ValueError, asyncio.CancelledError):
            assert way in ("error", "cancel")
        del task
        gc.collect()
        await asyncio.to_thread(wait_until_left, stub)
        await client.close()

    asyncio.run(work())


INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # in the background too
SCRIPT = f"""
{INTERRUPTIBLE}
import sys
from kmm.client import Client
from tests.client.calls import make_studies
client = Client(sys.argv[1])
rows = client.predict_folder(make_studies(50), concurrency=4)
for row in rows:
    print(row.study.id, flush=True)
    if sys.argv[2] == "error" and row.study.id == "2":
        raise ValueError("in the loop")
"""


@pytest.mark.parametrize("way", ["error", "interrupt"])
def test_a_program_ends_at_once(stub, slow, way):
    """Also where a variable holds the rows until the end of the program, and nothing is closed."""
    command = [sys.executable, "-c", SCRIPT, slow, way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert [process.stdout.readline() for _ in range(3)] == ["0\n", "1\n", "2\n"]
        began = time.monotonic()
        if way == "interrupt":
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < SECONDS
    assert errors.strip().splitlines()[-1] == ("ValueError: in the loop" if way == "error" else "KeyboardInterrupt")


def test_interrupting_the_command(slow, stub, tmp_path):
    lines = "".join(f"{number},Clear.\n" for number in range(20))
    (tmp_path / "studies.csv").write_text(f"id,report\n{lines}", encoding="utf-8")
    start = f"{INTERRUPTIBLE}; from kmm.cli import main; main(prog_name='kmm')"
    command = [sys.executable, "-c", start, "call", slow, "predict", str(tmp_path / "studies.csv"), "--json",
               str(tmp_path / "out.json")]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 30
        while len(stub.contexts) < 8 and time.monotonic() < until:
            time.sleep(0.05)
        began = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        said, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < SECONDS
    assert (process.returncode, said, errors) == (130, "", "kmm: interrupted.\n")
    assert not list(tmp_path.glob("*out.json*"))
