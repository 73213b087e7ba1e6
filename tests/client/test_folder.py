"""Streaming: order, bounded concurrency, problems in their row."""

import itertools
import threading
import time
import warnings
from pathlib import Path

import grpc
import pytest

import kmm
from kmm.data.study import Collection, Problem, Report, Study
from kmm.errors import InputError, ServerError
from kmm.protocol.predictions import Predictions
from kmm.protocol.tensors import decode_tensor
from tests.client.calls import ask, make_studies


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


def collect(studies):
    return Collection(Path("ward"), "made here", tuple(studies), (Problem("row 9", "not read"),))


@pytest.mark.parametrize("is_async", [False, True])
def test_a_collection_gives_the_predictions_that_a_classifier_gives(stub, client, address, film, is_async):
    def predict(studies):
        return ask(address, lambda other: other.predict(studies)) if is_async else client.predict(studies)

    ward = [{"film": film, "text": None}, {"film": str(film), "text": "ab"}, {"film": None, "text": "abc"}]
    studies = kmm.studies([{**row, "who": "a"} for row in ward], image="film", report="text", patient="who")
    stub.requests.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = predict(studies)
    assert type(found) is Predictions and found.studies == ("0", "1", "2") and found.problems == ()
    assert found == client.predict(list(studies))
    assert found.probabilities[:, 1].round(2).tolist() == [0, 0.02, 0.03]
    asked = [one.model_spec.signature_name for one in stub.requests if type(one).__name__ == "PredictRequest"]
    assert asked.count("serving_bytes") == 3 + 1
    assert len(predict(collect(make_studies(30)))) == 30
    assert predict(collect([])) == [] and "1 problem" in repr(predict(collect([])))


@pytest.mark.parametrize("is_async", [False, True])
def test_studies_of_a_collection_that_cannot_be_predicted_are_problems(stub, client, address, is_async):
    studies = collect([make_study(1), Study("none", ""), make_study(3)])
    with pytest.warns(UserWarning, match="1 of 3 studies cannot be used: see `problems`") as caught:
        found = ask(address, lambda other: other.predict(studies)) if is_async else client.predict(studies)
    assert found.studies == ("1", "3") and len(found) == 2
    assert [problem.source for problem in found.problems] == ["row 9", "study none"]
    assert is_async or caught[0].filename == __file__


def test_reports_beside_a_collection_tables_and_other_labels_are_refused(stub, client):
    with pytest.raises(InputError, match="already contains its own reports"):
        client.predict(collect(make_studies(2)), ["a", "b"])
    for table in ([{"text": "Clear."}], {"text": ["Clear."]}):
        with pytest.raises(InputError, match=r"Pass the studies of `kmm\.studies"):
            client.predict(table)
    assert [one.target for one in client.explain(collect(make_studies(2)))] == ["mass", "mass"]
