"""Check labels, scores and thresholds, and bring them to common shapes, before anything is measured."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError


def as_columns(labels: ArrayLike, scores: ArrayLike, *, probabilities: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Checks labels and their scores and returns both with one column per label.

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown).
        scores: array of the same shape, finite.
        probabilities: bool. Whether the scores must lie in [0, 1].

    Returns:
        two float64 arrays `(n, n_labels)`; `n` may be 0.

    Raises:
        InputError: if the shapes differ, a label is not 0, 1 or NaN, or a score is out of its range.

    Example:
        >>> labels, scores = as_columns([0, 1], [0.2, 0.7])
        >>> labels.shape, scores.tolist()
        ((2, 1), [[0.2], [0.7]])
    """
    known, values = np.asarray(labels, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    if known.shape != values.shape or known.ndim not in (1, 2) or known.shape[1:] == (0,):
        raise InputError(
            "Labels and scores must have the same shape, (n,) or (n, n_labels). "
            f"Received: {known.shape} and {values.shape}."
        )
    if not np.isin(known[~np.isnan(known)], (0.0, 1.0)).all():
        raise InputError("Labels must be 0, 1 or NaN (unknown). Received: other numbers.")
    if not np.isfinite(values).all():
        raise InputError(f"Scores must be finite. Received: {(~np.isfinite(values)).sum()} that are not.")
    if probabilities and values.size and (values.min() < 0 or values.max() > 1):
        raise InputError(f"Probabilities must be in [0, 1]. Received: {values.min():.4g} to {values.max():.4g}.")
    return (known[:, None], values[:, None]) if known.ndim == 1 else (known, values)


def as_row(values: ArrayLike, n_labels: int, name: str) -> np.ndarray:
    """Returns one finite number per label, from one number for all labels or one for each.

    Args:
        values: float or array `(n_labels,)`.
        n_labels: int.
        name: str. Name of the numbers, for the error.

    Returns:
        float64 array `(n_labels,)`.

    Raises:
        InputError: if there is neither a single number nor one per label, or one is not finite.

    Example:
        >>> as_row(0.5, 2, "thresholds").tolist()
        [0.5, 0.5]
    """
    row = np.asarray(values, dtype=np.float64)
    if row.size not in (1, n_labels) or row.ndim > 1 or not np.isfinite(row).all():
        raise InputError(f"The {name} must be one finite number or {n_labels}. Received: shape {row.shape}.")
    return np.broadcast_to(row, (n_labels,))


def as_cuts(values: ArrayLike, shape: tuple[int, int], name: str) -> np.ndarray:
    """Returns one finite number per study and label.

    Args:
        values: float, array `(n_labels,)`, or array `(n, n_labels)` if the numbers differ between studies.
        shape: `(n, n_labels)`.
        name: str. Name of the numbers, for the error.

    Returns:
        float64 array `(n, n_labels)`, read-only.

    Raises:
        InputError: if the numbers have another shape, or one is not finite.

    Example:
        >>> as_cuts([0.5, 0.7], (2, 2), "thresholds").tolist()
        [[0.5, 0.7], [0.5, 0.7]]
        >>> as_cuts([[0.5], [0.7]], (2, 1), "thresholds").tolist()
        [[0.5], [0.7]]
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim < 2:
        return np.broadcast_to(as_row(values, shape[1], name), shape)
    if table.shape != tuple(shape) or not np.isfinite(table).all():
        raise InputError(f"The {name} must be finite numbers of shape {tuple(shape)}. Received: shape {table.shape}.")
    return table


def known_columns(labels: np.ndarray, scores: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Iterates over the labels, leaving out for each label the studies in which it is unknown.

    Args:
        labels: array `(n, n_labels)` with NaN for unknown.
        scores: array `(n, n_labels)`.

    Yields:
        for each label a pair of arrays `(n_known,)`: labels 0 or 1, scores.

    Example:
        >>> [(y.tolist(), s.tolist()) for y, s in known_columns(np.array([[0.0], [np.nan]]), np.array([[0.1], [0.9]]))]
        [([0.0], [0.1])]
    """
    for column, score in zip(labels.T, scores.T):
        known = ~np.isnan(column)
        yield column[known], score[known]


def number_groups(groups: Sequence | None, n: int) -> tuple[np.ndarray, int]:
    """Numbers the groups of studies from 0.

    Args:
        groups: sequence of `n` str or int, equal for studies of one patient, or None: each study is a group.
        n: int. Number of studies.

    Returns:
        int array `(n,)`, the number of each study's group; and the number of groups.

    Raises:
        InputError: if the lengths differ.

    Example:
        >>> number_groups(["b", "a", "b"], 3)
        (array([1, 0, 1]), 2)
    """
    keys = np.arange(n) if groups is None else np.asarray(groups)
    if keys.shape != (n,):
        raise InputError(f"`groups` must have one entry for each of {n} studies. Received: shape {keys.shape}.")
    names, group = np.unique(keys, return_inverse=True)
    return group, len(names)
