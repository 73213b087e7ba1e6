"""The parts of a reply, each checked: who has answered, tensors, names of labels, ranges of numbers."""

import numpy as np

from kmm.errors import InputError, ServerError
from kmm.protocol.messages import DEFAULT_MODEL, load_stubs
from kmm.protocol.tensors import TENSOR_TYPES, decode_tensor

MAX_BYTES = 256 * 2**20  # of one output: maps of 256 films of 512 pixels


def check_spec(spec, *, model, version=None):
    """Checks that the model and version that were asked for have answered.

    Args:
        spec: `ModelSpec` of the reply. TensorFlow Serving and `kmm serve` always fill it.
        model: str. The name that was asked for. `default` may be answered by any name: it is another name of a model
            that is served alone.
        version: int or None for any.

    Raises:
        ServerError: if another one has answered, or the reply does not say which one has.
    """
    if not spec.name or (spec.name != model and model != DEFAULT_MODEL):
        raise ServerError(f'Expected an answer of the model "{model}". Received: of {_quote(spec.name)}.')
    if spec.WhichOneof("version_choice") != "version":
        raise ServerError("Expected an answer that names its version. Received: none.")
    if version not in (None, spec.version.value):
        raise ServerError(f"Expected an answer of version {version}. Received: of {spec.version.value}.")


def read_outputs(outputs, wanted, count):
    """Decodes named outputs of a reply.

    Args:
        outputs: mapping of name to `TensorProto`.
        wanted: dict of name to `(type, dimensions)`.
        count: int. Rows that each must have.

    Returns:
        dict of name to numpy array.

    Raises:
        ServerError: if one is missing, malformed, incomplete, too large, not finite, or of another type or shape.
    """
    found = {}
    for name, (kind, dimensions) in wanted.items():
        if name not in outputs:
            raise ServerError(f'Expected a reply with "{name}". Received: {", ".join(sorted(outputs)) or "nothing"}.')
        proto = outputs[name]
        shape = [dimension.size for dimension in proto.tensor_shape.dim]
        if proto.dtype != TENSOR_TYPES[kind].number or len(shape) != dimensions or shape[0] != count:
            came = name_number(load_stubs().types_pb2.DataType, proto.dtype)
            raise ServerError(
                f'Expected "{name}" of {kind} with {count} rows in {dimensions} dimensions. Received: {came} {shape}.'
            )
        try:
            found[name] = decode_tensor(proto, max_bytes=MAX_BYTES)
        except InputError as error:
            raise ServerError(f'Expected a reply with "{name}" as a tensor. {error}') from None
        values = len(getattr(proto, TENSOR_TYPES[kind].values))
        if not proto.tensor_content and values != found[name].size:  # TensorFlow reads a short list, but writes none
            raise ServerError(f'Expected {found[name].size} values of "{name}". Received: {values}.')
        if found[name].dtype.kind == "f" and not np.isfinite(found[name]).all():
            raise ServerError(f'Expected finite numbers in "{name}". Received: NaN or infinity.')
    return found


def read_labels(rows):
    """The names of labels of a reply, checked.

    Args:
        rows: list of list of str, or of bytes in UTF-8: those of each study, which are the same.

    Returns:
        list of str.

    Raises:
        ServerError: if there is none, one is empty, doubled or no text, or the studies have different ones.

    Example:
        >>> read_labels([[b"mass", b"effusion"]])
        ['mass', 'effusion']
    """
    first = rows[0]
    if not first or any(row != first for row in rows):
        raise ServerError("Expected the same names of labels for each study in a reply. Received: none, or others.")
    try:
        labels = [label.decode("utf-8") if isinstance(label, bytes) else label for label in first]
    except UnicodeDecodeError:
        raise ServerError("Expected names of labels in UTF-8 in a reply. Received: other bytes.") from None
    for label in labels:
        if not label.strip() or any(letter < " " or "\x7f" <= letter < "\xa0" for letter in label):
            raise ServerError(f"Expected names of labels in a reply. Received: {_quote(label)}.")
    if len(set(labels)) != len(labels):
        raise ServerError("Expected different names of labels in a reply. Received: one of them twice.")
    return labels


def check_range(name, numbers, least, most):
    """Raises `ServerError` where a number of an array lies outside [least, most]."""
    wrong = numbers[(numbers < least) | (numbers > most)]
    if wrong.size:
        raise ServerError(f'Expected numbers from {least} to {most} in "{name}". Received: {wrong[0]:g}.')


def name_number(table, number):
    """The name of an enumeration's number, or the number where it is newer than this table."""
    return table.Name(number) if number in table.values() else str(number)


def _quote(text):
    """What a server calls something, in one line of bounded length."""
    return repr(text if len(text) <= 100 else f"{text[:100]}...")
