"""Leave studies undecided for which the validation studies do not support a decision at a chosen error level."""

from dataclasses import replace

import numpy as np

from kmm.classifier import Classifier, StudyLogits, list_predictions
from kmm.data.modalities import PATTERN_TITLES, PATTERNS, find_patterns, list_patterns
from kmm.errors import ArtefactError, InputError
from kmm.evaluate.decisions.conformal import BINS, find_least, predict_sets
from kmm.protocol.predictions import ABSTAIN, Prediction

CLASSES = ("negative", "positive")


def check_abstention(classifier: Classifier, alpha: float) -> list[str]:
    """Checks that a classifier can leave studies undecided, and finds the classes that it can never rule out.

    Args:
        classifier: `Classifier`.
        alpha: float in (0, 1), as in `abstain_from`.

    Returns:
        list of lines for the user, one for each pattern of film and report that has too few validation studies of a
        class; empty if there is none.

    Raises:
        InputError: if `alpha` is not in (0, 1), or the classifier was saved without its validation scores.
        ArtefactError: if these do not have its labels.
    """
    counts, least, lines = _find_counts(classifier, alpha).sum(axis=3), find_least(alpha), []
    batches = classifier.batches
    for pattern in list_patterns(image=batches.image is not None, text=batches.text is not None):
        of_pattern = counts[PATTERNS.index(pattern)]
        few = [
            f"{name} {title} ({count})"
            for name, row in zip(classifier.label_names, of_pattern.tolist(), strict=True)
            for title, count in zip(CLASSES, row, strict=True)
            if count < least
        ]
        if few:
            lines.append(
                f"Fewer than the {least} validation studies that the error level {alpha:g} needs to rule a class out, "
                f"for {PATTERN_TITLES[pattern]}: {', '.join(few)}"
            )
    return lines


def abstain_from(classifier: Classifier, predictions: StudyLogits, alpha: float) -> list[Prediction]:
    """Predicts studies, with `"abstain"` in place of the decisions that validation does not support.

    A decision is kept if its class is the only one in the conformal set of the study. So at most the fraction `alpha`
    of the studies of a class is decided wrongly, for each label and for studies like those of validation. The epochs
    were chosen on the same validation studies, which makes the sets slightly too small.

    Args:
        classifier: `Classifier` that made the predictions.
        predictions: `kmm.classifier.StudyLogits` with the logits of its main part.
        alpha: float in (0, 1). Largest fraction of the studies of a class that may be decided wrongly.

    Returns:
        list of `Prediction` of the main part, with `sets`.

    Raises:
        InputError, ArtefactError: as `check_abstention`.
    """
    counts = _find_counts(classifier, alpha)
    scores = classifier.probabilities(predictions.logits[classifier.main], predictions.present)
    pattern = np.asarray(find_patterns(predictions.present)).astype(np.int64)
    sets = np.zeros((*scores.shape, 2), bool)
    for place in np.unique(pattern):
        rows = pattern == place
        sets[rows] = predict_sets(counts[place], scores[rows], alpha=alpha)
    found = list_predictions(classifier, predictions)
    return [_limit(one, dict(zip(classifier.label_names, own))) for one, own in zip(found, sets, strict=True)]


def _find_counts(classifier, alpha):
    """Returns the validation scores of a classifier, after a check of what `check_abstention` raises for."""
    if not 0 < alpha < 1:
        raise InputError(f"`abstain` must be an error level in (0, 1). Received: {alpha}.")
    counts = classifier.conformal
    if counts is None:
        raise InputError(
            "This classifier has no validation scores and cannot abstain: an earlier version of kmm saved it. Fit it "
            "again, or recalibrate it in Python: classifier.recalibrate(studies)."
        )
    if counts.shape != (len(PATTERNS), len(classifier.label_names), 2, BINS):
        raise ArtefactError(
            f"The validation scores of the classifier have a wrong shape: {counts.shape}. Fit it again."
        )
    return counts


def _limit(prediction, sets):
    """Returns the prediction with its sets, and without the decisions that they do not support."""
    classes = {name: np.flatnonzero(held).tolist() for name, held in sets.items()}
    decisions = {
        name: decision if classes[name] == [int(decision)] else ABSTAIN
        for name, decision in prediction.decisions.items()
    }
    return replace(prediction, decisions=decisions, sets=classes)
