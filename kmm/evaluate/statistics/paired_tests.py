"""Paired tests of two classifiers on the same studies, which treat the studies of a patient as one observation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, norm, rankdata

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, number_groups


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
    difference, variance = estimate_auc_difference(labels, first, second, groups)
    return {"difference": difference, "p": find_normal_p(difference, variance)}


def estimate_auc_difference(
    labels: ArrayLike, first: ArrayLike, second: ArrayLike, groups: Sequence | None = None
) -> tuple[float | None, float | None]:
    """Estimates the difference of two ROC AUCs and its variance, as `compare_auc` tests it.

    Args:
        labels, first, second, groups: as in `compare_auc`.

    Returns:
        (difference, or None if a class is missing; variance, or None if it cannot be estimated). Both are exactly 0 if
        both scores order every pair in the same way.

    Raises:
        InputError: if the arrays do not match.

    Example:
        >>> difference, variance = estimate_auc_difference([0, 0, 0, 1, 1, 1], [1, 2, 5, 3, 4, 6], [1, 4, 5, 2, 3, 6])
        >>> round(difference, 3), round(variance, 4)
        (0.222, 0.0617)
    """
    known, (one, other), group = _one_label(labels, first, second, groups, probabilities=False)
    if len(np.unique(known)) < 2:
        return None, None
    apart = np.subtract(_placements(known, one), _placements(known, other))
    if np.abs(apart).max() < 1e-12:
        return 0.0, 0.0
    positive = known == 1
    difference = float(apart[positive].mean())
    variance = _clustered_variance(apart - difference, positive, group)
    return difference, None if variance is None else float(variance)


def find_normal_p(difference: float | None, variance: float | None) -> float | None:
    """Computes the two-sided p of a difference that is normally distributed around zero.

    Returns:
        float in [0, 1]; 1 if both are exactly 0; None if one is None, or the variance is zero.

    Example:
        >>> round(find_normal_p(1.96, 1.0), 3), find_normal_p(0.0, 0.0), find_normal_p(0.1, 0.0)
        (0.05, 1.0, None)
    """
    if difference is None or variance is None:
        return None
    if difference == 0 and variance == 0:
        return 1.0
    return None if variance < 1e-20 else float(2 * norm.sf(abs(difference) / np.sqrt(variance)))


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


def _one_label(labels, first, second, groups, *, probabilities):
    """Returns labels, both scores and group numbers of the studies whose label is known."""
    both = [as_columns(labels, scores, probabilities=probabilities) for scores in (first, second)]
    labels = both[0][0]
    if labels.shape[1] > 1:
        raise InputError(f"A test compares one label at a time. Received: {labels.shape[1]} labels.")
    group, _ = number_groups(groups, len(labels))
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
