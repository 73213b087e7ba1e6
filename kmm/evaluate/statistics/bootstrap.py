"""Confidence intervals from bootstrap draws of whole patients."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, as_cuts, number_groups

RESAMPLED = (
    "accuracy",
    "balanced_accuracy",
    "roc_auc",
    "average_precision",
    "sensitivity",
    "specificity",
    "f1",
    "mcc",
    "brier",
    "log_loss",
)
_NUMBERS_AT_ONCE = 2_000_000


def resample_metrics(
    labels: ArrayLike,
    probabilities: ArrayLike,
    thresholds: ArrayLike,
    groups: Sequence | None,
    *,
    repeats: int = 1000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Measures every metric on bootstrap draws of whole groups (patients); `interval` turns them into intervals.

    The model and its thresholds are fixed, so the intervals reflect the sampling of test patients, not of training.
    Expected calibration error has no interval, because repeated studies inflate it. If a metric is at its maximum (such
    as an accuracy of 1), its interval is a single point, which is too narrow.

    Source: https://doi.org/10.1214/ss/1177013815 (percentile intervals), https://doi.org/10.1111/j.1467-9868.2007.00593.x
    (whole groups).

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown).
        probabilities: array of the same shape in [0, 1].
        thresholds: float, array `(n_labels,)`, or array `(n, n_labels)` if they differ between studies.
        groups: sequence of `n` str or int, equal for studies of one patient, or None: each study is a group.
        repeats: int, at least 0. Number of draws.
        seed: int. The same seed gives the same draws, so that two classifiers can be compared draw by draw.

    Returns:
        dict: for each name in `RESAMPLED` a float array `(repeats, n_labels)`, NaN if the metric is undefined for the
        draw. `average_draws` gives the draws of the mean over labels.

    Raises:
        InputError: if the arguments do not match.

    Example:
        >>> draws = resample_metrics([0, 1] * 50, [0.2, 0.8, 0.6, 0.4] * 25, 0.5, None)
        >>> [round(end, 1) for end in interval(draws["accuracy"])]
        [0.4, 0.6]
    """
    known, values = as_columns(labels, probabilities)
    n, n_labels = known.shape
    cuts = as_cuts(thresholds, (n, n_labels), "thresholds")
    group, n_groups = number_groups(groups, n)
    if repeats < 0:
        raise InputError(f"`repeats` must not be negative. Received: {repeats}.")
    rng = np.random.default_rng(seed)
    per_block = max(1, _NUMBERS_AT_ONCE // max(1, n))
    blocks = []
    for start in range(0, repeats, per_block):
        times = draw_groups(rng, min(per_block, repeats - start), n_groups)[:, group]
        singles = [_measure_weighted(known[:, i], values[:, i], cuts[:, i], times) for i in range(n_labels)]
        blocks.append({metric: np.stack([single[metric] for single in singles], axis=1) for metric in RESAMPLED})
    none = np.empty((0, n_labels))
    return {metric: np.concatenate([none, *(block[metric] for block in blocks)]) for metric in RESAMPLED}


def average_draws(values: np.ndarray, defined: Sequence[bool]) -> np.ndarray:
    """Computes the mean over labels in each draw, always over the same labels as the measured mean.

    A draw without the only positive study of a rare label would average over fewer labels, and so estimate a different
    quantity. Such a draw is left out.

    Args:
        values: float array `(repeats, n_labels)`, NaN if the metric of a label is undefined for a draw.
        defined: bool sequence of `n_labels`: the labels whose metric is defined for the studies themselves.

    Returns:
        float array `(repeats,)`, NaN if the metric of any of these labels is undefined, or if there are no labels.

    Example:
        >>> average_draws(np.array([[0.9, 0.5, np.nan], [0.7, np.nan, np.nan]]), [True, True, False]).tolist()
        [0.7, nan]
    """
    chosen = values[:, np.asarray(defined, bool)]
    return chosen.mean(axis=1) if chosen.shape[1] else np.full(len(values), np.nan)


def interval(values: np.ndarray, *, level: float = 0.95) -> list[float] | None:
    """Returns the central interval of the finite values, or None if fewer than half of the values are finite.

    Args:
        values: float array, one entry per draw; NaN and infinite entries are left out.
        level: float in (0, 1).

    Returns:
        list `[low, high]` of floats, or None.

    Raises:
        InputError: if `level` is not in (0, 1).

    Example:
        >>> interval(np.arange(5.0), level=0.5)
        [1.0, 3.0]
    """
    if not 0 < level < 1:
        raise InputError(f"`level` must be in (0, 1). Received: {level}.")
    finite = values[np.isfinite(values)]
    if not finite.size or finite.size < values.size / 2:
        return None
    return np.quantile(finite, [(1 - level) / 2, (1 + level) / 2]).tolist()


def draw_groups(rng: np.random.Generator, draws: int, n_groups: int) -> np.ndarray:
    """Draws groups with replacement, as many as there are.

    Args:
        rng: `numpy.random.Generator`.
        draws: int. Number of bootstrap draws.
        n_groups: int.

    Returns:
        float64 array `(draws, n_groups)`: how often each group is in each draw.

    Example:
        >>> draw_groups(np.random.default_rng(0), 5, 3).sum(axis=1).tolist()
        [3.0, 3.0, 3.0, 3.0, 3.0]
    """
    if n_groups == 0:
        return np.zeros((draws, 0))
    drawn = rng.integers(n_groups, size=(draws, n_groups)) + n_groups * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * n_groups).reshape(draws, n_groups).astype(np.float64)


def _measure_weighted(labels, probabilities, cuts, times):
    """Measures each draw, a row of `times` (draws, n), which counts how often each study is in the draw.

    `cuts` is the threshold of each study, `(n,)`.
    """
    known = np.flatnonzero(~np.isnan(labels))
    if not known.size:
        return {metric: np.full(len(times), np.nan) for metric in RESAMPLED}
    order = known[np.argsort(probabilities[known], kind="stable")]
    scores, first = np.unique(probabilities[order], return_index=True)
    times = times[:, order]
    called = (probabilities >= cuts)[order].astype(np.float64)
    pos = np.add.reduceat(times * labels[order], first, axis=1)  # (draws, distinct scores), lowest score first
    neg = np.add.reduceat(times, first, axis=1) - pos
    n_pos, n_neg = pos.sum(axis=1), neg.sum(axis=1)
    n = n_pos + n_neg
    tp, fp = times @ (called * labels[order]), times @ (called * (1 - labels[order]))
    tn, fn = n_neg - fp, n_pos - tp
    sensitivity, specificity = _divide(tp, n_pos), _divide(tn, n_neg)
    margins = np.sqrt((tp + fp) * (tn + fn)) * np.sqrt(n_pos * n_neg)
    mcc = np.where(margins > 0, (tp * tn - fp * fn) / np.where(margins > 0, margins, 1), 0.0)
    above = np.cumsum(pos[:, ::-1], axis=1)[:, ::-1]
    precision = above / np.maximum(np.cumsum((pos + neg)[:, ::-1], axis=1)[:, ::-1], 1)
    tiny = np.finfo(np.float64).eps
    clipped = np.clip(scores, tiny, 1 - tiny)
    return {
        "accuracy": _divide(tp + tn, n),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "roc_auc": _divide((pos * (np.cumsum(neg, axis=1) - neg / 2)).sum(axis=1), n_pos * n_neg),
        "average_precision": np.where(n_neg > 0, _divide((pos * precision).sum(axis=1), n_pos), np.nan),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "f1": np.where(n_pos > 0, _divide(2 * tp, 2 * tp + fp + fn), np.nan),
        "mcc": np.where((n_pos > 0) & (n_neg > 0), mcc, np.nan),
        "brier": _divide(pos @ (1 - scores) ** 2 + neg @ scores**2, n),
        "log_loss": _divide(-(pos @ np.log(clipped)) - neg @ np.log1p(-clipped), n),
    }


def _divide(above, below):
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
