"""Measure what an index finds: rankings of its own studies, beside chance, an oracle and baselines."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmm.errors import InputError
from kmm.progress import Progress
from kmm.retrieval.agreement import measure_agreement
from kmm.retrieval.filters import apply_filters, parse_filter
from kmm.retrieval.index import Index
from kmm.retrieval.measures.ranking import MEASURES, has_tie, measure_ranking, share_top
from kmm.retrieval.measures.relevance import NO_FINDING, add_no_finding, grade_relevance, weigh_findings
from kmm.retrieval.measures.summary import summarise_findings, summarise_rows
from kmm.retrieval.search import DECIMALS, compute_scores

# What is compared with what: of the query, and of the studies that are found.
MODES = (("both", "both"), ("image", "image"), ("text", "text"), ("image", "text"), ("text", "image"))
BASELINES = {"tfidf": 1, "film": 0}  # the column of `present` that a baseline reads
SCORES_AT_ONCE = 2**22

Scorer = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Judged:
    """The queries and candidates of one mode.

    Attributes:
        queries, candidates: int arrays of rows of the index.
        labels: float32 `(n, n_labels + 1)` of all rows: known labels, and no finding.
        weights: float64 `(n_labels + 1,)`.
    """

    queries: np.ndarray
    candidates: np.ndarray
    labels: np.ndarray
    weights: np.ndarray


def measure_index(
    index: Index,
    *,
    k: int = 10,
    queries: Sequence[str] = (),
    among: Sequence[str] = (),
    most: int = 2000,
    relevant_from: float = 0.0,
    rerank: float = 0.25,
    baselines: Mapping[str, Any] | None = None,
    repeats: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
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
        baselines: mapping of `"tfidf"` and `"film"` to features `(n, d)` of all rows of the index, in their order: see
            `kmm.retrieval.measures.baselines`.
        repeats: int. Bootstrap draws of patients.
        seed: int, of the draws.
        progress: `Progress`.

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
        judged.append(Judged(rows, np.flatnonzero(kept["among"] & index.has(found)), labels, weights))
    measured = []
    with (progress or Progress()).step("Measuring", sum(len(one.queries) for one in judged)) as advance:
        for (asked, found), one in zip(modes, judged, strict=True):
            if len(one.queries) and len(one.candidates):
                scorers = _list_scorers(index, asked, found, one, rerank, baselines or {})
                made = _measure_mode(index, one, scorers, k, relevant_from, repeats, seed, advance)
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
        "labels": index.description["labels"]["scheme"],
        "weights": {name: round(float(weight), 6) for name, weight in zip(names, weights, strict=True)},
        "unknown": int((~known).sum()),
        "modes": measured,
    }


def _list_scorers(index, asked, found, judged, rerank, baselines):
    """Returns for each row of the table a function of rows of queries to the scores `(q, m)` of all candidates."""
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
            scorers[name] = lambda rows, features=features: _multiply(features[rows], features[candidates])
    return scorers


def _multiply(queries, candidates):
    found = queries @ candidates.T
    return np.round(np.asarray(found.toarray() if hasattr(found, "toarray") else found, np.float64), DECIMALS)


def _measure_mode(index, judged, scorers, k, relevant_from, repeats, seed, advance):
    """Measures one mode: each row of the table, and each finding."""
    labels, candidates = judged.labels, judged.candidates
    values: dict[str, list[list[float]]] = {name: [] for name in (*scorers, "oracle", "chance")}
    has = labels[candidates] == 1  # (m, n_labels + 1)
    tops, chances, kept, without, ties = [], [], [], 0, 0
    step = max(1, SCORES_AT_ONCE // len(candidates))
    for start in range(0, len(judged.queries), step):
        rows = judged.queries[start : start + step]
        grades = grade_relevance(labels[rows], labels[candidates], judged.weights)
        scores = {name: scorer(rows) for name, scorer in scorers.items()}
        for place, row in enumerate(rows.tolist()):
            forbidden, _ = index.forbidden.list_rows(index.hashes[row], row)
            free = ~np.isin(candidates, forbidden)
            one = grades[place][free]
            advance()
            if not ((one > 0) & (one >= relevant_from)).any():
                without += 1
                continue
            kept.append(row)
            ranked = {name: found[place][free] for name, found in scores.items()}
            ties += has_tie(ranked["cosine"], k)
            ranked |= {"oracle": one.astype(np.float64), "chance": np.zeros(len(one))}
            for name, found in ranked.items():
                measured = measure_ranking(found, one, k, relevant_from=relevant_from)
                values[name].append([measured[measure] for measure in MEASURES])
            tops.append(share_top(ranked["cosine"], k) @ has[free] / k)
            chances.append(has[free].mean(axis=0))
    result = {
        "queries": len(kept),
        "candidates": len(candidates),
        "without_relevant": without,
        "with_ties": ties,
    }
    if not kept:
        return {**result, "patients": 0, "rows": {}, "findings": []}
    groups = group_patients(index.hashes[kept, 0])
    names = [*index.label_names, NO_FINDING]
    table = {name: np.array(rows) for name, rows in values.items()}
    findings = summarise_findings(names, labels[kept] == 1, np.array(tops), np.array(chances), groups, repeats, seed)
    return {
        **result,
        "patients": len(np.unique(groups)),
        "rows": summarise_rows(table, groups, repeats=repeats, seed=seed),
        "findings": findings,
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
