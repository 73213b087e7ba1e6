"""Arrays as the JSON of an answer."""

import base64

import numpy as np

from kmm.server.status import refuse


def write_outputs(outputs, *, rows):
    """The answer to a `:predict`: rows or columns; an only output stands without its name.

    Args:
        outputs: dict of name to numpy array; strings as object arrays of bytes.
        rows: bool.

    Returns:
        dict that JSON can hold.

    Raises:
        ServingError: INVALID_ARGUMENT if there is none, or rows are wanted of outputs of different lengths.

    Example:
        >>> write_outputs({"score": np.array([0.2, 1], np.float32)}, rows=True)
        {'predictions': [0.2, 1.0]}
    """
    if not outputs:
        raise refuse("Cannot convert empty tensor map to JSON")
    if rows:
        _check_lengths(outputs)
    lists = {name: _to_list(name, array) for name, array in outputs.items()}
    only = next(iter(lists.values())) if len(lists) == 1 else None
    if not rows:
        return {"outputs": lists if only is None else only}
    return {"predictions": [dict(zip(lists, row)) for row in zip(*lists.values())] if only is None else only}


def _check_lengths(outputs):
    lengths = set()
    for name, array in outputs.items():
        if not array.ndim:
            raise refuse(f"Tensor name: {name} has no shape information ")
        lengths.add(len(array))
        if len(lengths) > 1:
            raise refuse(f"Tensor name: {name} has inconsistent batch size: {len(array)}")


def _to_list(name, array):
    """An array as nested lists; numbers of 32 bits with no more digits than they need."""
    if array.dtype.kind == "O":
        write = _write_base64 if name.endswith("_bytes") else lambda value: value.decode("utf-8", "replace")
        array = np.frompyfunc(write, 1, 1)(array) if array.size else array
    elif array.dtype == np.float32:
        array = array.astype("U").astype(np.float64)
    return array.tolist() if isinstance(array, np.ndarray | np.generic) else array


def _write_base64(value):
    return {"b64": base64.b64encode(value).decode("ascii")}
