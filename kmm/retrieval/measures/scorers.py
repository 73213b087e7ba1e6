"""Rows of the table of retrieval: functions that score all candidates of queries."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kmm.errors import InputError
from kmm.retrieval.agreement import measure_agreement
from kmm.retrieval.index import Index
from kmm.retrieval.measures.overlap import Named, blend_overlaps, list_tops
from kmm.retrieval.measures.query_measures import Judged, Scorer, find_free
from kmm.retrieval.search import DECIMALS, compute_scores

BASELINES = {"tfidf": 1, "film": 0}  # the column of `present` that a baseline reads
OVERLAP = "overlap"
TIMES = 2  # k studies of each query are explained, unless a depth is given


def list_scorers(
    index: Index, asked: str, found: str, judged: Judged, rerank: float, baselines: Mapping[str, Any]
) -> dict[str, Scorer]:
    """Lists the rows of the table of one mode.

    Args:
        index: `Index`.
        asked, found: str, the patterns of queries and candidates.
        judged: `Judged`.
        rerank: float in [0, 1], weight of the agreement of predictions; 0 leaves the row `reranked` out.
        baselines: mapping of names in `BASELINES` to features of all rows of the index.

    Returns:
        dict of the row to a function of rows of queries that returns the scores, float64 `(q, m)`, of all candidates.
    """
    candidates = judged.candidates

    def cosine(rows: np.ndarray) -> np.ndarray:
        vectors = index.read_vectors(asked, rows)
        scores = compute_scores(vectors, index.blocks(found), len(candidates), candidates)
        return np.round(scores.astype(np.float64), DECIMALS)

    scorers: dict[str, Scorer] = {"cosine": cosine}
    if rerank and index.predicted_names:
        predicted = index.read_predicted(found, candidates)

        def blend(rows: np.ndarray) -> np.ndarray:
            agreement = measure_agreement(index.read_predicted(asked, rows), predicted)
            return np.round((1 - rerank) * cosine(rows) + rerank * agreement, DECIMALS)

        scorers["reranked"] = blend
    for name, features in baselines.items():
        if asked == found and asked in ("both", ("image", "text")[BASELINES[name]]):
            scorers[name] = _multiply_rows(features, candidates)
    return scorers


def _multiply_rows(features: Any, candidates: np.ndarray) -> Scorer:
    return lambda rows: _multiply(features[rows], features[candidates])


def _multiply(queries, candidates):
    found = queries @ candidates.T
    return np.round(np.asarray(found.toarray() if hasattr(found, "toarray") else found, np.float64), DECIMALS)


class NamedReader(Protocol):
    """What the explanations of studies of an index name: `kmm.retrieval.cases.naming.NamedStudies`."""

    explained: int
    set_aside: int

    def read(self, pattern: str, rows: np.ndarray) -> dict[int, Named]:
        """Returns a dict of row to `Named`, of those rows that can be explained as a pattern reads them."""


@dataclass(frozen=True)
class OverlapRanking:
    """Ranking of the first studies of each query by the overlap of explanations.

    Attributes:
        named: `NamedReader` of the index.
        weight: float in [0, 1], of the overlap; the cosine has the rest.
        depth: int. Studies of each query that are ranked again; None for 2 k.
    """

    named: NamedReader
    weight: float = 0.25
    depth: int | None = None

    def __post_init__(self) -> None:
        check_overlap(self.weight, self.depth)

    def as_dict(self, k: int) -> dict[str, Any]:
        """Returns what was ranked again as a dict for JSON."""
        numbers = {name: getattr(self.named, name) for name in ("explained", "set_aside")}
        return {"weight": self.weight, "depth": self.depth or TIMES * k, **numbers}

    def make_scorer(self, index: Index, pattern: str, judged: Judged, cosine: Scorer) -> tuple[Scorer, str]:
        """Explains all queries of a mode and their first candidates, and makes the function of the row `overlap`.

        Args:
            index: `Index`.
            pattern: str, of queries and candidates.
            judged: `Judged`.
            cosine: function of the row `cosine`.

        Returns:
            function as those of `list_scorers`, and a digest of what the explanations name.
        """
        depth, candidates = self.depth or TIMES * judged.k, judged.candidates

        def choose(rows: np.ndarray, scores: np.ndarray) -> np.ndarray:
            free = np.stack([find_free(index, candidates, row) for row in rows.tolist()])
            return list_tops(np.where(free, scores, -np.inf), depth)

        places = [choose(rows, cosine(rows)) for rows in judged.blocks]
        tops = np.unique(np.concatenate([part.ravel() for part in places]))
        found = self.named.read(pattern, np.union1d(judged.queries, candidates[tops[tops >= 0]]))

        def score(rows: np.ndarray) -> np.ndarray:
            scores, weight = cosine(rows), self.weight
            tops = choose(rows, scores)
            blended = blend_overlaps(scores, tops, rows, candidates, found, pattern=pattern, weight=weight)
            return np.round(blended, DECIMALS)

        return score, _digest([self.weight, depth], found)


def check_overlap(weight: float, depth: int | None) -> None:
    """Checks the weight of overlaps and the number of studies that are explained.

    Raises:
        InputError: if one is out of range.
    """
    if not 0 <= weight <= 1:
        raise InputError(f"`overlap` must be in [0, 1]. Received: {weight}.")
    if depth is not None and (isinstance(depth, bool) or not isinstance(depth, int) or depth < 1):
        raise InputError(f"`depth` must be a whole number of at least 1. Received: {depth!r}.")


def _digest(options, found):
    total = hashlib.sha256(repr(options).encode())
    for row, one in sorted(found.items()):
        total.update(str(row).encode())
        for array in (one.places, one.words, one.weights):
            total.update(np.ascontiguousarray(array))
    return total.hexdigest()
