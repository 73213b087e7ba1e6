"""Calibrate every part of a classifier, and a joint part also for films and reports alone."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from kmm.data.modalities import PATTERNS, hide_sides
from kmm.evaluate.decisions.calibration import Calibration, fit_calibration
from kmm.evaluate.leak_probe import choose_text_thresholds
from kmm.evaluate.linear_baselines import calibrate_linear
from kmm.evaluate.report import find_measured

if TYPE_CHECKING:
    from kmm.classifier import Classifier, StudyLogits

AnswerHidden = Callable[[str, str, np.ndarray], np.ndarray]


def calibrate_parts(
    classifier: "Classifier", validation: "StudyLogits", answer_hidden: AnswerHidden
) -> dict[str, tuple[Calibration, dict[str, int]]]:
    """Chooses the temperatures and thresholds of every part, and of the baselines.

    A film or a report alone is calibrated on the validation studies that have it, with the other side hidden. Parts
    that read only one side have one set of numbers.

    Args:
        classifier: `Classifier`; its `temperatures`, `thresholds` and `conformal` are filled in.
        validation: `StudyLogits` of all parts for the validation studies.
        answer_hidden: function of a part, a name of `kmm.data.modalities.PATTERNS` and int64 rows of `validation` that
            returns the logits `(rows, n_labels)` of the part for these studies with the other side hidden.

    Returns:
        dict of part to its `Calibration`, and to a dict of pattern to its number of studies (empty unless it is joint).
    """
    policy, chosen = classifier.settings.threshold_policy, {}
    for part in classifier.models:
        samples = {
            pattern: select_hidden(part, pattern, validation, answer_hidden) for pattern in PATTERNS if part == "joint"
        }
        measured = find_measured(part, validation.present)
        pooled = (validation.logits[part][measured], validation.labels[measured])
        found = fit_calibration(pooled, samples, policy=policy)
        classifier.temperatures[part], classifier.thresholds[part] = found.temperatures, found.thresholds
        if part == classifier.main:
            classifier.conformal = found.conformal
        chosen[part] = found, {pattern: len(labels) for pattern, (_, labels) in samples.items()}
    texts = choose_text_thresholds(classifier, validation)
    calibrate_linear(classifier, validation, texts)
    return chosen


def select_hidden(
    part: str, pattern: str, validation: "StudyLogits", answer_hidden: AnswerHidden
) -> tuple[np.ndarray, np.ndarray]:
    """Selects the studies that have the sides of a pattern, with their other side hidden.

    Args:
        part, pattern: str, as for `answer_hidden`.
        validation, answer_hidden: as in `calibrate_parts`; only studies that have the other side are passed to it.

    Returns:
        logits `(k, n_labels)` and labels `(k, n_labels)` of these studies, in their order.
    """
    hidden, kept = hide_sides(validation.present, pattern)
    rows = np.flatnonzero(kept & (hidden != validation.present).any(axis=1))
    logits = validation.logits[part].copy()
    if len(rows):
        logits[rows] = answer_hidden(part, pattern, rows)
    return logits[kept], validation.labels[kept]
