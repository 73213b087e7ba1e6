"""Curves of the test predictions of a comparison: calibration, risk against coverage, net benefit against threshold."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kmm.evaluate.decisions.calibration_error import calibration_bins
from kmm.evaluate.decisions.decision_curve import compute_decision_curve
from kmm.evaluate.decisions.selective import measure_selection
from kmm.experiments.tables import Columns
from kmm.experiments.titles import SIDES

MODELS = (*SIDES, "tfidf")
COVERAGES = tuple(round(0.05 * step, 2) for step in range(10, 21))
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
BINS = 10
NUMBERS = ("truth", "probability", "threshold")


@dataclass(frozen=True)
class PredictionCurves:
    """Curves of one model of a variant. Without studies of known label there are none.

    Attributes:
        probability, positives: float arrays `(k,)`: mean probability and fraction of positives in bins of equal mass,
            of the test parts of all splits together.
        risk: float array, fraction of wrong decisions at each of `COVERAGES`, mean over splits and labels.
        benefit, treat_all: float arrays, net benefit at each of `THRESHOLDS`, mean over splits and labels.
    """

    probability: np.ndarray
    positives: np.ndarray
    risk: np.ndarray
    benefit: np.ndarray
    treat_all: np.ndarray


Curves = Mapping[str, Mapping[str, PredictionCurves]]  # of a variant and a model


def trace_predictions(predictions: Columns) -> dict[str, dict[str, PredictionCurves]]:
    """Traces the curves of the models and of TF-IDF in every variant.

    Args:
        predictions: columns of the predictions.

    Returns:
        dict of variant to dict of model to `PredictionCurves`; empty without predictions of a test part.
    """
    found: dict[str, dict[str, list[tuple[np.ndarray, ...]]]] = {}
    for (variant, model), *tables in _group_predictions(predictions):
        found.setdefault(variant, {}).setdefault(model, []).append(tuple(tables))
    return {
        variant: {model: _trace(models[model]) for model in MODELS if model in models}
        for variant, models in found.items()
    }


def _group_predictions(predictions: Columns) -> Iterator[tuple]:
    """Yields variant and model, truths, probabilities and thresholds of each split and label that has known studies."""
    truth = np.asarray(predictions["truth"], float)
    kept = np.flatnonzero((predictions["part"] == "test") & np.isin(predictions["model"], MODELS) & ~np.isnan(truth))
    names = ("variant", "model", "split", "label")
    values = [np.unique(predictions[name][kept], return_inverse=True) for name in names]
    keys, group = np.unique(np.stack([place for _, place in values], axis=1), axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    for key, rows in zip(keys, np.split(kept[order], np.cumsum(np.bincount(group.ravel(), minlength=len(keys)))[:-1])):
        variant, model = (str(names[place]) for (names, _), place in zip(values[:2], key))
        yield (variant, model), *(np.asarray(predictions[name][rows], float) for name in NUMBERS)


def _trace(tables):
    """Traces the curves of one model from the tables of its splits and labels."""
    risks, benefits = [], []
    for truth, probability, threshold in tables:
        chosen = measure_selection(truth, probability, threshold, coverages=COVERAGES)
        risks.append([point["risk"] for point in chosen["risk"]])
        curve = compute_decision_curve(truth, probability, THRESHOLDS, repeats=0)
        benefits.append((curve.net_benefit, curve.treat_all))
    truth, probability, _ = (np.concatenate(column) for column in zip(*tables, strict=True))
    mean, share, _ = calibration_bins(truth, probability, bins=BINS)
    benefit, treat_all = np.mean(benefits, axis=0)
    return PredictionCurves(mean, share, np.mean(risks, axis=0), benefit, treat_all)
