"""The client against a server of the stock stubs: what is sent, what comes back, what fails and how."""

import inspect
import threading
import time
from dataclasses import replace

import grpc
import numpy as np
import pytest

from kmm.client import AsyncClient, Client, ServedWord
from kmm.data.study import ImageFile, Report, Study
from kmm.errors import ImageError, InputError, ServerError
from kmm.protocol.tensors import decode_tensor
from tests.factories.stub_server import StubServer, serve

Code = grpc.StatusCode


def sent(stub, name):
    """The strings of an input of the last request."""
    return decode_tensor(stub.requests[-1].inputs[name]).tolist()


def test_a_film_and_a_report_are_predicted(stub, client, film):
    found = client.predict(film, "No mass.")
    size = len(film.read_bytes())
    assert found.probabilities == pytest.approx({"mass": size % 100 / 100, "effusion": 0.08})
    assert found.logits["effusion"] == pytest.approx(-0.42)
    assert found.thresholds == {"mass": 0.5, "effusion": 0.5}
    assert found.decisions == {"mass": size % 100 >= 50, "effusion": False}
    assert (found.model, found.version) == ("openi", 3)
    assert sent(stub, "image_bytes") == [film.read_bytes()] and sent(stub, "report") == [b"No mass."]
    assert stub.requests[-1].model_spec.signature_name == "serving_bytes"


@pytest.mark.parametrize("as_content", [False, True])
def test_lists_go_in_one_request_and_keep_their_order(stub, client, film, as_content):
    stub.as_content = as_content
    found = client.predict([film, None, film.read_bytes()], [None, "ab", "c"])
    assert [round(row.probabilities["effusion"], 3) for row in found] == [0, 0.02, 0.01]
    assert sent(stub, "image_bytes") == [film.read_bytes(), b"", film.read_bytes()]
    assert client.predict([film], None)[0].probabilities["effusion"] == 0
    assert client.predict(None, ["a"])[0].probabilities["mass"] == 0
    assert client.predict([]) == [] == client.explain([], [])


def test_what_the_model_takes_is_asked_once_and_again_for_another_version(stub, client, film):
    client.predict(film)
    client.predict(film)
    assert [type(request).__name__ for request in stub.requests] == [
        "GetModelMetadataRequest", "PredictRequest", "PredictRequest"
    ]  # fmt: skip
    stub.version = 4
    client.predict(film)
    client.predict(film)
    assert [type(request).__name__ for request in stub.requests[-3:]] == [
        "PredictRequest", "GetModelMetadataRequest", "PredictRequest"
    ]  # fmt: skip


def test_reports_in_sections_are_joined_as_the_model_reads_them(stub, client, film):
    report = Report(findings="Clear.", impression="Normal.", indication="Cough.")
    client.predict(None, report)
    assert sent(stub, "report") == [b"Normal. Clear."]
    study = Study("1", "1", (ImageFile(film, "frontal"),), report)
    client.predict(study)
    assert sent(stub, "image_bytes") == [film.read_bytes()] and sent(stub, "report") == [b"Normal. Clear."]
    client.predict([study, Study("2", "2", report=Report(findings="x"))])
    assert sent(stub, "report") == [b"Normal. Clear.", b"x"]
    with pytest.raises(InputError, match="own report"):
        client.predict(study, "Clear.")


def test_versions_and_labels_are_asked_for(stub, address, film):
    with Client(address, version=2) as client:
        client.predict(film)
    assert stub.requests[-1].model_spec.version.value == 2
    with Client(address, label="stable") as client:
        client.status()
    assert stub.requests[-1].model_spec.version_label == "stable"


def test_without_a_name_the_model_has_the_servers_default_name(stub, address, film):
    with Client(address.partition("/")[0]) as client:
        client.predict(film)
    assert stub.requests[-1].model_spec.name == "default"


def test_an_explanation(stub, client, film):
    found = client.explain(film, "No mass.", target="effusion")
    assert decode_tensor(stub.requests[-1].inputs["target"]).tolist() == [1]
    assert (found.target, found.score, found.baseline_score) == ("effusion", 2, 1)
    assert (found.completeness_gap, found.map_error) == (0.25, 0.125)
    assert found.words == (ServedWord("no", 0.25, -1), ServedWord("mass", 0.75, 2))
    assert found.heat.shape == (4, 8) and found.heat[2, 5] == 1 and found.heat.sum() == 1
    assert found.modality_share == pytest.approx({"image": 1 / 11, "text": 10 / 11})
    (region,) = found.regions((32, 64))
    assert abs(region.x - 44) <= 8 and abs(region.y - 20) <= 8
    picture = found.draw(film)
    assert picture.shape == (32, 64, 3) and picture.dtype == np.uint8
    assert (picture != np.asarray(found.draw(np.full((32, 64), 30, np.uint8)))).any()
    captioned = found.draw(film, caption=True)
    assert captioned.shape[0] > 32 and (captioned[:32, :64] == picture).all() and captioned[32:].any()
    low = replace(found, prediction=replace(found.prediction, decisions={"mass": False, "effusion": False}))
    high = replace(found, prediction=replace(found.prediction, decisions={"mass": True, "effusion": True}))
    assert (low.draw(film) != high.draw(film)).any()  # dashed below the threshold
    said = found.as_dict((32, 64))
    assert said["words"][1] == {"text": "mass", "share": 0.75, "signed": 2.0} and len(said["regions"]) == 1
    oblong = found.as_dict((32, 64), pixel_scale=(1.0, 2.0))  # the file has 16 rows, twice as far apart
    (moved,) = oblong["regions"]
    assert (said["pixel_aspect"], oblong["pixel_aspect"]) == (1, 2)
    assert (moved["x"], moved["y"], moved["radius"]) == (region.x, (region.y + 0.5) / 2 - 0.5, region.radius)


def test_targets(stub, client, film):
    assert client.explain(film).target == "mass"
    assert decode_tensor(stub.requests[-1].inputs["target"]).tolist() == [-1]
    found = client.explain([film, film], target=["effusion", None])
    assert [row.target for row in found] == ["effusion", "mass"]
    with pytest.raises(InputError, match=r"Unknown label 'cough'. Known: mass, effusion."):
        client.explain(film, target="cough")
    with pytest.raises(InputError, match="2 targets"):
        client.explain([film, film], target=["mass"])


def test_targets_are_those_of_the_version_that_answers(stub, client, film):
    client.explain(film, target="effusion")
    stub.version, stub.labels = 4, ["nodule", "mass"]
    with pytest.raises(InputError, match="Unknown label 'nodule'"):
        client.explain(film, target="nodule")
    assert client.explain(film, target="nodule").target == "nodule"
    stub.version, stub.labels = 5, ["mass", "nodule"]
    found = client.explain(film, target="nodule")
    assert (found.target, found.prediction.version) == ("nodule", 5)
    assert decode_tensor(stub.requests[-1].inputs["target"]).tolist() == [1]


def test_another_label_than_the_target_is_never_handed_back(stub, client, film):
    client.explain(film, target="effusion")
    stub.labels = ["effusion", "mass"]  # under the same number of a version
    with pytest.raises(ServerError, match=r'explains "mass"\. Expected: "effusion"'):
        client.explain(film, target="effusion")
    assert client.explain(film, target="effusion").target == "effusion"


def test_sections_are_those_of_the_version_that_answers(stub, client):
    report = Report(findings="Clear.", impression="Normal.")
    client.predict(None, report)
    for ask, sections, expected in [
        (client.predict, ["findings"], b"Clear."),
        (client.embed, ["impression"], b"Normal."),
        (client.explain, ["findings"], b"Clear."),
    ]:
        stub.version, stub.sections = stub.version + 1, sections
        ask(None, report)
        assert sent(stub, "report") == [expected]
    stub.version, stub.sections = stub.version + 1, ["impression"]
    client.classify(None, report)
    (example,) = stub.requests[-1].input.example_list.examples
    assert example.features.feature["report"].bytes_list.value == [b"Normal."]


def test_versions_that_never_settle_are_an_error(stub, client, film):
    def change_version(request):
        stub.version += 1

    stub.hold = change_version
    with pytest.raises(ServerError, match="served version changed twice") as error:
        client.explain(film, target="mass")
    assert error.value.code == "ABORTED"
    assert client.predict(film).version == stub.version  # nothing of a description is in it


def test_without_a_film_there_is_no_map(client, film):
    found = client.explain(None, "No mass.")
    assert found.heat is None and found.regions() == []
    with pytest.raises(InputError, match="no map to draw"):
        found.draw(film)


def test_features_classes_status_metadata_description(stub, client, film):
    assert client.embed(None, "abc").tolist() == [0, 0, 3, 3]
    assert client.embed([None, None], ["abc", "d"]).shape == (2, 4)
    assert client.classify(None, "abc") == pytest.approx({"mass": 0, "effusion": 0.03})
    assert len(client.classify([film, film])) == 2
    assert client.status() == [
        {"version": 3, "state": "AVAILABLE", "error_code": "OK", "error_message": ""},
        {"version": 2, "state": "END", "error_code": "NOT_FOUND", "error_message": "no such file"},
    ]
    found = client.metadata()
    assert (found["model"], found["version"]) == ("openi", 3)
    assert found["signatures"]["serving_bytes"]["inputs"] == {
        "image_bytes": {"dtype": "string", "shape": [None]},
        "report": {"dtype": "string", "shape": [None]},
    }
    assert not any(name.startswith("__") for name in found["signatures"])
    assert client.describe()["labels"] == ["mass", "effusion"]


@pytest.mark.parametrize(
    ("sides", "lacks"), [({"pixels": None}, "films"), ({"length": None}, "reports")], ids=["reports", "films"]
)
def test_models_of_one_side(film, sides, lacks):
    stub = StubServer(**sides)
    study = Study("1", "1", (ImageFile(film, "frontal"),), Report(findings="Clear."))
    with serve(stub) as port, Client(f"localhost:{port}", "openi") as client:
        client.predict(study)
        assert len(stub.requests[-1].inputs) == 1
        with pytest.raises(InputError, match=f"does not read {lacks}"):
            client.predict(film, "Clear.")


def test_studies_that_cannot_be_sent(client, film):
    for arguments, said in [
        ((), "The study has neither a film nor a report"),
        (([film, None],), "Study 1 has neither a film nor a report"),
        (([film], ["a", "b"]), "equal numbers of images and reports"),
        ((film, ["a"]), None),
        ((3,), "path, bytes or a numpy array"),
        ((None, 3), "must be a str"),
    ]:
        if said is None:
            assert len(client.predict(*arguments)) == 1
            continue
        with pytest.raises(InputError, match=said):
            client.predict(*arguments)
    with pytest.raises(ImageError, match=r"gone\.png"):
        client.predict("gone.png")


def test_errors_carry_the_servers_code_and_text_and_no_report(stub, client, film):
    client.predict(film)
    for text, readable in [
        ("assertion failed: [image 0: expected a PNG.]\n\t [[{{node f/Assert}}]]", "image 0: expected a PNG."),
        ("{{function_node __f_1}} assertion failed: [ids: [2,3]]\n\t [[{{node a}}]] [[b]]", "ids: [2,3]"),
        ("Invalid PNG data, size 9\n\t [[{{function_node g}}{{node Decode}}]]", "Invalid PNG data, size 9"),
        ("one [[line]]\nand another", "one [[line]] and another"),
    ]:
        stub.failures = [(Code.INVALID_ARGUMENT, text)]
        with pytest.raises(ServerError) as error:
            client.predict(film, "Secret words.")
        assert (error.value.code, error.value.details) == ("INVALID_ARGUMENT", text)
        assert str(error.value).endswith(f": INVALID_ARGUMENT: {readable}")
    stub.failures = [(Code.INVALID_ARGUMENT, "Could not parse example input, value: 'Secret\nwords'")]
    with pytest.raises(ServerError) as error:
        client.classify(film, "Secret words.")
    assert "Secret" not in str(error.value) and "Could not parse example input" in str(error.value)
    assert "Secret" not in error.value.details


@pytest.mark.parametrize(
    ("code", "text", "again"),
    [
        (Code.NOT_FOUND, "Servable not found for request: Latest(openi)", True),
        (Code.FAILED_PRECONDITION, 'Serving signature key "serving_bytes" not found.', True),
        (Code.INVALID_ARGUMENT, "input size does not match signature: 1!=2", True),
        (Code.INVALID_ARGUMENT, "assertion failed: [target 0: expected a label from 0 to 1.]", True),
        (Code.INVALID_ARGUMENT, "assertion failed: [image 0: expected a PNG or JPEG file.]", False),
        (Code.RESOURCE_EXHAUSTED, "The server is busy", False),
    ],
)
def test_only_errors_that_another_version_could_cause_make_it_ask_again(stub, client, film, code, text, again):
    client.predict(film)
    stub.failures = [(code, text)]
    with pytest.raises(ServerError):
        client.predict(film)
    arrived = len(stub.requests)
    client.predict(film)
    assert len(stub.requests) - arrived == 1 + again


def test_unavailable_is_tried_again_with_large_requests_too(stub, client):
    film = np.random.default_rng(0).integers(0, 255, (800, 800), np.uint8)
    client.predict(film)
    for action, arguments in [(client.predict, (film,)), (client.status, ())]:
        stub.failures = [(Code.UNAVAILABLE, "busy")] * 2
        action(*arguments)
        assert not stub.failures
    stub.failures = [(Code.RESOURCE_EXHAUSTED, "full")]
    with pytest.raises(ServerError, match="RESOURCE_EXHAUSTED: full"):
        client.predict(film)


def test_without_retries_the_first_failure_counts(stub, address):
    stub.failures = [(Code.UNAVAILABLE, "busy")]
    with Client(address, retries=0) as client, pytest.raises(ServerError, match="UNAVAILABLE: busy"):
        client.status()


def test_a_deadline_ends_a_request(stub, address):
    done = threading.Event()
    stub.hold = lambda request: done.wait(10)
    started = time.monotonic()
    with Client(address, timeout=0.3) as client, pytest.raises(ServerError) as error:
        client.describe()
    done.set()
    assert error.value.code == "DEADLINE_EXCEEDED" and time.monotonic() - started < 5


def test_a_server_that_is_not_there():
    with serve(StubServer()) as port:
        pass
    with Client(f"localhost:{port}/openi", retries=1) as client, pytest.raises(ServerError, match="UNAVAILABLE"):
        client.status()


def test_both_clients_have_the_same_methods():
    def list_methods(kind):
        return {
            name: list(inspect.signature(method).parameters)
            for name, method in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert list_methods(Client) == list_methods(AsyncClient)
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


def test_no_secret_in_what_is_shown(address):
    with Client(address, token="hidden-token") as client:
        assert "hidden" not in repr(client)
