"""Clients that others wrote for TensorFlow Serving: what works there by its source works here.

Which calls those are was read in TensorFlow Serving (its commit 9d981c5) and in the clients: `ovmsclient` 2023.1 asks
for version 0 where the caller names none, which only OpenVINO takes for the latest; `min-tfs-client` 1.0.2 fills the
field `inputs` of requests of classification and regression, which they lack, so that only its `predict_request` works.
"""

import http.client
import importlib.util
import json
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest

from kmm.server.policy import VersionPolicy
from kmm.server.settings import ModelSettings
from tests.factories.saved_model import IMAGE, TOKENS
from tests.factories.servers import running

FOREIGN = Path(sys.prefix, "foreign")  # min-tfs-client brings its own files of `tensorflow`: it lies apart
SCORES = [[2 * float(IMAGE.sum()) + 6, 2 * float(IMAGE.sum()) + 6]]  # of version 2: weights of 2, words 1 + 2 + 3


@pytest.fixture(scope="module")
def server(versions):
    """A server of both versions of the tiny model; the label `stable` is version 1."""
    model = ModelSettings("tiny", versions, VersionPolicy("all"), {"stable": 1})
    with running(model, rest_port=0) as (server, _):
        yield server


@pytest.fixture(scope="module")
def ovms(server):
    """What `ovmsclient` was answered: dict of protocol and call to its answer, or to the error it raised."""
    if importlib.util.find_spec("ovmsclient") is None:
        pytest.skip("ovmsclient is not installed: pip install 'kmm[test]'")
    script = Path(__file__).with_name("ovms_calls.py")
    command = [sys.executable, script, str(server.port), str(server.rest_port)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_ovmsclient_predicts(ovms, protocol):
    for call in ("predict", "predict lists"):
        assert ovms[f"{protocol} {call}"] == {"scores": SCORES, "version": [2]}, call


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_ovmsclient_asks_for_status_and_metadata(ovms, protocol):
    state = "AVAILABLE"
    assert ovms[f"{protocol} status"] == {"1": {"state": state, "error_code": 0, "error_message": ""}}
    found = ovms[f"{protocol} metadata"]
    if protocol == "rest":  # OpenVINO names the fields in another way than TensorFlow Serving: the client hands them on
        assert found["model_spec"]["version"] == "1"
        signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert [int(side["size"]) for side in signature["inputs"]["image"]["tensor_shape"]["dim"]] == [-1, 8, 8, 1]
    else:
        assert found["model_version"] == 1
        assert found["inputs"]["image"] == {"shape": [-1, 8, 8, 1], "dtype": "DT_FLOAT"}
        assert found["inputs"]["tokens"] == {"shape": [-1, 5], "dtype": "DT_INT32"}


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        ("unknown model", "ModelNotFoundError"),
        ("unknown version", "ModelNotFoundError"),
        ("version 0", "ModelNotFoundError"),
        ("unknown input", "InvalidInputError"),
        ("wrong shape", "InvalidInputError"),
        ("status of unknown version", "ModelNotFoundError"),
        ("metadata of unknown model", "ModelNotFoundError"),
    ],
)
def test_ovmsclient_raises_its_own_errors(ovms, call, kind):
    for protocol in ("grpc", "rest"):
        assert ovms[f"{protocol} {call}"].startswith(f"{kind}: "), (protocol, call)


@pytest.fixture
def min_tfs(monkeypatch):
    if not FOREIGN.is_dir():
        pytest.skip("min-tfs-client is not installed: make .venv/tested")
    monkeypatch.setattr(sys, "path", [*sys.path, str(FOREIGN)])  # last: TensorFlow's own files win
    import min_tfs_client.requests
    import min_tfs_client.tensors

    return min_tfs_client


def test_min_tfs_client_predicts(server, min_tfs):
    client = min_tfs.requests.TensorServingClient("127.0.0.1", server.port)
    for version, factor in ((None, 2), (1, 1), (2, 2)):
        answer = client.predict_request("tiny", {"image": IMAGE, "tokens": TOKENS}, model_version=version)
        found = {name: min_tfs.tensors.tensor_proto_to_ndarray(value) for name, value in answer.outputs.items()}
        assert found["scores"].tolist() == [[factor * float(IMAGE.sum()) + 6] * 2]
        assert found["version"].tolist() == [factor] and answer.model_spec.version.value == factor


@pytest.mark.parametrize(
    ("name", "version", "image", "code"),
    [
        ("other", None, IMAGE, "NOT_FOUND"),
        ("tiny", 9, IMAGE, "NOT_FOUND"),
        ("tiny", 1, IMAGE.astype(np.float64), "INVALID_ARGUMENT"),
        ("tiny", 1, IMAGE[:, :4], "INVALID_ARGUMENT"),
        ("", None, IMAGE, "INVALID_ARGUMENT"),
    ],
)
def test_min_tfs_client_sees_the_codes(server, min_tfs, name, version, image, code):
    client = min_tfs.requests.TensorServingClient("127.0.0.1", server.port)
    with pytest.raises(grpc.RpcError) as caught:
        client.predict_request(name, {"image": image, "tokens": TOKENS}, model_version=version)
    assert caught.value.code().name == code


@pytest.mark.parametrize("call", ["classification_request", "regression_request"])
def test_what_min_tfs_client_cannot_send_at_all(server, min_tfs, call):
    client = min_tfs.requests.TensorServingClient("127.0.0.1", server.port)
    with pytest.raises(AttributeError, match="inputs"):
        getattr(client, call)("tiny", {"inputs": np.array(["film"])})


def ask(server, path, body=None):
    """The code and the document that the standard library's client gets; never a proxy between."""
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/{path}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, None if body is None else json.dumps(body).encode(), timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_standard_library_asks_for_all(server):
    row = {"image": IMAGE[0].tolist(), "tokens": TOKENS[0].tolist()}
    for place, factor in (("tiny", 2), ("tiny/versions/1", 1), ("tiny/labels/stable", 1)):
        expected = {"scores": [factor * float(IMAGE.sum()) + 6] * 2, "version": factor}
        assert ask(server, f"{place}:predict", {"instances": [row]}) == (200, {"predictions": [expected]})
        columns = {"image": [row["image"]], "tokens": [row["tokens"]]}
        assert ask(server, f"{place}:predict", {"inputs": columns})[1]["outputs"]["version"] == [factor]
        assert ask(server, f"{place}/metadata")[1]["model_spec"]["version"] == str(factor)
        assert ask(server, place)[1]["model_version_status"][-1]["state"] == "AVAILABLE"
    assert ask(server, "other:predict", {"instances": [row]})[0] == 404
    assert ask(server, "tiny/labels/none:predict", {"instances": [row]})[0] == 400
    code, told = ask(server, "tiny:predict", {"instances": [{"image": 1}]})
    assert code == 400 and set(told) == {"error"}


def test_a_client_that_sends_what_curl_sends(server):
    """curl says `Expect: 100-continue` before a body of more than a megabyte, and its type is that of forms."""
    body = json.dumps({"signature_name": "double", "instances": [0.5] * 300_000}).encode()
    client = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    client.putrequest("POST", "/v1/models/tiny:predict", skip_accept_encoding=True)
    fields = {"User-Agent": "curl/8.5.0", "Accept": "*/*", "Expect": "100-continue"}
    fields |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))}
    for name, value in fields.items():
        client.putheader(name, value)
    client.endheaders()
    assert client.sock.recv(100).startswith(b"HTTP/1.1 100 ")
    client.send(body)
    answer = client.getresponse()
    assert answer.status == 200 and json.load(answer) == {"predictions": [1.0] * 300_000}
    client.close()


@pytest.mark.skipif(shutil.which("curl") is None, reason="no command curl")
def test_curl(server, tmp_path):
    (tmp_path / "body.json").write_text('{"signature_name": "double", "instances": [1.5, 2.5]}', encoding="ascii")
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/tiny"
    command = ["curl", "--silent", "--noproxy", "*", "--max-time", "20"]
    for options in (["-d", f"@{tmp_path / 'body.json'}"], ["-T", str(tmp_path / "body.json"), "-X", "POST"]):
        ran = subprocess.run([*command, *options, f"{url}:predict"], capture_output=True, check=True)
        assert json.loads(ran.stdout) == {"predictions": [3.0, 5.0]}
    ran = subprocess.run([*command, url], capture_output=True, check=True)
    assert [held["version"] for held in json.loads(ran.stdout)["model_version_status"]] == ["2", "1"]


def run_saved_model_cli(*arguments):
    """What TensorFlow's own command prints; it runs on the processor."""
    script = "import sys; from tensorflow.python.tools.saved_model_cli import main; sys.exit(main())"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


@pytest.fixture(scope="module")
def reader(build_classifier, tmp_path_factory):
    """A classifier of reports alone, which is exported in a few seconds, and its export: (classifier, Path)."""
    from kmm.export.write import export_classifier

    folder, classifier = tmp_path_factory.mktemp("saved_models") / "reader", build_classifier(None, "text-cnn")
    classifier.save(folder)
    return classifier, export_classifier(folder, explanation=None)


@pytest.mark.large
def test_saved_model_cli_shows_an_export(reader):
    shown = run_saved_model_cli("show", "--dir", reader[1], "--all")
    import tensorflow as tf

    for name in tf.saved_model.load(str(reader[1])).signatures:
        assert f"signature_def['{name}']" in shown
    assert shown.count("Method name is: tensorflow/serving/predict") >= 5


@pytest.mark.large
def test_saved_model_cli_runs_an_export(reader, tmp_path):
    """Its answer is that of the classifier."""
    from kmm.data.study import Report, Study

    classifier, version = reader
    text = "No mass. There is a small effusion."
    study = Study("1", "1", (), Report(findings=text))
    predicted = classifier.predict([study])
    expected = classifier.probabilities(predicted.logits["text"], predicted.present)
    run_saved_model_cli(
        *("run", "--dir", version, "--tag_set", "serve", "--signature_def", "serving_bytes"),
        *("--input_exprs", f"report=['{text}']", "--outdir", tmp_path),
    )
    found = np.load(tmp_path / "probabilities.npy")
    assert np.abs(found - expected).max() < 1e-5
