"""Replies that are not what a served classifier gives are errors of the server, one line each."""

import grpc
import numpy as np
import pytest

from kmm.client import Client, outputs, replies
from kmm.errors import ServerError
from kmm.protocol.messages import load_stubs
from kmm.protocol.tensors import encode_tensor
from tests.factories.stub_server import StubServer, run_server, serve

F = np.float32
TENSOR = load_stubs().tensor_pb2.TensorProto


def put(name, value):
    return lambda outputs: outputs.__setitem__(name, value)


def name_labels(*labels):
    return np.array([labels], object)


CHANGES = {
    "no output": lambda outputs: outputs.pop("probabilities"),
    "nothing": lambda outputs: outputs.clear(),
    "another type": put("probabilities", np.zeros((1, 2), np.int32)),
    "another shape": put("probabilities", np.zeros(2, F)),
    "more rows": put("probabilities", np.zeros((2, 2), F)),
    "more labels": put("probabilities", np.zeros((1, 3), F)),
    "names that are numbers": put("label_names", np.zeros((1, 2), F)),
    "a broken tensor": lambda outputs: outputs.__setitem__("logits", break_tensor()),
    "a target beyond": put("target", np.array([2], np.int32)),
    "a box outside": put("image_box", np.array([[6, 0, 4, 8]], np.int32)),
    "a box of nothing": put("image_box", np.array([[0, 0, 0, 0]], np.int32)),
    "a box of three": put("image_box", np.array([[0, 0, 1]], np.int32)),
    "no box": lambda outputs: outputs.pop("image_box"),
    "words without energy": put("token_energy", np.zeros((1, 1), F)),
    "probabilities of NaN": put("probabilities", np.array([[np.nan, 0.5]], F)),
    "infinite probabilities": put("probabilities", np.array([[0.5, np.inf]], F)),
    "probabilities above 1": put("probabilities", np.array([[7, 0.5]], F)),
    "probabilities just above 1": put("probabilities", np.array([[np.nextafter(F(1), F(2)), 0.5]], F)),
    "probabilities below 0": put("probabilities", np.array([[0.5, -1e-6]], F)),
    "probabilities as percents": put("probabilities", np.array([[50, 50]], F)),
    "probabilities without values": lambda outputs: outputs.__setitem__("probabilities", claim(1, 1, 2, values=0)),
    "half of the probabilities": lambda outputs: outputs.__setitem__("probabilities", claim(1, 1, 2, values=1)),
    "whole numbers": put("probabilities", np.zeros((1, 2), np.int64)),
    "float64": put("probabilities", np.zeros((1, 2))),
    "a row of two studies": put("probabilities", np.zeros((1, 4), F)),
    "logits of NaN": put("logits", np.array([[np.nan, 0]], F)),
    "thresholds of NaN": put("thresholds", np.array([[np.nan, 0.5]], F)),
    "thresholds above 1": put("thresholds", np.array([[1.5, 0.5]], F)),
    "thresholds below 0": put("thresholds", np.array([[-0.5, 0.5]], F)),
    "decisions as numbers": put("decisions", np.zeros((1, 2), F)),
    "one decision": put("decisions", np.zeros((1, 1), bool)),
    "one label twice": put("label_names", name_labels(b"mass", b"mass")),
    "a label without a name": put("label_names", name_labels(b"mass", b"")),
    "a label of spaces": put("label_names", name_labels(b" ", b"mass")),
    "a label that is no text": put("label_names", name_labels(b"mass", b"\xff")),
    "a label that moves the cursor": put("label_names", name_labels(b"mass", b"\x1b[2Jmass")),
    "a label of two lines": put("label_names", name_labels(b"mass", b"a\nb")),
    "no names": lambda outputs: outputs.__setitem__("label_names", claim(7, 1, 2, values=0)),
    "no labels": lambda outputs: outputs.update({name: array[:, :0] for name, array in outputs.items()
                                                 if name in replies.PREDICTED}),
    "a target below": put("target", np.array([-1], np.int32)),
    "a score of NaN": put("score", np.array([np.nan], F)),
    "an infinite baseline score": put("baseline_score", np.array([np.inf], F)),
    "an error of NaN": put("map_error", np.array([np.nan], F)),
    "an error below 0": put("map_error", np.array([-1], F)),
    "a gap below 0": put("completeness_gap", np.array([-1], F)),
    "no map": lambda outputs: outputs.pop("image_attribution"),
    "an empty map": put("image_attribution", np.zeros((1, 0, 0), F)),
    "an oblong map": put("image_attribution", np.zeros((1, 8, 16), F)),
    "a map of NaN": put("image_attribution", np.full((1, 8, 8), np.nan, F)),
    "a huge box": put("image_box", np.array([[0, 0, 2**31 - 1, 2**31 - 1]], np.int32)),
    "no words": lambda outputs: outputs.pop("token_attribution"),
    "words of NaN": put("token_attribution", np.full((1, 3), np.nan, F)),
    "energy below 0": put("token_energy", np.array([[1, -1, 0]], F)),
}  # fmt: skip


def break_tensor():
    proto = encode_tensor(np.zeros((1, 2), F))
    proto.tensor_content = b"123"
    return proto


@pytest.mark.parametrize("name", CHANGES)
def test_malformed_replies(stub, client, film, name):
    stub.change = lambda outputs: CHANGES[name](outputs) if "probabilities" in outputs else None
    with pytest.raises(ServerError, match="reply") as error:
        client.explain(film, "No mass.")
    assert str(error.value).isprintable() and len(str(error.value)) < 300


def test_predictions_are_checked_as_explanations_are(stub, client, film):
    for name in ("probabilities of NaN", "probabilities above 1", "one label twice", "thresholds of NaN"):
        stub.change = lambda outputs, name=name: CHANGES[name](outputs)
        for given in (film, [film]):
            with pytest.raises(ServerError, match="reply"):
                client.predict(given)
        row, after = client.predict_folder([film, film])
        assert row.prediction is None and "reply" in str(row.problem) and after.problem


def test_the_bounds_of_a_probability_are_valid(stub, client, film):
    def change(outputs):
        outputs["probabilities"], outputs["thresholds"] = np.array([[0, 1]], F), np.array([[1, -0.0]], F)

    stub.change = change
    assert client.predict(film).probabilities == {"mass": 0, "effusion": 1}


@pytest.mark.parametrize(
    "change",
    [
        lambda outputs: outputs.update({name: array[:1] for name, array in outputs.items()}),
        lambda outputs: outputs.update({name: np.concatenate([array, array[:1]]) for name, array in outputs.items()}),
        put("label_names", np.array([[b"mass", b"effusion"], [b"effusion", b"mass"]], object)),
        put("label_names", np.array([[b"mass", b"effusion"], [b"mass", b"nodule"]], object)),
        put("probabilities", np.array([[0.5, 0.5], [0.5, np.nan]], F)),
        put("probabilities", np.zeros((4, 1), F)),
    ],
)
def test_each_study_of_a_request_has_its_row(stub, client, film, change):
    stub.change = change
    with pytest.raises(ServerError, match="reply"):
        client.predict([film, film])


def test_another_row_than_the_one_that_was_sent(stub, client, film):
    stub.change = lambda outputs: outputs.update({name: np.repeat(array, 2, 0) for name, array in outputs.items()})
    with pytest.raises(ServerError, match=r'"probabilities" of the reply must be float32 with 1 rows.*\[2, 2\]'):
        client.predict(film)


@pytest.mark.parametrize("features", [np.array([[np.nan, 0]], F), np.zeros((1, 0), F), np.zeros((2, 2), F)])
def test_features(stub, client, features):
    stub.change = put("features", features)
    with pytest.raises(ServerError, match="reply"):
        client.embed(None, "abc")


@pytest.mark.parametrize(
    "rows",
    [
        [[("mass", float("nan")), ("effusion", 0.5)]],
        [[("mass", float("inf")), ("effusion", 0.5)]],
        [[("mass", 7), ("effusion", 0.5)]],
        [[("mass", -0.1), ("effusion", 0.5)]],
        [[("mass", 0.5), ("mass", 0.5)]],
        [[("", 0.5), ("mass", 0.5)]],
        [[]],
        [],
        [[("mass", 0.5)], [("mass", 0.5)]],
    ],
)
def test_classes(stub, client, rows):
    def change(reply):
        del reply.result.classifications[:]
        for row in rows:
            classes = reply.result.classifications.add().classes
            for label, score in row:
                classes.add(label=label, score=score)

    stub.classes = change
    with pytest.raises(ServerError, match="reply"):
        client.classify(None, "abc")


SPECS = {
    "another model": (
        lambda spec: setattr(spec, "name", "other"),
        {},
        "the model 'other'. Expected the model \"openi\"",
    ),
    "a name with a line break": (lambda spec: setattr(spec, "name", "a\nb"), {}, "openi"),
    "no name": (lambda spec: spec.ClearField("name"), {}, 'the model "openi"'),
    "nothing": (lambda spec: spec.Clear(), {}, 'the model "openi"'),
    "no version": (lambda spec: spec.ClearField("version"), {}, "does not name the version"),
    "a label for a version": (lambda spec: setattr(spec, "version_label", "stable"), {}, "does not name the version"),
    "another version": (
        lambda spec: setattr(spec.version, "value", 4),
        {"version": 2},
        "version 4. Expected version 2",
    ),
    "no version of a label": (
        lambda spec: spec.ClearField("version"),
        {"label": "stable"},
        "does not name the version",
    ),
}


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("action", ["predict", "explain", "embed", "classify", "metadata", "describe", "learned"])
def test_the_model_that_was_asked_for_answers(stub, address, film, name, action):
    change, options, said = SPECS[name]
    with Client(address, **options) as client:
        if action == "learned":  # the first answer was right
            client.predict(film)
            action = "predict"
        stub.spec = change
        with pytest.raises(ServerError, match="The reply") as error:
            getattr(client, action)(*((film,) if action in ("predict", "explain", "embed", "classify") else ()))
    assert said in str(error.value) and str(error.value).isprintable()


def test_default_is_another_name_of_a_model_that_is_served_alone(stub, address, film):
    stub.spec = lambda spec: setattr(spec, "name", "openi")
    with Client(address.partition("/")[0]) as client:
        assert client.predict(film).model == "openi"
        stub.spec = lambda spec: spec.Clear()
        with pytest.raises(ServerError, match='the model "default"'):
            client.predict(film)


def test_the_state_of_the_version_that_was_asked_for(stub, address):
    with Client(address, version=7) as client, pytest.raises(ServerError, match="state of version 7"):
        client.status()  # the stub tells of 3 and 2


def claim(kind, *shape, values=1):
    """A tensor of a few bytes that says it is large."""
    proto = TENSOR(dtype=kind, float_val=[0] * values)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    "proto", [claim(1, 1, 2**26 + 1), claim(1, 2**26), claim(1, 2, 8), claim(2, 1, 8), claim(1), TENSOR()]
)
def test_no_memory_is_taken_for_what_a_server_claims(monkeypatch, proto):
    monkeypatch.setattr("kmm.protocol.tensors._read_list", lambda *_: pytest.fail("memory is taken"))
    with pytest.raises(ServerError, match='"probabilities"'):
        outputs.read_outputs({"probabilities": proto}, {"probabilities": ("float32", 2)}, 1)


@pytest.mark.parametrize(
    "said",
    [
        *(b"no json", b"[1]", b"\xff", b"[" * 100_000, b'{"a": NaN}', b'{"a": [-Infinity]}', b'{"a": 1e999}'),
        *(b'{"a": ' + b"9" * 5000 + b"}", b"{}" + b" " * 10_000_000, b""),
    ],
    ids=range(10),
)
def test_an_invalid_description_is_an_error(stub, client, said):
    stub.change = put("description", np.array([said], object))
    with pytest.raises(ServerError, match="not a valid JSON object"):
        client.describe()


def test_all_zero_energy_and_unknown_bytes(stub, client, film):
    def change(outputs):
        outputs["token_energy"] = np.zeros((1, 3), F)
        outputs["token_words"] = np.array([[b"\xff", b"b", b""]], object)

    stub.change = change
    found = client.explain(film, "x")
    assert [(word.text, word.share) for word in found.words] == [("�", 0), ("b", 0)]


def test_invalid_signatures_are_an_error():
    class Stub(StubServer):
        def GetModelMetadata(self, request, context):
            reply = super().GetModelMetadata(request, context)
            reply.metadata["signature_def"].value = b"\xff" * 20
            return reply

    refused = pytest.raises(ServerError, match='no valid "signature_def"')
    with serve(Stub()) as port, Client(f"localhost:{port}/openi") as client, refused:
        client.metadata()


def test_a_reply_that_is_no_message(film):
    class Handler(grpc.GenericRpcHandler):
        def service(self, details):
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"\xff\xff\xff")

    running = run_server(lambda server: server.add_generic_rpc_handlers([Handler()]))
    refused = pytest.raises(ServerError, match="INTERNAL")
    with running as port, Client(f"localhost:{port}/openi") as client, refused as error:
        client.predict(film)
    assert str(error.value).isprintable()
