"""Calibrate scores: temperatures turn logits into probabilities, thresholds turn probabilities into decisions.

Both are fitted on validation studies only and stored with the classifier. A model of films and reports is calibrated
separately for each pattern (film and report, film alone, report alone), because a film alone moves the score less than
film and report together.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import expit

from kmm.data.modalities import PATTERNS, hide_sides
from kmm.evaluate.arrays import as_columns, known_columns
from kmm.evaluate.decisions.conformal import count_scores
from kmm.evaluate.decisions.thresholds import choose_thresholds

TEMPERATURE_RANGE = (0.05, 20.0)
LEAST_OF_A_CLASS = 20


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> np.ndarray:
    """Fits for each label the temperature by which its logits are divided before the sigmoid.

    Minimises the negative log-likelihood of the known labels plus `log(T)**2 / 2`, a prior that weighs about as much as
    one study. Without it, a label whose validation studies are all classified correctly would get `T = 0`, and a single
    mistake on new studies would have unbounded loss. With it, the likelihood is never worse than at `T = 1`. A
    temperature changes neither the order of the studies nor the ROC AUC.

    Source: https://arxiv.org/abs/1706.04599 (temperature scaling; the weak prior on `T` is kmm's).

    Args:
        logits: array `(n,)` or `(n, n_labels)`, finite.
        labels: array of the same shape of 0, 1 and NaN (unknown).

    Returns:
        float64 array `(n_labels,)`, each in [0.05, 20]; 1.0 if the known labels have fewer than two classes.

    Raises:
        InputError: if the shapes differ, or a logit is not finite, or a label is not 0, 1 or NaN.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> logits = rng.normal(size=20000)
        >>> labels = rng.random(20000) < 1 / (1 + np.exp(-logits))
        >>> fit_temperature(3 * logits, labels).round(1).tolist()
        [3.0]
    """
    columns = known_columns(*as_columns(labels, logits, probabilities=False))
    return np.array([_fit_one(y, z) for y, z in columns])


@dataclass(frozen=True)
class Calibration:
    """Temperatures, thresholds and conformal scores of a model, for each pattern of modalities.

    Attributes:
        temperatures, thresholds: float64 `(3, n_labels)`, one row for each of `kmm.data.modalities.PATTERNS`.
        pooled: bool `(3, n_labels)`: True if the pattern had too few studies of a class, so that the numbers were
            fitted on all studies.
        conformal: int32 `(3, n_labels, 2, BINS)`: `kmm.evaluate.decisions.conformal.count_scores` of the studies of the
            pattern itself, however few.
    """

    temperatures: np.ndarray
    thresholds: np.ndarray
    pooled: np.ndarray
    conformal: np.ndarray


def fit_calibration(
    pooled: tuple[np.ndarray, np.ndarray],
    patterns: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    policy: str = "youden",
    least: int = LEAST_OF_A_CLASS,
) -> Calibration:
    """Fits temperatures and thresholds for each pattern of modalities, and counts its conformal scores.

    Args:
        pooled: logits `(n, n_labels)` and labels of all validation studies, with all modalities they have.
        patterns: dict of pattern to logits and labels of the validation studies that have its modalities, with the
            other modality hidden. A missing pattern gets the pooled numbers.
        policy: str, as for `kmm.evaluate.decisions.thresholds.choose_thresholds`.
        least: int. A label with fewer known studies of either class in a pattern gets the pooled numbers there.

    Returns:
        `Calibration`.

    Raises:
        InputError: if the policy is unknown or the arrays do not match.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> logits = rng.normal(size=(20000, 1))
        >>> labels = (rng.random((20000, 1)) < 1 / (1 + np.exp(-logits))).astype(float)
        >>> found = fit_calibration((logits, labels), {"image": (3 * logits, labels), "text": (logits[:9], labels[:9])})
        >>> found.temperatures.round(1).tolist(), found.pooled.tolist()
        ([[1.0], [3.0], [1.0]], [[True], [False], [True]])
    """
    shared = _fit_numbers(*pooled, policy)
    rows = []
    for pattern in PATTERNS:
        logits, labels = patterns.get(pattern, (pooled[0][:0], pooled[1][:0]))
        few = has_few(labels, least=least)
        own = _fit_numbers(logits, labels, policy)
        temperatures, thresholds = (np.where(few, one, other) for one, other in zip(shared, own, strict=True))
        counts = _count_scores(*patterns.get(pattern, pooled), temperatures)
        rows.append((temperatures, thresholds, few, counts))
    return Calibration(*map(np.stack, zip(*rows, strict=True)))


def has_few(labels: np.ndarray, *, least: int = LEAST_OF_A_CLASS) -> np.ndarray:
    """Finds the labels with too few known studies of a class for a calibration.

    Args:
        labels: array `(n, n_labels)` of 0, 1 and NaN (unknown).
        least: int. Minimum number of studies of each class.

    Returns:
        bool array `(n_labels,)`.

    Example:
        >>> has_few(np.array([[0, 1], [1, 1], [1, 1]]), least=1).tolist()
        [False, True]
    """
    return np.minimum((labels == 1).sum(axis=0), (labels == 0).sum(axis=0)) < least


def fit_prevalence(labels: np.ndarray, present: np.ndarray, *, least: int = LEAST_OF_A_CLASS) -> np.ndarray:
    """Computes the prevalence of each label for each pattern, among the training studies that have its modalities.

    Args:
        labels: array `(n, n_labels)` of 0, 1 and NaN (unknown); each label is known for at least one study.
        present: array `(n, 2)` of 0 and 1.
        least: int. A label with fewer studies of either class in a pattern gets its prevalence among all studies.

    Returns:
        float64 array `(3, n_labels)` in [0, 1].

    Example:
        >>> labels, present = np.array([[1.0], [0.0], [1.0]]), np.array([[1, 1], [1, 1], [0, 1]])
        >>> fit_prevalence(labels, present, least=1).round(2).tolist()
        [[0.5], [0.5], [0.67]]
    """
    shared, rows = np.nanmean(labels, axis=0), []
    for pattern in PATTERNS:
        chosen = labels[hide_sides(present, pattern)[1]]
        positives, known = (chosen == 1).sum(axis=0), (~np.isnan(chosen)).sum(axis=0)
        rows.append(np.where(has_few(chosen, least=least), shared, positives / np.maximum(known, 1)))
    return np.array(rows, np.float64)


def _fit_numbers(logits, labels, policy):
    """Fits temperatures and thresholds `(n_labels,)` on one set of studies."""
    temperatures = fit_temperature(logits, labels)
    return temperatures, choose_thresholds(labels, expit(np.asarray(logits, np.float64) / temperatures), policy=policy)


def _count_scores(logits, labels, temperatures):
    return count_scores(labels, expit(np.asarray(logits, np.float64) / temperatures))


def _fit_one(labels, logits):
    if len(np.unique(labels)) < 2:
        return 1.0
    margins = np.where(labels == 1, logits, -logits)

    def cost(log_temperature):
        return np.logaddexp(0, -margins * np.exp(-log_temperature)).sum() + log_temperature**2 / 2

    best = minimize_scalar(cost, bounds=np.log(TEMPERATURE_RANGE), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x)) if best.fun < cost(0.0) else 1.0
