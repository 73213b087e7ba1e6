"""Convert NumPy arrays to TensorFlow's tensor messages and back, without TensorFlow."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kmm.errors import InputError
from kmm.protocol.messages import load_stubs

if TYPE_CHECKING:
    from tensorflow.core.framework import tensor_pb2

MAX_BYTES = 2**31 - 1  # largest message
MAX_DIMENSIONS = 32
STRING_BYTES = 24  # memory of a string besides its characters


@dataclass(frozen=True)
class TensorType:
    """An element type that kmm sends and accepts.

    Attributes:
        number: int. Its number in `types.proto`.
        dtype: NumPy dtype of the elements in a message: little-endian.
        values: str. The field of the message that lists the elements.
    """

    number: int
    dtype: np.dtype
    values: str


TENSOR_TYPES = {
    "float32": TensorType(1, np.dtype("<f4"), "float_val"),
    "float64": TensorType(2, np.dtype("<f8"), "double_val"),
    "int32": TensorType(3, np.dtype("<i4"), "int_val"),
    "string": TensorType(7, np.dtype(object), "string_val"),
    "int64": TensorType(9, np.dtype("<i8"), "int64_val"),
    "bool": TensorType(10, np.dtype(bool), "bool_val"),
}
_BY_NUMBER = {kind.number: kind for kind in TENSOR_TYPES.values()}


def encode_tensor(array: np.ndarray, *, as_content: bool = True) -> "tensor_pb2.TensorProto":
    """Writes an array as a tensor message.

    Args:
        array: NumPy array of any shape. Of bool, int32, int64, float32 or float64; or of strings: an object array of
            bytes or str (str becomes UTF-8), or an array of NumPy's own strings, which cannot end in a zero byte.
        as_content: bool. True writes numbers as one block of bytes, which is fast. False writes a list, as TensorFlow
            Serving answers and simple clients read. Strings are always a list.

    Returns:
        `TensorProto`.

    Raises:
        InputError: if the array is of another type.

    Example:
        >>> list(encode_tensor(np.array([[1, 2]], np.int32), as_content=False).int_val)
        [1, 2]
        >>> list(encode_tensor(np.array([b"film", "Löffel"], object)).string_val)
        [b'film', b'L\\xc3\\xb6ffel']
    """
    array = np.asarray(array)
    name = "string" if array.dtype.kind in "OSU" else array.dtype.name
    if name not in TENSOR_TYPES:
        raise InputError(f"An array of {name} cannot become a tensor. Use {', '.join(TENSOR_TYPES)}.")
    kind, stubs = TENSOR_TYPES[name], load_stubs()
    proto = stubs.tensor_pb2.TensorProto(dtype=kind.number)
    proto.tensor_shape.dim.extend([stubs.tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in array.shape])
    if name == "string":
        proto.string_val.extend([_encode_text(element) for element in array.ravel().tolist()])
    elif as_content:
        proto.tensor_content = array.astype(kind.dtype, copy=False).tobytes()
    else:
        getattr(proto, kind.values).extend(array.ravel().tolist())
    return proto


def decode_tensor(proto: "tensor_pb2.TensorProto", *, max_bytes: int = MAX_BYTES) -> np.ndarray:
    """Reads a tensor message, whether its elements are a list or a block of bytes.

    Lists are read as TensorFlow reads them. If a list is shorter than the tensor, its last element fills the rest;
    an empty list means zeros. Elements beyond the size of the tensor are ignored.

    Args:
        proto: `TensorProto`.
        max_bytes: int. A message that declares more is refused before memory is allocated. Each string, repeated ones
            too, counts its length and 24 bytes.

    Returns:
        NumPy array of bool, int32, int64, float32 or float64, perhaps read-only; strings are an object array of bytes.

    Raises:
        InputError: if the type is not supported, the shape is unknown or too large, or the elements do not fit it.

    Example:
        >>> decode_tensor(encode_tensor(np.array([[1.5, 2.0]], np.float32)))
        array([[1.5, 2. ]], dtype=float32)
    """
    kind = _BY_NUMBER.get(proto.dtype)
    if kind is None:
        raise InputError(f"Tensor type {proto.dtype} of types.proto is not supported. Use {', '.join(TENSOR_TYPES)}.")
    shape = tuple(dimension.size for dimension in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise InputError(f"A tensor must have a known shape of at most {MAX_DIMENSIONS} dimensions.")
    count = math.prod(shape)
    declared = math.prod(size for size in shape if size) * kind.dtype.itemsize
    if declared > max_bytes or (kind.dtype == object and _measure_strings(proto, count) > max_bytes):
        raise InputError(f"A tensor must have at most {max_bytes} bytes. Received: shape {shape}.")
    if not proto.tensor_content:
        flat = _read_list(getattr(proto, kind.values), count, kind)
    elif kind.dtype == object:
        flat = _read_strings(proto.tensor_content, count)
    else:
        flat = _read_block(proto.tensor_content, count, kind)
    return flat.reshape(shape)


def _measure_strings(proto, count):
    """Counts the bytes that `count` strings take in memory; the last one of a short list repeats."""
    values = proto.string_val
    repeated = max(0, count - len(values)) * len(values[-1]) if values else 0
    return STRING_BYTES * count + len(proto.tensor_content) + sum(map(len, values)) + repeated


def _encode_text(element):
    if isinstance(element, str):
        try:
            return element.encode("utf-8")
        except UnicodeEncodeError:
            raise InputError("A tensor of strings holds text that UTF-8 cannot encode.") from None
    if not isinstance(element, bytes):
        raise InputError(f"A tensor of strings must hold bytes or str. Received: {type(element).__name__}.")
    return element


def _read_list(values, count, kind):
    """Returns the first `count` elements of a list; the last element of a shorter list repeats."""
    flat = np.zeros(count, kind.dtype) if kind.dtype != object else np.full(count, b"", object)
    flat[: len(values)] = values[:count]
    if len(values):
        flat[len(values) :] = values[-1]
    return flat


def _read_block(content, count, kind):
    if not count:  # TensorFlow ignores the content of an empty tensor
        content = b""
    if len(content) != count * kind.dtype.itemsize:
        raise InputError(f"A tensor must have {count * kind.dtype.itemsize} bytes. Received: {len(content)}.")
    if kind.dtype == bool:
        return np.frombuffer(content, np.uint8) != 0
    return np.frombuffer(content, kind.dtype).astype(kind.dtype.newbyteorder("="), copy=False)


def _read_strings(content, count):
    """Reads strings that TensorFlow Serving packed: first their lengths as varints, then their bytes."""
    lengths, place = [], 0
    while len(lengths) < count:
        length, shift, more = 0, 0, True
        while more:
            if place == len(content) or shift > 28:
                raise InputError(f"The tensor's packed strings are incomplete: expected {count} lengths.")
            length |= (content[place] & 0x7F) << shift
            more = content[place] & 0x80
            place, shift = place + 1, shift + 7
        lengths.append(length)
    if place + sum(lengths) != len(content):
        raise InputError(
            f"The tensor's packed strings must have {place + sum(lengths)} bytes. Received: {len(content)}."
        )
    flat = np.empty(count, object)
    for number, length in enumerate(lengths):
        flat[number] = content[place : place + length]
        place += length
    return flat
