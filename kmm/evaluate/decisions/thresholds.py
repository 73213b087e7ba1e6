"""Choose thresholds. A decision is `probability >= threshold`."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError, look_up
from kmm.evaluate.arrays import as_columns, known_columns

Policy = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class NumberedPolicy:
    """A threshold policy with a number in its name.

    Attributes:
        objective: function of the number, true positives and false positives of each cut, and the counts of positives
            and negatives, that returns the value of each cut, largest for the best.
        most: float, the largest number allowed; each must be above 0.
        description: str, one line.
    """

    objective: Callable[..., np.ndarray]
    most: float
    description: str


def choose_thresholds(labels: ArrayLike, probabilities: ArrayLike, *, policy: str = "youden") -> np.ndarray:
    """Chooses for each label the threshold at or above which a probability counts as positive.

    Every cut between two adjacent scores is tried. The threshold is the centre of the widest range of probabilities
    over which the policy is optimal, so that it is as far from the scores as possible.

    Source: https://doi.org/10.1002/1097-0142(1950)3:1%3C32::AID-CNCR2820030106%3E3.0.CO;2-3 (policy "youden"),
    https://doi.org/10.1093/clinchem/39.4.561 (costs).

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown): validation studies, never test.
        probabilities: array of the same shape in [0, 1].
        policy: str, a key of `THRESHOLD_POLICIES`, or of `NUMBERED_POLICIES` with a number, as `"sensitivity-0.9"`,
            `"specificity-0.95"` and `"cost-5"`.

    Returns:
        float64 array `(n_labels,)`, in [0, 1] (slightly above 1 if it is best to call nothing positive and a score is
        1); 0.5 if the known labels have fewer than two classes.

    Raises:
        InputError: if the policy is unknown or the arrays do not match.

    Example:
        >>> choose_thresholds([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]).tolist()
        [0.4]
        >>> choose_thresholds([0, 1, 0, 1], [0.1, 0.3, 0.5, 0.9], policy="cost-5").tolist()
        [0.2]
    """
    choose = find_policy(policy)
    columns = known_columns(*as_columns(labels, probabilities))
    return np.array([choose(y, p) if len(np.unique(y)) == 2 else 0.5 for y, p in columns])


def find_policy(name: str) -> Policy:
    """Returns the function of a threshold policy.

    Args:
        name: str, a key of `THRESHOLD_POLICIES`, or of `NUMBERED_POLICIES` with a number.

    Returns:
        function of labels `(n,)`, 0 and 1, both present, and probabilities `(n,)`, that returns the threshold.

    Raises:
        InputError: if the name is unknown, or its number is missing or out of range.

    Example:
        >>> find_policy("specificity-0.75")(np.array([0, 0, 0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.8, 0.5, 0.9]))
        0.4
        >>> find_policy("cost-0")
        Traceback (most recent call last):
        kmm.errors.InputError: The threshold policy 'cost-0' needs a number above 0 after `cost-`.
    """
    if name in THRESHOLD_POLICIES:
        return THRESHOLD_POLICIES[name]
    kind, _, text = name.partition("-")
    if kind not in NUMBERED_POLICIES:
        numbered = {f"{kind}-NUMBER": policy for kind, policy in NUMBERED_POLICIES.items()}
        look_up({**THRESHOLD_POLICIES, **numbered}, name, "threshold policy")
    policy = NUMBERED_POLICIES[kind]
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number <= policy.most or math.isinf(number):
        bounds = "a number above 0" + ("" if math.isinf(policy.most) else f" and at most {policy.most:g}")
        raise InputError(f"The threshold policy {name!r} needs {bounds} after `{kind}-`.")
    return partial(_cut_at_best, partial(policy.objective, number))


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


def _sensitivity_at(specificity, tp, fp, positives, negatives):
    return np.where(1 - fp / negatives >= specificity - 1e-12, tp / positives, -1.0)


def _saving(cost, tp, fp, positives, negatives):
    """Returns minus the cost of a cut, as a share of the cost of deciding everything wrongly."""
    return -(cost * (positives - tp) + fp) / (cost * positives + negatives)


def _half(labels, probabilities):
    return 0.5


THRESHOLD_POLICIES: dict[str, Policy] = {
    "youden": partial(_cut_at_best, _youden),  # highest sensitivity + specificity
    "f1": partial(_cut_at_best, _f1),
    "accuracy": partial(_cut_at_best, _accuracy),
    "half": _half,
}
NUMBERED_POLICIES = {
    "sensitivity": NumberedPolicy(_specificity_at, 1.0, "highest specificity at this sensitivity or more"),
    "specificity": NumberedPolicy(_sensitivity_at, 1.0, "highest sensitivity at this specificity or more"),
    "cost": NumberedPolicy(
        _saving, math.inf, "lowest cost, if a missed positive costs as much as this number of false alarms"
    ),
}
