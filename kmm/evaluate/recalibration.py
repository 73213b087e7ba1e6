"""Recalibrate a classifier whose weights were changed: temperatures, thresholds, metrics and studies seen."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kmm.classifier import Classifier
from kmm.data.groups import name_some
from kmm.data.labels import count_classes, label_studies
from kmm.data.study import Problem, Study
from kmm.errors import ImageError, InputError
from kmm.evaluate.changed_weights import is_stale, mark_recalibrated
from kmm.evaluate.decisions.part_calibration import calibrate_parts
from kmm.evaluate.linear_baselines import list_measured
from kmm.evaluate.report import evaluate_predictions
from kmm.evaluate.seen import gather_seen, part_studies
from kmm.image.film_identity import digest_film, sketch_film
from kmm.models.linear_probe import IMAGE_LINEAR, LINEAR_SUM
from kmm.progress import Progress
from kmm.rules.rule_scheme import saved_scheme


def recalibrate(
    classifier: Classifier,
    studies: Sequence[Study],
    *,
    trained_on: Sequence[Study] | None = None,
    progress: Progress | None = None,
) -> list[Problem]:
    """Chooses new temperatures and thresholds on labelled studies, as a fit does on its validation part.

    The studies count as validation from then on, and their results become the classifier's only metrics.

    Args:
        classifier: `Classifier`, changed in place.
        studies: sequence of `Study`, labelled by the scheme of the classifier.
        trained_on: sequence of the `Study` that the weights were changed on, which count as trained on from then on;
            None if they are not known.
        progress: `kmm.progress.Progress`.

    Returns:
        list of `Problem`: studies that could not be used.

    Raises:
        InputError: if no study has a known label, none can be used, one was trained on, or no label has both classes.

    Warns:
        UserWarning: if a label lacks a class, so that its temperature and threshold cannot be chosen.
    """
    scheme = saved_scheme(classifier.settings.labels, classifier.provenance)
    labelled, _ = label_studies(studies, scheme, names=classifier.label_names)
    known = [study for study in labelled if not all(map(math.isnan, study.labels.values()))]
    if not known:
        raise InputError(f"Recalibration needs studies with a known label. Received: {len(studies)} without one.")
    seen = dict(classifier.seen)
    if trained_on is not None:
        seen["train"] = _add_seen(classifier, "train", trained_on)
    _refuse_trained(replace(classifier, seen=seen), known, progress)
    if is_stale(classifier):
        _drop_linear(classifier)
    predictions = classifier.predict(known, parts=list_measured(classifier), progress=progress)
    if not predictions.studies:
        raise InputError(f"Recalibration needs studies that can be used. All {len(known)} were set aside.")
    _check_classes(classifier.label_names, predictions.labels)
    seen["validation"] = _add_seen(classifier, "validation", predictions.studies)

    def answer_hidden(part: str, pattern: str, rows: np.ndarray) -> np.ndarray:
        shown = [predictions.studies[row] for row in rows]
        hidden = [replace(one, report=None) if pattern == "image" else replace(one, images=()) for one in shown]
        return classifier.predict(hidden, parts=[part], strict=True).logits[part]

    calibrate_parts(classifier, predictions, answer_hidden)
    classifier.seen.update(seen)
    classifier.metrics.clear()
    repeats = classifier.settings.bootstrap_repeats
    classifier.metrics["validation"] = evaluate_predictions(classifier, predictions, repeats=repeats)
    mark_recalibrated(classifier, trained_on_known=trained_on is not None)
    return predictions.problems


def _drop_linear(classifier):
    """Drops the linear baselines, which were fitted on features of other weights."""
    classifier.linear = None
    for numbers in (classifier.temperatures, classifier.thresholds):
        for name in (IMAGE_LINEAR, LINEAR_SUM):
            numbers.pop(name, None)


def _refuse_trained(classifier, studies, progress):
    """Raises `InputError` if the classifier was trained on one of the studies."""
    trained = part_studies(classifier, studies, progress=progress)["train"]
    if trained:
        raise InputError(
            "Recalibration needs studies that the classifier was not trained on. It was trained on "
            f"{name_some([study.id for study in trained])}. Leave them out."
        )


def _check_classes(names, labels):
    """Raises `InputError` if no label has both classes; warns of labels that lack one."""
    lacking = [name for name, values in zip(names, labels.T) if not all(count_classes(values))]
    if len(lacking) == len(names):
        raise InputError(f"Recalibration needs studies of both classes. One class of {', '.join(lacking)} is missing.")
    if lacking:
        warnings.warn(
            f"The temperature and threshold of {', '.join(lacking)} cannot be chosen: the studies are of one class.",
            UserWarning,
            stacklevel=4,
        )


def _add_seen(classifier, part, studies):
    """Returns the fingerprints of a part that the classifier recognises, with those of more studies."""
    batches = classifier.batches
    named, digests, sketches = [], [], []
    for study in studies:
        try:
            film, digest = batches.read_film(study)
        except ImageError:  # such a study was not used either
            continue
        named.append(study if film is None else study.with_pixel_digest(digest_film(film)))
        digests.append(digest)
        sketches.append(0 if film is None else sketch_film(batches.image.apply(film)))
    new, old = gather_seen(named, digests, sketches, batches.text), classifier.seen.get(part)
    return new if old is None else old.merged(new)
