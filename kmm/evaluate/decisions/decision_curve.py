"""Decision curve: the net benefit of acting on a classifier, beside acting on every study and on none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, number_groups
from kmm.evaluate.statistics.bootstrap import draw_groups, interval

THRESHOLDS = tuple(round(0.01 * percent, 2) for percent in range(1, 100))


@dataclass(frozen=True)
class DecisionCurve:
    """Net benefit at each threshold probability; that of treating no study is 0.

    A net benefit of 0.1 is worth as much as 10 more true positives in 100 studies, without a false positive.

    Attributes:
        thresholds: float array `(t,)` in (0, 1).
        net_benefit: float array `(t,)` of calling positive from the threshold on.
        treat_all: float array `(t,)` of calling every study positive.
        intervals: float array `(t, 2)`: 95 % interval of `net_benefit`; NaN without draws.
        gain: float array `(t,)`: `net_benefit` minus the better of `treat_all` and 0.
        gain_intervals: float array `(t, 2)`: 95 % interval of `gain` over the same draws.
        n, n_positive: int. Studies with a known label, and positives among them.
    """

    thresholds: np.ndarray
    net_benefit: np.ndarray
    treat_all: np.ndarray
    intervals: np.ndarray
    gain: np.ndarray
    gain_intervals: np.ndarray
    n: int
    n_positive: int

    def as_dict(self) -> dict[str, Any]:
        """Returns the curve as a dict for JSON; an interval without draws is None."""
        lists = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        made: dict[str, Any] = {"n": self.n, "n_positive": self.n_positive, "treat_none": 0.0}
        for name, value in lists.items():
            made[name] = [None if np.isnan(row).any() else row for row in value.tolist()]
        return made


def compute_decision_curve(
    labels: ArrayLike,
    probabilities: ArrayLike,
    thresholds: Sequence[float] = THRESHOLDS,
    groups: Sequence | None = None,
    *,
    repeats: int = 1000,
    seed: int = 0,
) -> DecisionCurve:
    """Computes the decision curve of one label: true positives minus weighted false positives, per study.

    At the threshold probability `t` a false positive weighs `t / (1 - t)` of a true positive, which is what someone
    means who would act from `t` on. The probabilities should be calibrated.

    Source: https://doi.org/10.1177/0272989X06295361; intervals as in `kmm.evaluate.statistics.bootstrap`.

    Args:
        labels: array `(n,)` of 0, 1 and NaN (unknown, left out).
        probabilities: array `(n,)` in [0, 1].
        thresholds: floats in (0, 1).
        groups: sequence of `n` patient keys, or None: each study is a group.
        repeats: int, at least 0. Number of bootstrap draws of whole patients.
        seed: int. Seed of the draws.

    Returns:
        `DecisionCurve`.

    Raises:
        InputError: if the arguments do not match, no label is known, or there are several labels.

    Example:
        >>> curve = compute_decision_curve([1, 1, 0, 0], [0.9, 0.6, 0.7, 0.1], [0.2, 0.5], repeats=0)
        >>> curve.net_benefit.tolist(), curve.treat_all.tolist()
        ([0.4375, 0.25], [0.375, 0.0])
    """
    columns, values = as_columns(labels, probabilities)
    cuts = np.asarray(thresholds, np.float64)
    if columns.shape[1] > 1:
        raise InputError(f"A decision curve belongs to one label. Received: {columns.shape[1]} labels.")
    if cuts.ndim != 1 or not len(cuts) or not ((cuts > 0) & (cuts < 1)).all():
        raise InputError("The threshold probabilities of a decision curve must be in (0, 1).")
    known = ~np.isnan(columns[:, 0])
    if not known.any():
        raise InputError("A decision curve needs studies with a known label. Received: none.")
    group, n_groups = number_groups(groups, len(known))
    positive, called = columns[known, 0] == 1, values[known] >= cuts
    # Sums over each patient: true positives and false positives at each threshold, positives, studies.
    sums = [called & positive[:, None], called & ~positive[:, None], positive[:, None], np.ones((known.sum(), 1))]
    table = np.zeros((n_groups, 2 * len(cuts) + 2))
    np.add.at(table, group[known], np.hstack(sums).astype(np.float64))
    curves = _measure(table.sum(axis=0, keepdims=True), cuts)
    draws = [np.full((0, len(cuts)), np.nan)] * 3
    if repeats:
        times = draw_groups(np.random.default_rng(seed), repeats, n_groups)
        draws = _measure(times @ table, cuts)
    return DecisionCurve(
        thresholds=cuts,
        net_benefit=curves[0][0],
        treat_all=curves[1][0],
        intervals=_find_intervals(draws[0]),
        gain=curves[2][0],
        gain_intervals=_find_intervals(draws[2]),
        n=int(known.sum()),
        n_positive=int(positive.sum()),
    )


def _measure(sums, cuts):
    """Returns net benefit, that of treating all, and the gain, `(draws, t)` each, from sums `(draws, 2 t + 2)`."""
    true, false = sums[:, : len(cuts)], sums[:, len(cuts) : -2]
    positives, n = sums[:, -2:-1], sums[:, -1:]
    n = np.where(n > 0, n, np.nan)  # a draw may have patients without a known label alone
    odds = cuts / (1 - cuts)
    benefit, treat_all = (true - odds * false) / n, (positives - odds * (n - positives)) / n
    return [benefit, treat_all, benefit - np.maximum(treat_all, 0)]


def _find_intervals(draws):
    return np.array([interval(column) or (np.nan, np.nan) for column in draws.T], np.float64).reshape(-1, 2)
