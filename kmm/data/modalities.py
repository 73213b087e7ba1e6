"""Modality patterns of studies: film and report, film alone, or report alone. Each pattern has its own calibration."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError

PATTERNS = ("both", "image", "text")
PATTERN_TITLES = {"both": "film and report", "image": "film alone", "text": "report alone"}
KEPT = {"both": (1, 1), "image": (1, 0), "text": (0, 1)}  # the columns of `present` that a pattern keeps


def find_patterns(present: Any) -> Any:
    """Finds the pattern of each study.

    Only sums and products are used, so that this works on arrays of NumPy, TensorFlow, JAX and torch.

    Args:
        present: float array or tensor `(n, 2)` of 0 and 1: whether the study has a film, and a report.

    Returns:
        float array or tensor `(n,)`: the index of the pattern in `PATTERNS`. A study with neither gets the last.

    Example:
        >>> find_patterns(np.array([[1, 1], [1, 0], [0, 1]])).tolist()
        [0, 1, 2]
    """
    image, text = present[:, 0], present[:, 1]
    return 2 * (1 - image) + image * (1 - text)


def choose_rows(table: ArrayLike, present: ArrayLike) -> np.ndarray:
    """Returns for each study the row of its pattern.

    Args:
        table: array `(3, n_labels)`, one row for each of `PATTERNS`.
        present: array `(n, 2)` of 0 and 1.

    Returns:
        array `(n, n_labels)`.

    Example:
        >>> choose_rows(np.array([[0.5], [0.4], [0.3]]), np.array([[0, 1], [1, 1]])).tolist()
        [[0.3], [0.5]]
    """
    return np.asarray(table)[np.asarray(find_patterns(np.asarray(present))).astype(np.int64)]


def list_patterns(*, image: bool, text: bool) -> tuple[str, ...]:
    """Lists the patterns of studies that a model can read, the fullest first.

    Args:
        image, text: bool. Whether the model reads films, and reports; at least one is True.

    Returns:
        tuple of names in `PATTERNS`.

    Example:
        >>> list_patterns(image=True, text=True), list_patterns(image=False, text=True)
        (('both', 'image', 'text'), ('text',))
    """
    return PATTERNS if image and text else ("image",) if image else ("text",)


def hide_sides(present: ArrayLike, pattern: str) -> tuple[np.ndarray, np.ndarray]:
    """Hides the modality that a pattern lacks.

    Args:
        present: array `(n, 2)` of 0 and 1.
        pattern: str, one of `PATTERNS`.

    Returns:
        array `(n, 2)` with the hidden column 0, and bool `(n,)`: the studies that have every modality of the pattern.

    Example:
        >>> hidden, rows = hide_sides(np.array([[1, 1], [0, 1]]), "image")
        >>> hidden.tolist(), rows.tolist()
        ([[1, 0], [0, 0]], [True, False])
    """
    hidden = np.asarray(present) * np.array(KEPT[pattern], np.asarray(present).dtype)
    return hidden, (hidden == KEPT[pattern]).all(axis=1)


def as_table(values: ArrayLike | Mapping[str, ArrayLike], name: str = "numbers") -> np.ndarray:
    """Returns numbers as a table with one row per pattern.

    Args:
        values: array `(n_labels,)`, which is used for every pattern; array `(3, n_labels)`; or a dict of each of
            `PATTERNS` to `n_labels` numbers, as read from JSON.
        name: str. Name of the numbers, for the error.

    Returns:
        float64 array `(3, n_labels)`.

    Raises:
        InputError: if the values have another shape or are not numbers.

    Example:
        >>> as_table([0.5, 0.7]).tolist()
        [[0.5, 0.7], [0.5, 0.7], [0.5, 0.7]]
    """
    try:
        rows = [values[pattern] for pattern in PATTERNS] if isinstance(values, dict) else values
        table = np.array(rows, np.float64)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"The {name} must be numbers for each of {', '.join(PATTERNS)}.") from None
    if table.ndim == 1:
        table = np.tile(table, (len(PATTERNS), 1))
    if table.ndim != 2 or len(table) != len(PATTERNS):
        raise InputError(f"The {name} must be ({len(PATTERNS)}, n_labels) numbers. Received: shape {table.shape}.")
    return table


def as_mapping(table: Iterable[Iterable[float]]) -> dict[str, list[float]]:
    """Returns a table as a dict of pattern to list of float, for JSON. The inverse of `as_table`."""
    return {pattern: list(map(float, row)) for pattern, row in zip(PATTERNS, table, strict=True)}
