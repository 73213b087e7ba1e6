"""Linear baselines: logistic regression on features of films, and the sum of its logits with those of TF-IDF."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kmm.evaluate.stacking import fit_weights

# Inverse strengths of the penalty, strongest first: the features are many and standardised.
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MOST_STEPS = 500  # of the solver


@dataclass(frozen=True)
class LinearProbe:
    """One logistic regression per label on standardised features.

    Attributes:
        mean, scale: float64 `(d,)` of the training features.
        coef: float64 `(d, n_labels)`.
        intercept: float64 `(n_labels,)`.
        strengths: tuple of float or None, one per label: the inverse strength of the penalty, chosen on validation;
            None for a label with a single class in training.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> features = rng.normal(size=(300, 5))
        >>> labels = (features[:, :1] + rng.normal(size=(300, 1)) > 0).astype(float)
        >>> probe = fit_probe(features, labels, train=np.arange(200), validation=np.arange(200, 300))
        >>> logits = probe.logits(features)
        >>> logits.shape, bool(logits[features[:, 0] > 1].min() > 0)
        ((300, 1), True)
    """

    mean: np.ndarray
    scale: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    strengths: tuple[float | None, ...]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns the logits float64 `(n, n_labels)` of features `(n, d)`."""
        return (np.asarray(features, np.float64) - self.mean) / self.scale @ self.coef + self.intercept


def fit_probe(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    train: Sequence[int] | np.ndarray,
    validation: Sequence[int] | np.ndarray,
) -> LinearProbe:
    """Fits a linear probe. The strength of its penalty is chosen by the log loss on validation.

    Args:
        features: float array `(n, d)`.
        labels: array `(n, n_labels)` of 0, 1 and NaN (unknown, left out).
        train, validation: int arrays of rows. Without validation studies of a label the strength in the middle is used.

    Returns:
        `LinearProbe`. The logit of a label with a single class in training is the log odds of one study of the other
        class.

    Source: https://arxiv.org/abs/1610.01644
    """
    chosen = np.asarray(features[np.asarray(train)], np.float64)
    mean, scale = chosen.mean(axis=0), chosen.std(axis=0)
    scale[scale < 1e-12] = 1.0
    rows = {"train": (chosen - mean) / scale, "validation": (features[np.asarray(validation)] - mean) / scale}
    fitted = [
        _fit_label(rows, labels[np.asarray(train), i], labels[np.asarray(validation), i])
        for i in range(labels.shape[1])
    ]
    coef, intercept, strengths = zip(*fitted, strict=True)
    return LinearProbe(mean, scale, np.stack(coef, axis=1), np.array(intercept, np.float64), strengths)


def _fit_label(rows, train, validation):
    """Fits one label; returns its coefficients, intercept and strength."""
    from sklearn.linear_model import LogisticRegression

    known, held = np.isfinite(train), np.isfinite(validation)
    positive = train[known] > 0.5
    if len(np.unique(positive)) < 2:
        odds = np.log((positive.sum() + 0.5) / (len(positive) - positive.sum() + 0.5))
        return np.zeros(rows["train"].shape[1]), odds, None
    x, left = rows["train"][known], rows["validation"][held]
    strengths = STRENGTHS if held.any() else STRENGTHS[2:3]
    model = LogisticRegression(max_iter=MOST_STEPS, warm_start=True)
    best = (np.inf, np.zeros(x.shape[1]), 0.0, None)
    for strength in strengths:
        model.set_params(C=strength).fit(x, positive)
        logits = left @ model.coef_[0] + model.intercept_[0]
        loss = np.mean(np.logaddexp(0, logits) - logits * validation[held]) if held.any() else 0.0
        if loss >= best[0]:  # weaker penalties only fit the training part more closely
            break
        best = (loss, model.coef_[0].copy(), float(model.intercept_[0]), strength)
    return best[1:]


def sum_logits(
    logits: Mapping[str, np.ndarray],
    labels: np.ndarray,
    *,
    validation: np.ndarray,
    present: Mapping[str, np.ndarray],
    prior: np.ndarray,
) -> np.ndarray:
    """Adds the logits of several linear models, with weights fitted on validation.

    Args:
        logits: mapping of name to array `(n, n_labels)`.
        labels: array `(n, n_labels)` of 0, 1 and NaN (unknown).
        validation: int array of rows.
        present: mapping of the same names to bool `(n,)`: whether a study has what the model reads. A model adds the
            prior for a study that lacks it.
        prior: array `(n_labels,)` in (0, 1): prevalence in training.

    Returns:
        float64 `(n, n_labels)`, the logits of the sum.

    Example:
        >>> logits = {"image": np.array([[2.0], [-2.0]]), "text": np.array([[1.0], [5.0]])}
        >>> present = {"image": np.array([True, True]), "text": np.array([True, False])}
        >>> labels = np.array([[1.0], [0.0]])
        >>> added = sum_logits(logits, labels, validation=np.arange(2), present=present, prior=np.array([0.5]))
        >>> bool(added[0, 0] > 0 > added[1, 0])
        True
    """
    odds = find_odds(prior)
    given = {name: np.where(present[name][:, None], values, odds) for name, values in logits.items()}
    weights, bias = fit_weights({name: values[validation] for name, values in given.items()}, labels[validation])
    return sum(values * weights[name] for name, values in given.items()) + bias


def find_odds(probabilities: np.ndarray) -> np.ndarray:
    """Returns the log odds of probabilities, of which 0 and 1 are taken as 1e-6 and 1 - 1e-6.

    Example:
        >>> find_odds(np.array([0.5, 1.0])).round(2).tolist()
        [0.0, 13.82]
    """
    kept = np.clip(np.asarray(probabilities, np.float64), 1e-6, 1 - 1e-6)
    return np.log(kept) - np.log1p(-kept)
