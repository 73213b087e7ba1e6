"""Measure what an index finds: rankings of its own studies, beside chance, an oracle and baselines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kmm.errors import InputError
from kmm.progress import Progress
from kmm.retrieval.filters import apply_filters, parse_filter
from kmm.retrieval.index import Index
from kmm.retrieval.measures.pieces import Pieces
from kmm.retrieval.measures.query_measures import Judged, digest_array, measure_queries
from kmm.retrieval.measures.relevance import NO_FINDING, add_no_finding, weigh_findings
from kmm.retrieval.measures.scorers import OVERLAP, OverlapRanking, list_scorers
from kmm.retrieval.measures.summary import summarise_findings, summarise_rows

# What is compared with what: of the query, and of the studies that are found.
MODES = (("both", "both"), ("image", "image"), ("text", "text"), ("image", "text"), ("text", "image"))


def measure_index(
    index: Index,
    *,
    k: int = 10,
    queries: Sequence[str] = (),
    among: Sequence[str] = (),
    most: int = 2000,
    relevant_from: float = 0.0,
    rerank: float = 0.25,
    overlap: OverlapRanking | None = None,
    baselines: Mapping[str, Any] | None = None,
    repeats: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
    pieces: Pieces | None = None,
) -> dict[str, Any]:
    """Measures the rankings of studies of an index for each other.

    Every query ranks all candidates except itself and studies of the same patient, with an identical report body or an
    identical film. Only studies with known labels are queries or candidates.

    Args:
        index: `Index`.
        k: int, at least 1. Places that are counted.
        queries: sequence of filters of the queries, see `kmm.retrieval.filters`.
        among: sequence of filters of the candidates.
        most: int. Most queries; of more, so many are drawn.
        relevant_from: float in [0, 1]. Least grade of a relevant study; above 0 in any case.
        rerank: float in [0, 1]. Weight of the agreement of predictions in the row `reranked`; 0 leaves it out.
        overlap: `OverlapRanking` of the row `overlap`: the first studies of each query, ranked again by what
            explanations name; None leaves it out.
        baselines: mapping of `"tfidf"` and `"film"` to features `(n, d)` of all rows of the index, in their order: see
            `kmm.retrieval.measures.baselines`.
        repeats: int. Bootstrap draws of patients.
        seed: int, of the draws.
        progress: `Progress`.
        pieces: `kmm.retrieval.measures.pieces.Pieces`, so that a measurement that was stopped goes on; None to keep
            nothing.

    Returns:
        dict for JSON, see docs/retrieval.md.

    Raises:
        InputError: if an argument is out of range, or no study has a known label.
    """
    _check(k, most, relevant_from, rerank)
    labels = add_no_finding(index.labels)
    known = np.isfinite(labels).any(axis=1)
    kept = {
        name: known & apply_filters(index, [parse_filter(one) for one in given])
        for name, given in (("queries", queries), ("among", among))
    }
    for name, rows in kept.items():
        if not rows.any():
            raise InputError(f"{index.folder} has no study with known labels for `{name}`.")
    weights = weigh_findings(labels[kept["among"]])
    modes = [(one, other) for one, other in MODES if {one, other} <= set(index.patterns)]
    rng, judged = np.random.default_rng(seed), []
    for asked, found in modes:
        rows = np.flatnonzero(kept["queries"] & index.has(asked))
        rows = np.sort(rng.choice(rows, most, replace=False)) if len(rows) > most else rows
        candidates = np.flatnonzero(kept["among"] & index.has(found))
        if len(rows) and len(candidates):
            judged.append(((asked, found), Judged(rows, candidates, labels, weights, k, relevant_from)))
    works = []
    digests = {name: digest_array(features) for name, features in (baselines or {}).items()}
    for (asked, found), one in judged:
        scorers = list_scorers(index, asked, found, one, rerank, baselines or {})
        facts = {"index": index.description["digest"], "patterns": [asked, found], "rerank": rerank}
        facts |= {"rows": list(scorers), "baselines": digests, **one.describe()}
        if overlap is not None and asked == found:
            scorers[OVERLAP], facts[OVERLAP] = overlap.make_scorer(index, asked, one, scorers["cosine"])
        works.append((asked, found, one, scorers, (pieces or Pieces()).of("queries", facts)))
    total, done = _count_queries(works)
    measured = []
    with (progress or Progress()).step("Measuring", total, done) as advance:
        for asked, found, one, scorers, kept_pieces in works:
            values = measure_queries(index, one, scorers, kept_pieces, advance)
            made = _summarise(index, one, values, (*scorers, "oracle", "chance"), repeats, seed)
            measured.append({"query": asked, "against": found, **made})
    names = [*index.label_names, NO_FINDING]
    return {
        "index": str(index.folder),
        "model": index.description["model"]["path"],
        "layer": index.layer,
        "studies": len(index),
        "k": k,
        "filters": {"queries": list(queries), "among": list(among)},
        "relevant_from": relevant_from,
        "rerank": rerank,
        "overlap": None if overlap is None else overlap.as_dict(k),
        "labels": index.description["labels"]["scheme"],
        "weights": {name: round(float(weight), 6) for name, weight in zip(names, weights, strict=True)},
        "unknown": int((~known).sum()),
        "modes": measured,
    }


def _count_queries(works):
    """Counts the queries of all modes, and those that are measured already."""
    blocks = [(len(rows), pieces.has(number)) for *_, one, _, pieces in works for number, rows in enumerate(one.blocks)]
    return sum(size for size, _ in blocks), sum(size for size, kept in blocks if kept)


def _summarise(index, judged, found, names, repeats, seed):
    """Summarises the measures of the queries of one mode: each row of the table, and each finding."""
    kept = found["kept"]
    result = {
        "queries": len(kept),
        "candidates": len(judged.candidates),
        "without_relevant": int(found["without"].sum()),
        "with_ties": int(found["ties"].sum()),
    }
    if not len(kept):
        return {**result, "patients": 0, "rows": {}, "findings": []}
    groups = group_patients(index.hashes[kept, 0])
    findings, has = [*index.label_names, NO_FINDING], judged.labels[kept] == 1
    return {
        **result,
        "patients": len(np.unique(groups)),
        "rows": summarise_rows({name: found[name] for name in names}, groups, repeats=repeats, seed=seed),
        "findings": summarise_findings(findings, has, found["tops"], found["chances"], groups, repeats, seed),
    }


def group_patients(hashes: np.ndarray) -> np.ndarray:
    """Numbers patients by their hashes; each study whose patient is not known is a patient of its own.

    Example:
        >>> group_patients(np.array([7, 0, 7, 0], np.uint64)).tolist()
        [2, 0, 2, 1]
    """
    unknown = hashes == 0
    keys = hashes.astype(object)
    keys[unknown] = [-1 - number for number in range(int(unknown.sum()))]
    order = {key: number for number, key in enumerate(dict.fromkeys([*keys[unknown], *sorted(set(keys[~unknown]))]))}
    return np.array([order[key] for key in keys], np.int64)


def _check(k, most, relevant_from, rerank):
    for name, value in (("k", k), ("most", most)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"`{name}` must be a whole number of at least 1. Received: {value!r}.")
    for name, share in (("relevant_from", relevant_from), ("rerank", rerank)):
        if not 0 <= share <= 1:
            raise InputError(f"`{name}` must be in [0, 1]. Received: {share}.")
