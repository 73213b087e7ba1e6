"""Measure scores with one table of metrics, for one label or many; unknown labels are left out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn import metrics as sk

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, as_cuts, known_columns
from kmm.evaluate.decisions.calibration_error import expected_calibration_error

BOTH = (0, 1)


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        title: str, as printed in tables.
        needs: tuple of the classes (0, 1) that must occur among the known labels for the metric to be defined.
        measure: function of labels (n,), probabilities (n,) and decisions (n,) that returns a float.
    """

    title: str
    needs: tuple[int, ...]
    measure: Callable[[np.ndarray, np.ndarray, np.ndarray], Any]


METRICS = {
    "accuracy": Metric("Accuracy", (), lambda y, p, d: sk.accuracy_score(y, d)),
    "balanced_accuracy": Metric("Balanced accuracy", BOTH, lambda y, p, d: sk.balanced_accuracy_score(y, d)),
    "roc_auc": Metric("ROC AUC", BOTH, lambda y, p, d: sk.roc_auc_score(y, p)),
    "average_precision": Metric("AP", BOTH, lambda y, p, d: sk.average_precision_score(y, p)),
    "sensitivity": Metric("Sensitivity", (1,), lambda y, p, d: sk.recall_score(y, d)),
    "specificity": Metric("Specificity", (0,), lambda y, p, d: sk.recall_score(y, d, pos_label=0)),
    "f1": Metric("F1", (1,), lambda y, p, d: sk.f1_score(y, d)),
    "mcc": Metric("MCC", BOTH, lambda y, p, d: sk.matthews_corrcoef(y, d)),
    "brier": Metric("Brier", (), lambda y, p, d: np.mean((p - y) ** 2)),
    "log_loss": Metric("Log loss", (), lambda y, p, d: sk.log_loss(y, p, labels=[0, 1])),
    "ece": Metric("ECE", (), lambda y, p, d: expected_calibration_error(y, p)),
}


def score_labels(
    labels: ArrayLike,
    probabilities: ArrayLike,
    thresholds: ArrayLike,
    *,
    label_names: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Measures probabilities and the decisions `probability >= threshold` against known labels.

    A metric that is undefined for the known labels (no study of a class it needs, or no study at all) is None, never
    NaN. MCC is 0 if all decisions are equal. For log loss, probabilities are kept at least 2.2e-16 away from 0 and 1.

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown, left out).
        probabilities: array of the same shape in [0, 1].
        thresholds: float for all labels, array `(n_labels,)`, or array `(n, n_labels)` if they differ between studies.
        label_names: sequence of `n_labels` str; required for more than one label.

    Returns:
        dict: `n` (studies with a known label), `n_positive` and one float or None for each key of `METRICS`. With many
        labels, each metric is the mean over the labels for which it is defined, `n_positive` is the sum, and
        `per_label` holds the same dict for each name.

    Raises:
        InputError: if shapes, values or the number of names do not match.

    Example:
        >>> scores = score_labels([0, 0, 1, 1], [0.1, 0.6, 0.5, 0.9], 0.5)
        >>> scores["n"], scores["accuracy"], scores["roc_auc"], scores["sensitivity"]
        (4, 0.75, 0.75, 1.0)
    """
    known, values = as_columns(labels, probabilities)
    n, n_labels = known.shape
    cuts = as_cuts(thresholds, (n, n_labels), "thresholds")
    pairs = zip(known_columns(known, values), known_columns(known, cuts), strict=True)
    singles = [_score_one(y, p, cut) for (y, p), (_, cut) in pairs]
    if n_labels == 1:
        return singles[0]
    return average_labels(singles, n=int((~np.isnan(known)).any(axis=1).sum()), label_names=label_names)


def average_labels(
    singles: Sequence[Mapping[str, Any]], *, n: int, label_names: Sequence[str] | None
) -> dict[str, Any]:
    """Computes the mean of each metric over the labels for which it is defined.

    Args:
        singles: list of dicts, one per label, with `n_positive` and a float or None for each metric.
        n: int. Number of studies in which any label is known.
        label_names: sequence of str, one per label.

    Returns:
        dict with `n`, `n_positive`, the means, and `per_label`.

    Raises:
        InputError: if the label names are not unique or not one per label.

    Example:
        >>> average_labels([{"n_positive": 1, "f1": 0.5}, {"n_positive": 0, "f1": None}], n=3, label_names="ab")["f1"]
        0.5
    """
    if label_names is None or len(set(label_names)) != len(singles) or len(label_names) != len(singles):
        raise InputError(f"Expected {len(singles)} different label names. Received: {label_names}.")
    means: dict[str, Any] = {"n": n, "n_positive": sum(single["n_positive"] for single in singles)}
    for metric in singles[0]:
        if metric not in ("n", "n_positive"):
            defined = [single[metric] for single in singles if single[metric] is not None]
            means[metric] = float(np.mean(defined)) if defined else None
    return means | {"per_label": dict(zip(label_names, singles))}


def _score_one(labels: np.ndarray, probabilities: np.ndarray, threshold: np.ndarray) -> dict[str, Any]:
    decisions = (probabilities >= threshold).astype(float)
    scores: dict[str, Any] = {"n": len(labels), "n_positive": int(labels.sum())}
    for name, metric in METRICS.items():
        defined = len(labels) > 0 and np.isin(metric.needs, labels).all()
        scores[name] = float(metric.measure(labels, probabilities, decisions)) if defined else None
    return scores
