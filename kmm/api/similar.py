"""An index of studies with the classifier that it belongs to, as a notebook uses it."""

import contextlib
import dataclasses
import shutil
import tempfile
import weakref
from collections.abc import Collection as Names
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from kmm.api.explained import make_explain_settings
from kmm.api.study_arguments import StudyArguments
from kmm.classifier import Classifier
from kmm.data.study import Collection, Problem, Study
from kmm.errors import InputError, check_path
from kmm.progress import Progress
from kmm.retrieval.additions import add_studies
from kmm.retrieval.cases.explainer import CaseExplainer, Cases
from kmm.retrieval.cases.naming import NamedStudies, NamingExplainer
from kmm.retrieval.cases.reranking import rerank_results
from kmm.retrieval.index import Index
from kmm.retrieval.measures.baselines import make_baselines, read_again
from kmm.retrieval.measures.measurement import measure_index
from kmm.retrieval.measures.pieces import keeping_pieces
from kmm.retrieval.measures.scorers import TIMES, OverlapRanking, check_overlap
from kmm.retrieval.queries import QueryReader
from kmm.retrieval.results import SearchResult


class SimilarStudies:
    """An index of studies. `kmm.Classifier.index` and `kmm.Classifier.open_index` return one.

    Args:
        record: `kmm.classifier.Classifier` that it was built with.
        index: `kmm.retrieval.index.Index`, kept as the attribute `index`.
        problems: sequence of `Problem`: studies that were left out when it was made.

    Attributes:
        index: `Index`.
        problems: tuple of `Problem`.
    """

    def __init__(self, record: Classifier, index: Index, problems: Sequence[Problem] = ()) -> None:
        self._record, self.index, self.problems = record, index, tuple(problems)
        self._temporary: weakref.finalize | None = None

    def keep_temporary(self, folder: Path) -> Self:
        """Removes a folder together with this object; returns the object."""
        self._temporary = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return self

    @property
    def folder(self) -> Path | None:
        """The folder of the index; None if it is removed with this object."""
        return None if self._temporary else self.index.folder

    def __len__(self) -> int:
        return len(self.index)

    def search(
        self,
        image: Any = None,
        report: str | None = None,
        *,
        study: str | None = None,
        patient: str | None = None,
        k: int = 10,
        filters: Sequence[str] = (),
        pattern: str | None = None,
        against: str | None = None,
        region: tuple[float, float, float] | None = None,
        include: Names[str] = (),
        rerank: float = 0.0,
        overlap: float = 0.0,
        depth: int | None = None,
        studies: Any = None,
        progress: Progress | None = None,
    ) -> SearchResult:
        """Finds the studies most like a film, a report, both, or a study of the index.

        The study itself, studies of the same patient, and those with an identical report body or film are not found.

        Args:
            image, report: as for `kmm.Classifier.predict`.
            study: str, instead of these the id of a study of the index.
            patient: str, the patient of the film, whose other studies are not found.
            k: int. Studies to find.
            filters: sequence of str, as `"label=Effusion"`, `"part!=train"`, `"site=north|south"`; all must hold.
            pattern: str, what of the query is compared: `"both"`, `"image"` or `"text"`; None for all that it has.
            against: str, what of the studies is compared; None for the pattern of the query.
            region: `(x, y, radius)` in pixels of the film: only places inside this circle are compared.
            include: of `"self"`, `"patient"`, `"body"` and `"film"`: what else may be found.
            rerank: float in [0, 1]. Weight of the agreement of predicted labels beside that of the features.
            overlap: float in [0, 1]. Weight of common places and words of explanations, see docs/retrieval.md. Explains
                the query and `depth` studies; the overlap of one that cannot be explained is 0.
            depth: int. Studies that are explained and ranked again; None for 2 k.
            studies: the studies of the index, for the overlap, if they are not in files.
            progress: `Progress` of the explanations.

        Returns:
            `SearchResult`, whose `hits` are the studies, most alike first.

        Raises:
            InputError: if the query cannot be used, or an argument is out of range.
        """
        if study is not None:
            if image is not None or report is not None or region is not None:
                raise InputError("Give either a film and a report, or the id of a study. Received: both.")
            query = self.index.query(study, pattern)
        else:
            given = StudyArguments(self._record).read_one(image, report)
            if patient is not None:
                given = dataclasses.replace(given, patient=patient, made_up=given.made_up - {"patient"})
            query = self._reader.read(given, pattern=pattern, region=region)
        check_overlap(overlap, depth)
        many = max(k, depth or TIMES * k) if overlap else k
        options: dict[str, Any] = {"filters": filters, "against": against, "include": include, "rerank": rerank}
        results = self.index.search(query, k=many, **options)
        if overlap:
            explainer, known = NamingExplainer(self._record, self.index), self._read_studies(studies)
            results, _ = rerank_results(results, explainer, known, weight=overlap, k=k, progress=progress)
        return results[0]

    def explain(
        self, result: SearchResult, *, studies: Any = None, progress: Progress | None = None, **settings: Any
    ) -> Cases:
        """Explains why each study that a search found is like the query, on one page.

        Args:
            result: `SearchResult` of `search`.
            studies: the studies of the index, if they are not in files, as for `kmm.Classifier.evaluate`.
            progress: `Progress`.
            settings: as for `kmm.Classifier.explain_similarity`.

        Returns:
            `Cases`, which a notebook shows; `kmm.retrieval.cases.explainer.write_cases` writes it.

        Raises:
            InputError: if the query or all of its studies cannot be read, or a setting is unknown or out of range.
        """
        given = None if studies is None else StudyArguments(self._record).read_many(studies)
        known = None if given is None else {study.id: study for study in given}
        explainer = CaseExplainer(self._record, self.index, make_explain_settings(settings), known)
        return explainer.explain(result, progress)

    def _read_studies(self, studies: Any) -> dict[str, Study]:
        """Returns the studies of the index by their ids: those given, or read again from where they were."""
        if studies is None:
            return read_again(self.index)
        found: Collection = StudyArguments(self._record).read_many(studies)
        return {study.id: study for study in found}

    @cached_property
    def _reader(self) -> QueryReader:
        return QueryReader(self._record, self.index)

    def add(self, studies: Any, *, columns: Mapping[str, Any] | None = None, **options: Any) -> Self:
        """Adds studies; those that the index has already are left out.

        Args:
            studies, columns: as for `kmm.Classifier.evaluate`.
            options: `parts`, `progress`, `strict` of `kmm.retrieval.additions.add_studies`; `extra`, its `columns`.

        Returns:
            the object itself.

        Raises:
            InputError: if a study has the id of another in the index.
        """
        collection = StudyArguments(self._record).read_many(studies, columns=columns)
        options = {"columns" if name == "extra" else name: value for name, value in options.items()}
        added = add_studies(self._record, collection, self.index.folder, **options)
        self.index, self.problems = added.index, added.problems
        self.__dict__.pop("_reader", None)
        return self

    def measure(
        self,
        studies: Any = None,
        *,
        overlap: float = 0.0,
        depth: int | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Measures the rankings of its studies for each other, beside chance, an oracle and baselines. After an
        interruption, the same call continues.

        Args:
            studies: the studies of the index, for the baselines and explanations, if they are not in files.
            overlap, depth: as for `search`, of the row `overlap`; 0 leaves it out.
            progress: `Progress`.
            options: `k`, `queries`, `among`, `most`, `relevant_from`, `rerank`, `repeats` and `seed` of
                `kmm.retrieval.measures.measurement.measure_index`.

        Returns:
            dict, see docs/retrieval.md.
        """
        known = self._read_studies(studies)
        with keeping_pieces(self.index.folder, progress) as pieces:
            baselines = make_baselines(self.index, known, np.arange(len(self.index)), progress, pieces)
            if overlap:
                named = NamedStudies(self.index, NamingExplainer(self._record, self.index), known, progress, pieces)
                options["overlap"] = OverlapRanking(named, overlap, depth)
            return measure_index(self.index, baselines=baselines, progress=progress, pieces=pieces, **options)

    def __repr__(self) -> str:
        place = f" in {self.folder}" if self.folder else ""
        return f"<SimilarStudies: {len(self)} studies, {self.index.size} features of {self.index.layer}{place}>"


@contextlib.contextmanager
def naming_index(folder: Path | str | None) -> Iterator[Path]:
    """Provides the path of an index: the given one, or `index` in a new temporary folder, removed if the block fails.

    Args:
        folder: path, or None.
    """
    if folder is not None:
        check_path("folder", folder)
        yield Path(folder)
        return
    made = Path(tempfile.mkdtemp(prefix="kmm-index-"))
    try:
        yield made / "index"
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
