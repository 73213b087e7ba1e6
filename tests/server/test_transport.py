"""What strangers can do to gRPC: silent streams, half messages, half handshakes, too many connections."""

import asyncio
import contextlib
import errno
import logging
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from kmm.client import AsyncClient
from kmm.errors import InputError
from kmm.server import listeners, memory
from kmm.server.connections import Connections, count_connections
from kmm.server.grpc import relay
from kmm.server.grpc import server as grpc_server
from kmm.server.grpc.relay import Relay
from kmm.server.models.catalogue import Catalogue
from kmm.server.server import Server
from kmm.server.settings import ModelSettings, ServeSettings
from tests.factories.saved_model import Stubs, make_predict, make_spec, stubs
from tests.factories.servers import running, send
from tests.server import http2

PREDICT = "/tensorflow.serving.PredictionService/Predict"
TOKEN = "a-token-of-the-test"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def ask_health(address):
    """The state of a server by a connection of its own, and the seconds that it took to tell it."""
    start = time.monotonic()
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        state = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status
    return state, time.monotonic() - start


def assert_healthy(server):
    state, seconds = ask_health(f"127.0.0.1:{server.port}")
    assert state == 1 and seconds < 1


@contextlib.contextmanager
def silent_streams(server, count, *, channels=1, path=PREDICT):
    """Calls over several connections that open a stream and never send a message."""
    until = threading.Event()

    def send_nothing():
        until.wait()
        yield from ()

    with contextlib.ExitStack() as stack:
        calls = []
        for _ in range(channels):
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{server.port}", options))
            calls += [channel.stream_unary(path).future(send_nothing()) for _ in range(count // channels)]
        try:
            yield calls
        finally:
            until.set()


@contextlib.contextmanager
def connections(server, count, sent=b""):
    """Connections that send some bytes and then nothing."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            opened.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5)))
            with contextlib.suppress(OSError):  # it may be closed already
                opened[-1].sendall(sent)
        yield opened


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def open_stream(path=PREDICT, *, settings=b""):
    """The bytes of HTTP/2 that open a call, up to its headers."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost",
              "content-type": "application/grpc", "te": "trailers"}  # fmt: skip
    block = b"".join(b"\x00" + bytes([len(k)]) + k.encode() + bytes([len(v)]) + v.encode() for k, v in fields.items())
    return PREFACE + frame(4, 0, 0, settings) + frame(1, 4, 1, block)


HALF_A_MESSAGE = open_stream() + frame(0, 0, 1, struct.pack(">BI", 0, 1000) + bytes(10))


def is_closed(client):
    """Reads until the server closes a connection."""
    try:
        while client.recv(4096):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return True


def list_codes(calls, seconds=5):
    end = time.monotonic() + seconds
    while time.monotonic() < end and not all(call.done() for call in calls):
        time.sleep(0.01)
    return {call.code() if call.done() else None for call in calls}


@pytest.mark.large
def test_streams_without_a_token_are_refused_before_any_message(versions):
    with running(ModelSettings("tiny", versions), token=TOKEN) as (server, face):
        for path in (PREDICT, "/grpc.health.v1.Health/Watch", "/tensorflow.serving.PredictionService/Dream"):
            with silent_streams(server, 120, channels=3, path=path) as calls:
                assert list_codes(calls) == {grpc.StatusCode.UNAUTHENTICATED}
                assert_healthy(server)
        with silent_streams(server, 150, path="/grpc.health.v1.Health/Check"):  # which needs no token
            assert_healthy(server)
            known = (("authorization", f"Bearer {TOKEN}"),)
            assert face.predict.Predict(make_predict(), timeout=5, metadata=known).outputs


@pytest.mark.large
def test_silent_streams_hold_no_thread(versions):
    settings = {"threads": 1, "max_queue": 1, "message_seconds": 2}
    model = ModelSettings("tiny", versions)
    with running(model, **settings) as (server, face), silent_streams(server, 240, channels=4) as calls:
        time.sleep(0.3)
        for _ in range(3):
            assert_healthy(server)
            assert face.predict.Predict(make_predict(), timeout=2).outputs
        assert list_codes(calls) == {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
        assert "The message did not arrive within 2 seconds." in {call.details() for call in calls}


def test_half_a_message_is_not_waited_for(versions):
    with running(ModelSettings("tiny", versions), message_seconds=0.3) as (server, _):
        with connections(server, 1, HALF_A_MESSAGE) as (client,):
            start, answer = time.monotonic(), b""
            while b"grpc-status" not in answer:
                answer += client.recv(4096)
        assert b"The message did not arrive" in answer and 0.2 < time.monotonic() - start < 3


def test_of_too_many_messages_on_their_way_the_oldest_is_given_up(versions, monkeypatch):
    monkeypatch.setattr(grpc_server, "SPARE_THREADS", 1)
    monkeypatch.setattr(grpc_server, "BACKLOG", 0)
    with (
        running(ModelSettings("tiny", versions), threads=1, max_queue=0) as (server, face),
        silent_streams(server, 3) as calls,
    ):
        time.sleep(0.2)
        assert face.predict.Predict(make_predict(), timeout=2).outputs
        assert list_codes(calls, 0.3) == {None, grpc.StatusCode.UNAVAILABLE}
        (lost,) = [call for call in calls if call.done()]
        assert lost.details() == "The server is busy: too many messages are arriving."
        assert_healthy(server)


@pytest.mark.large
@pytest.mark.parametrize(
    "sent", [b"", PREFACE[:9], PREFACE + b"\x00"], ids=["nothing", "half a preface", "no settings"]
)
def test_a_connection_that_does_not_speak_is_closed(versions, monkeypatch, sent):
    monkeypatch.setattr(relay, "HANDSHAKE_SECONDS", 0.4)
    with running(ModelSettings("tiny", versions)) as (server, face):
        with connections(server, 20, sent) as clients:
            assert_healthy(server)
            assert all(is_closed(client) for client in clients)
        time.sleep(0.5)
        assert face.predict.Predict(make_predict(), timeout=5).outputs  # its connection outlives the limit


@pytest.mark.large
def test_silent_connections_make_room(versions, caplog):
    with running(ModelSettings("tiny", versions), max_connections=4) as (server, face):
        for sent in (b"", PREFACE + frame(4, 0, 0), HALF_A_MESSAGE):
            with connections(server, 60, sent):
                for _ in range(3):
                    assert_healthy(server)
                assert face.predict.Predict(make_predict(), timeout=5, wait_for_ready=True).outputs
                assert len(server._grpc._connections) <= 4
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(said) == 1 and "gRPC connections: 4 open" in said[0].getMessage()


@pytest.mark.parametrize("unix", [True, False] if os.name == "posix" else [False])
def test_a_connection_at_work_is_not_closed_for_another(versions, door, monkeypatch, unix):
    monkeypatch.setattr(grpc_server, "UNIX", unix)
    with running(ModelSettings("tiny", versions), max_connections=3) as (server, face):
        request = send(face)
        door.entered.acquire()
        with connections(server, 30, HALF_A_MESSAGE):
            assert_healthy(server)
            door.open()
            assert request.result().outputs["doubled"].float_val[0] == 2


def test_connections_of_one_address(versions):
    with running(ModelSettings("tiny", versions), max_connections_per_address=2) as (server, face):
        with connections(server, 2), connections(server, 1) as (third,):
            assert is_closed(third)
        assert face.predict.Predict(make_predict(), timeout=5, wait_for_ready=True).outputs


def test_the_limit_of_files_is_shared():
    assert count_connections(1000, [4, 1], free_files=30) == 6
    assert count_connections(5, [4, 1], free_files=10**6) == 5
    assert count_connections(1000, [4], free_files=2) == 1


def test_the_last_descriptor(versions, monkeypatch, caplog):
    accept, failures = socket.socket.accept, [errno.EMFILE, errno.ECONNABORTED, errno.EMFILE]

    def fail(listener):
        if failures:
            raise OSError(failures.pop(), "Too many open files")
        return accept(listener)

    monkeypatch.setattr(socket.socket, "accept", fail)
    with running(ModelSettings("tiny", versions)) as (server, _):
        assert_healthy(server)
    assert not failures and len([one for one in caplog.records if one.levelno >= logging.WARNING]) == 1


def start_serve(folder, *options, files=None):
    """`kmm serve` of a tiny model over gRPC in a process of its own, and its port."""
    code = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))\n"
        "from kmm.cli import main\nmain()"
    )
    words = ["serve", f"tiny={folder}", "--port", "0", "--no-rest", *options]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    port = re.search(r"gRPC 127.0.0.1:(\d+)", process.stdout.readline())
    assert port, process.stderr.read()
    return process, int(port[1])


@pytest.mark.large
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of open files")
def test_few_files_and_a_stop_with_half_a_message(versions):
    process, port = start_serve(versions, files=64)
    try:
        with contextlib.ExitStack() as stack:
            for sent in [b""] * 100 + [HALF_A_MESSAGE] * 100:
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
                with contextlib.suppress(OSError):
                    client.sendall(sent)
            for _ in range(3):
                state, seconds = ask_health(f"127.0.0.1:{port}")
                assert state == 1 and seconds < 1
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=25)  # running requests could take 30 seconds
    finally:
        process.kill()
        process.communicate()
    lines = [
        line for line in said.splitlines() if not re.match(r"kmm serve is compatible|WARNING: All log|[IW]0000", line)
    ]
    assert process.returncode == 0 and len(lines) <= 5 and "stopping: waiting for running requests" in lines, said


@pytest.mark.large
def test_silent_streams_do_not_delay_the_end(versions, caplog):
    with running(ModelSettings("tiny", versions)) as (server, face):
        watched = health_pb2_grpc.HealthStub(face.channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watched).status == 1
        with (
            silent_streams(server, 20, channels=2) as calls,
            connections(server, 3),
            connections(server, 3, HALF_A_MESSAGE),
        ):
            time.sleep(0.2)
            start = time.monotonic()
            assert server.stop(30) is True
            assert time.monotonic() - start < 10
            assert list_codes(calls) == {grpc.StatusCode.UNAVAILABLE}
            with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
                assert [state.status for state in watched] == [2]
            assert {call.details() for call in calls} == {"The server is stopping."}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.large
def test_the_port_takes_nobody_while_models_load(versions, monkeypatch):
    tried, replace, others = [], Catalogue.replace, set(threading.enumerate())  # of servers of other tests

    def load(catalogue, models):
        assert "kmm-grpc" not in {thread.name for thread in threading.enumerate() if thread not in others}
        with socket.socket() as client:
            client.settimeout(5)
            tried.append(client.connect_ex(("127.0.0.1", port)))
        replace(catalogue, models)

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(Catalogue, "replace", load)
    with running(ModelSettings("tiny", versions), port=port) as (server, _):
        assert_healthy(server)
        with pytest.raises(InputError, match="cannot listen on this address"):
            Server([ModelSettings("tiny", versions)], ServeSettings(port=port, rest_port=None))
    assert tried == [errno.ECONNREFUSED]
    with running(ModelSettings("tiny", versions), port=port) as (server, _):  # after connections that just ended
        assert_healthy(server)


def test_an_address_that_is_taken_at_the_last_moment(versions, monkeypatch):
    def fail(bound):
        raise InputError("127.0.0.1:8500: cannot listen on this address. Address already in use.")

    monkeypatch.setattr(listeners, "listen", fail)
    server = Server([ModelSettings("tiny", versions)], ServeSettings(port=0, rest_port=None))
    with pytest.raises(InputError, match="8500: cannot listen on this address"):
        server.start()
    assert not server._grpc._thread.is_alive()


def test_two_servers_that_start_at_once_do_not_share_a_port():
    first = listeners.bind_tcp("localhost", 0)
    port = first[0].getsockname()[1]
    assert {bound.getsockname()[1] for bound in first} == {port}
    with pytest.raises(InputError, match=f"localhost:{port}: cannot listen on this address"):
        listeners.bind_tcp("localhost", port)
    listeners.close_all(first)
    listeners.close_all(listeners.bind_tcp("localhost", port))
    with pytest.raises(InputError, match="cannot listen on this address"):
        listeners.bind_tcp("192.0.2.1", 0)


@pytest.mark.skipif(os.name != "posix", reason="Unix sockets")
def test_a_unix_socket(versions, tmp_path):
    path = tmp_path / "kmm.sock"
    listeners.bind_unix(path).close()  # as a server that was killed leaves it
    with running(ModelSettings("tiny", versions), socket=path, token=TOKEN) as (server, _):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with grpc.insecure_channel(f"unix:{path}") as channel:
            face, known = Stubs(channel), (("authorization", f"Bearer {TOKEN}"),)
            assert face.predict.Predict(make_predict(), timeout=5, metadata=known).outputs
            with pytest.raises(grpc.RpcError, match="UNAUTHENTICATED"):
                face.predict.Predict(make_predict(), timeout=5)
        assert_healthy(server)
        with pytest.raises(InputError, match=r"kmm\.sock: cannot listen on this path\. Address already in use\."):
            Server([ModelSettings("tiny", versions)], ServeSettings(port=0, rest_port=None, socket=path))
    assert not path.exists()
    path.write_text("notes")
    with pytest.raises(InputError, match=r"kmm\.sock: cannot listen on this path"):
        listeners.bind_unix(path)
    with pytest.raises(InputError, match=r"cannot listen on this path\. AF_UNIX path too long"):
        listeners.bind_unix(tmp_path / ("x" * 120))
    assert path.read_text() == "notes"


@pytest.mark.large
def test_large_messages_pass_whole_both_ways(versions):
    values = np.arange(3 * 2**20, dtype=np.float32)
    with running(ModelSettings("tiny", versions), tensor_content=True) as (_, face), ThreadPoolExecutor(3) as pool:
        request = make_predict({"values": values}, signature="double")
        for answer in pool.map(lambda _: face.predict.Predict(request, timeout=30), range(3)):
            assert np.array_equal(np.frombuffer(answer.outputs["doubled"].tensor_content, np.float32), values * 2)


def test_the_relay_does_not_read_faster_than_the_other_side_takes():
    sent = np.random.default_rng(0).bytes(2**24)

    async def relay_to_a_slow_reader():
        taken, opened = bytearray(), asyncio.get_running_loop().create_future()

        async def read_slowly(reader, writer):
            opened.set_result(None)
            await asyncio.sleep(0.5)
            while chunk := await reader.read(2**16):
                taken.extend(chunk)
            writer.close()
            done.set()

        done, server = asyncio.Event(), await asyncio.start_server(read_slowly, "127.0.0.1", 0, limit=2**12)
        connections, (listener,) = Connections(2), listeners.bind_tcp("127.0.0.1", 0)
        listeners.listen([listener])
        carried = Relay(None, connections, 2**26)
        carried.start(listener, server.sockets[0].getsockname())
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(sent)
        await opened
        await asyncio.sleep(0.3)
        (front,) = carried._ends
        assert front.other.transport.get_write_buffer_size() < 2**20
        await writer.drain()
        while len(taken) < len(sent):
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(lambda: bytes(taken) == sent)
        writer.close()
        await asyncio.wait_for(done.wait(), 5)  # the other side hears of the end
        assert await reader.read() == b""
        carried.stop_accepting()
        await carried.close(1)
        assert len(connections) == 0 and not carried._ends
        listeners.close_all([listener])
        server.close()

    asyncio.run(relay_to_a_slow_reader())


def test_watching_is_limited_and_checks_go_on(versions, monkeypatch):
    monkeypatch.setattr(grpc_server, "STREAMS", 2)
    with running(ModelSettings("tiny", versions)) as (server, face):
        probes = health_pb2_grpc.HealthStub(face.channel)
        watches = []
        for name in ("", "PredictionService", "Dream"):
            watches.append(probes.Watch(health_pb2.HealthCheckRequest(service=name), timeout=20))
            assert next(watches[-1]).status == (3 if name == "Dream" else 1)
        with pytest.raises(grpc.RpcError) as caught:
            next(watches[0])
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert_healthy(server)
        for wrong, code in (("Dream", grpc.StatusCode.NOT_FOUND), ("x" * 5000, grpc.StatusCode.INVALID_ARGUMENT)):
            with pytest.raises(grpc.RpcError) as caught:
                probes.Check(health_pb2.HealthCheckRequest(service=wrong), timeout=5)
            assert caught.value.code() == code
        for watch in watches:
            watch.cancel()


@pytest.mark.large
def test_a_watcher_that_takes_nothing_does_not_delay_the_end(versions):
    with running(ModelSettings("tiny", versions)) as (server, _):
        no_window = struct.pack(">HI", 4, 0)
        watch = open_stream("/grpc.health.v1.Health/Watch", settings=no_window) + frame(0, 1, 1, bytes(5))
        with connections(server, 3, watch):
            time.sleep(0.3)
            assert_healthy(server)
            start = time.monotonic()
            assert server.stop(30) is True and time.monotonic() - start < 10


def test_reflection_is_limited_in_time(versions):
    with running(ModelSettings("tiny", versions), message_seconds=0.5) as (server, face):
        until = threading.Event()

        def ask():
            yield reflection_pb2.ServerReflectionRequest(list_services="")
            until.wait(10)

        answers = reflection_pb2_grpc.ServerReflectionStub(face.channel).ServerReflectionInfo(ask(), timeout=10)
        names = [service.name for service in next(answers).list_services_response.service]
        assert "tensorflow.serving.PredictionService" in names and "grpc.health.v1.Health" in names
        with pytest.raises(grpc.RpcError) as caught:
            next(answers)
        until.set()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert_healthy(server)


def test_messages_that_are_none(tiny):
    channel = tiny[1].channel
    for path, sent, code in (
        (PREDICT, [b"\xff\xff"], grpc.StatusCode.INTERNAL),
        (PREDICT, [], grpc.StatusCode.UNIMPLEMENTED),
        (PREDICT, [b"", b""], grpc.StatusCode.INVALID_ARGUMENT),  # the second is not read
        ("/grpc.health.v1.Health/Check", [b"\xff\xff"], grpc.StatusCode.INVALID_ARGUMENT),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary(path)(iter(sent), timeout=5)
        assert caught.value.code() == code
    call = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(iter([b"\xff\xff"]), timeout=5))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_states_are_told_while_all_threads_compute(versions, door):
    with running(ModelSettings("tiny", versions), threads=1, max_queue=0) as (_, face):
        held = [send(face), send(face, "explain")]
        for _ in held:
            door.entered.acquire()
        codes = list_codes([send(face) for _ in range(60)])
        assert codes == {grpc.StatusCode.UNAVAILABLE}
        status = stubs.get_model_status_pb2.GetModelStatusRequest(model_spec=make_spec())
        assert face.models.GetModelStatus(status, timeout=1).model_version_status
        metadata = stubs.get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=make_spec(), metadata_field=["signature_def"]
        )
        assert face.predict.GetModelMetadata(metadata, timeout=1).metadata
        door.open()
        assert all(one.result().outputs for one in held)


@pytest.mark.large
def test_servers_and_clients_with_loops_of_their_own_in_one_process(tiny, versions, caplog, capfd):
    caplog.set_level(logging.INFO)

    async def ask(port):
        async with AsyncClient(f"127.0.0.1:{port}/tiny") as client:
            return await asyncio.gather(*(client.status() for _ in range(20)))

    for _ in range(3):
        with running(ModelSettings("tiny", versions)) as (server, face):
            for port in (server.port, tiny[0].port):
                assert len(asyncio.run(ask(port))) == 20
            assert face.predict.Predict(make_predict(), timeout=5).outputs
    assert not [record for record in caplog.records if record.name.startswith(("asyncio", "grpc", "kmm.server.server"))]
    assert capfd.readouterr().err == ""


def test_a_client_that_leaves_before_its_answer_is_no_fault(versions, door, caplog):
    message = make_predict({"values": np.float32([1])}, signature="double").SerializeToString()
    whole = frame(0, 1, 1, struct.pack(">?I", False, len(message)) + message)
    no_window = struct.pack(">HI", 4, 0)
    with running(ModelSettings("tiny", versions)) as (server, _):
        for _ in range(5):
            with connections(server, 1, open_stream(settings=no_window) + whole):
                door.entered.acquire()
        with connections(server, 20, open_stream(settings=no_window) + whole):
            door.open()
            time.sleep(0.3)  # answers wait for a window
        assert_healthy(server)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_unfinished_messages_have_a_limit_in_all(versions):
    with running(ModelSettings("tiny", versions), max_message_mb=1) as (server, face), contextlib.ExitStack() as stack:
        opened = [http2.Connection(server.port, timeout=5) for _ in range(12)]
        for connection in opened:
            stack.callback(connection.close)
            connection.read(0.1)
            connection.send_data(connection.open(PREDICT), struct.pack(">?I", False, 2**20 - 9) + bytes(2**20 - 10))
            assert face.predict.Predict(make_predict(), timeout=5).outputs  # small ones go on beside them
        for connection in opened:
            connection.read(0.1)
        assert 4 <= sum(connection.closed for connection in opened) <= 6  # eight megabytes may stay


@pytest.mark.large
def test_messages_that_arrived_do_not_count_as_unfinished(versions):
    values = np.arange(200_000, dtype=np.float32)
    request = make_predict({"values": values}, signature="double")
    with running(ModelSettings("tiny", versions), max_message_mb=1) as (server, face), ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda _: face.predict.Predict(request, timeout=20), range(32))  # 25 MB over one connection
        assert all(len(answer.outputs["doubled"].float_val) == values.size for answer in answers)
        (front,) = server._grpc._methods.relay._ends
        assert front.messages == 0 and front.unfinished < 2**16


def test_a_burst_of_connections_keeps_nobody_out(versions):
    with running(ModelSettings("tiny", versions), rest_port=0, max_connections=50) as (server, _):
        for port in (server.port, server.rest_port):
            with contextlib.ExitStack() as stack:
                for _ in range(700):
                    client = stack.enter_context(socket.socket())
                    client.setblocking(False)
                    client.connect_ex(("127.0.0.1", port))
                assert_healthy(server)


def test_a_connection_that_drips_is_not_more_alive_than_an_idle_one(versions):
    with running(ModelSettings("tiny", versions), max_connections=3) as (server, _), contextlib.ExitStack() as stack:
        (dripping,) = stack.enter_context(connections(server, 1, HALF_A_MESSAGE))
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            assert Stubs(channel).predict.Predict(make_predict(), timeout=5).outputs
            for _ in range(5):
                dripping.sendall(frame(0, 0, 1, b"0"))
                time.sleep(0.02)
            stack.enter_context(connections(server, 2))
            assert is_closed(dripping)
            assert Stubs(channel).predict.Predict(make_predict(), timeout=5).outputs


@pytest.mark.large
def test_messages_that_wait_have_a_limit_in_all(versions, door, monkeypatch):
    monkeypatch.setattr(grpc_server, "HELD", 4)
    large = make_predict({"values": np.zeros(240_000, np.float32)}, signature="double")
    with running(ModelSettings("tiny", versions), max_message_mb=1) as (_, face):
        calls = [face.predict.Predict.future(large, timeout=20) for _ in range(7)]
        end = time.monotonic() + 10
        while sum(call.done() for call in calls) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        assert [call.code() for call in calls if call.done()] == [grpc.StatusCode.UNAVAILABLE] * 3
        assert face.predict.Predict(make_predict(), timeout=5).outputs  # a small one has room
        door.open()
        assert list_codes(calls) == {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.OK}
        assert face.predict.Predict(large, timeout=20).outputs


@pytest.mark.large
def test_memory_is_given_back_after_large_messages(versions, monkeypatch):
    trimmed = threading.Semaphore(0)
    monkeypatch.setattr(memory, "trim", trimmed.release)
    monkeypatch.setattr(memory, "LARGE_BYTES", 2**24)
    large = make_predict({"values": np.zeros(5 * 2**20, np.float32)}, signature="double")
    with running(ModelSettings("tiny", versions), tensor_content=True, rest_port=0) as (server, face):
        assert face.predict.Predict(make_predict(), timeout=20).outputs
        assert not trimmed.acquire(timeout=0.3)
        assert face.predict.Predict(large, timeout=20).outputs
        assert trimmed.acquire(timeout=5)
        with socket.create_connection(("localhost", server.rest_port), timeout=5) as client:
            client.sendall(b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 30000000\r\n\r\n")
            client.sendall(bytes(20_000_000))
            time.sleep(0.2)
        assert trimmed.acquire(timeout=5)
