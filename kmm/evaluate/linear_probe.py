"""Fit linear models of features: logistic regression whose penalty is chosen on validation, and sums of logits."""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import lapack, solve_triangular
from scipy.optimize import minimize
from scipy.special import expit

from kmm.evaluate.stacking import fit_weights
from kmm.models.linear_probe import LinearProbe, LinearSum

# Inverse strengths of the penalty, strongest first: the features are many and standardised.
STRENGTHS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
MIDDLE = 1e-3  # where there is no validation
MOST_STEPS = 500  # of the solver
TOLERANCE = 1e-6  # largest slope, per study, at which it stops
WIDE = 2  # features per study above which a fit is made in the space that the studies span
LEAST_SHARE = 1e-10  # of the largest square of a row: directions of less are left out of that space
LEAST_SCALE = 1e-6  # standard deviation below which a feature counts as constant


def fit_probe(
    features: np.ndarray,
    targets: np.ndarray,
    *,
    train: Sequence[int] | np.ndarray,
    validation: Sequence[int] | np.ndarray,
    class_weights: np.ndarray | None = None,
    groups: Sequence[int] | None = None,
) -> LinearProbe:
    """Fits a linear probe. The strength of its penalty is chosen by the log loss on validation.

    Features of several groups, such as the depths of a network, get one probe per group, each with its own penalty, and
    the mean of their logits, scaled on validation, is the logit: many weak features do not drown out a few good ones.

    Minimises for each label `sum(loss) + |coef|**2 / (2 * strength)`, where the loss of a study with the target `t` is
    that of a positive with the weight `t` and of a negative with the weight `1 - t`. For targets of 0 and 1 this is
    scikit-learn's `LogisticRegression(C=strength)`.

    Args:
        features: float array `(n, d)`.
        targets: array `(n, n_labels)` in [0, 1], NaN for unknown, which is left out.
        train, validation: int arrays of rows. Without validation studies of a label the strength in the middle is used.
        class_weights: float array `(n_labels, 2)`, the weights of a negative and of a positive; None for weights of 1.
        groups: list of int, the numbers of consecutive features of each group, `d` in total; None for one group.

    Returns:
        `LinearProbe`, its strengths the geometric means over the groups. The logit of a label with a single class in
        training is the log odds of one study of the other class.

    Source: https://arxiv.org/abs/1610.01644

    Example:
        >>> rng = np.random.default_rng(0)
        >>> features = rng.normal(size=(300, 5))
        >>> labels = (features[:, :1] + rng.normal(size=(300, 1)) > 0).astype(float)
        >>> probe = fit_probe(features, labels, train=np.arange(200), validation=np.arange(200, 300))
        >>> logits = probe.logits(features)
        >>> logits.shape, bool(logits[features[:, 0] > 1].min() > 0)
        ((300, 1), True)
    """
    from threadpoolctl import threadpool_limits

    rows, held = np.asarray(train, np.int64), np.asarray(validation, np.int64)
    labels = np.asarray(targets, np.float64)
    weights = np.ones((labels.shape[1], 2)) if class_weights is None else np.asarray(class_weights, np.float64)
    ends = np.cumsum([features.shape[1]] if groups is None else groups)
    parts = [slice(start, end) for start, end in zip([0, *ends], ends)]
    with threadpool_limits(1):  # sums in the same order whatever the number of threads
        fitted = [_fit_part(features[:, part], labels, rows, held, weights) for part in parts]
        mean, scale = (np.concatenate([getattr(one, name) for one in fitted]) for name in ("mean", "scale"))
        if len(fitted) == 1:
            return fitted[0]
        coef = np.concatenate([one.coef for one in fitted]) / len(fitted)
        intercept = np.mean([one.intercept for one in fitted], axis=0)
        logits = np.mean([one.logits(features[held, part]) for one, part in zip(fitted, parts, strict=True)], axis=0)
        strengths = []
        for i in range(len(weights)):
            own = [one.strengths[i] for one in fitted]
            strengths.append(None if None in own else float(np.exp(np.mean(np.log(own)))))
            if None not in own:
                known = np.isfinite(labels[held, i])
                slope, shift = _scale_mean(logits[known, i], labels[held[known], i], weights[i])
                coef[:, i], intercept[i] = slope * coef[:, i], slope * intercept[i] + shift
    return LinearProbe(mean, scale, coef, intercept, tuple(strengths))


def _fit_part(features, labels, rows, held, weights):
    """Fits the features of one group; returns the `LinearProbe` of all labels."""
    chosen = np.asarray(features[rows], np.float64)
    mean, scale = chosen.mean(axis=0), chosen.std(axis=0)
    scale[scale < LEAST_SCALE * np.maximum(np.abs(mean), 1)] = 1.0
    chosen = (chosen - mean) / scale
    left = (np.asarray(features[held], np.float64) - mean) / scale
    found = [_fit_label(chosen, left, labels[rows, i], labels[held, i], weights[i]) for i in range(len(weights))]
    coef, intercept, strengths = zip(*found, strict=True)
    return LinearProbe(mean, scale, np.stack(coef, axis=1), np.array(intercept, np.float64), strengths)


def _fit_label(x, left, train, validation, weights):
    """Fits one label on the features of one group; returns its coefficients, intercept and strength."""
    known, held = np.isfinite(train), np.isfinite(validation)
    targets = train[known]
    if not 0 < targets.sum() < len(targets):
        odds = np.log((targets.sum() + 0.5) / (len(targets) - targets.sum() + 0.5))
        return np.zeros(x.shape[1]), odds, None
    return _fit_group(x[known], targets, left[held], validation[held], weights)


def _scale_mean(logits, labels, weights):
    """Returns the slope and the shift that bring the mean of several logits nearest to the labels; 1 and 0 without
    validation studies of both classes, or where the best slope is not positive."""
    if not 0 < labels.sum() < len(labels):
        return 1.0, 0.0
    slope, shift = _minimise(logits[:, None], labels, weights, 1.0, np.array([1.0, 0.0]))
    return (slope, shift) if slope > 0 else (1.0, 0.0)


def _fit_group(x, targets, left, labels, weights):
    """Fits one label on the standardised features of one group; returns coefficients, intercept and strength.

    With a penalty on its squares, the best coefficients are a weighted sum of the studies' features. So features that
    are many more than the studies are first reduced to the space that the studies span: the fit is the same.
    """
    if x.shape[1] > WIDE * len(x):
        span = _Span(x)
        coef, *rest = _fit_group(span.rows, targets, span.project(left), labels, weights)
        return span.lift(coef), *rest
    values, best = np.zeros(x.shape[1] + 1), (np.inf, np.zeros(x.shape[1]), 0.0, None)
    for strength in STRENGTHS if len(labels) else (MIDDLE,):
        values = _minimise(x, targets, weights, strength, values)
        logits = left @ values[:-1] + values[-1]
        loss = weigh_losses(logits, labels, weights).mean() if len(labels) else 0.0
        if loss >= best[0]:  # weaker penalties only fit the training part more closely
            break
        best = (loss, values[:-1], float(values[-1]), strength)
    return best[1:]


class _Span:
    """Coordinates of the space that the rows of `x (n, d)` span, in an orthonormal basis that is never formed.

    The products of the rows, `x @ x.T`, are factored by Cholesky with pivots, `lower @ lower.T`. The rows of `lower`
    are then the coordinates of those of `x`, and `chosen` the rows that the basis is made of.
    """

    def __init__(self, x):
        products = x @ x.T
        factor, order, rank, _ = lapack.dpstrf(products, lower=1, tol=LEAST_SHARE * products.diagonal().max())
        order = order - 1
        self.lower = np.tril(factor[:rank, :rank])
        self.rows = np.empty((len(x), rank))
        self.rows[order] = np.tril(factor)[:, :rank]
        self.chosen = x[order[:rank]]

    def project(self, other):
        """Returns the coordinates `(m, rank)` of other rows `(m, d)`."""
        return solve_triangular(self.lower, self.chosen @ other.T, lower=True).T

    def lift(self, coef):
        """Returns the vector `(d,)` of the space that has given coordinates `(rank,)`."""
        return self.chosen.T @ solve_triangular(self.lower, coef, lower=True, trans="T")


def _minimise(x, targets, weights, strength, start):
    """Returns the coefficients and the intercept `(d + 1,)` of least penalised loss."""
    negative, positive = weights[0] * (1 - targets), weights[1] * targets
    total = negative + positive
    share = 1 / (strength * len(x))

    def cost(values):
        logits = x @ values[:-1] + values[-1]
        slope = (total * expit(logits) - positive) / len(x)
        loss = (total * np.logaddexp(0, logits) - positive * logits).mean()
        coef = values[:-1]
        return loss + share * (coef @ coef) / 2, np.append(x.T @ slope + share * coef, slope.sum())

    options = {"maxiter": MOST_STEPS, "maxfun": 2 * MOST_STEPS, "gtol": TOLERANCE, "ftol": 1e-14}
    return minimize(cost, start, jac=True, method="L-BFGS-B", options=options).x


def weigh_losses(logits: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns the log loss of each logit, negatives and positives weighted.

    Args:
        logits, targets: float arrays of the same shape; `targets` in [0, 1].
        weights: float array `(..., 2)`, the weights of a negative and of a positive.

    Example:
        >>> weigh_losses(np.zeros(2), np.array([0.0, 1.0]), np.array([1.0, 3.0])).round(3).tolist()
        [0.693, 2.079]
    """
    negative, positive = weights[..., 0] * (1 - targets), weights[..., 1] * targets
    return (negative + positive) * np.logaddexp(0, logits) - positive * logits


def fit_sum(
    image: np.ndarray, text: np.ndarray, labels: np.ndarray, *, present: np.ndarray, prior: np.ndarray
) -> LinearSum:
    """Fits the weights with which the logits of two linear models add up, on validation studies.

    Args:
        image, text: float arrays `(n, n_labels)`, the logits of a model of films and of one of reports.
        labels: array `(n, n_labels)` of 0, 1 and NaN (unknown).
        present: array `(n, 2)`: whether each study has a film, and a report.
        prior: array `(n_labels,)`: prevalence in training.

    Returns:
        `LinearSum`.
    """
    given = _fill_missing(image, text, present, prior)
    weights, bias = fit_weights(given, labels)
    return LinearSum(weights["image"], weights["text"], bias, np.asarray(prior, np.float64))


def add_logits(total: LinearSum, image: np.ndarray, text: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Adds the logits of two linear models.

    Args:
        total: `LinearSum`.
        image, text, present: as in `fit_sum`.

    Returns:
        float64 `(n, n_labels)`.

    Example:
        >>> total = LinearSum(*(np.array([value]) for value in (1.0, 2.0, 0.5, 0.5)))
        >>> image, text, present = np.array([[1.0], [1.0]]), np.array([[3.0], [9.0]]), np.array([[1, 1], [1, 0]])
        >>> add_logits(total, image, text, present).tolist()
        [[7.5], [1.5]]
    """
    given = _fill_missing(image, text, present, total.prior)
    return given["image"] * total.image_weight + given["text"] * total.text_weight + total.bias


def _fill_missing(image, text, present, prior):
    """Returns the logits of both models, those of the prior for a study that lacks the side."""
    odds, has = find_odds(prior), np.asarray(present) > 0
    return {"image": np.where(has[:, :1], image, odds), "text": np.where(has[:, 1:], text, odds)}


def find_odds(probabilities: np.ndarray) -> np.ndarray:
    """Returns the log odds of probabilities, of which 0 and 1 are taken as 1e-6 and 1 - 1e-6.

    Example:
        >>> find_odds(np.array([0.5, 1.0])).round(2).tolist()
        [0.0, 13.82]
    """
    kept = np.clip(np.asarray(probabilities, np.float64), 1e-6, 1 - 1e-6)
    return np.log(kept) - np.log1p(-kept)
