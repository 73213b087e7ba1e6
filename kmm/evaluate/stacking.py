"""Fit the weights with which the logits of several classifiers add up to the best prediction."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.special import expit


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
