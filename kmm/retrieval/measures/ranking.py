"""Measures of rankings by their standard definitions, with ties at their expected value.

Where scores are tied, every measure is its mean over all orders of the tied studies, in closed form. So no order
decides, and a ranking whose scores are all equal has exactly the measures of chance.

Source: https://doi.org/10.1007/978-3-540-78646-7_38 (McSherry and Najork 2008)
"""

import numpy as np
from scipy.special import gammaln

MEASURES = ("precision", "recall", "map", "map_at_k", "mrr", "ndcg")


def measure_ranking(scores: np.ndarray, grades: np.ndarray, k: int, *, relevant_from: float = 0.0) -> dict[str, float]:
    """Measures the ranking of the candidates of one query.

    With R relevant candidates, those whose grade is above 0 and at least `relevant_from`:

    - precision: relevant among the first k, divided by k;
    - recall: relevant among the first k, divided by R;
    - map: average precision of the whole ranking, the mean over the R relevant of the precision at their places;
    - map_at_k: the same of the first k, divided by min(R, k), the most that k places can hold;
    - mrr: 1 / place of the first relevant one, 0 if it is not among the first k;
    - ndcg: gain of the first k, the grades divided by log2(1 + place), divided by that of the best ranking of *all*
      candidates.

    Args:
        scores: float `(n,)`, larger first.
        grades: float `(n,)`, 0 or more.
        k: int, at least 1.
        relevant_from: float. Least grade of a relevant candidate.

    Returns:
        dict of each of `MEASURES` to a float in [0, 1]; NaN for all if no candidate is relevant; `ndcg` alone is
        defined too if some candidate has a grade.

    Example:
        >>> found = measure_ranking(np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 1, 0, 1]), 2)
        >>> {name: round(value, 3) for name, value in found.items()}  # doctest: +NORMALIZE_WHITESPACE
        {'precision': 0.5, 'recall': 0.5, 'map': 0.5, 'map_at_k': 0.25, 'mrr': 0.5, 'ndcg': 0.387}
    """
    relevant = (grades > 0) & (grades >= relevant_from)
    total = int(relevant.sum())
    order = np.argsort(-scores, kind="stable")
    ranked, gains, hits = scores[order], grades[order].astype(np.float64), relevant[order].astype(np.float64)
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]]) if len(ranked) else np.zeros(0, int)
    sizes = np.diff(np.r_[starts, len(ranked)])
    if len(starts) < len(ranked):  # in a tie each place has the mean of the tied candidates
        spread = [np.repeat(np.add.reduceat(values, starts) / sizes, sizes) for values in (gains, hits)]
    else:
        spread = [gains, hits]
    first = min(k, len(ranked))
    found = spread[1][:first].sum()
    best = -np.sort(-grades.astype(np.float64))
    ideal = (best[:first] * discount(first)).sum()
    nan = float("nan")
    ndcg = float((spread[0][:first] * discount(first)).sum() / ideal) if ideal > 0 else nan
    if not total:
        return {**dict.fromkeys(MEASURES, nan), "ndcg": ndcg}
    precisions = _expect_precisions(hits, spread[1], starts, sizes)
    return {
        "precision": float(found / k),
        "recall": float(found / total),
        "map": float(precisions.sum() / total),
        "map_at_k": float(precisions[:first].sum() / min(total, k)),
        "mrr": _expect_first(hits, starts, sizes, first),
        "ndcg": ndcg,
    }


def discount(count: int) -> np.ndarray:
    """Returns the discounts of the first places, 1 / log2(1 + place): float64 `(count,)`."""
    return 1 / np.log2(np.arange(2, count + 2))


def has_tie(scores: np.ndarray, k: int) -> bool:
    """Returns whether two of the first k candidates, or the k-th and a later one, have equal scores.

    Example:
        >>> has_tie(np.array([3.0, 2.0, 2.0]), 2), has_tie(np.array([3.0, 2.0, 1.0, 1.0]), 2)
        (True, False)
    """
    ranked = -np.sort(-scores)[: k + 1]
    return bool((ranked[1:] == ranked[:-1]).any())


def share_top(scores: np.ndarray, k: int) -> np.ndarray:
    """Returns the probability of each candidate to be among the first k: below 1 only if the k-th is tied.

    Example:
        >>> share_top(np.array([3.0, 2.0, 2.0, 1.0]), 2).tolist()
        [1.0, 0.5, 0.5, 0.0]
    """
    if k >= len(scores):
        return np.ones(len(scores))
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    above, tied = scores > least, scores == least
    return above + tied * ((k - above.sum()) / tied.sum())


def _expect_precisions(hits, spread, starts, sizes):
    """Returns for each place the expectation of its hit times the precision there, `(n,)`.

    Inside a tie of n candidates, r of them relevant, a place is relevant with probability r / n. Then each of the j
    tied candidates before it is relevant with probability (r - 1) / (n - 1).
    """
    places = np.arange(1, len(hits) + 1)
    if len(starts) == len(hits):
        return hits * np.cumsum(hits) / places
    relevant = np.add.reduceat(hits, starts)
    before = np.repeat(np.cumsum(relevant) - relevant, sizes)
    others = np.repeat((relevant - 1) / np.maximum(sizes - 1, 1), sizes)
    inside = np.arange(len(hits)) - np.repeat(starts, sizes)
    return spread * (before + 1 + inside * np.maximum(others, 0)) / places


def _expect_first(hits, starts, sizes, k):
    """Returns the expectation of 1 / place of the first relevant candidate, counted only up to place k."""
    relevant = np.add.reduceat(hits, starts)
    group = int(np.flatnonzero(relevant)[0])
    start, n, r = int(starts[group]), int(sizes[group]), int(relevant[group])
    j = np.arange(1, min(n - r + 1, k - start) + 1)
    if not len(j):
        return 0.0
    chance = np.exp(_log_choose(n - j, r - 1) - _log_choose(n, r))  # that the first of r among n is at place j
    return float((chance / (start + j)).sum())


def _log_choose(n, r):
    return gammaln(n + 1) - gammaln(r + 1) - gammaln(n - r + 1)
