"""The access log: what a line says, and what it never says."""

import json
from datetime import UTC, datetime, timedelta

import grpc
import httpx
import pytest

from kmm.server.access_log import Entry
from kmm.server.metrics import Metrics
from kmm.server.status import ServingError
from tests.factories.saved_model import PNG, make_examples, make_predict, make_spec, stubs

FIELDS = ["time", "protocol", "method", "model", "version", "signature", "code", "milliseconds"]
FIELDS += ["request_bytes", "answer_bytes"]
SECRET = "Cough since Monday"


@pytest.fixture
def lines(caplog):
    """A function that returns what was logged since it was last asked."""
    caplog.set_level("INFO", "kmm.server.access_log")

    def take():
        found = [json.loads(record.getMessage()) for record in caplog.records if record.name == "kmm.server.access_log"]
        caplog.clear()
        return found

    return take


def test_the_fields_of_a_line(lines):
    with Metrics({}).record("film", "Predict", "GRPC") as entry:
        entry.request_bytes = 5
    (line,) = lines()
    assert list(line) == FIELDS
    time, milliseconds = datetime.fromisoformat(line.pop("time")), line.pop("milliseconds")
    assert time.utcoffset() == timedelta(0) and abs(datetime.now(UTC) - time) < timedelta(seconds=20)
    assert 0 <= milliseconds < 20_000
    assert line == {
        "protocol": "GRPC",
        "method": "Predict",
        "model": "film",
        "version": None,
        "signature": None,
        "code": "OK",
        "request_bytes": 5,
        "answer_bytes": None,
    }


def test_a_request_that_fails_has_its_code(lines):
    metrics = Metrics({})
    for error, code in ((ServingError("NOT_FOUND", SECRET), "NOT_FOUND"), (KeyError(SECRET), "INTERNAL")):
        with pytest.raises(ServingError), metrics.record("", "Predict", "REST"):
            raise error
        (line,) = lines()
        assert (line["code"], line["model"]) == (code, None) and SECRET not in json.dumps(line)


def test_nothing_is_made_where_nothing_is_logged(caplog, monkeypatch):
    caplog.set_level("WARNING", "kmm.server.access_log")
    monkeypatch.setattr("kmm.server.access_log.json.dumps", lambda value: pytest.fail("it is not wanted"))
    Entry("GRPC", "Predict").write()


def test_grpc_tells_which_version_and_signature_answered(tiny, lines):
    face = tiny[1]
    face.predict.Predict(make_predict(label="stable"), timeout=20)
    face.predict.Predict(make_predict(signature="serving_default"), timeout=20)
    request = stubs.classification_pb2.ClassificationRequest(model_spec=make_spec(signature="classify"))
    request.input.CopyFrom(make_examples(PNG))
    face.predict.Classify(request, timeout=20)
    face.models.GetModelStatus(stubs.get_model_status_pb2.GetModelStatusRequest(model_spec=make_spec()), timeout=20)
    found = lines()
    assert [(line["method"], line["version"], line["signature"]) for line in found] == [
        ("Predict", 1, "serving_default"),
        ("Predict", 2, "serving_default"),
        ("Classify", 2, "classify"),
        ("GetModelStatus", None, None),
    ]
    assert all(line["model"] == "tiny" and line["protocol"] == "GRPC" and line["code"] == "OK" for line in found)
    assert all(line["answer_bytes"] > 0 for line in found)


def test_rest_tells_which_version_and_signature_answered(tiny, lines):
    url = f"http://localhost:{tiny[0].rest_port}/v1/models/tiny"
    body = {"instances": [1.5], "signature_name": "double"}
    found = httpx.post(f"{url}/versions/1:predict", json=body)
    assert found.json() == {"predictions": [3.0]}
    (line,) = lines()
    assert {name: line[name] for name in FIELDS if name not in ("time", "milliseconds")} == {
        "protocol": "REST",
        "method": "Predict",
        "model": "tiny",
        "version": 1,
        "signature": "double",
        "code": "OK",
        "request_bytes": int(found.request.headers["content-length"]),
        "answer_bytes": len(found.content),
    }


def test_what_a_client_made_up_is_not_logged(tiny, lines):
    face, url = tiny[1], f"http://localhost:{tiny[0].rest_port}/v1/models"
    for spec in ({"name": SECRET}, {"signature": SECRET}, {"label": SECRET}, {"version": 77}):
        with pytest.raises(grpc.RpcError):
            face.predict.Predict(make_predict(**spec), timeout=20)
    for path, body in (("tiny", {"instances": [1], "signature_name": SECRET}), (SECRET, {"instances": [SECRET]})):
        assert httpx.post(f"{url}/{path}:predict", json=body).status_code in (400, 404)
    found = lines()
    assert len(found) == 6 and SECRET not in json.dumps(found) and "77" not in json.dumps([x["version"] for x in found])
    assert [line["model"] for line in found] == [None, "tiny", "tiny", "tiny", "tiny", None]
    assert [line["signature"] for line in found] == [None] * 6
