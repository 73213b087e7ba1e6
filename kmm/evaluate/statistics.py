"""How sure the numbers are: intervals from resampled patients, and paired tests between two classifiers."""

import numpy as np
from scipy.stats import binomtest, norm, rankdata

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, as_cuts, known_columns

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


def resample_metrics(labels, probabilities, thresholds, groups, *, repeats=1000, seed=0):
    """Measures every metric on draws of whole groups (patients) with replacement: `interval` of them is its interval.

    The model and its thresholds stay as they are: the intervals speak of the choice of test patients, not of
    training. Expected calibration error has none, because repeated studies inflate it. Where a metric is at its end
    (an accuracy of 1) its interval is one point, which is too narrow.

    Source: https://doi.org/10.1214/ss/1177013815 (percentile intervals), https://doi.org/10.1111/j.1467-9868.2007.00593.x
    (whole groups).

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown).
        probabilities: array of the same shape in [0, 1].
        thresholds: float, array `(n_labels,)`, or array `(n, n_labels)` where studies differ.
        groups: sequence of `n` str or int, equal for studies of one patient, or None: each study alone.
        repeats: int, at least 0.
        seed: int. The same seed gives the same draws, so intervals of two classifiers are paired.

    Returns:
        dict: for each name in `RESAMPLED` a float array `(repeats,)`, of the mean over labels where there are many, NaN
        where the draw cannot define the metric.

    Raises:
        InputError: if the arguments do not fit each other.

    Example:
        >>> draws = resample_metrics([0, 1] * 50, [0.2, 0.8, 0.6, 0.4] * 25, 0.5, None)
        >>> [round(end, 1) for end in interval(draws["accuracy"])]
        [0.4, 0.6]
    """
    labels, probabilities = as_columns(labels, probabilities)
    n, n_labels = labels.shape
    cuts = as_cuts(thresholds, labels.shape, "thresholds")
    groups = np.arange(n) if groups is None else np.asarray(groups)
    if groups.shape != (n,):
        raise InputError(f"Groups must be one for each of {n} studies. Received: shape {groups.shape}.")
    if repeats < 0:
        raise InputError(f"`repeats` must not be negative. Received: {repeats}.")
    names, group = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    per_block = max(1, _NUMBERS_AT_ONCE // max(1, n))
    blocks = []
    for start in range(0, repeats, per_block):
        times = _draw_groups(rng, min(per_block, repeats - start), len(names))[:, group]
        singles = [_measure_weighted(labels[:, i], probabilities[:, i], cuts[:, i], times) for i in range(n_labels)]
        blocks.append({metric: _mean_of_defined([single[metric] for single in singles]) for metric in RESAMPLED})
    return {metric: np.concatenate([np.empty(0), *(block[metric] for block in blocks)]) for metric in RESAMPLED}


def interval(values, *, level=0.95):
    """Gives the middle range of the finite values, or None when there are none.

    Args:
        values: float array `(repeats,)`; NaN and infinite entries are left out.
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
    values = values[np.isfinite(values)]
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist() if values.size else None


def compare_auc(labels, first, second):
    """DeLong's test of two ROC AUCs on the same studies, for one label.

    Takes the studies as independent. Two scores that order every pair alike give `p` 1.

    Source: https://doi.org/10.2307/2531595, by ranks as https://doi.org/10.1109/LSP.2014.2337313.

    Args:
        labels: array `(n,)` of 0, 1 and NaN (unknown, left out).
        first: array `(n,)` of finite scores, any scale.
        second: array `(n,)`.

    Returns:
        dict: `difference` (first minus second) and two-sided `p` in [0, 1]. Both are None with a class missing; `p` is
        None where the variance of a difference is zero or cannot be estimated (fewer than 2 studies of a class).

    Raises:
        InputError: if the arrays do not fit each other.

    Example:
        >>> compare_auc([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], [0.1, 0.2, 0.8, 0.9])
        {'difference': 0.0, 'p': 1.0}
    """
    labels, both = _one_label(labels, first, second, probabilities=False)
    if len(np.unique(labels)) < 2:
        return {"difference": None, "p": None}
    positives, negatives = (
        np.subtract(*rows) for rows in zip(_placements(labels, both[0]), _placements(labels, both[1]))
    )
    difference = float(positives.mean())
    if min(len(positives), len(negatives)) < 2:
        return {"difference": difference, "p": None}
    variance = positives.var(ddof=1) / len(positives) + negatives.var(ddof=1) / len(negatives)
    if variance < 1e-20:
        return {"difference": difference, "p": 1.0 if abs(difference) < 1e-10 else None}
    return {"difference": difference, "p": float(2 * norm.sf(abs(difference) / np.sqrt(variance)))}


def compare_accuracy(labels, first, second):
    """McNemar's exact test of two sets of decisions on the same studies, for one label.

    Takes the studies as independent; only those that one classifier has right and the other wrong count.

    Source: https://doi.org/10.1007/BF02295996, with the exact binomial distribution.

    Args:
        labels: array `(n,)` of 0, 1 and NaN (unknown, left out).
        first: array `(n,)` of decisions 0 and 1 or bool.
        second: array `(n,)`.

    Returns:
        dict: `difference` of the accuracies (first minus second; None when no label is known), `first_only` and
        `second_only` (studies only one has right) and two-sided `p` in [0, 1], 1 when no study tells them apart.

    Raises:
        InputError: if the arrays do not fit each other.

    Example:
        >>> compare_accuracy([1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 1, 0])
        {'difference': 0.5, 'first_only': 2, 'second_only': 0, 'p': 0.5}
    """
    labels, (first, second) = _one_label(labels, first, second, probabilities=True)
    first, second = first == labels, second == labels
    first_only, second_only = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = first_only + second_only
    return {
        "difference": (first_only - second_only) / len(labels) if len(labels) else None,
        "first_only": first_only,
        "second_only": second_only,
        "p": float(binomtest(first_only, discordant).pvalue) if discordant else 1.0,
    }


def _draw_groups(rng, draws, n_groups):
    if n_groups == 0:
        return np.zeros((draws, 0))
    drawn = rng.integers(n_groups, size=(draws, n_groups)) + n_groups * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * n_groups).reshape(draws, n_groups).astype(np.float64)


def _measure_weighted(labels, probabilities, cuts, times):
    """Measures each row of `times` (draws, n), which says how often each study is in the draw.

    `cuts` is the threshold, or one for each study.
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


def _mean_of_defined(rows):
    rows = np.array(rows)
    defined = ~np.isnan(rows)
    return _divide(np.where(defined, rows, 0.0).sum(axis=0), defined.sum(axis=0))


def _one_label(labels, first, second, *, probabilities):
    both = [as_columns(labels, scores, probabilities=probabilities) for scores in (first, second)]
    if both[0][0].shape[1] > 1:
        raise InputError(f"A test compares one label at a time. Received: {both[0][0].shape[1]} labels.")
    pairs = [next(known_columns(*pair)) for pair in both]
    return pairs[0][0], [scores for _, scores in pairs]


def _placements(labels, scores):
    """For each positive the share of negatives below it, for each negative the share of positives above it."""
    ranks, positive = rankdata(scores), labels == 1
    n_pos, n_neg = positive.sum(), (~positive).sum()
    below = (ranks[positive] - rankdata(scores[positive])) / n_neg
    above = 1 - (ranks[~positive] - rankdata(scores[~positive])) / n_pos
    return below, above
