"""Convert the JSON of a `:predict` to arrays of the types in a signature."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm.protocol.tensors import MAX_DIMENSIONS
from kmm.server.models.dtypes import CPP_NAMES, NUMPY, STRING
from kmm.server.rest.json_document import is_base64, name_type, quote, read_base64
from kmm.server.status import ServingError, refuse

if TYPE_CHECKING:
    from tensorflow.core.protobuf import meta_graph_pb2

PIECE = 2**16  # elements converted before other threads have their turn
ROWS, COLUMNS = "instances", "inputs"
_TYPES: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "b": {bool}}  # JSON types for each kind of NumPy dtype


def parse_inputs(
    document: Mapping[str, Any], inputs: "Mapping[str, meta_graph_pb2.TensorInfo]"
) -> tuple[dict[str, np.ndarray], bool]:
    """Converts the inputs of a `:predict`.

    Args:
        document: dict with `instances`, a list of rows, or `inputs`, an object of columns.
        inputs: mapping of name to `TensorInfo`, from the signature.

    Returns:
        (dict of name to NumPy array, whether the inputs came as rows).

    Raises:
        ServingError: INVALID_ARGUMENT if the JSON does not fit the signature; UNIMPLEMENTED for another type.
    """
    if ROWS in document and COLUMNS in document:
        raise refuse(
            f"JSON Value: Not formatted correctly expecting only one of '{COLUMNS}' or '{ROWS}' keys to exist "
        )
    if ROWS in document:
        return _read_rows(document[ROWS], inputs), True
    if COLUMNS in document:
        return _read_columns(document[COLUMNS], inputs), False
    raise refuse("Missing 'inputs' or 'instances' key")


def _read_rows(rows, inputs):
    if not isinstance(rows, list):
        raise refuse(f"JSON Value: Excepting '{ROWS}' to be an list/array")
    if not rows:
        raise refuse(f"JSON Value: No values in '{ROWS}' array")
    named = _is_named(rows[0])
    if not named and len(inputs) > 1:
        raise refuse(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    for index, row in enumerate(rows):
        if _is_named(row) != named:
            found = "Expecting object but got list" if named else "Expecting value/list but got object"
            raise refuse(f"{found} at item {index} of input list")
        for name in row if named else ():
            if name not in inputs:
                raise _refuse_row(index, f" key: {name}", f"JSON object: does not have named input: {name}")
        if named and set(row) != set(inputs):
            raise refuse(
                f"Failed to process element: {index} of '{ROWS}' list. JSON object: keys must be equal to: "
                f"{','.join(sorted(inputs))}"
            )
    return {
        name: _stack([row[name] for row in rows] if named else rows, info.dtype, f" key: {name}" if named else "")
        for name, info in inputs.items()
    }


def _stack(values, number, where):
    """Converts one value per row; an error names the row."""
    try:
        return _to_array(values, number)
    except ServingError as error:
        for index, value in enumerate(values):
            try:
                _to_array(value, number)
            except ServingError as found:
                raise _refuse_row(index, where, found) from None
        raise refuse(f"Failed to process{where} of '{ROWS}' list. Rows differ. Error: {error}") from None


def _read_columns(columns, inputs):
    if not _is_named(columns):
        if len(inputs) > 1:
            raise refuse(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        return {name: _to_array(columns, info.dtype) for name, info in inputs.items()}
    for name in inputs:
        if name not in columns:
            raise refuse(f"Missing named input: {name} in 'inputs' object.")
    return {name: _to_array(columns[name], info.dtype) for name, info in inputs.items()}


def _to_array(value: Any, number: int) -> np.ndarray:
    """Converts nested lists to an array of a TensorFlow type, given by its number."""
    if number not in NUMPY:
        raise ServingError("UNIMPLEMENTED", f"Conversion of JSON to type: {CPP_NAMES.get(number, number)}")
    dtype = NUMPY[number]
    if number != STRING:
        array = _convert(value, dtype)
        if array is not None:
            return array
    shape: list[int] = []
    deeper = value
    while isinstance(deeper, list):
        if len(shape) == MAX_DIMENSIONS:
            raise refuse(f"JSON Value: lists are nested more than {MAX_DIMENSIONS} levels deep")
        shape.append(len(deeper))
        deeper = deeper[0] if deeper else None
    flat: list[Any] = []
    _walk(value, 0, shape, number, flat)
    array = np.empty(len(flat), dtype)
    array[:] = flat
    return array.reshape(shape)


def _convert(value, dtype):
    """Converts numbers quickly; None if one of them may not fit, so that `_walk` has to find and report it."""
    array = np.array(value, object)  # another dtype would give each string the size of the longest, and hide bools
    flat, types = array.ravel(), set()
    pieces = [slice(place, place + PIECE) for place in range(0, flat.size, PIECE)]
    for piece in pieces:
        types.update(map(type, flat[piece].tolist()))
    if not types <= _TYPES[dtype.kind]:
        return None
    if types <= {bool}:
        return array.astype(dtype)
    array = np.empty(array.shape, np.float64 if float in types else np.int64)
    try:
        for piece in pieces:
            array.reshape(-1)[piece] = flat[piece]
    except OverflowError:
        return None
    finite, (least, most) = array[np.isfinite(array)], _limits(dtype, whole=int in types)
    fits = not finite.size or (least <= finite.min() and finite.max() <= most)
    return array.astype(dtype) if fits else None


def _limits(dtype, *, whole):
    """Returns the smallest and the largest number that a type holds without loss; `whole`: of whole numbers."""
    if dtype.kind == "i":
        return np.iinfo(dtype).min, np.iinfo(dtype).max
    most = 2 ** (np.finfo(dtype).nmant + 1) - 1 if whole else float(np.finfo(dtype).max)
    return -most, most


def _walk(value, level, shape, number, flat):
    """Checks nested lists against a shape and adds their elements to `flat`."""
    if not isinstance(value, list):
        if level != len(shape):
            raise refuse(
                f"JSON Value: {quote(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at "
                f"level: {len(shape)}"
            )
        flat.append(_read_leaf(value, number))
        return
    if level >= len(shape):
        raise refuse(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise refuse(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for deeper in value:
        _walk(deeper, level + 1, shape, number, flat)


def _read_leaf(value, number):
    dtype = NUMPY[number]
    if number == STRING and isinstance(value, str):
        return value.encode("utf-8")
    if number == STRING and isinstance(value, dict):
        return read_base64(value)
    whole, decimal = isinstance(value, int) and not isinstance(value, bool), isinstance(value, float)
    if (dtype.kind == "i" and whole) or (dtype.kind == "f" and (whole or decimal)):
        least, most = _limits(dtype, whole=whole)
        if least <= value <= most or (decimal and not math.isfinite(value)):
            return value
        if decimal or dtype.kind == "f":
            raise refuse(f"Cannot convert JSON value: {value} to {CPP_NAMES[number]} without loss of precision.")
    if dtype.kind == "b" and isinstance(value, bool):
        return value
    raise refuse(f"JSON Value: {quote(value)} Type: {name_type(value)} is not of expected type: {CPP_NAMES[number]}")


def _is_named(value):
    return isinstance(value, dict) and not is_base64(value)


def _refuse_row(index, where, error):
    return refuse(f"Failed to process element: {index}{where} of '{ROWS}' list. Error: INVALID_ARGUMENT: {error}")
