"""Explanations of `kmm index search` and `kmm index measure`: pages, ranking again by them, and their test."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm.cli.output import load_keras_quietly, make_progress
from kmm.data.study import Problem, Study
from kmm.errors import InputError

if TYPE_CHECKING:
    from kmm.classifier import Classifier
    from kmm.progress import Progress
    from kmm.retrieval.index import Index
    from kmm.retrieval.measures.pieces import Pieces
    from kmm.retrieval.measures.scorers import OverlapRanking
    from kmm.retrieval.results import SearchResult


def write_pages(
    opened: "Index", classifier: "Classifier", results: "Sequence[SearchResult]", folder: Path
) -> tuple[list[Path], list[Problem]]:
    """Writes the page of each search; returns the pages, and the queries and studies that could not be compared."""
    with load_keras_quietly():
        from kmm.retrieval.cases.explainer import CaseExplainer, write_cases

    explainer, progress = CaseExplainer(classifier, opened), make_progress()
    cases, problems = [], []
    for result in results:
        try:
            cases.append(explainer.explain(result, progress))
        except InputError as error:
            reason = str(error).removeprefix(f"study {result.query.name}: ")
            problems.append(Problem(f"study {result.query.name}", f"no page: {reason}"))
        else:
            problems += cases[-1].problems
    return write_cases(cases, folder) if cases else [], problems


def explain_pairs(
    opened: "Index", classifier: "Classifier", studies: Mapping[str, Study], **options: Any
) -> dict[str, Any]:
    """Explains the first study that some queries find, and tests the explanations: see
    `kmm.retrieval.cases.losses.measure_explained`."""
    from kmm.retrieval.cases.explainer import CaseExplainer
    from kmm.retrieval.cases.losses import measure_explained

    return measure_explained(opened, CaseExplainer(classifier, opened).explainer, studies, **options)


def rank_again(
    opened: "Index", classifier: "Classifier", results: "Sequence[SearchResult]", *, weight: float, k: int
) -> "tuple[list[SearchResult], list[Problem]]":
    """Ranks what searches found again by explanations: see `kmm.retrieval.cases.reranking.rerank_results`."""
    from kmm.retrieval.cases.naming import NamingExplainer
    from kmm.retrieval.cases.reranking import rerank_results
    from kmm.retrieval.measures.baselines import read_again

    sources = {hit.source for result in results for hit in result.hits}
    rows = [result.query.row for result in results if result.query.row is not None]
    studies = read_again(opened, sources.union(opened.read_texts("source", rows)))
    explainer, progress = NamingExplainer(classifier, opened), make_progress()
    return rerank_results(results, explainer, studies, weight=weight, k=k, progress=progress)


def make_ranking(
    opened: "Index",
    classifier: "Classifier",
    studies: Mapping[str, Study],
    *,
    weight: float,
    depth: int | None,
    progress: "Progress",
    pieces: "Pieces",
) -> "OverlapRanking":
    """Makes the ranking of the row `overlap` of `kmm index measure`."""
    from kmm.retrieval.cases.naming import NamedStudies, NamingExplainer
    from kmm.retrieval.measures.scorers import OverlapRanking

    named = NamedStudies(opened, NamingExplainer(classifier, opened), studies, progress, pieces)
    return OverlapRanking(named, weight, depth)
