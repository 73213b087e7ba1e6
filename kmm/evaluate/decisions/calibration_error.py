"""Measure calibration: bins of equal mass, and the expected calibration error over them."""

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, known_columns


def calibration_bins(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorts studies by probability into bins of equal mass.

    Equal probabilities always share a bin (a run of ties goes to the bin of its middle), so there may be fewer bins
    than requested, down to one for constant probabilities.

    Args:
        labels: array `(n,)` of 0 and 1, with NaN for unknown.
        probabilities: array `(n,)` in [0, 1].
        bins: int, at least 1.

    Returns:
        three arrays `(k,)`, `k <= bins`, lowest bin first: mean probability, fraction of positives, number of studies.
        Empty if no label is known.

    Raises:
        InputError: if the arrays do not match.

    Example:
        >>> [row.tolist() for row in calibration_bins([0, 0, 1, 1], [0.1, 0.3, 0.6, 1.0], bins=2)]
        [[0.2, 0.8], [0.0, 1.0], [2, 2]]
    """
    (known, values), *more = known_columns(*as_columns(labels, probabilities))
    if more:
        raise InputError(f"Bins are computed for one label at a time. Received: {len(more) + 1} labels.")
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / max(1, len(known))
    place = np.floor(middle * bins).astype(int)[index]
    number = np.bincount(place, minlength=bins)
    used = number > 0
    mean = np.bincount(place, values, bins)[used] / number[used]
    share = np.bincount(place, known, bins)[used] / number[used]
    return mean, share, number[used]


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15) -> float | None:
    """Computes the expected calibration error: the mean over bins of |mean probability - fraction of positives|.

    Bins have equal numbers of studies (see `calibration_bins`) and are weighted by them. The estimate is biased upwards
    if bins have few studies; with fewer than `bins` studies it is no better than the mean absolute error.

    Source: https://arxiv.org/abs/1706.04599 (with equal-mass bins as in https://arxiv.org/abs/1909.10155).

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown).
        probabilities: array of the same shape in [0, 1].
        bins: int, at least 1.

    Returns:
        float in [0, 1], with many labels the mean over those with a known study; None if no label is known.

    Raises:
        InputError: if the arrays do not match.

    Example:
        >>> expected_calibration_error([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5])
        0.0
    """
    errors = []
    for column, probability in known_columns(*as_columns(labels, probabilities)):
        mean, share, number = calibration_bins(column, probability, bins=bins)
        if len(column):
            errors.append(np.sum(number * np.abs(mean - share)) / len(column))
    return float(np.mean(errors)) if errors else None
