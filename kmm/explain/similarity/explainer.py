"""Explanation of the similarity of two studies with one classifier."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import ops

from kmm.classifier import Classifier
from kmm.data.study import Problem, Study
from kmm.errors import ImageError, InputError, ReportError, look_up
from kmm.explain.attribution.baselines import check_baselines
from kmm.explain.attribution.gradients import compile_function
from kmm.explain.attribution.method_model import split_for_method
from kmm.explain.attribution.methods import Case, choose_method, make_baseline
from kmm.explain.attribution.quadrature import choose_nodes
from kmm.explain.attribution.result import Attribution
from kmm.explain.regions.find import check_settings
from kmm.explain.settings import ExplainSettings
from kmm.explain.similarity.cosine import READS, aim_case, choose_length, read_case, score_cosine
from kmm.explain.similarity.pair import ComparedStudy, Similarity
from kmm.explain.study_cases import StudyCases, refuse_by

SIDES = {"image": "film", "rows": "report"}  # inputs, and what a study calls them


@dataclass(frozen=True)
class PreparedStudy:
    """A study, ready to be compared.

    Attributes:
        study: `Study`.
        reads: str. The sides of it that are read.
        case: `Case` of what the layer reads.
        film: uint8 array `(height, width)`, for display; None without a film.
        vector: float array `(d,)`, of the layer.
        length: float, from `choose_length`.
    """

    study: Study
    reads: str
    case: Case
    film: np.ndarray | None
    vector: np.ndarray
    length: float


@dataclass
class _Pair:
    """Two studies, and the attributions that are done."""

    studies: tuple[PreparedStudy, PreparedStudy]
    found: dict[int, Attribution] = field(default_factory=dict)


class SimilarityExplainer:
    """Explains the similarity of studies with one classifier. The model is traced once, however many studies follow.

    Args:
        classifier: `kmm.classifier.Classifier`; vectors of its main part are compared.
        settings: `ExplainSettings`. Its labels and `output` have no meaning here.
        layer: str. `"joint"`: the features from which the logits are computed; `"image"` or `"text"`: the vector of
            that encoder.
        digest: str. Digest of the classifier, written into every result.
        freeze: bool. See `kmm.explain.attribution.gradients.compile_function`.

    Attributes:
        cases: `StudyCases`.
        split: `SplitModel`, whose score is the cosine.

    Raises:
        InputError: if a name in the settings or the layer is unknown, the classifier does not read what the layer
            reads, or the method explains only films and the layer reads none.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: ExplainSettings | None = None,
        *,
        layer: str = "joint",
        digest: str = "",
        freeze: bool = False,
    ):
        self.classifier, self.layer, self.digest = classifier, layer, digest
        self.settings = settings = settings or ExplainSettings()
        self.method = choose_method(settings.method)
        choose_nodes(settings.rule, settings.steps)
        check_settings(settings.regions)
        check_baselines(settings.baselines, settings.text_baseline, classifier.mean_image)
        self._check_layer()
        self.cases = StudyCases(classifier)
        self.split = split_for_method(
            classifier, self.method, settings, output=layer, finish=score_cosine, freeze=freeze
        )
        self._attribute = self.method.for_model(self.split, settings)
        self._find_vectors = compile_function(self._call_halves)

    def _call_halves(self, inputs, fixed):
        return self.split.rest(self.split.stem(inputs, fixed), fixed)

    def _check_layer(self):
        batches = self.classifier.batches
        have = {"image": batches.image, "rows": batches.text}
        read = [name for name in look_up(READS, self.layer, "layer") if have[name]]
        if not read:
            raise InputError(f"Layer {self.layer!r} reads {SIDES[READS[self.layer][0]]}s, which this model does not.")
        if not set(read) & set(self.method.inputs):
            raise InputError(
                f"Method {self.settings.method!r} does not explain {SIDES[read[0]]}s, and layer {self.layer!r} of this "
                "model reads nothing else."
            )

    def explain(
        self,
        one: Study,
        others: Iterable[Study],
        set_aside: Callable[[Problem], None] | None = None,
        *,
        reads: tuple[str, str] = ("both", "both"),
    ) -> Iterator[Similarity]:
        """Explains how one study is like each of several others; memory does not grow with their number.

        Args:
            one: `Study`.
            others: iterable of `Study`.
            set_aside: callable taking a `Problem`. Called for each of `others` that cannot be compared, which is then
                left out. None: the error is raised.
            reads: pair of names in `kmm.data.modalities.PATTERNS`: which sides of `one`, and of each of `others`, are
                read, of those that a study has.

        Yields:
            `Similarity`, in the order of `others`.

        Raises:
            ImageError, ReportError: if `one` cannot be read.
            InputError: if it lacks what the layer reads, or its vector is 0.
        """
        first, pairs, refuse = self.prepare(one, reads[0]), list[_Pair | None](), refuse_by(set_aside)

        def cases():
            for second in prepared:
                pairs.append(_Pair((first, second)))
                yield aim_case(first.case, second.vector, first.length)
                yield aim_case(second.case, first.vector, second.length)

        prepared = self.cases.prepare_each(others, lambda study, film: self._prepare(study, film, reads[1]), refuse)
        given = 0
        with contextlib.closing(prepared):
            for number, found in self._attribute(cases()):
                pair = pairs[number // 2]
                if pair is not None:
                    pair.found[number % 2] = found
                while given < len(pairs) and (ready := pairs[given]) is not None and len(ready.found) == 2:
                    pairs[given], given = None, given + 1
                    if all(one.is_finite for one in ready.found.values()):
                        yield self._finish(ready)
                    else:
                        error = InputError("expected finite vectors and gradients. Received NaN or infinity.")
                        refuse(ready.studies[1].study, error)

    def prepare(self, study: Study, reads: str = "both") -> PreparedStudy:
        """Reads a study and computes its vector.

        Raises:
            ImageError, ReportError, InputError: as `explain`.
        """
        film = self.cases.read_film(study)
        if isinstance(film, ImageError):
            raise film
        return self._prepare(study, film, reads)

    def _prepare(self, study, film, reads):
        case = read_case(self.cases.make(study, film), self.layer, reads)
        if not set(case.inputs) - case.absent:
            missing = " and ".join(SIDES[name] for name in case.inputs)
            raise ReportError(f"expected a study with a {missing}, which layer {self.layer!r} reads. Found none.")
        settings = self.settings
        ends = [case.inputs, *(make_baseline(case, name, settings.text_baseline) for name in settings.baselines)]
        vector, *empty = ops.convert_to_numpy(self._find_vectors(*_stack(ends, case.fixed)))
        if not np.linalg.norm(vector) > 0:
            raise InputError(f"its vector of layer {self.layer!r} has no direction, so nothing is like it.")
        return PreparedStudy(study, reads, case, film and film.shown, vector, choose_length(vector, empty))

    def _finish(self, pair):
        one, other = (
            ComparedStudy(
                **self.cases.describe(one.study, one.case, one.film, pair.found[side], self.settings.regions),
                reads=one.reads,
                length_held=one.length > 0,
                settings=self.settings,
            )
            for side, one in enumerate(pair.studies)
        )
        return Similarity(one, other, layer=self.layer, settings=self.settings, model=self.digest)


def _stack(ends: list[dict[str, np.ndarray]], fixed: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Stacks points of one study's inputs, with its other inputs for each."""
    inputs = {name: np.stack([end[name] for end in ends]).astype(np.float32) for name in ends[0]}
    return inputs, {name: np.stack([value] * len(ends)) for name, value in fixed.items()}
