"""Calibrate scores: temperatures turn logits into probabilities, thresholds turn probabilities into decisions.

Both are fitted on validation studies only and stored with the classifier. A decision is `probability >= threshold`. A
model of films and reports is calibrated separately for each pattern (film and report, film alone, report alone),
because a film alone moves the score less than film and report together.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit

from kmm.data.modalities import PATTERNS, hide_sides
from kmm.errors import InputError, look_up
from kmm.evaluate.arrays import as_columns, known_columns

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


def calibration_bins(
    labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sorts studies by probability into bins of equal mass.

    Equal probabilities always share a bin (a run of ties goes to the bin of its middle), so there may be fewer bins
    than requested, down to one for constant probabilities.

    Args:
        labels: array `(n,)` of 0 and 1, with NaN for unknown.
        probabilities: array `(n,)` in [0, 1].
        bins: int, at least 1.

    Returns:
        three arrays `(k,)`, `k <= bins`, lowest bin first: mean probability, fraction of positives, number of studies.
        Empty if no label is known.

    Raises:
        InputError: if the arrays do not match.

    Example:
        >>> [row.tolist() for row in calibration_bins([0, 0, 1, 1], [0.1, 0.3, 0.6, 1.0], bins=2)]
        [[0.2, 0.8], [0.0, 1.0], [2, 2]]
    """
    (known, values), *more = known_columns(*as_columns(labels, probabilities))
    if more:
        raise InputError(f"Bins are computed for one label at a time. Received: {len(more) + 1} labels.")
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / max(1, len(known))
    place = np.floor(middle * bins).astype(int)[index]
    number = np.bincount(place, minlength=bins)
    used = number > 0
    mean = np.bincount(place, values, bins)[used] / number[used]
    share = np.bincount(place, known, bins)[used] / number[used]
    return mean, share, number[used]


def expected_calibration_error(labels: ArrayLike, probabilities: ArrayLike, *, bins: int = 15) -> float | None:
    """Computes the expected calibration error: the mean over bins of |mean probability - fraction of positives|.

    Bins have equal numbers of studies (see `calibration_bins`) and are weighted by them. The estimate is biased upwards
    if bins have few studies; with fewer than `bins` studies it is no better than the mean absolute error.

    Source: https://arxiv.org/abs/1706.04599 (with equal-mass bins as in https://arxiv.org/abs/1909.10155).

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown).
        probabilities: array of the same shape in [0, 1].
        bins: int, at least 1.

    Returns:
        float in [0, 1], with many labels the mean over those with a known study; None if no label is known.

    Raises:
        InputError: if the arrays do not match.

    Example:
        >>> expected_calibration_error([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5])
        0.0
    """
    errors = []
    for column, probability in known_columns(*as_columns(labels, probabilities)):
        mean, share, number = calibration_bins(column, probability, bins=bins)
        if len(column):
            errors.append(np.sum(number * np.abs(mean - share)) / len(column))
    return float(np.mean(errors)) if errors else None


def choose_thresholds(labels: ArrayLike, probabilities: ArrayLike, *, policy: str = "youden") -> np.ndarray:
    """Chooses for each label the threshold at or above which a probability counts as positive.

    Every cut between two adjacent scores is tried. The threshold is the centre of the widest range of probabilities
    over which the policy is optimal, so that it is as far from the scores as possible.

    Source: https://doi.org/10.1002/1097-0142(1950)3:1%3C32::AID-CNCR2820030106%3E3.0.CO;2-3 (policy "youden").

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown): validation studies, never test.
        probabilities: array of the same shape in [0, 1].
        policy: str, a key of `THRESHOLD_POLICIES`.

    Returns:
        float64 array `(n_labels,)`, in [0, 1] (slightly above 1 if it is best to call nothing positive and a score is
        1); 0.5 if the known labels have fewer than two classes.

    Raises:
        InputError: if the policy is unknown or the arrays do not match.

    Example:
        >>> choose_thresholds([0, 0, 1, 1], [0.1, 0.2, 0.6, 0.9]).tolist()
        [0.4]
    """
    choose = look_up(THRESHOLD_POLICIES, policy, "threshold policy")
    columns = known_columns(*as_columns(labels, probabilities))
    return np.array([choose(y, p) if len(np.unique(y)) == 2 else 0.5 for y, p in columns])


@dataclass(frozen=True)
class Calibration:
    """Temperatures and thresholds of a model, for each pattern of modalities.

    Attributes:
        temperatures, thresholds: float64 `(3, n_labels)`, one row for each of `kmm.data.modalities.PATTERNS`.
        pooled: bool `(3, n_labels)`: True if the pattern had too few studies of a class, so that the numbers were
            fitted on all studies.
    """

    temperatures: np.ndarray
    thresholds: np.ndarray
    pooled: np.ndarray


def fit_calibration(
    pooled: tuple[np.ndarray, np.ndarray],
    patterns: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    policy: str = "youden",
    least: int = LEAST_OF_A_CLASS,
) -> Calibration:
    """Fits temperatures and thresholds for each pattern of modalities.

    Args:
        pooled: logits `(n, n_labels)` and labels of all validation studies, with all modalities they have.
        patterns: dict of pattern to logits and labels of the validation studies that have its modalities, with the
            other modality hidden. A missing pattern gets the pooled numbers.
        policy: str, a key of `THRESHOLD_POLICIES`.
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
        rows.append((*(np.where(few, one, other) for one, other in zip(shared, own, strict=True)), few))
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


def _fit_one(labels, logits):
    if len(np.unique(labels)) < 2:
        return 1.0
    margins = np.where(labels == 1, logits, -logits)

    def cost(log_temperature):
        return np.logaddexp(0, -margins * np.exp(-log_temperature)).sum() + log_temperature**2 / 2

    best = minimize_scalar(cost, bounds=np.log(TEMPERATURE_RANGE), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(best.x)) if best.fun < cost(0.0) else 1.0


def _cut_at_best(objective, labels, probabilities):
    scores, index, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    positives = np.bincount(index, labels)[::-1]
    true_positives = np.append(0, np.cumsum(positives))  # entry k: if the k highest scores are called positive
    false_positives = np.append(0, np.cumsum(counts[::-1] - positives))
    value = objective(true_positives, false_positives, true_positives[-1], false_positives[-1])
    best = np.concatenate([[False], value >= value.max() - 1e-12, [False]])
    first = np.flatnonzero(best[1:-1] & ~best[:-2])
    last = np.flatnonzero(best[1:-1] & ~best[2:])
    edges = np.concatenate(
        [[np.nextafter(1.0, 2.0)], scores[::-1], [0.0]]
    )  # cut k: edges[k + 1] < threshold <= edges[k]
    high, low = edges[first], edges[last + 1]
    widest = np.argmax(high - low)
    centre = (high[widest] + low[widest]) / 2
    return float(centre if centre > low[widest] else high[widest])


def _youden(tp, fp, positives, negatives):
    return tp / positives - fp / negatives


def _f1(tp, fp, positives, negatives):
    return 2 * tp / (tp + fp + positives)


def _accuracy(tp, fp, positives, negatives):
    return (tp + negatives - fp) / (positives + negatives)


def _specificity_at(sensitivity, tp, fp, positives, negatives):
    return np.where(tp / positives >= sensitivity - 1e-12, 1 - fp / negatives, -1.0)


def _half(labels, probabilities):
    return 0.5


THRESHOLD_POLICIES: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "youden": partial(_cut_at_best, _youden),  # highest sensitivity + specificity
    "f1": partial(_cut_at_best, _f1),
    "accuracy": partial(_cut_at_best, _accuracy),
    "sensitivity-0.95": partial(
        _cut_at_best, partial(_specificity_at, 0.95)
    ),  # highest specificity at sensitivity 0.95
    "half": _half,
}


def fit_weights(logits: Mapping[str, ArrayLike], labels: ArrayLike) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Fits weights for the logits of several classifiers, so that their weighted sum predicts the labels best.

    Minimises for each label the negative log-likelihood of `sum(weight * logit) + bias` over the studies whose label is
    known, plus `sum((weight - 1)**2) / 2`, a prior that weighs about as much as one study. Weights are not negative.

    Args:
        logits: dict of name to array `(n, n_labels)`.
        labels: array `(n, n_labels)` of 0, 1 and NaN (unknown).

    Returns:
        dict of name to weights, float64 array `(n_labels,)`, and the biases, float64 array `(n_labels,)`. Weights are 1
        and biases 0 if the known labels have fewer than two classes.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> known, noise = rng.normal(0, 2, (20000, 1)), rng.normal(0, 2, (20000, 1))
        >>> labels = (rng.random((20000, 1)) < 1 / (1 + np.exp(-known))).astype(float)
        >>> weights, bias = fit_weights({"image": known, "text": noise}, labels)
        >>> abs(weights["image"].round(1)).tolist(), abs(weights["text"].round(1)).tolist()
        ([1.0], [0.0])
    """
    stacked = np.stack([np.asarray(values, np.float64) for values in logits.values()], axis=-1)
    found = [_fit_sum(stacked[:, i], np.asarray(labels, np.float64)[:, i]) for i in range(stacked.shape[1])]
    weights = {name: np.array([row[place] for row in found]) for place, name in enumerate(logits)}
    return weights, np.array([row[-1] for row in found])


def _fit_sum(logits, labels):
    known = np.isfinite(labels)
    logits, labels = logits[known], labels[known]
    start = np.append(np.ones(logits.shape[1]), 0.0)
    if len(np.unique(labels)) < 2:
        return start

    def cost(values):
        scores = logits @ values[:-1] + values[-1]
        error = expit(scores) - labels
        slope = np.append(logits.T @ error + values[:-1] - 1, error.sum())
        return np.logaddexp(0, scores).sum() - scores @ labels + ((values[:-1] - 1) ** 2).sum() / 2, slope

    bounds = [(0, None)] * logits.shape[1] + [(None, None)]
    return minimize(cost, start, jac=True, method="L-BFGS-B", bounds=bounds).x
