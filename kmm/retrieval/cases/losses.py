"""Measure whether explanations of similarity are right: what the similarity loses without what they name."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from kmm.data.study import Problem, Study
from kmm.errors import InputError
from kmm.evaluate.statistics.bootstrap import draw_groups, interval
from kmm.explain.fidelity.similarity import DRAWS, measure_losses
from kmm.explain.similarity.explainer import SimilarityExplainer
from kmm.progress import Progress
from kmm.retrieval.filters import apply_filters, parse_filter
from kmm.retrieval.index import Index
from kmm.retrieval.measures.measurement import group_patients
from kmm.retrieval.measures.pieces import Arrays, Pieces
from kmm.retrieval.study_rows import describe_study

PARTS = {"both": "", "film": "film_", "words": "words_"}  # what is removed, and how its fields begin
KINDS = ("named", "by_chance")
FIELDS = (*(f"{prefix}{kind}" for prefix in PARTS.values() for kind in KINDS), "completeness_gap")


def measure_explained(
    index: Index,
    explainer: SimilarityExplainer,
    studies: Mapping[str, Study],
    *,
    most: int = 20,
    queries: Sequence[str] = (),
    among: Sequence[str] = (),
    repeats: int = 1000,
    seed: int = 0,
    progress: Progress | None = None,
    pieces: Pieces | None = None,
) -> dict[str, Any]:
    """Explains the first hit of some studies of an index, removes what is named, and compares with chance.

    Args:
        index: `Index`.
        explainer: `SimilarityExplainer` of its classifier and layer.
        studies: mapping of study id to `Study`.
        most: int, at least 1. Most queries; of more, so many are drawn.
        queries, among: sequences of filters of the queries, and of the studies that are found.
        repeats: int. Bootstrap draws of patients.
        seed: int, of all draws.
        progress: `Progress`.
        pieces: `kmm.retrieval.measures.pieces.Pieces`, so that a measurement that was stopped goes on.

    Returns:
        dict for JSON: `pattern`, `pairs`, `patients`, `draws`, `set_aside`; `completeness_gap` with the `median` and
        the `largest` of all explanations; and for `both`, `film` and `words` the number `n` of studies from which such
        parts were removed, the mean loss of the cosine `named` and `by_chance`, their `difference` with its `interval`
        over patients, and `larger`, the share of studies that lose more than by chance. Two studies of each pair count.

    Raises:
        InputError: if no study can be a query.
    """
    pattern = index.patterns[0]
    kept = np.flatnonzero(index.has(pattern) & apply_filters(index, [parse_filter(one) for one in queries]))
    rows = kept[[id in studies for id in index.read_texts("id", kept)]] if len(kept) else kept
    if not len(rows):
        raise InputError(f"{index.folder} has no study to explain that is still where it was when the index was built.")
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(rows, most, replace=False)) if len(rows) > most else rows
    ids = index.read_texts("id", chosen)
    results = index.search([index.query(id, pattern) for id in ids], k=1, filters=among)
    pairs = [
        (studies[id], [studies[hit.study] for hit in result.hits if hit.study in studies])
        for id, result in zip(ids, results, strict=True)
    ]
    facts = {"index": index.description["digest"], "pattern": pattern, "settings": explainer.settings.as_dict()}
    described = [[describe_study(one) for one in (study, *others)] for study, others in pairs]
    own = (pieces or Pieces()).of("pairs", {**facts, "draws": DRAWS, "pairs": described})

    def explain(study: Study, others: Sequence[Study]) -> Arrays:
        problems: list[Problem] = []
        found = list(measure_losses(explainer, study, others, problems.append, reads=(pattern, pattern)))
        values = np.array([[getattr(loss, name) for name in FIELDS] for loss in found], np.float64)
        return {"values": values.reshape(len(found), len(FIELDS)), "problems": np.array([len(problems)])}

    parts = []
    done = sum(own.has(number) for number in range(len(pairs)))
    with (progress or Progress()).step("Explaining similarities", len(pairs), done) as advance:
        for number, pair in enumerate(pairs):
            known = own.has(number)
            parts.append(own.read_or_make(number, partial(explain, *pair)))
            if not known:
                advance()
    values = np.concatenate([part["values"] for part in parts])
    owners = np.repeat(np.arange(len(parts)), [len(part["values"]) for part in parts])
    groups = group_patients(index.hashes[chosen, 0])[owners]
    table = dict(zip(FIELDS, values.T, strict=True))
    gaps = table["completeness_gap"][np.isfinite(table["completeness_gap"])]
    return {
        "pattern": pattern,
        "pairs": len(values) // 2,
        "patients": len(np.unique(groups)),
        "draws": DRAWS,
        "set_aside": sum(int(part["problems"].sum()) for part in parts),
        "completeness_gap": {
            "median": float(np.median(gaps)) if len(gaps) else None,
            "largest": float(np.max(gaps)) if len(gaps) else None,
        },
        **{name: _summarise(table, prefix, groups, repeats, seed) for name, prefix in PARTS.items()},
    }


def _summarise(table, prefix, groups, repeats, seed):
    """Averages what was lost by naming and by chance, over the studies from which such parts were removed."""
    values = np.stack([table[f"{prefix}{kind}"] for kind in KINDS], axis=1)
    known = np.isfinite(values).all(axis=1)
    if not known.any():
        return {"n": 0, "named": None, "by_chance": None, "difference": None, "interval": None, "larger": None}
    named, by_chance = values[known].T
    difference = named - by_chance
    numbers = np.unique(groups[known], return_inverse=True)[1]
    times = draw_groups(np.random.default_rng(seed), repeats, int(numbers.max()) + 1)[:, numbers]
    return {
        "n": int(known.sum()),
        "named": float(named.mean()),
        "by_chance": float(by_chance.mean()),
        "difference": float(difference.mean()),
        "interval": interval(times @ difference / times.sum(axis=1)) if repeats else None,
        "larger": float((difference > 0).mean()),
    }
