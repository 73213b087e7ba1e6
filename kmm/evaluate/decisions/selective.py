"""Selective prediction: the errors of a classifier that may leave the least certain studies undecided."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, as_cuts

COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)


class RiskCoverage(NamedTuple):
    """A risk-coverage curve.

    Attributes:
        coverage: float64 `(n,)`: `1 / n, 2 / n, ..., 1`, the fraction of studies that are decided.
        risk: float64 `(n,)`: mean loss of the studies decided, most certain first.
    """

    coverage: np.ndarray
    risk: np.ndarray


def trace_risk(losses: ArrayLike, confidences: ArrayLike) -> RiskCoverage:
    """Computes the risk at each coverage, when the most certain studies are decided first.

    Studies of equal confidence are decided in random order; the risk is the mean over all orders, computed exactly.

    Source: https://arxiv.org/abs/1705.08500

    Args:
        losses: array `(n,)` of finite numbers, for instance 1 where the decision is wrong and 0 where it is right.
        confidences: array `(n,)` of finite numbers; higher is more certain.

    Returns:
        `RiskCoverage`; empty without studies.

    Raises:
        InputError: if the arrays are not two rows of finite numbers of the same length.

    Example:
        >>> curve = trace_risk([0, 0, 1, 1], [0.9, 0.5, 0.5, 0.1])
        >>> curve.coverage.tolist(), curve.risk.round(3).tolist()
        ([0.25, 0.5, 0.75, 1.0], [0.0, 0.25, 0.333, 0.5])
    """
    loss, confidence = np.asarray(losses, np.float64), np.asarray(confidences, np.float64)
    if loss.ndim != 1 or loss.shape != confidence.shape or not (np.isfinite(loss) & np.isfinite(confidence)).all():
        raise InputError(
            f"Losses and confidences must be finite, one per study. Received: {loss.shape} and {confidence.shape}."
        )
    _, group = np.unique(-confidence, return_inverse=True)
    size = np.bincount(group)
    expected = (np.bincount(group, loss) / np.maximum(size, 1))[np.sort(group)]  # mean loss of the ties of each place
    decided = np.arange(1, len(loss) + 1)
    return RiskCoverage(decided / max(1, len(loss)), np.cumsum(expected) / decided)


def measure_selection(
    labels: ArrayLike,
    probabilities: ArrayLike,
    thresholds: ArrayLike,
    *,
    coverages: Sequence[float] = COVERAGES,
) -> dict[str, Any]:
    """Measures how well the distance from the threshold says which decisions of one label are wrong.

    The risk is the fraction of wrong decisions among the studies decided, those farthest from their threshold first.

    Source: https://arxiv.org/abs/1705.08500 (risk and coverage), https://arxiv.org/abs/1805.08206 (areas).

    Args:
        labels: array `(n,)` of 0, 1 and NaN (unknown, left out).
        probabilities: array `(n,)` in [0, 1], calibrated.
        thresholds: float, or array `(n,)` if they differ between studies. A decision is `probability >= threshold`.
        coverages: sequence of floats in (0, 1] at which the risk is given.

    Returns:
        dict for JSON: `n`; `aurc`, the mean risk over all coverages; `oracle`, that of the best possible order, all
        wrong decisions last; `excess`, the first minus the second, 0 at best; `random`, that of a random order, which
        is the fraction of wrong decisions of all studies; and `risk`, a list of dicts of `coverage`, `n` (the fewest
        studies that reach the coverage) and `risk`. Without studies, each number is None.

    Raises:
        InputError: if the arrays do not match, there are many labels, or a coverage is not in (0, 1].

    Example:
        >>> found = measure_selection([0, 0, 1, 1], [0.3, 0.8, 0.45, 0.9], 0.5, coverages=[1.0, 0.5])
        >>> round(found["aurc"], 3), round(found["oracle"], 3), round(found["excess"], 3), found["random"]
        (0.333, 0.208, 0.125, 0.5)
        >>> found["risk"]
        [{'coverage': 1.0, 'n': 4, 'risk': 0.5}, {'coverage': 0.5, 'n': 2, 'risk': 0.5}]
    """
    known, values = as_columns(labels, probabilities)
    if known.shape[1] > 1:
        raise InputError(f"Selection is measured for one label at a time. Received: {known.shape[1]} labels.")
    if any(not 0 < coverage <= 1 for coverage in coverages):
        raise InputError(f"Coverages must be in (0, 1]. Received: {', '.join(map(str, coverages))}.")
    given = np.asarray(thresholds, np.float64)
    cuts = as_cuts(given[:, None] if given.ndim == 1 and given.size == len(known) else given, known.shape, "thresholds")
    chosen = ~np.isnan(known[:, 0])
    truth, value, cut = known[chosen, 0], values[chosen, 0], cuts[chosen, 0]
    wrong, n = ((value >= cut) != (truth == 1)).astype(np.float64), len(truth)
    if n == 0:
        none = dict.fromkeys(("aurc", "oracle", "excess", "random"))
        return {"n": 0, **none, "risk": [{"coverage": coverage, "n": 0, "risk": None} for coverage in coverages]}
    risk = trace_risk(wrong, np.abs(value - cut)).risk
    aurc, oracle = float(risk.mean()), float(trace_risk(wrong, -wrong).risk.mean())
    counts = [int(np.ceil(coverage * n - 1e-9)) for coverage in coverages]
    return {
        "n": n,
        "aurc": aurc,
        "oracle": oracle,
        "excess": max(0.0, aurc - oracle),
        "random": float(wrong.mean()),
        "risk": [
            {"coverage": float(coverage), "n": count, "risk": float(risk[count - 1])}
            for coverage, count in zip(coverages, counts, strict=True)
        ],
    }
