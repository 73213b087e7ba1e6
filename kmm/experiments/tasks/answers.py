"""Answers of the models and baselines of a split for its studies."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kmm.classifier import Classifier
from kmm.data.modalities import choose_rows, hide_sides
from kmm.evaluate.report import find_measured, score_rows
from kmm.training.fit import Run

ALONE = {"joint-image": "image", "joint-text": "text"}  # the joint model when it sees one side of a study alone


@dataclass(frozen=True)
class Answers:
    """What a model says of the studies of a part.

    Attributes:
        probabilities, thresholds: float64 `(n, n_labels)`.
        measured: bool `(n,)`: the studies on which the model is measured, those that have what it reads.
    """

    probabilities: np.ndarray
    thresholds: np.ndarray
    measured: np.ndarray


def gather_answers(classifier: Classifier, run: Run) -> tuple[dict[str, dict[str, Answers]], dict[str, Any]]:
    """Gathers what every model and baseline of a run says of each part.

    Args:
        classifier, run: results of `kmm.training.fit.fit_classifier` with the predictions of all parts.

    Returns:
        dict of part to dict of model to `Answers`; and facts for JSON about the linear models.
    """
    probe = classifier.linear and classifier.linear.probe
    facts = {"features": len(probe.mean), "strengths": list(probe.strengths)} if probe else {}
    return {part: _answer(classifier, run, part) for part in run.predictions}, facts


def _answer(classifier, run, part):
    """Returns the answers for a part."""
    present, scores = run.predictions[part].present, score_rows(classifier, run.predictions[part])
    found = {
        name: Answers(values, classifier.thresholds_for(present, name), find_measured(name, present))
        for name, values in scores.items()
    }
    if "joint" in scores and part != "train":
        found |= {name: _hide_side(classifier, run, part, side) for name, side in ALONE.items()}
    prevalence = choose_rows(classifier.prevalence, present)
    everything = np.ones(len(present), bool)
    return {**found, "majority": Answers(prevalence, np.full(prevalence.shape, 0.5), everything)}


def _hide_side(classifier, run, part, pattern):
    """Returns the answers of the joint model that sees one side alone, for the studies that have it."""
    rows = run.rows(part)
    present, _ = hide_sides(run.prepared.present, pattern)
    hidden, kept = hide_sides(run.prepared.present[rows], pattern)
    values = classifier.probabilities(run.answers["joint"](rows, present=present), hidden, "joint")
    return Answers(values, classifier.thresholds_for(hidden, "joint"), kept)
