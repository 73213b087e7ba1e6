"""Confidence intervals from resampled patients, and paired tests that treat a patient's studies as one observation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, norm, rankdata

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, as_cuts

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
    group, n_groups = _number_groups(groups, n)
    if repeats < 0:
        raise InputError(f"`repeats` must not be negative. Received: {repeats}.")
    rng = np.random.default_rng(seed)
    per_block = max(1, _NUMBERS_AT_ONCE // max(1, n))
    blocks = []
    for start in range(0, repeats, per_block):
        times = _draw_groups(rng, min(per_block, repeats - start), n_groups)[:, group]
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


def compare_auc(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, groups: Sequence | None = None
) -> dict[str, float | None]:
    """Tests the difference of two ROC AUCs on the same studies, for one label: DeLong's test for clustered studies.

    All studies of a patient are one observation; with one study per patient this is DeLong's test. It assumes a normal
    distribution: with fewer than about 20 patients of a class, `p` is only approximate.

    Source: https://doi.org/10.2307/2533958 (clustered), https://doi.org/10.2307/2531595 (DeLong), by ranks as in
    https://doi.org/10.1109/LSP.2014.2337313.

    Args:
        labels: array `(n,)` of 0, 1 and NaN (unknown, left out).
        first: array `(n,)` of finite scores, any scale.
        second: array `(n,)`.
        groups: sequence of `n` str or int, equal for studies of one patient, or None: each study is a group.

    Returns:
        dict: `difference` (first minus second) and two-sided `p` in [0, 1]. Both are None if a class is missing. `p` is
        1 if both scores order every pair in the same way. Otherwise `p` is None if the variance cannot be estimated (a
        class has studies of one patient only) or is zero.

    Raises:
        InputError: if the arrays do not match.

    Example:
        >>> labels, first, second = [0, 0, 0, 1, 1, 1], [1, 2, 5, 3, 4, 6], [1, 4, 5, 2, 3, 6]
        >>> round(compare_auc(labels, first, second)["p"], 3)
        0.371
        >>> round(compare_auc(labels * 5, first * 5, second * 5, list("abcdef") * 5)["p"], 3)
        0.371
    """
    known, (one, other), group = _one_label(labels, first, second, groups, probabilities=False)
    if len(np.unique(known)) < 2:
        return {"difference": None, "p": None}
    apart = np.subtract(_placements(known, one), _placements(known, other))
    positive = known == 1
    difference = float(apart[positive].mean())
    if np.abs(apart).max() < 1e-12:
        return {"difference": 0.0, "p": 1.0}
    variance = _clustered_variance(apart - difference, positive, group)
    if variance is None or variance < 1e-20:
        return {"difference": difference, "p": None}
    return {"difference": difference, "p": float(2 * norm.sf(abs(difference) / np.sqrt(variance)))}


def compare_accuracy(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, groups: Sequence | None = None
) -> dict[str, Any]:
    """Tests the difference of two accuracies on the same studies, for one label: McNemar's exact test over patients.

    Each patient has a balance: the number of studies that only the first classifies correctly, minus those that only
    the second does. If the two are equally good, a balance is as likely as its negative. So `p` is the fraction of all
    assignments of signs whose sum is at least as far from 0 as the observed sum. With one study per patient this is
    McNemar's test with the exact binomial distribution.

    Source: https://doi.org/10.1007/BF02295996 (McNemar), https://doi.org/10.2307/2984124 (exact test by exchange),
    https://doi.org/10.1002/sim.1438 (balances of clusters).

    Args:
        labels: array `(n,)` of 0, 1 and NaN (unknown, left out).
        first: array `(n,)` of decisions 0 and 1 or bool.
        second: array `(n,)`.
        groups: sequence of `n` str or int, equal for studies of one patient, or None: each study is a group.

    Returns:
        dict: `difference` of the accuracies (first minus second; None if no label is known), `first_only` and
        `second_only` (studies that only one classifies correctly) and two-sided `p` in [0, 1], which is 1 if no
        patient's balance differs from 0.

    Raises:
        InputError: if the arrays do not match.

    Example:
        >>> compare_accuracy([1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0])
        {'difference': 0.5, 'first_only': 2, 'second_only': 0, 'p': 0.5}
        >>> compare_accuracy([1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0], ["a", "a", "b", "c"])["p"]
        1.0
    """
    known, (one, other), group = _one_label(labels, first, second, groups, probabilities=True)
    one, other = one == known, other == known
    first_only, second_only = int((one & ~other).sum()), int((other & ~one).sum())
    balances = np.bincount(group, one.astype(float) - other).astype(np.int64)
    return {
        "difference": (first_only - second_only) / len(known) if len(known) else None,
        "first_only": first_only,
        "second_only": second_only,
        "p": _flip_signs(balances),
    }


def _draw_groups(rng, draws, n_groups):
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


def _number_groups(groups, n):
    """Numbers groups from 0; returns the number of each study's group, int `(n,)`, and the number of groups."""
    groups = np.arange(n) if groups is None else np.asarray(groups)
    if groups.shape != (n,):
        raise InputError(f"`groups` must have one entry for each of {n} studies. Received: shape {groups.shape}.")
    names, group = np.unique(groups, return_inverse=True)
    return group, len(names)


def _one_label(labels, first, second, groups, *, probabilities):
    """Returns labels, both scores and group numbers of the studies whose label is known."""
    both = [as_columns(labels, scores, probabilities=probabilities) for scores in (first, second)]
    labels = both[0][0]
    if labels.shape[1] > 1:
        raise InputError(f"A test compares one label at a time. Received: {labels.shape[1]} labels.")
    group, _ = _number_groups(groups, len(labels))
    known = ~np.isnan(labels[:, 0])
    return labels[known, 0], [scores[known, 0] for _, scores in both], group[known]


def _placements(labels, scores):
    """Returns for each positive the fraction of negatives below it, for each negative that of positives above it."""
    ranks, positive = rankdata(scores), labels == 1
    n_pos, n_neg = positive.sum(), (~positive).sum()
    placements = np.empty(len(labels))
    placements[positive] = (ranks[positive] - rankdata(scores[positive])) / n_neg
    placements[~positive] = 1 - (ranks[~positive] - rankdata(scores[~positive])) / n_pos
    return placements


def _clustered_variance(centred, positive, group):
    """Computes Obuchowski's variance of an AUC, or of a difference of two, from centred placements summed by patient.

    Returns:
        float, or None if a class has studies of fewer than 2 patients.
    """
    sides = positive, ~positive
    sums = [np.bincount(group, centred * side) / side.sum() for side in sides]
    of_class = [len(np.unique(group[side])) for side in sides]
    if min(of_class) < 2:
        return None
    patients = len(np.unique(group))
    own = sum(np.sum(total**2) * count / (count - 1) for total, count in zip(sums, of_class))
    return own + 2 * np.sum(sums[0] * sums[1]) * patients / (patients - 1)


def _flip_signs(balances):
    """Computes the fraction of all assignments of signs for which the sum of the balances is at least as far from 0."""
    sizes, counts = np.unique(np.abs(balances[balances != 0]), return_counts=True)
    if not sizes.size:
        return 1.0
    found = abs(int(balances.sum()))
    unit = np.gcd.reduce(sizes)
    chances = np.ones(1)  # entry k: probability of the sum `2 * k * unit` minus the largest sum
    for size, count in zip(sizes // unit, counts):
        wider = np.zeros(len(chances) + size * count)
        for plus, chance in enumerate(binom.pmf(np.arange(count + 1), count, 0.5)):
            wider[plus * size : plus * size + len(chances)] += chance * chances
        chances = wider
    sums = unit * (2 * np.arange(len(chances)) - (len(chances) - 1))
    return float(min(1.0, chances[np.abs(sums) >= found].sum()))
