"""Streaming: order, bounded concurrency, problems in their row."""

import itertools
import threading
import time

import grpc
import pytest

from kmm.data.study import Report, Study
from kmm.errors import InputError, ServerError
from kmm.protocol.tensors import decode_tensor


def make_study(number):
    return Study(str(number), "", report=Report(findings="a" * number))


def test_order_is_kept_and_concurrency_bounded(stub, client):
    def hold(request):
        if "report" in request.inputs:
            time.sleep(0.03 if len(decode_tensor(request.inputs["report"])[0]) % 4 == 1 else 0)

    stub.hold = hold
    found = list(client.predict_folder(map(make_study, range(1, 41)), concurrency=4))
    assert [row.study.id for row in found] == [str(number) for number in range(1, 41)]
    assert [round(row.prediction.probabilities["effusion"] * 100) for row in found] == list(range(1, 41))
    assert 1 < stub.most_running <= 4


def test_studies_are_taken_as_they_are_needed(stub, client):
    taken = []

    def list_forever():
        for number in itertools.count():
            taken.append(number)
            yield make_study(1 + number % 90)

    rows = client.predict_folder(list_forever(), concurrency=3)
    for _ in range(10):
        assert next(rows).prediction
    rows.close()
    assert len(taken) <= 13


def test_what_cannot_be_read_or_is_refused_is_a_problem(stub, client, film, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    client.predict(film)
    rows = list(client.predict_folder([tmp_path / "gone", tmp_path / "bad.png", film, Study("none", "")]))
    assert [bool(row.problem) for row in rows] == [True, True, False, True]
    assert rows[0].study is None and "gone" in str(rows[0].problem)
    assert "bad.png" in str(rows[1].problem) and "neither a film nor a report" in str(rows[3].problem)
    stub.failures = [(grpc.StatusCode.INVALID_ARGUMENT, "no")]
    arrived = len(stub.requests)
    first, second = client.predict_folder([film, film], concurrency=1)
    assert "INVALID_ARGUMENT: no" in str(first.problem) and second.prediction
    assert len(stub.requests) == arrived + 2  # a bad film is no reason to ask for the model's metadata again


def test_a_server_that_cannot_be_asked_ends_it_before_the_first_row(stub, client, film):
    stub.failures = [(grpc.StatusCode.NOT_FOUND, "no such model")]
    with pytest.raises(ServerError, match="no such model"):
        next(client.predict_folder([film]))


def test_threads_share_a_client(stub, client):
    found = []

    def ask(number):
        found.append((number, round(client.predict(None, "a" * number).probabilities["effusion"] * 100)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [(number, number) for number in range(1, 17)]


@pytest.mark.parametrize("concurrency", [0, True, 1.5, 10**6])
def test_concurrency_out_of_range(client, concurrency):
    with pytest.raises(InputError, match="concurrency"):
        next(client.predict_folder([], concurrency=concurrency))
