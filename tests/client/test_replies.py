"""Replies that are not what a served classifier gives are errors of the server, one line each."""

import numpy as np
import pytest

from kmm.client import replies
from kmm.errors import ServerError
from kmm.stubs import load_stubs
from kmm.wire import encode_tensor

F = np.float32
TENSOR = load_stubs().tensor_pb2.TensorProto


def put(name, value):
    return lambda outputs: outputs.__setitem__(name, value)


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
}


def break_tensor():
    proto = encode_tensor(np.zeros((1, 2), F))
    proto.tensor_content = b"123"
    return proto


@pytest.mark.parametrize("name", CHANGES)
def test_malformed_replies(stub, client, film, name):
    stub.change = lambda outputs: CHANGES[name](outputs) if "probabilities" in outputs else None
    with pytest.raises(ServerError, match="Expected") as error:
        client.explain(film, "No mass.")
    assert "\n" not in str(error.value)


def claim(kind, *shape):
    """A tensor of a few bytes that says it is large."""
    proto = TENSOR(dtype=kind, float_val=[0])
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize(
    "proto", [claim(1, 1, 2**26 + 1), claim(1, 2**26), claim(1, 2, 8), claim(2, 1, 8), claim(1), TENSOR()]
)
def test_no_memory_is_taken_for_what_a_server_claims(monkeypatch, proto):
    monkeypatch.setattr("kmm.wire._read_list", lambda *_: pytest.fail("memory is taken"))
    with pytest.raises(ServerError, match='"probabilities"'):
        replies.read_outputs({"probabilities": proto}, {"probabilities": ("float32", 2)}, 1)


@pytest.mark.parametrize("said", [b"no json", b"[1]", b"\xff", b"[" * 100_000])
def test_a_description_that_is_none(stub, client, said):
    stub.change = put("description", np.array([said], object))
    with pytest.raises(ServerError, match="description as JSON"):
        client.describe()


def test_all_zero_energy_and_unknown_bytes(stub, client, film):
    def change(outputs):
        outputs["token_energy"] = np.zeros((1, 3), F)
        outputs["token_words"] = np.array([[b"\xff", b"b", b""]], object)

    stub.change = change
    found = client.explain(film, "x")
    assert [(word.text, word.share) for word in found.words] == [("�", 0), ("b", 0)]
