"""Conformal prediction sets: the classes that validation studies do not rule out at a chosen error level.

A study of a class gets a set without this class in at most the chosen fraction of cases, for each class and label,
provided that it is drawn as the validation studies were. An ambiguous study gets both classes, and one unlike the
studies of either class gets none.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, known_columns

WIDTH = 0.05  # of a bin, in logits
REACH = 8.0  # logits beyond this count as this
BINS = round(2 * REACH / WIDTH)


def count_scores(labels: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Counts the validation studies of each class by their probability, in bins of equal width on the logit scale.

    The counts are all that `predict_sets` needs, for any error level. Binned probabilities are conformal scores as good
    as exact ones (ties only make sets larger), and they do not give away the probability of a patient.

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown): validation studies, never test.
        probabilities: array of the same shape in [0, 1].

    Returns:
        int32 array `(n_labels, 2, BINS)`: for each label and class the number of studies in each bin, lowest first.

    Raises:
        InputError: if the arrays do not match.

    Example:
        >>> counts = count_scores([0, 0, 1], [0.1, 0.2, 0.7])
        >>> counts.shape, counts.sum(axis=2).tolist()
        ((1, 2, 320), [[2, 1]])
    """
    columns = known_columns(*as_columns(labels, probabilities))
    found = [[np.bincount(_find_bins(p[y == kind]), minlength=BINS) for kind in (0, 1)] for y, p in columns]
    return np.array(found, np.int32)


def predict_sets(counts: ArrayLike, probabilities: ArrayLike, *, alpha: float) -> np.ndarray:
    """Finds for each study and label the set of classes that the validation studies do not rule out.

    A class is ruled out if the study is less like it than the `ceil((n + 1) * (1 - alpha))`-th most typical of its `n`
    validation studies. A class with too few of them for `alpha`, `n < 1 / alpha - 1`, is never ruled out.

    Source: https://doi.org/10.1007/b106715 (section 4.5, Mondrian: one quantile for each class); split conformal sets
    as in https://doi.org/10.1561/2200000101.

    Args:
        counts: int array `(n_labels, 2, BINS)` of `count_scores`.
        probabilities: array `(n,)` or `(n, n_labels)` in [0, 1].
        alpha: float in (0, 1). Largest fraction of the studies of a class whose set lacks it.

    Returns:
        bool array `(n, n_labels, 2)`: whether the class (0, 1) is in the set.

    Raises:
        InputError: if the arrays do not match or `alpha` is not in (0, 1).

    Example:
        >>> counts = count_scores([0] * 20 + [1] * 20, np.linspace(0.02, 0.98, 40))
        >>> predict_sets(counts, [0.1, 0.5, 0.9], alpha=0.2)[:, 0].tolist()
        [[True, False], [False, False], [False, True]]
        >>> predict_sets(counts, [0.1, 0.5, 0.9], alpha=0.01)[:, 0].tolist()
        [[True, True], [True, True], [True, True]]
    """
    values = np.asarray(probabilities, np.float64)
    _, values = as_columns(np.full(values.shape, np.nan), values)
    scores = _as_scores(np.asarray(counts), values.shape[1])  # (n_labels, 2, BINS), most typical of the class first
    if not 0 < alpha < 1:
        raise InputError(f"`alpha` must be in (0, 1). Received: {alpha}.")
    n = scores.sum(axis=2)
    rank = np.ceil((n + 1) * (1 - alpha) - 1e-9)
    last = (np.cumsum(scores, axis=2) < rank[..., None]).sum(axis=2)  # bin of that rank; BINS if rank > n
    bins = _find_bins(values)
    return np.stack([bins <= last[:, 0], BINS - 1 - bins <= last[:, 1]], axis=2)


def find_least(alpha: float) -> int:
    """Returns the fewest validation studies of a class with which it can be ruled out at an error level.

    Example:
        >>> find_least(0.1), find_least(0.05)
        (9, 19)
    """
    if not 0 < alpha < 1:
        raise InputError(f"`alpha` must be in (0, 1). Received: {alpha}.")
    return int(np.ceil(1 / alpha - 1 - 1e-9))


def _find_bins(probabilities):
    with np.errstate(divide="ignore"):
        return np.clip((logit(probabilities) + REACH) / WIDTH, 0, BINS - 1).astype(np.int64)


def _as_scores(counts, n_labels):
    """Checks counts, and reverses those of the positives, of which the highest probability is the most typical."""
    if counts.shape != (n_labels, 2, BINS):
        raise InputError(f"The counts must have the shape {(n_labels, 2, BINS)}. Received: {counts.shape}.")
    if not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
        raise InputError("The counts must be whole numbers of at least 0.")
    return np.stack([counts[:, 0], counts[:, 1, ::-1]], axis=1).astype(np.int64)
