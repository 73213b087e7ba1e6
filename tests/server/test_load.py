"""Too many requests, late ones, lost clients, large messages, and the end of a server."""

import logging
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import kmm.server.requests.batching as batching
import kmm.server.requests.inference as inference
import kmm.server.server as server_module
from kmm.protocol.tensors import encode_tensor
from kmm.server.models.catalogue import Catalogue
from kmm.server.requests.admission import Caller
from kmm.server.rest import app, http_server
from kmm.server.settings import ModelSettings, ServeSettings
from kmm.server.status import ServingError
from tests.factories.saved_model import (
    IMAGE,
    PNG,
    ROW,
    TOKENS,
    make_examples,
    make_predict,
    make_spec,
    make_tensor,
    stubs,
)
from tests.factories.servers import DOUBLE, running, send


def wait_for_queue(server, count, *, lane="predict"):
    registry, end = server._inference.metrics.registry, time.monotonic() + 10
    while registry.get_sample_value("kmm_requests_waiting", {"lane": lane}) != count:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_what_does_not_fit_the_queue_is_refused_at_once(versions, door):
    with running(ModelSettings("tiny", versions), threads=1, max_queue=2, rest_port=0) as (server, face):
        held = [send(face)]
        door.entered.acquire()
        held += [send(face), send(face)]
        wait_for_queue(server, 2)
        start = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            send(face).result()
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == "The server is busy: 2 requests are waiting."
        body = {"signature_name": "double", "instances": [1]}
        answer = httpx.post(f"http://localhost:{server.rest_port}/v1/models/tiny:predict", json=body)
        assert answer.status_code == 503 and time.monotonic() - start < 2
        status = stubs.get_model_status_pb2.GetModelStatusRequest(model_spec=make_spec())
        assert face.models.GetModelStatus(status, timeout=5).model_version_status  # the state is still told
        door.open()
        assert [one.result().outputs["doubled"].float_val[0] for one in held] == [2, 2, 2]
    assert door.runs == 3


@pytest.mark.large
def test_a_flood_is_refused_and_not_kept(versions, door):
    with running(ModelSettings("tiny", versions), threads=2, max_queue=3) as (server, face):
        sent = [send(face) for _ in range(300)]
        wait_for_queue(server, 3)
        door.open()
        codes = [one.code() for one in sent]
    assert codes.count(grpc.StatusCode.OK) + codes.count(grpc.StatusCode.UNAVAILABLE) == 300
    assert 5 <= codes.count(grpc.StatusCode.OK) < 300


def save_with_a_queue(folder):
    """A model whose graph gathers batches of one request, of which one runs and one waits."""
    import tensorflow as tf

    @tf.nondifferentiable_batch_function(1, 1, 0, max_enqueued_batches=1)
    def work_long(values):
        weights = tf.fill([256, 256], values[0])
        found = tf.while_loop(lambda _: True, lambda found: [found @ weights], [weights], maximum_iterations=300)[0]
        return found[:1, 0]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "values")], autograph=False)
    def run(values):
        return {"last": work_long(values)}

    tf.saved_model.save(tf.Module(), str(folder), signatures=run)


@pytest.mark.large
def test_a_full_queue_in_the_graph_is_unavailable(tmp_path):
    save_with_a_queue(tmp_path / "slow" / "1")
    with running(ModelSettings("slow", tmp_path / "slow")) as (_, face):
        requests = [make_predict({"values": np.zeros(1, np.float32)}, name="slow") for _ in range(12)]
        sent = [face.predict.Predict.future(request, timeout=30) for request in requests]
        codes = {one.code() for one in sent}
    assert codes == {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


def test_explanations_do_not_starve_predictions(versions, door):
    with running(ModelSettings("tiny", versions), threads=1, explain_threads=1) as (server, face):
        slow = [send(face, "explain") for _ in range(3)]
        door.entered.acquire()
        wait_for_queue(server, 2, lane="explain")
        assert face.predict.Predict(make_predict(), timeout=10).outputs
        assert door.runs == 1
        door.open()
        assert all(one.result().outputs for one in slow)


def test_a_request_whose_deadline_passed_is_not_run(versions, door):
    with running(ModelSettings("tiny", versions), threads=1) as (server, face):
        first = send(face)
        door.entered.acquire()
        with pytest.raises(grpc.RpcError) as caught:
            send(face, timeout=0.2).result()
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        wait_for_queue(server, 0)
        door.open()
        first.result()
        assert send(face).result().outputs
    assert door.runs == 2


@pytest.mark.large
def test_over_http_a_request_waits_only_so_long(versions, door):
    settings = {"threads": 1, "rest_port": 0, "rest_timeout_seconds": 0.2}
    with running(ModelSettings("tiny", versions), **settings) as (server, face):
        first = send(face)
        door.entered.acquire()
        url, body = f"http://localhost:{server.rest_port}/v1/models/tiny:predict", {"instances": [ROW]}
        assert httpx.post(url, json=body).status_code == 504
        door.open()
        first.result()
        assert httpx.post(url, json=body).status_code == 200


@pytest.mark.large
def test_the_work_of_a_client_that_is_gone_is_dropped(versions, door):
    with running(ModelSettings("tiny", versions), threads=1, rest_port=0) as (server, face):
        first = send(face)
        door.entered.acquire()
        lost = send(face)
        wait_for_queue(server, 1)
        lost.cancel()
        wait_for_queue(server, 0)
        body = {"signature_name": "double", "instances": [1]}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"http://localhost:{server.rest_port}/v1/models/tiny:predict", json=body, timeout=0.3)
        wait_for_queue(server, 0)
        door.open()
        first.result()
        assert send(face).result().outputs
    assert door.runs == 2


@pytest.mark.large
def test_a_message_that_is_too_large_is_refused_and_the_server_goes_on(versions):
    with running(ModelSettings("tiny", versions), max_message_mb=1) as (_, face):
        for options in ({}, {"compression": grpc.Compression.Gzip}):
            with pytest.raises(grpc.RpcError) as caught:
                request = make_predict({"values": np.zeros(2**20, np.float32)}, signature="double")
                face.predict.Predict(request, timeout=20, **options)
            assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert face.predict.Predict(make_predict(), timeout=20).outputs


@pytest.mark.large
def test_a_client_that_goes_while_it_sends(versions, caplog):
    with running(ModelSettings("tiny", versions), rest_port=0) as (server, face):
        with socket.create_connection(("localhost", server.rest_port)) as client:
            client.sendall(b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{")
            time.sleep(0.1)
        assert face.predict.Predict(make_predict(), timeout=20).outputs
        assert httpx.get(f"http://localhost:{server.rest_port}/healthz").status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_hundred_megabytes_do_not_end_the_server(tiny):
    with pytest.raises(grpc.RpcError) as caught:
        face = tiny[1]
        face.predict.Predict(make_predict({"values": np.zeros(25 * 2**20, np.float32)}, signature="double"), timeout=20)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert face.predict.Predict(make_predict(), timeout=20).outputs


@pytest.mark.large
def test_running_requests_end_before_the_server(versions, door):
    ended = []
    with running(ModelSettings("tiny", versions), rest_port=0) as (server, face):
        probes = health_pb2_grpc.HealthStub(face.channel)
        watched = probes.Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)
        assert next(watched).status == 1
        request = send(face)
        door.entered.acquire()
        stopping = threading.Thread(target=lambda: ended.append(server.stop(10)))
        stopping.start()
        assert next(watched).status == 2
        watched.cancel()
        with pytest.raises(grpc.RpcError, match="The server is stopping") as caught:
            face.predict.Predict(make_predict(), timeout=5)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE and not ended
        url = f"http://localhost:{server.rest_port}"
        assert httpx.get(f"{url}/healthz").status_code == 503
        assert httpx.post(f"{url}/v1/models/tiny:predict", json={"instances": [ROW]}).status_code == 503
        door.open()
        assert request.result().outputs["doubled"].float_val[0] == 2
        stopping.join()
    assert ended == [True]


def test_a_server_waits_no_longer_than_its_grace(versions, door):
    with running(ModelSettings("tiny", versions)) as (server, face):
        request = send(face)
        door.entered.acquire()
        assert server.stop(0.1) is False
        assert request.exception().code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        door.open()


def test_what_a_request_holds_is_never_logged(tiny, caplog):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "kmm.server.access_log")
    secret = b"Cough since Monday"
    inputs = {"image_bytes": np.array([secret], object), "report": np.array([secret], object)}
    for request in (
        make_predict(inputs, signature="raw"),
        make_predict({"inputs": np.array([b"\xff" + secret], object)}, signature="classify"),
        make_predict(name=secret.decode()),
        make_predict(signature=secret.decode()),
    ):
        with pytest.raises(grpc.RpcError):
            tiny[1].predict.Predict(request, timeout=20)
    lines = [record.getMessage() for record in caplog.records]
    assert any('"method": "Predict", "model": "tiny"' in line and "INVALID_ARGUMENT" in line for line in lines)
    assert not any("Cough" in line for line in lines)


def test_an_unexpected_error_is_internal_and_quotes_nothing(tiny, monkeypatch, caplog):
    def fail(*arguments):
        raise KeyError("Cough since Monday")

    monkeypatch.setattr(batching, "run_signature", fail)
    with pytest.raises(grpc.RpcError) as caught:
        tiny[1].predict.Predict(make_predict({"image": IMAGE, "tokens": TOKENS}), timeout=20)
    assert (caught.value.code(), caught.value.details()) == (
        grpc.StatusCode.INTERNAL,
        "The server failed with KeyError.",
    )
    assert "KeyError at kmm/server/requests/batching.py:" in caplog.text and "Cough" not in caplog.text


@pytest.mark.parametrize("kind", ["MemoryError", "InternalError"])
def test_a_run_that_fails_within_is_logged_once_with_its_place(tiny, monkeypatch, caplog, kind):
    import tensorflow as tf

    def fail(*arguments):
        raise MemoryError("Cough") if kind == "MemoryError" else tf.errors.InternalError(None, None, "Cough")

    monkeypatch.setattr(tf, "constant", fail)
    request = stubs.predict_pb2.PredictRequest(model_spec=make_spec(signature="double"))
    request.inputs["values"].CopyFrom(encode_tensor(DOUBLE["values"]))
    with pytest.raises(grpc.RpcError) as caught:
        tiny[1].predict.Predict(request, timeout=20)
    assert caught.value.code() == grpc.StatusCode.INTERNAL
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said.startswith(f"Predict: {kind} at kmm/server/models/servable.py:") and "Cough" not in said


def test_many_threads_get_their_own_answers(tiny):
    wrong = []

    def ask(number):
        for _ in range(20):
            request = make_predict({"values": np.full(3, number, np.float32)}, signature="double")
            answer = tiny[1].predict.Predict(request, timeout=20).outputs["doubled"].float_val
            if list(answer) != [2 * number] * 3:
                wrong.append(answer)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_value_that_repeats_too_often_is_refused(tiny):
    for signature, name, value, count in (
        ("double", "values", np.float32(1), 17 * 2**20),
        ("regress", "inputs", bytes(10_000), 8 * 2**20),
    ):
        request = make_predict({name: np.array([value])}, signature=signature)
        request.inputs[name].CopyFrom(make_tensor(value))
        request.inputs[name].tensor_shape.dim.add(size=count)
        with pytest.raises(grpc.RpcError, match=f"tensor parsing error: {name}"):
            tiny[1].predict.Predict(request, timeout=20)


def test_a_context_that_many_examples_share_is_refused_before_it_is_copied(tiny, door):
    request = stubs.classification_pb2.ClassificationRequest(model_spec=make_spec(signature="classify"))
    held = request.input.example_list_with_context
    held.context.CopyFrom(make_examples(bytes(2**20)).example_list.examples[0])
    for _ in range(64):
        held.examples.add()
    with pytest.raises(grpc.RpcError, match="Expected examples of at most 67108864 bytes") as caught:
        tiny[1].predict.Classify(request, timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT and not door.runs


def test_examples_are_made_within_the_gate(versions, door, monkeypatch):
    made, serialize = [], inference.examples.serialize
    monkeypatch.setattr(
        inference.examples, "serialize", lambda *stored, **limits: made.append(1) or serialize(*stored, **limits)
    )
    with running(ModelSettings("tiny", versions), threads=1) as (server, face):
        request = stubs.classification_pb2.ClassificationRequest(model_spec=make_spec(signature="classify"))
        request.input.CopyFrom(make_examples(PNG))
        first = send(face)
        door.entered.acquire()
        second = face.predict.Classify.future(request, timeout=20)
        wait_for_queue(server, 1)
        assert not made
        door.open()
        assert first.result() and second.result() and made


@pytest.mark.large
def test_bodies_are_parsed_only_so_many_at_once(versions, monkeypatch):
    running_now, most, read = [], [], app.json_document.read_document

    def read_slowly(body):
        running_now.append(1)
        most.append(len(running_now))
        time.sleep(0.05)
        running_now.pop()
        return read(body)

    monkeypatch.setattr(app.json_document, "read_document", read_slowly)
    with running(ModelSettings("tiny", versions), threads=2, rest_port=0) as (server, _):
        url, body = f"http://localhost:{server.rest_port}/v1/models/tiny:predict", {"instances": [ROW]}
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: httpx.post(url, json=body, timeout=20).status_code, range(8)))
    assert answers == [200] * 8 and max(most) == 2


def test_a_body_that_does_not_come_is_not_waited_for(versions):
    with (
        running(ModelSettings("tiny", versions), rest_port=0, rest_timeout_seconds=0.2) as (server, _),
        socket.create_connection(("localhost", server.rest_port), timeout=5) as client,
    ):
        client.sendall(b"POST /v1/models/tiny:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{")
        answer = b""
        while chunk := client.recv(4096):  # until the server closes the connection
            answer += chunk
    assert answer.startswith(b"HTTP/1.1 504 ") and b"did not arrive in time" in answer


def read_slowly(url, body, *, after):
    """Sends a request, waits, and then reads the whole answer on a connection of small buffers."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(("localhost", url.port))
        head = f"POST {url.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        client.sendall(head.encode() + body)
        after()
        answer = b""
        while chunk := client.recv(2**20):
            answer += chunk
    return answer


@pytest.mark.large
def test_an_answer_that_is_taken_slowly_is_sent_whole_before_the_server_ends(versions):
    count, ended = 1_000_000, []
    with running(ModelSettings("tiny", versions), rest_port=0) as (server, _):
        stopping = threading.Thread(target=lambda: ended.append(server.stop(20)))

        def stop():
            registry, end = server._inference.metrics.registry, time.monotonic() + 20
            labels = {"model_name": "tiny", "status": "OK"}
            while not registry.get_sample_value(":tensorflow:serving:request_count", labels):
                assert time.monotonic() < end
                time.sleep(0.01)
            stopping.start()
            time.sleep(server_module.SENDING_SECONDS + 1)

        url = httpx.URL(f"http://localhost:{server.rest_port}/v1/models/tiny:predict")
        body = b'{"signature_name": "double", "instances": [' + b"0.25," * (count - 1) + b"0.25]}"
        head, _, answer = read_slowly(url, body, after=stop).partition(b"\r\n\r\n")
        stopping.join()
    assert b" 200 " in head and answer == b'{"predictions": [' + b"0.5, " * (count - 1) + b"0.5]}" and ended == [True]


def test_a_request_runs_until_its_answer_is_handed_over(versions):
    catalogue, call, seen = Catalogue(), Caller(), []
    catalogue.replace([ModelSettings("tiny", versions)])
    asked = inference.Inference(catalogue, ServeSettings(threads=1))

    def encode(answer):
        seen.append(asked._gates["predict"].running)
        return answer.outputs["doubled"].tolist()

    request = make_predict(DOUBLE, signature="double")
    assert asked.predict(request.model_spec, request.inputs, (), call, encode=encode) == [2]
    assert seen == [1]  # what is sent is made before the next request runs
    assert asked.drain(0.05) is False
    call.cancel()
    assert asked.drain(0.05) is True
    catalogue.close()


def test_no_answer_is_written_for_a_client_that_is_gone(versions, monkeypatch):
    catalogue, call, run = Catalogue(), Caller(), batching.run_signature
    catalogue.replace([ModelSettings("tiny", versions)])

    def run_and_lose(*arguments):
        call.cancel()
        return run(*arguments)

    monkeypatch.setattr(batching, "run_signature", run_and_lose)
    request, asked = make_predict(DOUBLE, signature="double"), inference.Inference(catalogue, ServeSettings())
    with pytest.raises(ServingError, match="The client has disconnected") as caught:
        asked.predict(request.model_spec, request.inputs, (), call, encode=lambda answer: pytest.fail("it is written"))
    assert caught.value.code == "CANCELLED" and asked.drain(0) is True
    catalogue.close()


@pytest.mark.large
def test_a_silent_connection_is_closed(versions, monkeypatch):
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.2)
    with running(ModelSettings("tiny", versions), rest_port=0) as (server, _):
        for sent in (b"", b"GET /healthz HT"):
            with socket.create_connection(("localhost", server.rest_port), timeout=5) as client:
                client.sendall(sent)
                assert client.recv(100) == b""
        with httpx.Client(base_url=f"http://localhost:{server.rest_port}") as client:
            client.get("/healthz")
            time.sleep(0.4)
            assert client.get("/healthz").status_code == 200
