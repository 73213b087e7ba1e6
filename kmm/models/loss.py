"""Losses of logits against labels that may be unknown, one table entry each, serializable with a Keras model."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops


class MaskedLoss(keras.losses.Loss, abc.ABC):
    """A loss of logits against labels in which NaN means unknown.

    The loss of an example is the mean cost over its known labels, or 0 if it has none. A subclass defines the cost.

    Args:
        class_weights: float array `(n_labels, 2)`, the weights of a 0 and of a 1 of each label; None for weights of 1.
        reduction: str, as in `keras.losses.Loss`: the default is the mean over examples; "none" returns one number per
            example.
    """

    def __init__(
        self,
        class_weights: Any = None,
        reduction: str = "sum_over_batch_size",
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.class_weights = np.ones((1, 2)) if class_weights is None else np.asarray(class_weights)

    @abc.abstractmethod
    def cost(self, labels: Any, logits: Any) -> Any:
        """Returns the cost of each label, known and in [0, 1]: a tensor of the shape of `logits`."""

    def call(self, labels: Any, logits: Any) -> Any:
        """Takes the tensors `labels (n, n_labels)` and `logits (n, n_labels)`; returns `(n,)`, one loss per example."""
        weights = self.class_weights.astype("float32")
        logits = ops.cast(logits, "float32")
        known = ops.equal(labels, labels)
        labels = ops.where(known, labels, 0.0)
        weight = ops.where(labels > 0.5, weights[:, 1], weights[:, 0])
        cost = self.cost(labels, logits)
        known = ops.cast(known, "float32")
        return ops.sum(cost * weight * known, axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "class_weights": self.class_weights.tolist()}


@keras.saving.register_keras_serializable(package="kmm")
class MaskedCrossentropy(MaskedLoss):
    """Binary cross-entropy with unknown labels; arguments as for `MaskedLoss`.

    Example:
        >>> loss = MaskedCrossentropy(reduction="none")
        >>> float(loss(np.array([[1.0, np.nan]], "float32"), np.array([[0.0, 9.0]], "float32"))[0])  # ln 2
        0.6931471824645996
    """

    def __init__(self, class_weights: Any = None, name: str = "masked_crossentropy", **options: Any) -> None:
        super().__init__(class_weights, name=name, **options)

    def cost(self, labels: Any, logits: Any) -> Any:
        return _crossentropy(labels, logits)


@keras.saving.register_keras_serializable(package="kmm")
class MaskedFocal(MaskedLoss):
    """Focal loss with unknown labels: examples have the weight `(1 - p_t) ** gamma`, where `p_t` is the predicted
    probability of the true class.

    Args:
        class_weights: as for `MaskedLoss`; the paper's alpha.
        gamma: float, at least 0; 0 gives cross-entropy.

    Source: https://arxiv.org/abs/1708.02002

    Example:
        >>> loss = MaskedFocal(gamma=2.0, reduction="none")
        >>> round(float(loss(np.array([[1.0]], "float32"), np.array([[0.0]], "float32"))[0]), 6)  # .25 ln 2
        0.173287
    """

    def __init__(
        self, class_weights: Any = None, gamma: float = 2.0, name: str = "masked_focal", **options: Any
    ) -> None:
        super().__init__(class_weights, name=name, **options)
        self.gamma = gamma

    def cost(self, labels: Any, logits: Any) -> Any:
        return _focal(labels, logits, self.gamma)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable(package="kmm")
class MaskedHybrid(MaskedLoss):
    """A mean of cross-entropy, in which a positive may weigh more, and of focal loss, with unknown labels.

    Args:
        class_weights: as for `MaskedLoss`; they multiply both parts.
        positive_weights: float array `(n_labels,)`, the weights of a 1 in the cross-entropy, where a 0 weighs 1; None
            for weights of 1. See `clamp_positive_weights`.
        focal_share: float in [0, 1], the weight of the focal loss; the cross-entropy has the rest.
        gamma: float, at least 0, as in `MaskedFocal`.

    Example:
        >>> loss = MaskedHybrid(positive_weights=[3.0], focal_share=0.5, gamma=1.0, reduction="none")
        >>> cost = float(loss(np.array([[1.0]], "float32"), np.array([[0.0]], "float32"))[0])
        >>> round(cost / float(np.log(2)), 4)  # (3 + 1 / 2) / 2
        1.75
    """

    def __init__(
        self,
        class_weights: Any = None,
        positive_weights: Any = None,
        focal_share: float = 0.3,
        gamma: float = 1.0,
        name: str = "masked_hybrid",
        **options: Any,
    ) -> None:
        super().__init__(class_weights, name=name, **options)
        self.positive_weights = np.ones(1) if positive_weights is None else np.asarray(positive_weights)
        self.focal_share, self.gamma = focal_share, gamma

    def cost(self, labels: Any, logits: Any) -> Any:
        weight = ops.where(labels > 0.5, self.positive_weights.astype("float32"), 1.0)
        crossentropy = weight * _crossentropy(labels, logits)
        return (1.0 - self.focal_share) * crossentropy + self.focal_share * _focal(labels, logits, self.gamma)

    def get_config(self) -> dict[str, Any]:
        own = {"positive_weights": self.positive_weights.tolist(), "focal_share": self.focal_share, "gamma": self.gamma}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable(package="kmm")
class MaskedAsymmetric(MaskedLoss):
    """Asymmetric loss with unknown labels: easy negatives, which dominate multi-label data, weigh less than easy
    positives, and nothing below a margin.

    Args:
        class_weights: as for `MaskedLoss`.
        gamma_positive, gamma_negative: float, at least 0. Exponents as in `MaskedFocal`.
        margin: float in [0, 1). Subtracted from the probability of a negative label; the cost is 0 below it.

    Source: https://arxiv.org/abs/2009.14119

    Example:
        >>> loss = MaskedAsymmetric(reduction="none")
        >>> float(loss(np.array([[0.0]], "float32"), np.array([[-3.0]], "float32"))[0])  # p = .047, below the margin
        0.0
    """

    def __init__(
        self,
        class_weights: Any = None,
        gamma_positive: float = 0.0,
        gamma_negative: float = 4.0,
        margin: float = 0.05,
        name: str = "masked_asymmetric",
        **options: Any,
    ) -> None:
        super().__init__(class_weights, name=name, **options)
        self.gamma_positive, self.gamma_negative, self.margin = gamma_positive, gamma_negative, margin

    def cost(self, labels: Any, logits: Any) -> Any:
        positive = _focal_cost(logits, self.gamma_positive)
        return labels * positive + (1.0 - labels) * self._cost_negative(logits)

    def _cost_negative(self, logits):
        if not self.margin:  # the logarithm of the sigmoid would lose its digits
            return _focal_cost(-logits, self.gamma_negative)
        shifted = ops.sigmoid(logits) - self.margin
        kept = shifted > 0.0
        safe = ops.where(kept, shifted, 0.5)  # the gradient of a power at 0 may be infinite
        cost = -ops.power(safe, self.gamma_negative) * ops.log(self.margin + ops.sigmoid(-logits))
        return ops.where(kept, cost, 0.0)

    def get_config(self) -> dict[str, Any]:
        own = {"gamma_positive": self.gamma_positive, "gamma_negative": self.gamma_negative, "margin": self.margin}
        return {**super().get_config(), **own}


def _crossentropy(labels, logits):
    return ops.maximum(logits, 0.0) - logits * labels + ops.softplus(-ops.abs(logits))


def _focal(labels, logits, gamma):
    return labels * _focal_cost(logits, gamma) + (1.0 - labels) * _focal_cost(-logits, gamma)


def _focal_cost(logits, gamma):
    """Computes `-(1 - p) ** gamma * log(p)` with `p = sigmoid(logits)`, precisely for logits of any size."""
    return ops.exp(-gamma * ops.softplus(logits)) * ops.softplus(-logits)


def clamp_positive_weights(labels: np.ndarray, most: float) -> np.ndarray:
    """Computes how much a 1 of each label weighs if both classes weighed the same, within bounds.

    Args:
        labels: float array `(n, n_labels)` in [0, 1], NaN where unknown.
        most: float, at least 1. The largest weight; the smallest is 1.

    Returns:
        float32 `(n_labels,)`: the known 0s per 1, from 1 to `most`.

    Example:
        >>> labels = np.array([[1, 1, 1], [0, 1, 0], [0, 0, 0], [0, np.nan, 0], [np.nan, np.nan, 0]])
        >>> clamp_positive_weights(labels, 3.5).tolist()
        [3.0, 1.0, 3.5]
    """
    known, positive = np.isfinite(labels).sum(axis=0), np.nansum(labels, axis=0)
    return np.clip((known - positive) / np.maximum(positive, 1e-9), 1.0, most).astype(np.float32)


def _choose_gamma(labels: np.ndarray, settings: Any) -> dict[str, Any]:
    return {"gamma": settings.focal_gamma}


def _choose_hybrid(labels: np.ndarray, settings: Any) -> dict[str, Any]:
    return {
        "positive_weights": clamp_positive_weights(labels, settings.positive_weight_limit),
        "focal_share": settings.focal_share,
        "gamma": settings.focal_gamma,
    }


@dataclass(frozen=True)
class LossEntry:
    """A row of the table `LOSSES`.

    Attributes:
        build: function of `class_weights` and `reduction`, as for `MaskedLoss`, and of what `options` returns, that
            returns a `keras.losses.Loss`.
        balances: bool. Whether both classes of each label get the same total weight.
        options: function of the labels `(n, n_labels)` that are learnt and of an object with the settings of losses
            (`focal_gamma`, `focal_share`, `positive_weight_limit`), that returns further arguments of `build`; or None.
    """

    build: Callable[..., keras.losses.Loss]
    balances: bool = False
    options: Callable[[np.ndarray, Any], dict[str, Any]] | None = None


LOSSES = {
    "bce": LossEntry(MaskedCrossentropy),
    "weighted-bce": LossEntry(MaskedCrossentropy, balances=True),
    "focal": LossEntry(partial(MaskedFocal, gamma=2.0), options=_choose_gamma),
    "hybrid": LossEntry(MaskedHybrid, options=_choose_hybrid),
    "asymmetric": LossEntry(MaskedAsymmetric),
}
