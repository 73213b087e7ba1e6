"""Explanation of studies with one classifier: prepares them, attributes the score, finds regions and words."""

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np

from kmm.classifier import Classifier
from kmm.data.modalities import choose_rows
from kmm.data.study import Problem, Study
from kmm.errors import ImageError, InputError
from kmm.explain.attribution.baselines import check_baselines
from kmm.explain.attribution.method_model import split_for_method
from kmm.explain.attribution.methods import Case, choose_method
from kmm.explain.attribution.quadrature import choose_nodes
from kmm.explain.attribution.result import share_modalities
from kmm.explain.explanation import Explanation
from kmm.explain.regions.find import check_settings
from kmm.explain.settings import ALL, POSITIVE, ExplainSettings
from kmm.explain.study_cases import StudyCases, refuse_by
from kmm.explain.words import warn_of_cut
from kmm.storage.archive import digest_classifier

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
        self.cases = StudyCases(classifier)
        self._check_inputs()
        self.split = split_for_method(classifier, self.method, settings, freeze=freeze)
        self.chunk = self.split.chunk
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
        jobs, targets, refuse = [], targets or {}, refuse_by(set_aside)

        def prepare(study, film):
            prepared = self._prepare(study, film, targets.get(study.id))
            if not prepared:
                raise InputError(NONE_POSITIVE)
            return prepared

        def cases():
            for prepared in studies_with_jobs:
                for job in prepared:
                    jobs.append(job)
                    yield job.case

        studies_with_jobs = self.cases.prepare_each(studies, prepare, refuse)
        with contextlib.closing(studies_with_jobs):
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
        film = self.cases.read_film(study)
        if isinstance(film, ImageError):
            raise film
        return self._prepare(study, film)[0].case

    def _prepare(self, study, film, target=None):
        """Returns the jobs of a study, one per label, from its film and its report."""
        case = self.cases.make(study, film)
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
        described = self.cases.describe(study, job.case, job.film, found, self.settings.regions)
        return Explanation(
            **described,
            target=names[found.target],
            probabilities=dict(zip(names, map(float, probabilities), strict=True)),
            thresholds=dict(zip(names, map(float, thresholds), strict=True)),
            modality_share=share_modalities(found),
            settings=replace(self.settings, target=names[found.target]) if self.settings.targets else self.settings,
            model=self.digest,
            warnings=(*found.warnings, *warn_of_cut(described["words"])),
        )
