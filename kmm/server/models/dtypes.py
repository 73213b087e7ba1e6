"""Element types of TensorFlow: their numbers, their names in C++ texts, and their NumPy dtypes."""

from typing import Any

import numpy as np

from kmm.protocol.tensors import TENSOR_TYPES

CPP_NAMES = {
    1: "float",
    2: "double",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    7: "string",
    8: "complex64",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    17: "uint16",
    18: "complex128",
    19: "half",
    20: "resource",
    21: "variant",
    22: "uint32",
    23: "uint64",
}
NUMPY = {kind.number: kind.dtype for kind in TENSOR_TYPES.values()}
STRING = TENSOR_TYPES["string"].number


def as_object(value: Any) -> np.ndarray:
    """Converts strings from TensorFlow, an array or a single bytes object, to an object array.

    Example:
        >>> as_object(b"mass").shape, as_object(np.array([b"mass"], object)).shape
        ((), (1,))
    """
    return value if isinstance(value, np.ndarray) else np.array(value, object)
