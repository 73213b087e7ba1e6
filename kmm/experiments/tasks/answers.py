"""Answers of the models and baselines of a split for its studies."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kmm.classifier import Classifier, probabilities
from kmm.data.modalities import choose_rows, hide_sides
from kmm.evaluate.decisions.calibration import fit_temperature
from kmm.evaluate.decisions.thresholds import choose_thresholds
from kmm.evaluate.report import find_measured, score_rows
from kmm.experiments.tasks.linear_probe import find_odds, fit_probe, sum_logits
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
    scores = {part: score_rows(classifier, predictions) for part, predictions in run.predictions.items()}
    linear, facts = _fit_linear(run, {part: found.get("tfidf") for part, found in scores.items()})
    return {part: _answer(classifier, run, part, scores[part], linear) for part in run.predictions}, facts


def _answer(classifier, run, part, scores, linear):
    """Returns the answers for a part, given the scores of the trained rows and those of the linear models."""
    present, rows = run.predictions[part].present, run.rows(part)
    found = {
        name: Answers(values, classifier.thresholds_for(present, name), find_measured(name, present))
        for name, values in scores.items()
    }
    if "joint" in scores and part != "train":
        found |= {name: _hide_side(classifier, run, part, side) for name, side in ALONE.items()}
    found |= {
        name: Answers(whole.probabilities[rows], whole.thresholds[rows], whole.measured[rows])
        for name, whole in linear.items()
    }
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


def _fit_linear(run, tfidf):
    """Fits the linear probe, and its sum with TF-IDF.

    Args:
        run: `Run`.
        tfidf: dict of part to the probabilities of the TF-IDF baseline, or None.

    Returns:
        dict of model to `Answers` of all studies, and facts.
    """
    if "image" not in run.models:
        return {}, {}
    labels, (has_film, has_report) = run.prepared.labels, run.prepared.present.T > 0
    train, validation = run.rows("train"), run.rows("validation")
    features, policy = _pool_features(run), run.settings.threshold_policy
    held = validation[has_film[validation]]
    probe = fit_probe(features, labels, train=train[has_film[train]], validation=held)
    logits = {"image": probe.logits(features)}
    facts: dict[str, Any] = {"features": features.shape[1], "strengths": list(probe.strengths)}
    found = {"image-linear": _calibrate(logits["image"], labels, held, has_film, policy)}
    if tfidf.get("validation") is not None:
        prior = np.nanmean(labels[train], axis=0)
        logits["text"] = np.tile(find_odds(prior), (len(labels), 1))
        for part, scores in tfidf.items():
            logits["text"][run.rows(part)] = find_odds(scores)
        sides = {"image": has_film, "text": has_report}
        total = sum_logits(logits, labels, validation=validation, present=sides, prior=prior)
        found["linear-sum"] = _calibrate(total, labels, validation, np.ones(len(labels), bool), policy)
    return found, facts


def _calibrate(logits, labels, validation, measured, policy):
    """Calibrates logits of all studies on validation."""
    temperatures = fit_temperature(logits[validation], labels[validation])
    values = probabilities(logits, temperatures)
    cuts = choose_thresholds(labels[validation], values[validation], policy=policy)
    return Answers(values, np.broadcast_to(cuts, values.shape), measured)


def _pool_features(run):
    """Returns the features of films float32 `(n, d)`; those of a sequence are averaged over its positions."""
    columns = run.features.compute(run.models["image"], ("image",))
    column = columns.get("image_vector", next(iter(columns.values())))
    everything = np.asarray(column[np.arange(len(run.prepared.studies))], np.float32)
    return everything if everything.ndim == 2 else everything.reshape(len(everything), -1, everything.shape[-1]).mean(1)
