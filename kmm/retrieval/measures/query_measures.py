"""Measures of single queries, in blocks of queries that are kept one by one."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from kmm.progress import Advance
from kmm.retrieval.index import Index
from kmm.retrieval.measures.pieces import Arrays, Pieces
from kmm.retrieval.measures.ranking import MEASURES, has_tie, measure_ranking, share_top
from kmm.retrieval.measures.relevance import grade_relevance

SCORES_AT_ONCE = 2**22

Scorer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Judged:
    """The queries and candidates of one mode, and what is relevant.

    Attributes:
        queries, candidates: int arrays of rows of the index.
        labels: float32 `(n, n_labels + 1)` of all rows: known labels, and no finding.
        weights: float64 `(n_labels + 1,)`.
        k: int. Places that are counted.
        relevant_from: float in [0, 1]. Least grade of a relevant study; above 0 in any case.
    """

    queries: np.ndarray
    candidates: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    k: int
    relevant_from: float

    @cached_property
    def blocks(self) -> list[np.ndarray]:
        """The rows of the queries in blocks, whose scores fit into memory."""
        step = max(1, SCORES_AT_ONCE // max(len(self.candidates), 1))
        return [self.queries[start : start + step] for start in range(0, len(self.queries), step)]

    def describe(self) -> dict[str, Any]:
        """Returns what decides the measures of a ranking, as a dict for JSON."""
        arrays = {name: digest_array(getattr(self, name)) for name in ("queries", "candidates", "labels", "weights")}
        return {**arrays, "block": len(self.blocks[0]), "k": self.k, "relevant_from": self.relevant_from}


def measure_queries(
    index: Index, judged: Judged, scorers: Mapping[str, Scorer], pieces: Pieces, advance: Advance
) -> dict[str, np.ndarray]:
    """Measures the rankings of all queries of a mode.

    Args:
        index: `Index`.
        judged: `Judged`, with queries and candidates.
        scorers: mapping of each row of the table, with `"cosine"`, to a function of rows of queries that returns the
            scores `(q, m)` of all candidates.
        pieces: `Pieces` of these queries, a piece for each block.
        advance: function of `Progress`, called for each query that is not kept.

    Returns:
        dict of `kept`, int64 `(q,)`: the rows of queries with a relevant study; for each of `scorers`, `oracle` and
        `chance`: float64 `(q, len(MEASURES))`; `tops` and `chances`, float64 `(q, n_labels + 1)`: how probably one of
        the first k, and one of all candidates, has each finding; `without` and `ties`, int64 `(blocks,)`: how many
        queries have no relevant study, and a tie among the first k.
    """

    def measure(rows: np.ndarray) -> Callable[[], Arrays]:
        return lambda: _measure_block(index, judged, scorers, rows, advance)

    parts = [pieces.read_or_make(number, measure(rows)) for number, rows in enumerate(judged.blocks)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _measure_block(index, judged, scorers, rows, advance):
    """Measures the rankings of a block of queries."""
    candidates, labels = judged.candidates, judged.labels
    names = (*scorers, "oracle", "chance")
    values: dict[str, list[list[float]]] = {name: [] for name in names}
    kept, tops, chances, without, ties = [], [], [], 0, 0
    has = labels[candidates] == 1  # (m, n_labels + 1)
    grades = grade_relevance(labels[rows], labels[candidates], judged.weights)
    scores = {name: scorer(rows) for name, scorer in scorers.items()}
    for place, row in enumerate(rows.tolist()):
        free = find_free(index, candidates, row)
        one = grades[place][free]
        advance()
        if not ((one > 0) & (one >= judged.relevant_from)).any():
            without += 1
            continue
        kept.append(row)
        ranked = {name: found[place][free] for name, found in scores.items()}
        ties += has_tie(ranked["cosine"], judged.k)
        ranked |= {"oracle": one.astype(np.float64), "chance": np.zeros(len(one))}
        for name, found in ranked.items():
            measured = measure_ranking(found, one, judged.k, relevant_from=judged.relevant_from)
            values[name].append([measured[measure] for measure in MEASURES])
        tops.append(share_top(ranked["cosine"], judged.k) @ has[free] / judged.k)
        chances.append(has[free].mean(axis=0))
    return {
        "kept": np.array(kept, np.int64),
        **{name: np.array(found, np.float64).reshape(len(kept), len(MEASURES)) for name, found in values.items()},
        "tops": np.array(tops, np.float64).reshape(len(kept), has.shape[1]),
        "chances": np.array(chances, np.float64).reshape(len(kept), has.shape[1]),
        "without": np.array([without]),
        "ties": np.array([ties]),
    }


def find_free(index: Index, candidates: np.ndarray, row: int) -> np.ndarray:
    """Returns which candidates a study of the index may find: bool `(m,)`."""
    forbidden, _ = index.forbidden.list_rows(index.hashes[row], row)
    return ~np.isin(candidates, forbidden)


def digest_array(array: Any) -> str:
    """Returns the digest of an array, or of a sparse matrix in rows: 64 hexadecimal digits."""
    parts: Sequence[Any] = [array.data, array.indices, array.indptr] if hasattr(array, "indptr") else [array]
    total = hashlib.sha256(repr(array.shape).encode())
    for part in parts:
        total.update(str(part.dtype).encode())
        total.update(np.ascontiguousarray(part).data)
    return total.hexdigest()
