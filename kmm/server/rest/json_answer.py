"""Write arrays as the JSON of an answer, piece by piece: only a few thousand numbers are Python objects at once."""

import base64
import json
import math
from collections.abc import Iterator, Mapping

import numpy as np

from kmm.server.status import refuse

BLOCK = 4096  # elements written at a time
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def format_outputs(outputs: Mapping[str, np.ndarray], *, rows: bool) -> Iterator[str]:
    """Writes the answer to a `:predict` as rows or columns; a single output is written without its name.

    Args:
        outputs: dict of name to NumPy array; strings are object arrays of bytes.
        rows: bool. True writes one element per row, False one array per output.

    Yields:
        str, pieces of the JSON. 32-bit numbers have the fewest digits that identify them.

    Raises:
        ServingError: INVALID_ARGUMENT if there is no output, or `rows` is True and the outputs differ in length.

    Example:
        >>> "".join(format_outputs({"score": np.array([0.2, 1], np.float32)}, rows=True))
        '{"predictions": [0.2, 1.0]}'
    """
    if not outputs:
        raise refuse("Cannot convert empty tensor map to JSON")
    if rows:
        _check_lengths(outputs)
    yield '{"predictions": ' if rows else '{"outputs": '
    if len(outputs) == 1:
        [(name, array)] = outputs.items()
        yield from _write_array(name, array)
    elif rows:
        yield from _write_named_rows(outputs)
    else:
        yield from _write_object(outputs)
    yield "}"


def _check_lengths(outputs):
    lengths = set()
    for name, array in outputs.items():
        if not array.ndim:
            raise refuse(f"Tensor name: {name} has no shape information ")
        lengths.add(len(array))
        if len(lengths) > 1:
            raise refuse(f"Tensor name: {name} has inconsistent batch size: {len(array)}")


def _write_named_rows(outputs):
    """Writes a list of one object per row; small rows are written together."""
    count = len(next(iter(outputs.values())))
    step = _choose_step(sum(array.size for array in outputs.values()), count)
    yield "["
    for start in range(0, count, step):
        yield ", " if start else ""
        if step == 1:
            yield from _write_object({name: array[start, ...] for name, array in outputs.items()})
        else:
            columns = [_write_rows(name, array[start : start + step]) for name, array in outputs.items()]
            keys = [f"{json.dumps(name)}: " for name in outputs]
            yield ", ".join("{" + ", ".join(key + text for key, text in zip(keys, row)) + "}" for row in zip(*columns))
    yield "]"


def _write_object(outputs):
    for index, (name, array) in enumerate(outputs.items()):
        yield f"{', ' if index else '{'}{json.dumps(name)}: "
        yield from _write_array(name, array)
    yield "}"


def _write_array(name, array):
    """Writes an array as nested lists."""
    if not array.ndim:
        yield _write_flat(name, array.reshape(1))[0]
        return
    step = _choose_step(array.size, len(array))
    yield "["
    for start in range(0, len(array), step):
        yield ", " if start else ""
        if step == 1:
            yield from _write_array(name, array[start, ...])
        else:
            yield ", ".join(_write_rows(name, array[start : start + step]))
    yield "]"


def _choose_step(size, count):
    """Returns how many of `count` rows, which have `size` elements in all, are written together."""
    return max(1, BLOCK * count // max(size, count, 1))


def _write_rows(name, array):
    """Returns the texts of all rows of a small array."""
    texts = _write_flat(name, array.reshape(-1))
    for axis in range(array.ndim - 1, 0, -1):
        size, count = array.shape[axis], math.prod(array.shape[:axis])
        texts = ["[" + ", ".join(texts[index * size : (index + 1) * size]) + "]" for index in range(count)]
    return texts


def _write_flat(name, flat):
    """Returns the texts of the elements of a 1-D array."""
    if flat.dtype.kind == "O":
        write = _write_base64 if name.endswith("_bytes") else lambda value: value.decode("utf-8", "replace")
        return [json.dumps(write(value)) for value in flat.tolist()]
    if flat.dtype == np.float32:
        return [_NOT_FINITE.get(text, text) for text in flat.astype("U").tolist()]
    return [json.dumps(value) for value in flat.tolist()]


def _write_base64(value):
    return {"b64": base64.b64encode(value).decode("ascii")}
