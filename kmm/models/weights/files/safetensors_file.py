"""Tensors of a safetensors file, whose header says all sizes before anything is read."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kmm.errors import WeightsError


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], Mapping[str, str]]:
    """Reads all tensors of a file; the package checks that they lie inside it before it reads any.

    Returns:
        dict of name to array, and the metadata of the file, empty if it has none.

    Raises:
        WeightsError: if the file is damaged, or has numbers that NumPy lacks.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
            return state, file.metadata() or {}
    except (TypeError, AttributeError, SafetensorError) as error:
        raise WeightsError(
            f"{path.name} is damaged, is no safetensors file, or has a number type that NumPy lacks "
            f"({type(error).__name__}). Download it again, or save it as float32."
        ) from None
