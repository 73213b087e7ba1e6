"""Studies to explanations: prepares them as the classifier does, walks their paths, finds regions and words."""

from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np
from keras import ops

from kmm.artefact import digest_description
from kmm.classifier import Classifier
from kmm.data.study import Problem
from kmm.errors import ImageError, InputError, ReportError
from kmm.explain.attribution import share_modalities
from kmm.explain.baselines import check_baselines
from kmm.explain.explanation import Explanation
from kmm.explain.integrated_gradients import PathIntegrator
from kmm.explain.methods import CamMethod, Case, choose_method
from kmm.explain.model_cut import call_view, choose_chunk, cut_model
from kmm.explain.quadrature import choose_nodes
from kmm.explain.regions import check_settings, find_regions
from kmm.explain.settings import ExplainSettings
from kmm.explain.words import ReadWord, score_words, warn_of_cut
from kmm.models.parts import embed_of
from kmm.models.path_view import name_feature_map
from kmm.text.vocabulary import UNKNOWN

DEFAULTS = ExplainSettings()


@dataclass
class _Job:
    """A study on its way, with its film at its own size, which is shown: uint8 `(height, width)` or None."""

    study: object
    case: Case
    film: np.ndarray | None


class Explainer:
    """Explains studies with one classifier. The model is traced once, however many studies follow.

    Args:
        classifier: `kmm.classifier.Classifier`; its main part is explained.
        settings: `ExplainSettings`.
        digest: str. Digest of the classifier, said in every explanation.
        freeze: bool. See `kmm.explain.gradients.compile_function`. The limit of memory does not hold then.

    Raises:
        InputError: if a name in the settings is unknown, the classifier does not have the label, or it reads no films
            and the method explains nothing else.
    """

    def __init__(self, classifier, settings=DEFAULTS, *, digest="", freeze=False):
        self.classifier, self.settings, self.digest = classifier, settings, digest
        self.method = choose_method(settings.method)
        choose_nodes(settings.rule, settings.steps)
        check_settings(settings.regions)
        check_baselines(settings.baselines, settings.text_baseline, classifier.mean_image)
        names = classifier.label_names
        if settings.target is not None and settings.target not in names:
            raise InputError(f"`target` must be a label of the model: {', '.join(names)}. Received: {settings.target}.")
        model = classifier.models[classifier.main]
        self.embed = embed_of(model)
        cam = isinstance(self.method, CamMethod)
        if cam and not classifier.batches.image:
            raise InputError(f"Method {settings.method!r} explains films. Received: a model of reports alone.")
        layer = (settings.layer or name_feature_map(model)) if cam else None
        view = cut_model(classifier, layer)
        self.chunk = choose_chunk(view.stem if cam else view.rest, settings.memory_gb)
        stem, score = call_view(view, classifier, settings.output)
        self.integrator = PathIntegrator(score, stem=stem, chunk=self.chunk, freeze=freeze)
        if cam:
            options = {"name": f"image_{layer}", "chunk": self.chunk, "freeze": freeze, "settings": settings}
            self.attribute = self.method.make(score, stem, **options).attribute
        else:
            self.attribute = partial(self.method.attribute, self.integrator, settings=settings)
        self.temperatures = classifier.temperatures[classifier.main].astype(np.float32)

    @classmethod
    def load(cls, folder, settings=DEFAULTS, *, freeze=False):
        """Makes an explainer of a saved classifier.

        Raises:
            ArtefactError: if the classifier is incomplete or was altered.
        """
        classifier = Classifier.load(folder, main_only=True)
        return cls(classifier, settings, digest=digest_description(folder), freeze=freeze)

    def explain(self, studies, set_aside=None, targets=None):
        """Explains studies, several at once; memory does not grow with their number.

        Args:
            studies: iterable of `Study`.
            set_aside: callable taking a `Problem`. It is told of each study that cannot be used, or of which a score or
                a gradient is not finite; it is then left out. Without it the error is raised.
            targets: mapping of study id to the label to explain, which need not name all of them. Of the others the
                label of the settings is explained, and without one the most probable.

        Yields:
            `Explanation`, in the order in which they are done.
        """
        jobs, targets = [], targets or {}

        def refuse(study, error):
            if set_aside is None:
                raise type(error)(f"study {study.id}: {error}") from None
            set_aside(Problem(f"study {study.id}", str(error)))

        def cases():
            for study in studies:
                try:
                    job = self._prepare(study, targets.get(study.id))
                except (ImageError, ReportError) as error:
                    refuse(study, error)
                    continue
                jobs.append(job)
                yield job.case

        for number, found in self.attribute(cases()):
            job, jobs[number] = jobs[number], None
            if found.is_finite:
                yield self._finish(job, found)
            else:
                refuse(job.study, InputError("expected finite scores and gradients. Received NaN or infinity."))

    def case(self, study):
        """What a method is given of a study, as `kmm.explain.methods.Case`."""
        return self._prepare(study).case

    def _prepare(self, study, target=None):
        batches = self.classifier.batches
        film = batches.film(study)
        inputs, fixed, absent, padding_row = {}, {}, set(), None
        present = np.zeros(2, np.float32)
        if batches.image:
            side = batches.image.pixels
            inputs["image"] = np.zeros((side, side, 1), np.float32) if film is None else batches.image.apply(film)
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
            fixed={**fixed, "present": present},
            mean_image=self.classifier.mean_image,
            padding_row=padding_row,
            target=self._choose_target(target, inputs, {**fixed, "present": present}),
        )
        return _Job(study, case, None if film is None else np.clip(np.rint(film), 0, 255).astype(np.uint8))

    def _choose_target(self, target, inputs, fixed):
        """The place of the label asked for, else the only one, else the one of the highest probability."""
        names, target = self.classifier.label_names, target or self.settings.target
        if target is not None or len(names) == 1:
            return names.index(target or names[0])
        twice = [{name: np.stack([value, value]) for name, value in values.items()} for values in (inputs, fixed)]
        scores = self.integrator.score(*twice)[0]
        return int(np.argmax(scores if self.settings.output == "probability" else scores / self.temperatures))

    def _finish(self, job, found):
        classifier, study = self.classifier, job.study
        names, main = classifier.label_names, classifier.main
        if self.settings.output == "probability":
            probabilities = found.scores
        else:
            probabilities = classifier.probabilities(found.scores[None])[0]
        heat = self._crop(found, job.film)
        film_size = job.film.shape if job.film is not None else None
        text, sections, read = self._read(study)
        words = score_words(text, sections, read, found.values.get("rows") if _has_words(job.case) else None)
        return Explanation(
            study=study.id,
            image=str(study.frontal.path) if job.film is not None else None,
            target=names[found.target],
            attribution=found,
            probabilities=dict(zip(names, map(float, probabilities), strict=True)),
            thresholds=dict(zip(names, map(float, classifier.thresholds[main]), strict=True)),
            film=job.film,
            heat=heat,
            regions=[] if heat is None else find_regions(heat, self.settings.regions, film_size=film_size),
            text=text,
            sections=sections,
            words=words,
            modality_share=share_modalities(found),
            settings=self.settings,
            model=self.digest,
            warnings=(*found.warnings, *warn_of_cut(words)),
        )

    def _crop(self, found, film):
        """The part of the map that lies on the film."""
        if film is None or "image" not in found.values:
            return None
        top, left, height, width = self.classifier.batches.image.find_box(film.shape)
        return found.values["image"].sum(axis=-1)[top : top + height, left : left + width]

    def _read(self, study):
        """The report, its sections, and its words, each with the rows of its pieces: none for one that was cut off."""
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
    """Whether a study has words that the model read."""
    return "rows" in case.inputs and "rows" not in case.absent
