"""Exact search for the nearest vectors among allowed rows, block by block, in bounded memory.

Similarities are inner products, of unit vectors cosines. They are rounded to 6 decimals, so that rows of equal vectors
are tied whatever the order of the sums, and ties are in the order of ids.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

DECIMALS = 6
MOST_SCORES = 2**24  # similarities in memory at a time

Blocks = Callable[[], Iterable[tuple[int, np.ndarray]]]


@dataclass(frozen=True)
class Neighbours:
    """The rows nearest to a query.

    Attributes:
        rows: int64 `(m,)`, nearest first.
        scores: float64 `(m,)`, rounded, descending.
    """

    rows: np.ndarray
    scores: np.ndarray


def find_nearest(
    queries: np.ndarray,
    blocks: Blocks,
    count: int,
    k: int,
    *,
    allowed: np.ndarray | None = None,
    forbidden: Sequence[np.ndarray] | None = None,
    read_ids: Callable[[np.ndarray], Sequence[object]] | None = None,
    adjust: Callable[[np.ndarray, slice, np.ndarray | None], None] | None = None,
) -> list[Neighbours]:
    """Finds for each query the k allowed rows of the largest inner product.

    Args:
        queries: float32 `(q, d)`.
        blocks: function that returns an iterable of the number of a block's first row and its vectors, float32
            `(m, d)`; the blocks follow each other and hold `count` rows.
        count: int. Number of rows.
        k: int, at least 1.
        allowed: sorted int array of the rows that may be found; None for all.
        forbidden: sequence of q int arrays of rows that the query must not find, or None.
        read_ids: function of an int array of rows that returns their ids, by which ties are ordered; None orders them
            by row.
        adjust: function `(scores, queries, allowed)` that changes the scores, float32 `(q, m)`, of some of the queries
            (a slice) and all allowed rows in place; or None.

    Returns:
        list of q `Neighbours`, of at most k rows each.

    Example:
        >>> vectors = np.eye(4, dtype=np.float32)
        >>> found = find_nearest(vectors[:1], lambda: [(0, vectors)], 4, 2, forbidden=[np.array([0])])
        >>> found[0].rows.tolist(), found[0].scores.tolist()
        ([1, 2], [0.0, 0.0])
    """
    size = count if allowed is None else len(allowed)
    step = max(1, MOST_SCORES // max(size, 1))
    found: list[Neighbours] = []
    for start in range(0, len(queries), step):
        some = slice(start, min(start + step, len(queries)))
        scores = compute_scores(queries[some], blocks, size, allowed)
        if adjust is not None:
            adjust(scores, some, allowed)
        for number, row in enumerate(scores, start):
            if forbidden is not None:
                row[place_rows(forbidden[number], allowed)] = -np.inf
            found.append(_choose(row, k, allowed, read_ids))
    return found


def compute_scores(queries: np.ndarray, blocks: Blocks, size: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """Computes the inner products of queries with all allowed rows.

    Args:
        queries, blocks, allowed: as for `find_nearest`.
        size: int. Number of allowed rows.

    Returns:
        float32 `(q, size)`.
    """
    scores = np.empty((len(queries), size), np.float32)
    place = 0
    for first, block in blocks():
        local = None if allowed is None else _cut(allowed, first, len(block))
        if local is None or len(local) == len(block):
            part = slice(place, place + len(block))
            np.matmul(queries, block.T, out=scores[:, part])
        else:
            part = slice(place, place + len(local))
            if 2 * len(local) < len(block):
                np.matmul(queries, block[local].T, out=scores[:, part])
            elif len(local):
                scores[:, part] = np.matmul(queries, block.T)[:, local]
        place = part.stop
    return scores


def place_rows(rows: np.ndarray, allowed: np.ndarray | None) -> np.ndarray:
    """Returns the places of rows among the allowed ones; rows that are not allowed are left out.

    Example:
        >>> place_rows(np.array([2, 5, 7]), np.array([1, 2, 7])).tolist()
        [1, 2]
    """
    if allowed is None or not len(rows):
        return rows
    places = np.searchsorted(allowed, rows)
    inside = places < len(allowed)
    return places[inside][allowed[places[inside]] == rows[inside]]


def _cut(allowed, first, count):
    """Returns the allowed rows of a block, counted from its first."""
    low, high = np.searchsorted(allowed, (first, first + count))
    return allowed[low:high] - first


def _choose(scores, k, allowed, read_ids):
    """Chooses the k largest of a row of scores; -inf is never chosen."""
    if k < len(scores):
        # All rows that may be as large, once rounded, as the k-th largest.
        least = scores[np.argpartition(scores, len(scores) - k)[len(scores) - k]]
        places = np.flatnonzero(scores >= least - 2 * 10.0**-DECIMALS)
        places = places[np.isfinite(scores[places])]
    else:
        places = np.flatnonzero(np.isfinite(scores))
    rounded = np.round(scores[places].astype(np.float64), DECIMALS) + 0.0  # no -0.0
    rows = places if allowed is None else allowed[places]
    if len(rows) > k and read_ids is not None and len(np.unique(rounded)) == len(rounded):
        read_ids = None  # nothing to break
    names = rows if read_ids is None else np.asarray(read_ids(rows))
    order = np.lexsort((names, -rounded))[:k]
    return Neighbours(rows[order].astype(np.int64), rounded[order])
