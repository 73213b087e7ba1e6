"""Pages of `kmm index search`, and the test of explanations of `kmm index measure`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm.cli.output import load_keras_quietly, make_progress
from kmm.data.study import Problem, Study
from kmm.errors import InputError

if TYPE_CHECKING:
    from kmm.classifier import Classifier
    from kmm.retrieval.index import Index
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
