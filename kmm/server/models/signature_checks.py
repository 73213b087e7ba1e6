"""The checks of a request before it runs, with TensorFlow Serving's texts."""

from kmm.errors import InputError
from kmm.protocol.signatures import DEFAULT_SIGNATURE
from kmm.protocol.tensors import decode_tensor
from kmm.server.models.dtypes import CPP_NAMES
from kmm.server.status import ServingError


def name_signature(spec):
    """The signature that a request names; `serving_default` where it names none."""
    return spec.signature_name or DEFAULT_SIGNATURE


def check_inputs(signature, inputs):
    """Checks that a request's inputs are those of a signature, by name and type; shapes are checked in the graph.

    Args:
        signature: `SignatureDef`.
        inputs: mapping of name to `TensorProto`.

    Raises:
        ServingError: INVALID_ARGUMENT, with TensorFlow Serving's texts.
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


def check_types(signature, inputs):
    """Checks the types of elements, as TensorFlow's C++ session does.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    for place, alias in enumerate(sorted(signature.inputs, key=lambda alias: signature.inputs[alias].name)):
        expected, found = signature.inputs[alias].dtype, inputs[alias].dtype
        if found != expected:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"Expects arg[{place}] to be {CPP_NAMES.get(expected, expected)} but {CPP_NAMES[found]} is provided",
            )


def choose_outputs(signature, wanted):
    """The names of the outputs to answer: those that were asked for, else all.

    Raises:
        ServingError: INVALID_ARGUMENT, if one is not known or named twice.
    """
    seen = set()
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


def decode_inputs(inputs, *, max_bytes):
    """Tensor messages as arrays.

    Raises:
        ServingError: INVALID_ARGUMENT if one does not hold what it declares, or declares more than `max_bytes`.
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
