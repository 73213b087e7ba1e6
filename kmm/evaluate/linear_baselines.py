"""Linear baselines of a classifier: a probe of its image features, and the sum of its logits and those of TF-IDF."""

from typing import TYPE_CHECKING

import numpy as np

from kmm.data.modalities import as_table
from kmm.evaluate.changed_weights import is_stale
from kmm.evaluate.decisions.calibration import fit_temperature
from kmm.evaluate.decisions.thresholds import choose_thresholds
from kmm.evaluate.linear_probe import add_logits, find_odds, fit_sum
from kmm.models.linear_probe import IMAGE_LINEAR, LINEAR_SUM, LinearBaselines, LinearProbe

if TYPE_CHECKING:
    from kmm.classifier import Classifier, StudyLogits


def fit_baselines(
    probe: LinearProbe,
    features: np.ndarray,
    labels: np.ndarray,
    present: np.ndarray,
    *,
    train: np.ndarray,
    validation: np.ndarray,
    texts: np.ndarray | None,
) -> LinearBaselines:
    """Makes the linear baselines of a probe; validation chooses the weights of the sum.

    Args:
        probe: `LinearProbe` of the films of the training studies.
        features: float array `(n, d)`, the vectors of films; those of a study without a film do not count.
        labels: array `(n, n_labels)` of 0, 1 and NaN (unknown).
        present: array `(n, 2)`: whether each study has a film, and a report.
        train, validation: int arrays of rows.
        texts: float array `(len(validation), n_labels)`, the probabilities of the TF-IDF baseline; None without one.

    Returns:
        `LinearBaselines`.
    """
    if texts is None:
        return LinearBaselines(probe)
    image, prior = probe.logits(features[validation]), np.nanmean(labels[train], axis=0)
    total = fit_sum(image, find_odds(texts), labels[validation], present=present[validation], prior=prior)
    return LinearBaselines(probe, total)


def list_measured(classifier: "Classifier") -> tuple[str, ...]:
    """Lists what is run to measure a classifier: its models and, while they have the weights that it was fitted on, the
    linear probe."""
    linear = classifier.linear is not None and "image" in classifier.models and not is_stale(classifier)
    return (*classifier.models, *((IMAGE_LINEAR,) if linear else ()))


def calibrate_linear(classifier: "Classifier", validation: "StudyLogits", texts: np.ndarray | None) -> None:
    """Chooses the temperatures and thresholds of the linear baselines on validation, those of the probe on studies with
    a film."""
    policy = classifier.settings.threshold_policy
    for name, logits in _list_logits(classifier, validation, texts).items():
        chosen = validation.present[:, 0] > 0 if name == IMAGE_LINEAR else np.ones(len(logits), bool)
        known = validation.labels[chosen]
        temperatures = fit_temperature(logits[chosen], known)
        classifier.temperatures[name] = as_table(temperatures)
        scores = classifier.probabilities(logits[chosen], validation.present[chosen], name)
        classifier.thresholds[name] = as_table(choose_thresholds(known, scores, policy=policy))


def score_linear(
    classifier: "Classifier", predictions: "StudyLogits", texts: np.ndarray | None
) -> dict[str, np.ndarray]:
    """Computes the probabilities of the linear baselines.

    Args:
        classifier: `Classifier`.
        predictions: `StudyLogits`.
        texts: float array `(n, n_labels)`, the probabilities of the TF-IDF baseline; None without one.

    Returns:
        dict of `IMAGE_LINEAR` and `LINEAR_SUM`, those that the classifier has, to float64 `(n, n_labels)`.
    """
    found = _list_logits(classifier, predictions, texts)
    return {name: classifier.probabilities(logits, predictions.present, name) for name, logits in found.items()}


def _list_logits(classifier, predictions, texts):
    if classifier.linear is None or IMAGE_LINEAR not in predictions.logits:
        return {}
    image, total = predictions.logits[IMAGE_LINEAR], classifier.linear.total
    if total is None or texts is None:
        return {IMAGE_LINEAR: image}
    return {IMAGE_LINEAR: image, LINEAR_SUM: add_logits(total, image, find_odds(texts), predictions.present)}
