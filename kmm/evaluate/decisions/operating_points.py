"""Operating point of a classifier: its confusion counts at the chosen threshold, and the rates that follow."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, as_cuts
from kmm.evaluate.statistics.proportions import clustered_interval

COUNTS = ("tp", "fp", "tn", "fn")
# Rate -> the studies that it is a share of, and those of them that it counts, by (positive, called positive).
RATES: dict[str, tuple[Callable[..., np.ndarray], Callable[..., np.ndarray]]] = {
    "sensitivity": (lambda positive, called: positive, lambda positive, called: called),
    "specificity": (lambda positive, called: ~positive, lambda positive, called: ~called),
    "ppv": (lambda positive, called: called, lambda positive, called: positive),
    "npv": (lambda positive, called: ~called, lambda positive, called: ~positive),
}


def measure_operating_point(
    labels: ArrayLike, probabilities: ArrayLike, thresholds: ArrayLike, groups: Sequence | None = None
) -> dict[str, Any]:
    """Counts the decisions `probability >= threshold` for one label.

    The positive and negative predictive values hold at the prevalence of these studies. Intervals are Wilson's, with
    the studies of a patient counted together: see `kmm.evaluate.statistics.proportions.clustered_interval`.

    Args:
        labels: array `(n,)` of 0, 1 and NaN (unknown, left out).
        probabilities: array `(n,)` in [0, 1].
        thresholds: float, or array `(n,)` if they differ between studies.
        groups: sequence of `n` patient keys, or None: each study is a group.

    Returns:
        dict for JSON: `thresholds` (the different ones, ascending), the counts `tp`, `fp`, `tn` and `fn`, the rates
        `sensitivity`, `specificity`, `ppv` and `npv` (None if there is nothing to divide by), and `intervals`, the 95 %
        interval of each rate, or None.

    Raises:
        InputError: if the arguments do not match, or there are several labels.

    Example:
        >>> point = measure_operating_point([1, 1, 0, 0, 0], [0.9, 0.3, 0.6, 0.2, 0.1], 0.5)
        >>> [point[name] for name in ("tp", "fp", "tn", "fn", "sensitivity", "ppv")]
        [1, 1, 2, 1, 0.5, 0.5]
    """
    columns, values = as_columns(labels, probabilities)
    if columns.shape[1] > 1:
        raise InputError(f"An operating point belongs to one label. Received: {columns.shape[1]} labels.")
    cuts = np.asarray(thresholds, np.float64)
    cuts = as_cuts(cuts[:, None] if cuts.ndim == 1 and len(cuts) == len(columns) else cuts, columns.shape, "thresholds")
    known = ~np.isnan(columns[:, 0])
    positive, called = columns[known, 0] == 1, (values >= cuts)[known, 0]
    patients = None if groups is None else np.asarray(groups)[known]
    counts = [positive & called, ~positive & called, ~positive & ~called, positive & ~called]
    point: dict[str, Any] = {"thresholds": sorted(set(cuts[known, 0].tolist()))}
    point |= {name: int(found.sum()) for name, found in zip(COUNTS, counts, strict=True)}
    intervals = {}
    for name, (among, counted) in RATES.items():
        chosen = among(positive, called)
        hits = counted(positive, called)[chosen]
        point[name] = float(hits.mean()) if len(hits) else None
        intervals[name] = clustered_interval(hits, None if patients is None else patients[chosen])
    return point | {"intervals": intervals}


def sum_operating_points(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums the confusion counts of several labels; rates of the sum are left out, as the mean over labels is another.

    Example:
        >>> point = measure_operating_point([1, 0], [0.9, 0.1], 0.5)
        >>> sum_operating_points([point, point])
        {'tp': 2, 'fp': 0, 'tn': 2, 'fn': 0}
    """
    return {name: sum(point[name] for point in points) for name in COUNTS}
