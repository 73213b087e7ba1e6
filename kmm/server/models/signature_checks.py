"""Check a request against a signature before it runs, with TensorFlow Serving's texts."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from kmm.errors import InputError
from kmm.protocol.signatures import DEFAULT_SIGNATURE
from kmm.protocol.tensors import decode_tensor
from kmm.server.models.dtypes import CPP_NAMES
from kmm.server.status import ServingError

if TYPE_CHECKING:
    from tensorflow.core.framework import tensor_pb2
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import model_pb2


def name_signature(spec: "model_pb2.ModelSpec") -> str:
    """Returns the name of the signature that a request uses; `serving_default` if it names none."""
    return spec.signature_name or DEFAULT_SIGNATURE


def check_inputs(signature: "meta_graph_pb2.SignatureDef", inputs: "Mapping[str, tensor_pb2.TensorProto]") -> None:
    """Checks the names of a request's inputs, and that their types exist; the graph checks shapes.

    Args:
        signature: `SignatureDef`.
        inputs: mapping of name to `TensorProto`.

    Raises:
        ServingError: INVALID_ARGUMENT if they do not fit, with TensorFlow Serving's texts.
    """
    sent, known = set(inputs), set(signature.inputs)
    if len(sent) != len(known):
        raise ServingError(
            "INVALID_ARGUMENT",
            f"input size does not match signature: {len(sent)}!={len(known)} len({_set(sent)}) != len({_set(known)}). "
            f"Sent extra: {_set(sent - known)}. Missing but required: {_set(known - sent)}.",
        )
    for alias in sorted(known - sent):
        raise ServingError(
            "INVALID_ARGUMENT",
            f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in request and no "
            f"default value provided. Inputs expected to be in the request {_set(sent)}, or default input alias set: ",
        )
    for alias in sorted(known):
        if inputs[alias].dtype not in CPP_NAMES:
            raise ServingError("INVALID_ARGUMENT", f"tensor parsing error: {alias}")


def check_types(signature: "meta_graph_pb2.SignatureDef", inputs: "Mapping[str, tensor_pb2.TensorProto]") -> None:
    """Checks the element types of a request's inputs as TensorFlow's C++ session does.

    Args:
        signature: `SignatureDef`.
        inputs: mapping of name to `TensorProto`, checked by `check_inputs`.

    Raises:
        ServingError: INVALID_ARGUMENT if a type differs from the signature, with TensorFlow's text.
    """
    for index, alias in enumerate(sorted(signature.inputs, key=lambda alias: signature.inputs[alias].name)):
        expected, found = signature.inputs[alias].dtype, inputs[alias].dtype
        if found != expected:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"Expects arg[{index}] to be {CPP_NAMES.get(expected, expected)} but {CPP_NAMES[found]} is provided",
            )


def choose_outputs(signature: "meta_graph_pb2.SignatureDef", wanted: Iterable[str]) -> list[str]:
    """Lists the names of the outputs to return: the wanted ones, or all if none is named.

    Raises:
        ServingError: INVALID_ARGUMENT if a name is unknown or repeated, with TensorFlow Serving's texts.
    """
    seen: set[str] = set()
    for alias in wanted:
        if alias not in signature.outputs:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_set(signature.outputs)}.",
            )
        if alias in seen:
            raise ServingError("INVALID_ARGUMENT", f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return list(wanted) or sorted(signature.outputs)


def decode_inputs(inputs: "Mapping[str, tensor_pb2.TensorProto]", *, max_bytes: int) -> dict[str, np.ndarray]:
    """Decodes tensor messages to arrays.

    Args:
        inputs: mapping of name to `TensorProto`.
        max_bytes: int. Limit per tensor, as in `decode_tensor`.

    Raises:
        ServingError: INVALID_ARGUMENT if the content of a tensor does not fit its shape, or exceeds the limit.
    """
    arrays = {}
    for alias, proto in inputs.items():
        try:
            arrays[alias] = decode_tensor(proto, max_bytes=max_bytes)
        except InputError:
            raise ServingError("INVALID_ARGUMENT", f"tensor parsing error: {alias}") from None
    return arrays


def _set(names):
    return "{" + ",".join(sorted(names)) + "}"
