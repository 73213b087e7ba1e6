"""Tensors of a safetensors file: names and shapes are read from its header, numbers when they are asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from kmm.errors import WeightsError

NUMBERS = {  # types that NumPy has
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BOOL": np.bool_},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8},
    **{"U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8},
}


class StoredTensor(NDArrayOperatorsMixin):
    """A tensor in an open file. It is used like an array, and read each time that its numbers are asked for.

    Args:
        file: of `safetensors.safe_open`. It is open as long as one of its tensors is in use.
        path: Path of the file, for messages.
        name: str.

    Attributes:
        shape: tuple of int.
        dtype: `numpy.dtype`.

    Raises:
        WeightsError: if NumPy lacks its type of numbers.
    """

    def __init__(self, file: Any, path: Path, name: str):
        found = file.get_slice(name)
        kind = str(found.get_dtype())
        if kind not in NUMBERS:
            raise WeightsError(f"{path.name} has a number type that NumPy lacks ({kind}). Save it as float32.")
        self.shape, self.dtype = tuple(found.get_shape()), np.dtype(NUMBERS[kind])
        self._file, self._path, self._name = file, path, name

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Reads the tensor.

        Raises:
            WeightsError: if the file has changed.
        """
        from safetensors import SafetensorError

        try:
            return np.asarray(self._file.get_tensor(self._name), dtype)
        except SafetensorError as error:
            raise _describe(self._path, error) from None

    def __array_ufunc__(self, function: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [np.asarray(value) if isinstance(value, StoredTensor) else value for value in inputs]
        return getattr(function, method)(*arrays, **options)

    def __getitem__(self, key: Any) -> Any:
        return np.asarray(self)[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)


def read_safetensors(path: Path) -> tuple[dict[str, StoredTensor], Mapping[str, str]]:
    """Opens a file; the package checks that the tensors lie inside it before it reads any.

    Returns:
        dict of name to `StoredTensor`, and the metadata of the file, empty if it has none.

    Raises:
        WeightsError: if the file is damaged, or has numbers that NumPy lacks.
    """
    from safetensors import SafetensorError, safe_open

    try:
        file = safe_open(path, framework="numpy")
        tensors = {name: StoredTensor(file, path, name) for name in file.keys()}  # noqa: SIM118 - not a dict
        return tensors, file.metadata() or {}
    except (TypeError, AttributeError, SafetensorError) as error:
        raise _describe(path, error) from None


def _describe(path, error):
    return WeightsError(
        f"{path.name} is damaged, is no safetensors file, or was changed while it was open ({type(error).__name__}). "
        "Download it again."
    )
