"""Compare two classifiers over the folds of one cross-validation, in which each study is tested once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from kmm.data.groups import name_some
from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, as_cuts, number_groups
from kmm.evaluate.metrics import METRICS
from kmm.evaluate.statistics.paired_tests import compare_accuracy, compare_auc, estimate_auc_difference, find_normal_p

CAUTION = (
    "The pooled scores come from a different model in each fold. These tests take the models as fixed: they allow for "
    "the sampling of test patients, not for that of training."
)
SHARED = "a patient is in several folds"
ONE_CLASS = "no fold has both classes"
UNKNOWN = "the variance within a fold is zero or cannot be estimated"


def compare_folds(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    folds: Sequence,
    *,
    studies: Sequence[str],
    thresholds: tuple[ArrayLike, ArrayLike] = (0.5, 0.5),
    groups: Sequence | None = None,
) -> dict[str, Any]:
    """Compares two classifiers, for one label, on the test predictions of one k-fold cross-validation.

    The AUC is the mean of the AUCs of the folds, so that scores of different models are never ranked against each
    other. Its difference is tested with the DeLong variances of the folds, which are independent as each patient is in
    one fold. The pooled tests rank calibrated probabilities of all folds together, and state this as their `caution`.

    Use it for each repeat of a cross-validation apart, never for splits whose test parts overlap: see `compare_splits`.

    Source: https://doi.org/10.1145/1882471.1882479 (mean of the folds against the pooled AUC),
    https://doi.org/10.2307/2533958 (DeLong's variance for patients).

    Args:
        labels: array `(n,)` of 0, 1 and NaN (unknown, left out).
        first, second: array `(n,)` in [0, 1]: calibrated probabilities, each by the model of the study's fold.
        folds: sequence of `n` int or str: the fold in which each study was tested.
        studies: sequence of `n` str: ids of the studies, all different.
        thresholds: two floats or arrays `(n,)`: of the first and the second classifier.
        groups: sequence of `n` patient keys, or None: each study is a group.

    Returns:
        dict for JSON: `n` (studies with a known label), `folds`, `left_out` (folds that lack a class); `mean_auc`: dict
        of `first`, `second`, `difference`, its 95 % `interval`, `p` and `reason` (why `p` and `interval` are None, else
        None); `pooled`: dict of `roc_auc` and `accuracy` as from `compare_auc` and `compare_accuracy`, and `caution`.

    Raises:
        InputError: if a study appears twice, or the arrays do not match.

    Example:
        >>> found = compare_folds([0, 1] * 4, [0.1, 0.9] * 4, [0.4, 0.6, 0.6, 0.4] * 2, [1, 1, 2, 2] * 2,
        ...     studies=list("abcdefgh"))
        >>> found["mean_auc"]["first"], found["mean_auc"]["second"], found["folds"], found["pooled"]["accuracy"]["p"]
        (1.0, 0.5, 2, 0.125)
    """
    (known, one), (_, other) = (as_columns(labels, scores) for scores in (first, second))
    n = len(known)
    fold, count = number_groups(folds, n)
    patient, _ = number_groups(groups, n)
    _check_once(studies, n)
    return {
        "n": int((~np.isnan(known)).sum()),
        "folds": count,
        **_average_folds(known[:, 0], one[:, 0], other[:, 0], fold, patient),
        "pooled": {
            "roc_auc": compare_auc(known, one, other, groups),
            "accuracy": compare_accuracy(known, _decide(one, thresholds[0]), _decide(other, thresholds[1]), groups),
            "caution": CAUTION,
        },
    }


def _check_once(studies, n):
    ids, counts = np.unique(np.asarray(studies, str), return_counts=True)
    if len(studies) != n:
        raise InputError(f"`studies` must have one id for each of {n} studies. Received: {len(studies)}.")
    if len(ids) < n:
        raise InputError(
            f"A pooled test needs each study in one fold. In several: {name_some(ids[counts > 1].tolist())}. Compare "
            "overlapping splits and repeats by `compare_splits`."
        )


def _decide(probabilities, thresholds):
    cuts = np.asarray(thresholds, np.float64)
    cuts = cuts[:, None] if cuts.ndim == 1 and cuts.size == len(probabilities) else cuts
    return (probabilities >= as_cuts(cuts, probabilities.shape, "thresholds")).astype(np.float64)


def _average_folds(labels, first, second, fold, patient):
    """Returns `left_out` and `mean_auc` of the folds that have both classes."""
    measure, found = METRICS["roc_auc"].measure, []
    numbers = np.unique(fold)
    for number in numbers:
        rows = (fold == number) & ~np.isnan(labels)
        if len(np.unique(labels[rows])) == 2:
            y, one, other = labels[rows], first[rows], second[rows]
            aucs = [float(measure(y, scores, scores)) for scores in (one, other)]
            found.append((*aucs, *estimate_auc_difference(y, one, other, patient[rows])))
    left_out = len(numbers) - len(found)
    if not found:
        empty = {"first": None, "second": None, "difference": None, "interval": None, "p": None, "reason": ONE_CLASS}
        return {"left_out": left_out, "mean_auc": empty}
    one, other, difference, variance = zip(*found, strict=True)
    shared = len(np.unique(np.stack([patient, fold]), axis=1).T) > len(np.unique(patient))
    known = None if shared or None in variance else sum(variance) / len(found) ** 2
    mean = float(np.mean(difference))
    p = find_normal_p(mean, known)
    margin = None if known is None or p is None else float(norm.ppf(0.975) * np.sqrt(known))
    return {
        "left_out": left_out,
        "mean_auc": {
            "first": float(np.mean(one)),
            "second": float(np.mean(other)),
            "difference": mean,
            "interval": None if margin is None else [mean - margin, mean + margin],
            "p": p,
            "reason": None if p is not None else SHARED if shared else UNKNOWN,
        },
    }
