"""Explanation of studies with one classifier: prepares them, attributes the score, finds regions and words."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Self

import numpy as np
from keras import ops

from kmm.classifier import Classifier
from kmm.data.modalities import choose_rows
from kmm.data.study import Problem, Study
from kmm.errors import ImageError, InputError, ReportError
from kmm.explain.attribution.baselines import check_baselines
from kmm.explain.attribution.methods import Case, choose_method, clear_bars
from kmm.explain.attribution.quadrature import choose_nodes
from kmm.explain.attribution.result import share_modalities
from kmm.explain.attribution.split_model import SplitModel, call_view, choose_chunk, cut_model, open_model
from kmm.explain.explanation import Explanation, show_film
from kmm.explain.regions.find import check_settings, find_regions
from kmm.explain.settings import ALL, POSITIVE, ExplainSettings
from kmm.explain.words import ReadWord, score_words, warn_of_cut
from kmm.image.decoding import decode_ahead
from kmm.image.source import find_source_scale
from kmm.models.views.parts import embed_of
from kmm.storage.archive import digest_classifier
from kmm.text.vocabulary import UNKNOWN

EXPLAIN_DEFAULTS = ExplainSettings()
NONE_POSITIVE = "no label is positive: every probability is below its threshold. Nothing was explained."


@dataclass
class _Job:
    """One label of one study to explain.

    Attributes:
        film: uint8 array `(height, width)`, the film at its own size, for display; None without a film.
        made: dict shared by the study's labels: place of a label to its `Explanation`, None until it is done.
    """

    study: Study
    case: Case
    film: np.ndarray | None
    made: dict[int, Explanation | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Film:
    """A film as it is shown and as the model reads it.

    Attributes:
        shown: uint8 array `(height, width)`.
        square: float32 array `(pixels, pixels, 1)`.
        box: `(top, left, height, width)` of the film in its square.
    """

    shown: np.ndarray
    square: np.ndarray
    box: tuple[int, int, int, int]


class Explainer:
    """Explains studies with one classifier. The model is traced once, however many studies follow.

    Args:
        classifier: `kmm.classifier.Classifier`; its main part is explained.
        settings: `ExplainSettings`.
        digest: str. Digest of the classifier, written into every explanation.
        freeze: bool. See `kmm.explain.attribution.gradients.compile_function`. Memory may then exceed `memory_gb`.

    Raises:
        InputError: if a name in the settings is unknown, the classifier lacks the label, or the method explains only
            films and the classifier reads none, or reads attention that it cannot follow.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: ExplainSettings = EXPLAIN_DEFAULTS,
        *,
        digest: str = "",
        freeze: bool = False,
    ):
        self.classifier, self.settings, self.digest = classifier, settings, digest
        self.method = choose_method(settings.method)
        choose_nodes(settings.rule, settings.steps)
        check_settings(settings.regions)
        check_baselines(settings.baselines, settings.text_baseline, classifier.mean_image)
        self._check_targets()
        self.embed = embed_of(classifier.models[classifier.main])
        self._check_inputs()
        opened = None
        if self.method.at_attention:
            opened = open_model(classifier, output=settings.output, memory_gb=settings.memory_gb)
        layer, encoder = None, classifier.image_encoder
        if self.method.at_feature_map and encoder:
            layer = settings.layer or encoder.feature_map
        view = cut_model(classifier, layer)
        self.chunk = choose_chunk(getattr(view, self.method.repeated), settings.memory_gb, view.held)
        stem, score = call_view(view, classifier, settings.output)
        feature_map = f"image_{layer}" if layer else None
        self.split = SplitModel(stem, score, self.chunk, feature_map, freeze, view.views, opened)
        self.attribute = self.method.for_model(self.split, settings)

    @classmethod
    def load(cls, folder: Path | str, settings: ExplainSettings = EXPLAIN_DEFAULTS, *, freeze: bool = False) -> Self:
        """Makes an explainer of a saved classifier.

        Raises:
            ArtefactError: if the classifier is incomplete or was altered.
        """
        classifier = Classifier.load(folder, main_only=True)
        return cls(classifier, settings, digest=digest_classifier(folder), freeze=freeze)

    def with_settings(self, settings: ExplainSettings) -> Self:
        """Returns a copy that shares the traced model, for settings that differ only in labels and `regions`."""
        other = copy.copy(self)
        other.settings = settings
        check_settings(settings.regions)
        other._check_targets()
        return other

    def _check_inputs(self):
        """Checks that the model reads an input that the method can attribute to."""
        sides, batches = {"image": ("image", "films"), "rows": ("text", "reports")}, self.classifier.batches
        if not any(getattr(batches, sides[name][0]) for name in self.method.inputs):
            explained = " and ".join(sides[name][1] for name in self.method.inputs)
            other = " and ".join(noun for name, (_, noun) in sides.items() if name not in self.method.inputs)
            raise InputError(
                f"Method {self.settings.method!r} explains {explained}. Received: a model of {other} alone."
            )

    def _check_targets(self):
        names, settings = self.classifier.label_names, self.settings
        for target in filter(None, (settings.target, *settings.targets)):
            if target not in names and (target == settings.target or target not in (POSITIVE, ALL)):
                raise InputError(f"`target` must be a label of the model: {', '.join(names)}. Received: {target}.")

    def explain(
        self,
        studies: Iterable[Study],
        set_aside: Callable[[Problem], None] | None = None,
        targets: Mapping[str, str | None] | None = None,
    ) -> Iterator[Explanation]:
        """Explains studies, several at once; memory does not grow with their number.

        Args:
            studies: iterable of `Study`.
            set_aside: callable taking a `Problem`. Called for each study that cannot be used or whose score or gradient
                is not finite; the study is then left out. None: the error is raised.
            targets: mapping of study id to the label to explain. A study without an entry is explained for the labels
                of the settings, or for its most probable label.

        Yields:
            `Explanation`, in the order in which the studies are done; those of one study in the order of its labels.
        """
        for _, explanations in self.explain_studies(studies, set_aside, targets):
            yield from explanations

    def explain_studies(
        self,
        studies: Iterable[Study],
        set_aside: Callable[[Problem], None] | None = None,
        targets: Mapping[str, str | None] | None = None,
    ) -> Iterator[tuple[str, list[Explanation]]]:
        """Explains studies as `explain` does, all labels of a study together. Large films are decoded ahead in threads.

        Yields:
            the id of a study and the list of its `Explanation`, one per label.
        """
        jobs, targets = [], targets or {}

        def refuse(study, error):
            if set_aside is None:
                raise type(error)(f"study {study.id}: {error}") from None
            set_aside(Problem(f"study {study.id}", str(error)))

        def cases():
            for study, film in films:
                try:
                    if isinstance(film, ImageError):
                        raise film
                    prepared = self._prepare(study, film, targets.get(study.id))
                except (ImageError, ReportError) as error:
                    refuse(study, error)
                    continue
                if not prepared:
                    refuse(study, InputError(NONE_POSITIVE))
                for job in prepared:
                    jobs.append(job)
                    yield job.case

        films = decode_ahead(self._read_film, studies, size=self.classifier.batches.film_bytes)
        with contextlib.closing(films):
            for number, found in self.attribute(cases()):
                job, jobs[number] = jobs[number], None
                if found.is_finite and job.made:
                    job.made[job.case.target] = self._finish(job, found)
                    if None not in job.made.values():
                        yield job.study.id, list(job.made.values())
                elif job.made:  # else it was refused with another of its labels
                    job.made.clear()
                    refuse(job.study, InputError("expected finite scores and gradients. Received NaN or infinity."))

    def case(self, study: Study) -> Case:
        """Prepares a study as input of a method: its `Case`, for the first label to explain."""
        film = self._read_film(study)
        if isinstance(film, ImageError):
            raise film
        return self._prepare(study, film)[0].case

    def _read_film(self, study):
        """Reads and prepares the film of a study; returns a `_Film`, None without a film, or the error."""
        batches = self.classifier.batches
        try:
            film = batches.film(study)
        except ImageError as error:
            return error
        if film is None:
            return None
        return _Film(show_film(film), batches.image.apply(film), batches.image.find_box(film.shape))

    def _prepare(self, study, film, target=None):
        """Returns the jobs of a study, one per label, from its film and its report."""
        batches = self.classifier.batches
        inputs, fixed, absent, padding_row = {}, {}, set(), None
        present = np.zeros(2, np.float32)
        if batches.image:
            side = batches.image.pixels
            inputs["image"] = np.zeros((side, side, 1), np.float32) if film is None else film.square
            present[0] = film is not None
        if batches.text:
            ids = batches.token_ids(study)
            rows = ops.convert_to_numpy(ops.cast(self.embed(np.stack([ids, np.zeros_like(ids)])), "float32"))
            inputs["rows"], padding_row = rows[0], rows[1, 0]
            fixed["padding_mask"] = (ids != 0).astype(np.float32)
            present[1] = ids.any()
        for column, name in enumerate(("image", "rows")):
            if name in inputs and not present[column]:
                absent.add(name)
        if not present.any():
            raise batches.nothing_to_read(study)
        case = Case(
            study=study.id,
            inputs=inputs,
            absent=frozenset(absent),
            box=film and film.box,
            fixed={**fixed, "present": present},
            mean_image=self.classifier.mean_image,
            padding_row=padding_row,
        )
        chosen = self._choose_targets(target, case)
        made = dict.fromkeys(chosen)
        return [_Job(study, replace(case, target=target), film and film.shown, made) for target in chosen]

    def _choose_targets(self, target, case):
        """Returns the indices of the requested labels, else of the only label, else of the most probable one."""
        names, several = self.classifier.label_names, () if target else self.settings.targets
        target = target or self.settings.target
        asked = {name for name in several if name in names}
        if ALL in several and ALL not in names:
            asked.update(names)
        if POSITIVE in several and POSITIVE not in names:
            reached = self._probabilities(self._score(case), case) >= self._thresholds(case)
            asked.update(name for name, positive in zip(names, reached, strict=True) if positive)
        if several:
            return [place for place, name in enumerate(names) if name in asked]
        if target is not None or len(names) == 1:
            return [names.index(target or names[0])]
        scores = self._score(case)
        if self.settings.output == "probability":
            return [int(np.argmax(scores))]
        main, present = self.classifier.main, case.fixed["present"][None]
        return [int(np.argmax(scores / choose_rows(self.classifier.temperatures[main], present)[0]))]

    def _score(self, case):
        """Returns the scores of a study for all labels."""
        given = (case.inputs, case.fixed)
        return self.split.integrator.score(
            *({name: np.stack([value, value]) for name, value in values.items()} for values in given)
        )[0]

    def _probabilities(self, scores, case):
        """Converts scores `(n_labels,)` to calibrated probabilities."""
        if self.settings.output == "probability":
            return scores
        return self.classifier.probabilities(scores[None], case.fixed["present"][None])[0]

    def _thresholds(self, case):
        """Returns the thresholds `(n_labels,)` that apply to a study."""
        return self.classifier.thresholds_for(case.fixed["present"][None])[0]

    def _finish(self, job, found):
        names, study = self.classifier.label_names, job.study
        probabilities, thresholds = self._probabilities(found.scores, job.case), self._thresholds(job.case)
        heat = self._crop(found, job.film)
        film_size = job.film.shape if job.film is not None else None
        text, sections, read = self._read(study)
        found = clear_bars(found, job.case.box)
        redacted = self.classifier.batches.text.find_redacted(text) if text else []
        values = found.values.get("rows") if _has_words(job.case) else None
        words = score_words(text, sections, read, values, redacted)
        return Explanation(
            study=study.id,
            image=str(study.frontal.path) if job.film is not None else None,
            target=names[found.target],
            attribution=found,
            probabilities=dict(zip(names, map(float, probabilities), strict=True)),
            thresholds=dict(zip(names, map(float, thresholds), strict=True)),
            film=job.film,
            pixel_scale=(1.0, 1.0) if job.film is None else find_source_scale(study.frontal),
            heat=heat,
            regions=[] if heat is None else find_regions(heat, self.settings.regions, film_size=film_size),
            text=text,
            sections=sections,
            words=words,
            redacted=redacted,
            modality_share=share_modalities(found),
            settings=replace(self.settings, target=names[found.target]) if self.settings.targets else self.settings,
            model=self.digest,
            warnings=(*found.warnings, *warn_of_cut(words)),
        )

    def _crop(self, found, film):
        """Returns the part of the attribution map that lies on the film, summed over channels; None without a film."""
        if film is None or "image" not in found.values:
            return None
        top, left, height, width = self.classifier.batches.image.find_box(film.shape)
        return found.values["image"].sum(axis=-1)[top : top + height, left : left + width]

    def _read(self, study):
        """Returns the report, its sections and its words, each with its rows of the model; a word cut off has none."""
        batches = self.classifier.batches
        if batches.text is None or study.report is None:
            return "", [], []
        text, vocabulary = batches.text, batches.vocabulary
        report = text.text(study)
        words = text.find(report)
        texts = [word.text for word in words]
        ids = vocabulary.encode(texts, length=text.length, truncate=text.truncate)
        stops = list(accumulate((len(pieces) for pieces in vocabulary.split(texts)), initial=0))
        first = max(0, stops[-1] - text.length) if text.truncate == "start" else 0
        read = []
        for word, start, stop in zip(words, stops, stops[1:], strict=False):
            rows = slice(*(min(max(place - first, 0), text.length) for place in (start, stop)))
            if start < stop:
                read.append(ReadWord(word.start, word.end, rows, known=bool((ids[rows] != UNKNOWN).all())))
        return report, study.report.spans(text.sections), read


def _has_words(case):
    """Returns whether a study has words that the model read."""
    return "rows" in case.inputs and "rows" not in case.absent
