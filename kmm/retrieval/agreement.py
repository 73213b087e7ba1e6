"""Agreement of predicted probabilities, by which similar studies may be ranked again. Known labels play no part."""

from collections.abc import Callable

import numpy as np

ROWS_AT_ONCE = 2**16


def measure_agreement(queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Measures how far predicted probabilities agree: the sum of the smaller by the sum of the larger ones.

    For probabilities of 0 and 1 this is the Jaccard index of the predicted labels; two studies of which nothing is
    predicted agree completely.

    Args:
        queries: float `(q, n_labels)` in [0, 1].
        rows: float `(m, n_labels)`.

    Returns:
        float32 `(q, m)` in [0, 1].

    Source: https://en.wikipedia.org/wiki/Jaccard_index#Weighted_Jaccard_similarity_and_distance

    Example:
        >>> measure_agreement(np.array([[1.0, 0.0]]), np.array([[1.0, 1.0], [0.5, 0.0], [0.0, 0.0]])).tolist()
        [[0.5, 0.5, 0.0]]
    """
    smaller = np.zeros((len(queries), len(rows)), np.float32)
    larger = np.zeros_like(smaller)
    for query, row in zip(queries.T.astype(np.float32), rows.T.astype(np.float32), strict=True):
        smaller += np.minimum(query[:, None], row)
        larger += np.maximum(query[:, None], row)
    return np.divide(smaller, larger, out=np.ones_like(smaller), where=larger > 0)


def blend_agreement(
    queries: np.ndarray, predicted: np.ndarray, weight: float
) -> Callable[[np.ndarray, slice, np.ndarray | None], None]:
    """Makes a function that blends cosines with agreement: `(1 - weight) * cosine + weight * agreement`.

    Args:
        queries: float `(q, n_labels)`, predicted probabilities of the queries.
        predicted: float `(n, n_labels)`, those of all rows.
        weight: float in [0, 1].

    Returns:
        function for `adjust` of `kmm.retrieval.search.find_nearest`.
    """

    def adjust(scores: np.ndarray, some: slice, allowed: np.ndarray | None) -> None:
        rows = predicted if allowed is None else predicted[allowed]
        scores *= np.float32(1 - weight)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            scores[:, part] += np.float32(weight) * measure_agreement(queries[some], rows[part])

    return adjust
