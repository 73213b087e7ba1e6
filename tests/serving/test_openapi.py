"""openapi.yaml says what is answered over HTTP: the paths, the codes, the names."""

import re
import shutil
from itertools import product
from pathlib import Path

import httpx
import pytest
import yaml

import kmm.server.requests.batching as batching
import kmm.server.requests.inference as inference
from kmm.protocol.signatures import DEFAULT_SIGNATURES, list_signatures
from kmm.server import metrics
from kmm.server.policy import VersionPolicy
from kmm.server.rest import app
from kmm.server.settings import ModelSettings
from kmm.server.status import HTTP_STATUS, ServingError
from tests.factories.saved_model import PNG64, ROW
from tests.factories.servers import running

SERVING = Path(__file__).parents[2] / "serving"
HTTP = ("get", "post")
VALUES = {"model": "tiny", "version": "1", "label": "stable"}
BODIES = {
    "predict": {"instances": [ROW]},
    "classify": {"signature_name": "classify", "examples": [{"image_bytes": PNG64}]},
    "regress": {"signature_name": "regress", "examples": [{"image_bytes": PNG64}]},
}
NEVER = {403, 409, 499}  # no graph of kmm ends so, and a client that is gone reads nothing


@pytest.fixture(scope="module")
def api():
    return yaml.safe_load((SERVING / "openapi.yaml").read_text(encoding="utf-8"))


def resolve(api, reference):
    found = api
    for key in reference.removeprefix("#/").split("/"):
        found = found[key]
    return found


def walk(value):
    yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(item)


def list_properties(api, name):
    """Names of the properties of a schema, those of its parts too."""
    schema = api["components"]["schemas"][name]
    parts = [resolve(api, part["$ref"]) if "$ref" in part else part for part in [schema, *schema.get("allOf", ())]]
    return {name for part in parts for name in part.get("properties", ())}


@pytest.fixture(scope="module")
def client(versions, tmp_path_factory):
    """A client of a server with the version 1, a label, a token and small requests."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(versions / "1", folder / "1")
    model = ModelSettings("tiny", folder, VersionPolicy("all"), {"stable": 1})
    with (
        running(model, rest_port=0, token="word", max_message_mb=1) as (server, _),
        httpx.Client(base_url=f"http://localhost:{server.rest_port}", timeout=20) as client,
    ):
        client.headers["Authorization"] = "Bearer word"
        yield client


def list_actions(api):
    return {(path, name): item[name] for path, item in api["paths"].items() for name in HTTP if name in item}


def send(client, path, name, *, content=None, **values):
    path = path.format(**VALUES | values)
    if name == "get":
        return client.get(path).status_code
    body = {"content": content} if content is not None else {"json": BODIES[path.rpartition(":")[2]]}
    return client.post(path, **body).status_code


def test_it_is_whole(api):
    assert api["openapi"].startswith("3.0") and api["info"]["title"] and api["info"]["version"]
    for part in walk(api):
        if isinstance(part, dict) and isinstance(part.get("$ref"), str):
            assert resolve(api, part["$ref"])
    ids = [action["operationId"] for action in list_actions(api).values()]
    assert len(ids) == len(set(ids))
    for path, item in api["paths"].items():
        declared = [resolve(api, one["$ref"]) for one in item.get("parameters", ())]
        assert sorted(one["name"] for one in declared) == sorted(re.findall(r"\{(\w+)\}", path))
    assert resolve(api, "#/components/parameters/Version")["schema"]["minimum"] == 0


def test_its_paths_are_those_that_are_answered(api, client):
    versions = ("", "/versions/{version}", "/labels/{label}")
    ends = [("get", ""), ("get", "/metadata"), *(("post", f":{method}") for method in app._APIS)]
    expected = {(f"/v1/models/{{model}}{version}{end}", name) for version, (name, end) in product(versions, ends)}
    expected |= {(app.HEALTH_PATH, "get"), (metrics.PATH, "get")}
    assert set(list_actions(api)) == expected
    for path, name in expected:
        assert send(client, path, name) == 200


def test_its_codes_are_those_that_are_answered(api, client, monkeypatch):
    for (path, name), action in list_actions(api).items():
        if not path.startswith("/v1/"):
            continue
        end = re.sub(r".*\}", "", path)
        codes = {200, send(client, f"/v1/models/film{end}", name), send(client, f"/v1/models/tiny/labels/x{end}", name)}
        with monkeypatch.context() as context:
            context.setitem(client.headers, "Authorization", "Bearer other")
            codes.add(send(client, path, name))
        if name == "get":
            with monkeypatch.context() as context:
                for method in ("list_states", "find_signatures"):
                    context.setattr(inference.Inference, method, lambda *arguments: 1 / 0)
                codes.add(send(client, path, name))
        else:
            codes.add(send(client, path, name, content=b" " * 2**21))
            codes.add(client.post(path.format(**VALUES), content=b"{}", headers={"Content-Encoding": "br"}).status_code)
            for code in HTTP_STATUS:

                def fail(*arguments, code=code):
                    raise ServingError(code, "as a graph does")

                with monkeypatch.context() as context:
                    context.setattr(batching, "run_signature", fail)
                    codes.add(send(client, path, name))
        assert {int(code) for code in action["responses"]} == codes - NEVER, path


def test_it_names_what_the_signatures_name(api):
    signatures = {}
    for default in DEFAULT_SIGNATURES:
        signatures |= list_signatures(pixels=8, length=4, label_count=2, feature_size=4, default=default)
    content = api["components"]["requestBodies"]["Predict"]["content"]["application/json"]
    known = content["schema"]["properties"]["signature_name"]["enum"]
    assert set(known) == set(signatures) - {"classify"}  # that has a call of its own
    for schema, name, side in [
        ("Study", "serving_bytes", "inputs"),
        ("StudyToExplain", "explain_bytes", "inputs"),
        ("Prepared", "serving_tensors", "inputs"),
        ("PreparedToExplain", "explain", "inputs"),
        ("Prediction", "serving_bytes", "outputs"),
        ("Explanation", "explain_bytes", "outputs"),
    ]:
        assert list_properties(api, schema) == {field.name for field in getattr(signatures[name], side)}, schema
    example = content["example"]
    assert example["signature_name"] in known
    assert set(example["instances"][0]) == list_properties(api, "Study")
