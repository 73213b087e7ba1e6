"""Checks of the parts of a reply: model and version, tensors, label names, ranges of numbers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm.errors import InputError, ServerError
from kmm.protocol.messages import DEFAULT_MODEL, load_stubs
from kmm.protocol.tensors import TENSOR_TYPES, decode_tensor

if TYPE_CHECKING:
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow_serving.apis.model_pb2 import ModelSpec

MAX_BYTES = 256 * 2**20  # largest output: maps of 256 films of 512 x 512 pixels


def check_spec(spec: "ModelSpec", *, model: str | None, version: int | None = None) -> None:
    """Checks that the requested model and version answered.

    Args:
        spec: `ModelSpec` of the reply. TensorFlow Serving and `kmm serve` always fill it.
        model: str. The requested name. Any name may answer a request to `default`, which is a second name for the only
            model of a server.
        version: int, or None for any.

    Raises:
        ServerError: if another model or version answered, or the reply names neither.
    """
    if not spec.name or (spec.name != model and model != DEFAULT_MODEL):
        raise ServerError(f'The reply comes from the model {_quote(spec.name)}. Expected the model "{model}".')
    if spec.WhichOneof("version_choice") != "version":
        raise ServerError("The reply does not name the version of the model.")
    if version not in (None, spec.version.value):
        raise ServerError(f"The reply comes from version {spec.version.value}. Expected version {version}.")


def read_outputs(
    outputs: "Mapping[str, TensorProto]", wanted: Mapping[str, tuple[str, int]], count: int
) -> dict[str, np.ndarray]:
    """Decodes named outputs of a reply.

    Args:
        outputs: mapping of name to `TensorProto`.
        wanted: mapping of name to `(type, number of dimensions)`.
        count: int. Number of rows that each output must have.

    Returns:
        dict of name to numpy array.

    Raises:
        ServerError: if an output is missing, malformed, incomplete, too large, not finite, or of another type or shape.
    """
    found = {}
    for name, (kind, dimensions) in wanted.items():
        if name not in outputs:
            raise ServerError(f'The reply lacks "{name}". Received: {", ".join(sorted(outputs)) or "nothing"}.')
        proto = outputs[name]
        shape = [dimension.size for dimension in proto.tensor_shape.dim]
        if proto.dtype != TENSOR_TYPES[kind].number or len(shape) != dimensions or shape[0] != count:
            came = name_number(load_stubs().types_pb2.DataType, proto.dtype)
            raise ServerError(
                f'"{name}" of the reply must be {kind} with {count} rows and {dimensions} dimensions. '
                f"Received: {came} {shape}."
            )
        try:
            found[name] = decode_tensor(proto, max_bytes=MAX_BYTES)
        except InputError as error:
            raise ServerError(f'The tensor "{name}" of the reply is invalid. {error}') from None
        values = len(getattr(proto, TENSOR_TYPES[kind].values))
        if not proto.tensor_content and values != found[name].size:  # TensorFlow reads a short list, but writes none
            raise ServerError(f'"{name}" of the reply must have {found[name].size} values. Received: {values}.')
        if found[name].dtype.kind == "f" and not np.isfinite(found[name]).all():
            raise ServerError(f'"{name}" of the reply contains NaN or infinity. Expected finite numbers.')
    return found


def read_labels(rows: Sequence[list[str] | list[bytes]]) -> list[str]:
    """Reads and checks the label names of a reply.

    Args:
        rows: list of list of str, or of bytes in UTF-8: the names for each study, which must agree.

    Returns:
        list of str.

    Raises:
        ServerError: if there are none, a name is empty, repeated or not printable, or the studies disagree.

    Example:
        >>> read_labels([[b"mass", b"effusion"]])
        ['mass', 'effusion']
    """
    first = rows[0]
    if not first or any(row != first for row in rows):
        raise ServerError("The reply names no labels, or different ones for different studies.")
    try:
        labels = [label.decode("utf-8") if isinstance(label, bytes) else label for label in first]
    except UnicodeDecodeError:
        raise ServerError("The label names of the reply are not valid UTF-8.") from None
    for label in labels:
        if not label.strip() or any(letter < " " or "\x7f" <= letter < "\xa0" for letter in label):
            raise ServerError(f"The reply contains an invalid label name: {_quote(label)}.")
    if len(set(labels)) != len(labels):
        raise ServerError("The reply names a label twice.")
    return labels


def check_range(name: str, numbers: np.ndarray, least: float, most: float) -> None:
    """Raises `ServerError` if a number of an array lies outside [least, most]."""
    wrong = numbers[(numbers < least) | (numbers > most)]
    if wrong.size:
        raise ServerError(f'"{name}" of the reply must lie between {least} and {most}. Received: {wrong[0]:g}.')


def name_number(table: Any, number: int) -> str:
    """Returns the name of a number of a protobuf enumeration; the number itself where the enumeration lacks it."""
    return table.Name(number) if number in table.values() else str(number)


def _quote(text):
    """Quotes a server's text in one line of bounded length."""
    return repr(text if len(text) <= 100 else f"{text[:100]}...")
