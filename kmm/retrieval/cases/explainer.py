"""The page of a search: the query beside each study that was found, and why they are alike."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmm.classifier import Classifier
from kmm.data.modalities import KEPT, PATTERN_TITLES
from kmm.data.names import choose_file_names
from kmm.data.study import Problem, Study
from kmm.errors import InputError
from kmm.explain.output.case_page import SimilarCase, render_cases
from kmm.explain.output.files import RESERVED
from kmm.explain.output.findings import Findings
from kmm.explain.settings import ExplainSettings
from kmm.explain.similarity.cosine import READS
from kmm.explain.similarity.explainer import SimilarityExplainer
from kmm.explain.similarity.known_findings import find_labels
from kmm.explain.similarity.pair import Similarity
from kmm.progress import Progress
from kmm.retrieval.columns import IndexColumns
from kmm.retrieval.index import check_model
from kmm.retrieval.layers import digest_model
from kmm.retrieval.measures.baselines import read_again
from kmm.retrieval.results import Hit, SearchResult
from kmm.storage.files import replace_file
from kmm.storage.output_mark import marking_output, refuse_foreign

LEFT_OUT = {
    "self": "the query itself",
    "patient": "other studies of its patient ({count})",
    "body": "studies with an identical report ({count})",
    "film": "studies with an identical film ({count})",
}
GONE = "it is no longer where it was when the index was built"


@dataclass(frozen=True)
class Cases:
    """The page of one search. In a notebook it is shown.

    Attributes:
        query: str, the id of the query.
        page: str. HTML, which contains the films and reports of the query and of all hits.
        similarities: tuple of `Similarity` of the query and each hit that could be compared, in their order.
        problems: tuple of `Problem`: hits that could not be compared.
    """

    query: str
    page: str
    similarities: tuple[Similarity, ...]
    problems: tuple[Problem, ...] = ()

    def __repr__(self) -> str:
        """Returns the query and the number of hits; no report text."""
        return f"<Cases like {self.query}: {len(self.similarities)} compared, {len(self.problems)} not>"

    def _repr_html_(self) -> str:
        page = html.escape(self.page)
        return f'<iframe srcdoc="{page}" sandbox width="100%" height="900" style="border:0"></iframe>'


class CaseExplainer:
    """Makes pages of searches in an index. The model is traced once.

    Args:
        classifier: `Classifier` that the index was built with.
        index: `IndexColumns`.
        settings: `ExplainSettings`, or None for the defaults.
        studies: mapping of study id to `Study`; None to read those of each search again from where they were.

    Raises:
        ArtefactError: if the index was built with another classifier.
        InputError: if similarities of its layer are not explained.
    """

    def __init__(
        self,
        classifier: Classifier,
        index: IndexColumns,
        settings: ExplainSettings | None = None,
        studies: Mapping[str, Study] | None = None,
    ) -> None:
        digest = digest_model(classifier)
        check_model(index.folder, index.description, digest)
        if index.layer not in READS:
            raise InputError(
                f"{index.folder} is of the layer {index.layer}, whose similarities are not explained. Build an index "
                "of another layer for pages and for --explain."
            )
        self.classifier, self.index, self._studies = classifier, index, studies
        self.explainer = SimilarityExplainer(classifier, settings, layer=index.layer, digest=digest)

    def explain(self, result: SearchResult, progress: Progress | None = None) -> Cases:
        """Explains why each hit of a search is like the query.

        Args:
            result: `SearchResult` of this index.
            progress: `Progress`.

        Returns:
            `Cases`.

        Raises:
            InputError: if the query is a study of the index and is no longer where it was, or cannot be read.
        """
        query, known = result.query, self._find_studies(result)
        study = query.study or known.get(query.name)
        if study is None:
            raise InputError(f"study {query.name}: {GONE}. Give its files as the query.")
        problems = [Problem(f"study {hit.study}", GONE) for hit in result.hits if hit.study not in known]
        found: dict[str, Similarity] = {}
        with (progress or Progress()).step(f"Comparing {query.name}", len(result.hits)) as advance:
            hits = [known[hit.study] for hit in result.hits if hit.study in known]
            reads = (query.pattern, result.against)
            for similarity in self.explainer.explain(study, hits, problems.append, reads=reads):
                found[similarity.other.study] = similarity
                advance()
        reasons = {problem.source: problem.reason for problem in problems}
        page = render_cases(
            query.name,
            [self._describe_hit(hit, found.get(hit.study), reasons, result.against) for hit in result.hits],
            findings=self._find_query(result, study),
            about=list(_tell_search(self.index, result)),
        )
        return Cases(query.name, page, tuple(found.values()), tuple(problems))

    def _find_studies(self, result):
        """Returns the studies of a search by their ids: those given, or read again from where they were."""
        if self._studies is not None:
            return self._studies
        sources = {hit.source for hit in result.hits}
        if result.query.row is not None:
            sources.update(self.index.read_texts("source", [result.query.row]))
        return read_again(self.index, sources)

    def _describe_hit(self, hit: Hit, similarity: Similarity | None, reasons: Mapping[str, str], against: str):
        facts = {"part": hit.part, "view": hit.view, **hit.columns}
        if hit.score != hit.cosine:
            facts["score with predictions" if hit.overlap is None else "score with overlap"] = f"{hit.score:.3f}"
        if hit.overlap is not None:
            facts["overlap of explanations"] = f"{hit.overlap:.3f}"
        return SimilarCase(
            study=hit.study,
            cosine=hit.cosine,
            pair=similarity,
            problem=reasons.get(f"study {hit.study}", ""),
            facts={name: value for name, value in facts.items() if value},
            findings=self._make_findings(hit.labels, hit.predicted, against),
        )

    def _find_query(self, result, study):
        query, names = result.query, self.index.predicted_names
        if query.row is None:
            known = find_labels(self.classifier, study)
        else:
            known = dict(zip(self.index.label_names, map(float, self.index.labels[query.row]), strict=True))
        predicted = dict(zip(names, map(float, query.predicted), strict=True))
        return self._make_findings(known, predicted, query.pattern)

    def _make_findings(self, known, predicted, pattern):
        thresholds = self.classifier.thresholds_for(np.array([KEPT[pattern]]))[0]
        names = self.classifier.label_names
        return Findings(known, predicted, dict(zip(names, map(float, thresholds), strict=True)))


def _tell_search(index: IndexColumns, result: SearchResult) -> Iterable[str]:
    """Yields sentences that say what was searched."""
    query, against = (PATTERN_TITLES[name] for name in (result.query.pattern, result.against))
    yield (
        f"Compared by {query} with the {against} of {result.allowed} studies: cosines of {index.size} features of the "
        f"layer {index.layer}."
    )
    left = [LEFT_OUT[reason].format(count=count) for reason, count in result.excluded.items() if count]
    if left:
        yield f"Never found: {', '.join(left)}."
    if result.query.region is not None:
        yield "The search compared only the places inside a circle. The explanations below are of the whole film."


def write_cases(cases: Sequence[Cases], folder: Path | str) -> list[Path]:
    """Writes the page of each search as `<query>.html` into a folder, which is created if missing and marked, so that
    no command reads it as studies.

    Args:
        cases: sequence of `Cases`.
        folder: path.

    Returns:
        list of Path: the pages, which contain films and reports.

    Raises:
        InputError: if the folder already has a file of one of these names that kmm did not write.
    """
    folder = Path(folder)
    names = {
        query: f"{name}.html" for query, name in choose_file_names({one.query: None for one in cases}, RESERVED).items()
    }
    with marking_output(folder) as mark:
        refuse_foreign(folder, mark, names.values())
        for one in cases:
            with replace_file(folder / names[one.query]) as place:
                place.write_text(one.page, encoding="utf-8")
    return [folder / name for name in names.values()]
