"""Choose thresholds. A decision is `probability >= threshold`."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import look_up
from kmm.evaluate.arrays import as_columns, known_columns


def choose_thresholds(labels: ArrayLike, probabilities: ArrayLike, *, policy: str = "youden") -> np.ndarray:
    """Chooses for each label the threshold at or above which a probability counts as positive.

    Every cut between two adjacent scores is tried. The threshold is the centre of the widest range of probabilities
    over which the policy is optimal, so that it is as far from the scores as possible.

    Source: https://doi.org/10.1002/1097-0142(1950)3:1%3C32::AID-CNCR2820030106%3E3.0.CO;2-3 (policy "youden").

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown): validation studies, never test.
        probabilities: array of the same shape in [0, 1].
        policy: str, a key of `THRESHOLD_POLICIES`.

    Returns:
        float64 array `(n_labels,)`, in [0, 1] (slightly above 1 if it is best to call nothing positive and a score is
        1); 0.5 if the known labels have fewer than two classes.

    Raises:
        InputError: if the policy is unknown or the arrays do not match.

    Example:
        >>> choose_thresholds([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]).tolist()
        [0.4]
    """
    choose = look_up(THRESHOLD_POLICIES, policy, "threshold policy")
    columns = known_columns(*as_columns(labels, probabilities))
    return np.array([choose(y, p) if len(np.unique(y)) == 2 else 0.5 for y, p in columns])


def _cut_at_best(objective, labels, probabilities):
    scores, index, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    positives = np.bincount(index, labels)[::-1]
    true_positives = np.append(0, np.cumsum(positives))  # entry k: if the k highest scores are called positive
    false_positives = np.append(0, np.cumsum(counts[::-1] - positives))
    value = objective(true_positives, false_positives, true_positives[-1], false_positives[-1])
    best = np.concatenate([[False], value >= value.max() - 1e-12, [False]])
    first = np.flatnonzero(best[1:-1] & ~best[:-2])
    last = np.flatnonzero(best[1:-1] & ~best[2:])
    edges = np.concatenate(
        [[np.nextafter(1.0, 2.0)], scores[::-1], [0.0]]
    )  # cut k: edges[k + 1] < threshold <= edges[k]
    high, low = edges[first], edges[last + 1]
    widest = np.argmax(high - low)
    centre = (high[widest] + low[widest]) / 2
    return float(centre if centre > low[widest] else high[widest])


def _youden(tp, fp, positives, negatives):
    return tp / positives - fp / negatives


def _f1(tp, fp, positives, negatives):
    return 2 * tp / (tp + fp + positives)


def _accuracy(tp, fp, positives, negatives):
    return (tp + negatives - fp) / (positives + negatives)


def _specificity_at(sensitivity, tp, fp, positives, negatives):
    return np.where(tp / positives >= sensitivity - 1e-12, 1 - fp / negatives, -1.0)


def _half(labels, probabilities):
    return 0.5


THRESHOLD_POLICIES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "youden": partial(_cut_at_best, _youden),  # highest sensitivity + specificity
    "f1": partial(_cut_at_best, _f1),
    "accuracy": partial(_cut_at_best, _accuracy),
    "sensitivity-0.95": partial(
        _cut_at_best, partial(_specificity_at, 0.95)
    ),  # highest specificity at sensitivity 0.95
    "half": _half,
}
