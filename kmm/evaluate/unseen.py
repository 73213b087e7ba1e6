"""Predict the labelled studies that a classifier was not trained on, in one pass over their films."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence

from kmm.batches import Batch
from kmm.classifier import Classifier, StudyLogits
from kmm.data.labels import count_classes, describe_classes, label_studies
from kmm.data.study import Study
from kmm.errors import InputError
from kmm.evaluate.changed_weights import UNVERIFIED, is_stale
from kmm.evaluate.linear_baselines import list_measured
from kmm.evaluate.seen import recognise_study
from kmm.image.decoding import decode_ahead
from kmm.progress import Progress
from kmm.rules.rule_scheme import saved_scheme


def predict_unseen(
    classifier: Classifier,
    studies: Sequence[Study],
    *,
    strict: bool = False,
    progress: Progress | None = None,
    watch: Callable[[str, Batch], object] | None = None,
) -> dict[str, StudyLogits]:
    """Predicts studies by all parts of a classifier, except those that it was trained on or that have no known label.

    Each film is decoded at most once: the same gray levels say whether the classifier knows the film, and are
    predicted. Memory holds the films of two batches, and of those that are decoded ahead.

    Args:
        classifier: `Classifier`.
        studies: sequence of `Study`, not labelled yet.
        strict: bool. Raise at the first unusable study.
        progress: `kmm.progress.Progress`. Its notes count the studies that were left out, with the reason, and name the
            labels that lack a class.
        watch: function of a part and the `Batch` of one study of it, called for each study that can be used; or None.

    Returns:
        dict of `"validation"`, and `"test"` or `kmm.evaluate.changed_weights.UNVERIFIED`, to `StudyLogits`; a part
        without studies is left out.

    Raises:
        InputError: if there is no study to predict.
        ImageError, ReportError: with `strict`, if a study cannot be used.
    """
    progress = progress or Progress()
    scheme = saved_scheme(classifier.settings.labels, classifier.provenance)
    labelled, _ = label_studies(studies, scheme, names=classifier.label_names)
    known = [study for study in labelled if not all(map(math.isnan, study.labels.values()))]
    others = UNVERIFIED if is_stale(classifier) else "test"
    parts: dict[str, list[Study]] = {"train": [], "validation": [], others: []}
    predictor = classifier.start_prediction(parts=list_measured(classifier), strict=strict)
    predictors = {"validation": predictor, others: predictor.renew()}

    def prepare(study: Study) -> tuple[str, Batch | InputError | None]:
        """Returns the part of a study and its batch; None if it is left out, or the error if it cannot be used."""
        found = recognise_study(classifier, study)
        if found.part == "train":
            return "train", None
        made = found.error or classifier.batches.try_batch(study, [found.film])
        return others if found.part == "test" else found.part, made

    prepared = decode_ahead(prepare, known, size=classifier.batches.film_bytes)
    with progress.step("Predicting", len(known)) as advance, contextlib.closing(prepared):
        for study, (part, made) in prepared:
            parts[part].append(study)
            if watch and isinstance(made, Batch):
                watch(part, made)
            if made is not None:
                predictors[part].add(study, made)
            advance()
    predictions = {part: predictor.finish() for part, predictor in predictors.items() if parts[part]}
    _note_parts(classifier, len(studies), parts, progress)
    return predictions


def _note_parts(classifier: Classifier, count: int, parts: Mapping[str, Sequence[Study]], progress: Progress) -> None:
    """Notes how many of `count` studies are in each part, and which labels lack a class in one.

    Raises:
        InputError: if all studies are of training, or there are none.
    """
    trained, measured = len(parts["train"]), {part: chosen for part, chosen in parts.items() if part != "train"}
    validation, (others, unseen) = len(parts["validation"]), list(measured.items())[-1]
    progress.note(
        f"{count} studies: {count - trained - validation - len(unseen)} without a known label and {trained} that the "
        f"classifier was trained on are left out, {validation} that it was calibrated on are validation, "
        f"{len(unseen)} are {others}"
    )
    if not any(measured.values()):
        reason = f"{trained} labelled studies, all used in training" if trained else "no labelled studies"
        raise InputError(f"Expected labelled studies that the classifier was not trained on. Received: {reason}.")
    for part, chosen in measured.items():
        for name in classifier.label_names if chosen else ():
            counts = count_classes(study.labels[name] for study in chosen)
            if not all(counts):
                progress.note(
                    f"Label {name!r} lacks a class in {part} ({describe_classes(counts)}): ROC AUC and other metrics "
                    "that need both classes are left out."
                )
