"""Refuse a JSON body that cannot fit a signature before it is parsed, since parsing takes most of the time and memory.

Counting commas, brackets and colons is enough: in any notation, a tensor of shape `(rows, 64, 64, 1)` has `64 * 64`
numbers and `1 + 64 + 64 * 64` lists per row.
"""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from kmm.protocol.signatures import DESCRIBE, MOST_EXPLAINED, MOST_ROWS
from kmm.server.models.signature_checks import name_signature
from kmm.server.status import refuse

if TYPE_CHECKING:
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import model_pb2

MOST_VALUES = 2**22  # per body: Python objects take many times the memory of their text
MOST_KEYS = 2**17  # per body, enough for 1024 rows of 128 names: a key takes ten times the memory and time of a number
FREE_MARKS = 2**17  # commas, brackets, colons and strings of a body that is too cheap to be checked
SLACK = 256  # marks outside the tensors, for other keys of the body
STEP_BYTES = 2**20  # checked before other threads have their turn
_NAMED = re.compile(rb'"signature_name"\s*+:\s*+"([^"\\]*+)"')


def check_body_size(
    body: bytes,
    spec: "model_pb2.ModelSpec",
    signatures: "Mapping[str, meta_graph_pb2.SignatureDef] | None",
) -> None:
    """Checks the number of values in a body, and that its commas and lists fit some number of rows of its signature.

    Args:
        body: bytes, not parsed yet.
        spec: `ModelSpec`; its signature is used if the body names none.
        signatures: mapping of name to `SignatureDef`, of the model; None for examples, whose features are unknown until
            the graph runs.

    Raises:
        ServingError: INVALID_ARGUMENT if the body has too many values or keys, or cannot fit its signature.
    """
    if sum(map(body.count, (b",", b"[", b"{", b":"))) + body.count(b'"') // 2 <= FREE_MARKS:
        return
    commas, lists, objects, colons, quotes = _count_marks(body)
    if max(commas + lists + objects, quotes // 2) > MOST_VALUES:
        raise refuse(f"Expected at most {MOST_VALUES} values in JSON. Send films as files in base64, or use gRPC.")
    if max(colons, objects) > MOST_KEYS:
        raise refuse(f"Expected at most {MOST_KEYS} keys in JSON. Send tensors as lists in 'inputs', or use gRPC.")
    if signatures is None or commas + lists <= FREE_MARKS:
        return
    keys = _list_names(body, spec, signatures)
    if not any(_fits(key, signatures, commas, lists) for key in keys):
        raise refuse(
            f"The numbers of values and lists in the body do not fit the inputs of signature {keys[0]!r}: "
            f"{_format_shapes(signatures[keys[0]].inputs)}."
        )


def _count_marks(body, marks=b",[{:"):
    """Counts marks outside strings, and the quotation marks that begin and end strings.

    Returns:
        list of int: the count of each mark, then that of the quotation marks.

    Example:
        >>> _count_marks(rb'{"a,": [1, 2, {"\\\\": "\\"]"}]}')
        [2, 1, 2, 2, 6]
    """
    if b"\\" in body:
        body = body.replace(rb"\\", b"").replace(rb"\"", b"")
    counts, quotes, within = [0] * len(marks), 0, False
    for place in range(0, len(body), STEP_BYTES):
        block = np.frombuffer(body, np.uint8, min(STEP_BYTES, len(body) - place), place)
        found = block == ord('"')
        quotes += np.count_nonzero(found)
        outside = np.logical_xor.accumulate(found) == within
        within = not outside[-1]
        counts = [
            count + np.count_nonzero((block == mark) & outside) for count, mark in zip(counts, marks, strict=True)
        ]
    return [*map(int, counts), int(quotes)]


def _list_names(body, spec, signatures):
    """Lists the signatures that the body may mean: more than one only if it writes the name in an unusual way."""
    if rb"\u" in body or any("signature_name" in signature.inputs for signature in signatures.values()):
        return sorted(signatures)
    names = [name.decode("utf-8", "replace") for name in _NAMED.findall(body)] or [name_signature(spec)]
    known = [name for name in names if name in signatures]
    if not known:
        raise refuse(f'Serving signature name: "{names[0]}" not found in signature def')
    return known


def _fits(key, signatures, commas, lists):
    """Returns whether some number of rows of a signature can have this many commas and lists."""
    sizes = [_measure_row(info) for info in signatures[key].inputs.values()]
    if None in sizes:
        return True
    values, inner = (sum(column) for column in zip(*sizes)) if sizes else (0, 0)
    most = _count_rows(key, signatures)
    if inner:
        most = min(most, lists / inner)
    if commas > values * most + SLACK:  # each value but the first has a comma before it, in rows and in columns
        return False
    return lists <= inner * ((commas + 1) / values if values else 0) + SLACK


def _measure_row(info):
    """Counts the values and lists in one row of an input; None if its shape is unknown."""
    shape = info.tensor_shape
    sizes = [dimension.size for dimension in shape.dim[1:]]
    if shape.unknown_rank or not shape.dim or any(size < 0 for size in sizes):
        return None
    return math.prod(sizes), sum(math.prod(sizes[:depth]) for depth in range(len(sizes)))


def _count_rows(key, signatures):
    """Returns the most rows per call: kmm's exports have a limit, other models have none that is known."""
    if DESCRIBE not in signatures:
        return math.inf
    return MOST_EXPLAINED if key.startswith("explain") else MOST_ROWS


def _format_shapes(inputs):
    shapes = {name: [dimension.size for dimension in info.tensor_shape.dim[1:]] for name, info in inputs.items()}
    return ", ".join(f"{name} [{','.join(['?', *map(str, sizes)])}]" for name, sizes in sorted(shapes.items()))
