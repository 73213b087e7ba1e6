"""Places and words that explanations of studies name: each study is explained once, for its most probable label."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from kmm.classifier import Classifier
from kmm.data.study import Problem, Study
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.progress import Progress
from kmm.retrieval.columns import IndexColumns
from kmm.retrieval.index import check_model
from kmm.retrieval.layers import digest_model
from kmm.retrieval.measures.overlap import GRID, NOTHING, Named, mark_places, weigh_named
from kmm.retrieval.measures.pieces import Arrays, Pieces
from kmm.retrieval.study_rows import describe_study

AT_ONCE = 32  # studies of a piece


class NamingExplainer:
    """Explains studies, and keeps what their explanations name. The model is traced once.

    Args:
        classifier: `Classifier` that the index was built with.
        index: `IndexColumns`.
        settings: `ExplainSettings`, or None for the defaults.

    Raises:
        ArtefactError: if the index was built with another classifier.
    """

    def __init__(self, classifier: Classifier, index: IndexColumns, settings: ExplainSettings | None = None) -> None:
        digest = digest_model(classifier)
        check_model(index.folder, index.description, digest)
        self.salt = index.salt
        self.explainer = Explainer(classifier, settings or ExplainSettings(), digest=digest)

    def describe(self, studies: Sequence[Study], pattern: str) -> dict[str, Any]:
        """Returns what decides what is named, as a dict for JSON. It has reports, so only its digest may be kept."""
        facts = {"model": self.explainer.digest, "settings": self.explainer.settings.as_dict(), "pattern": pattern}
        return {**facts, "grid": GRID, "salt": self.salt.hex(), "studies": [describe_study(one) for one in studies]}

    def name(
        self,
        studies: Sequence[Study],
        pattern: str,
        set_aside: Callable[[Problem], None],
        advance: Callable[[], object] = lambda: None,
    ) -> dict[str, Named]:
        """Explains studies.

        Args:
            studies: sequence of `Study` of distinct ids.
            pattern: name in `kmm.data.modalities.PATTERNS`: the sides of a study that are read.
            set_aside: function of a `Problem`, called for each study that cannot be explained.
            advance: function that is called for each study.

        Returns:
            dict of study id to `Named`, without those that cannot be explained.
        """
        found: dict[str, Named] = {}

        def refuse(problem: Problem) -> None:
            set_aside(problem)
            advance()

        for explanation in self.explainer.explain([hide_side(study, pattern) for study in studies], refuse):
            places = NOTHING.places
            if explanation.film is not None:
                places = mark_places(explanation.regions, explanation.film.shape)
            found[explanation.study] = Named(places, *weigh_named(explanation.words, self.salt))
            advance()
        return found


def hide_side(study: Study, pattern: str) -> Study:
    """Returns a study without what a pattern does not read.

    Example:
        >>> from kmm.data.study import Report
        >>> hide_side(Study("1", "1", report=Report(findings="Mass.")), "image").report is None
        True
    """
    if pattern == "image":
        return replace(study, report=None)
    return replace(study, images=()) if pattern == "text" else study


class NamedStudies:
    """What the explanations of studies of an index name. Each study is explained once for each pattern.

    Args:
        index: `IndexColumns`.
        explainer: `NamingExplainer`.
        studies: mapping of study id to `Study`.
        progress: `Progress`.
        pieces: `Pieces`, so that explanations are not made again after an interruption; None to keep nothing.

    Attributes:
        explained, set_aside: int. Explanations that were made or kept, and studies that could not be explained.
    """

    def __init__(
        self,
        index: IndexColumns,
        explainer: NamingExplainer,
        studies: Mapping[str, Study],
        progress: Progress | None = None,
        pieces: Pieces | None = None,
    ) -> None:
        self.index, self.explainer, self.studies = index, explainer, studies
        self.progress, self.pieces = progress or Progress(), pieces or Pieces()
        self.explained = self.set_aside = 0

    def read(self, pattern: str, rows: np.ndarray) -> dict[int, Named]:
        """Explains the studies of some rows.

        Args:
            pattern: str, the sides that are read.
            rows: int array of distinct rows.

        Returns:
            dict of row to `Named`, without studies that are gone or cannot be explained.
        """
        ids = self.index.read_texts("id", rows)
        here = {id: int(row) for id, row in zip(ids, rows, strict=True) if id in self.studies}
        studies = [self.studies[id] for id in here]
        own = self.pieces.of("named", self.explainer.describe(studies, pattern))
        starts = range(0, len(studies), AT_ONCE)
        done = sum(len(studies[start : start + AT_ONCE]) for start in starts if own.has(start))
        found: dict[int, Named] = {}
        with self.progress.step(f"Explaining for overlaps ({pattern})", len(studies), done) as advance:
            for start in starts:
                some = studies[start : start + AT_ONCE]
                part = own.read_or_make(start, partial(self._name, some, pattern, advance))
                named = _unpack(part)
                found |= {here[some[place].id]: one for place, one in named.items()}
        self.explained += len(found)
        self.set_aside += len(rows) - len(found)
        return found

    def _name(self, studies, pattern, advance) -> Arrays:
        named = self.explainer.name(studies, pattern, lambda problem: None, advance)
        places = [place for place, study in enumerate(studies) if study.id in named]
        chosen = [named[studies[place].id] for place in places]
        return {
            "study": np.array(places, np.int64),
            "places": np.array([one.places for one in chosen], np.uint8).reshape(len(chosen), len(NOTHING.places)),
            "words": np.concatenate([NOTHING.words, *(one.words for one in chosen)]),
            "weights": np.concatenate([NOTHING.weights, *(one.weights for one in chosen)]),
            "counts": np.array([len(one.words) for one in chosen], np.int64),
        }


def _unpack(part):
    """Returns what the studies of a piece name, by their place among those of the piece."""
    stops = np.cumsum(part["counts"])[:-1] if len(part["counts"]) else []
    words, weights = np.split(part["words"], stops), np.split(part["weights"], stops)
    return {
        place: Named(part["places"][number], words[number], weights[number])
        for number, place in enumerate(part["study"].tolist())
    }
