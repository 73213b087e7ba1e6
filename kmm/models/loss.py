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
        return ops.maximum(logits, 0.0) - logits * labels + ops.softplus(-ops.abs(logits))


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
        positive, negative = _focal_cost(logits, self.gamma), _focal_cost(-logits, self.gamma)
        return labels * positive + (1.0 - labels) * negative

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gamma": self.gamma}


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


def _focal_cost(logits, gamma):
    """Computes `-(1 - p) ** gamma * log(p)` with `p = sigmoid(logits)`, precisely for logits of any size."""
    return ops.exp(-gamma * ops.softplus(logits)) * ops.softplus(-logits)


@dataclass(frozen=True)
class LossEntry:
    """A row of the table `LOSSES`.

    Attributes:
        build: function of `class_weights` and `reduction`, as for `MaskedLoss`, that returns a `keras.losses.Loss`.
        balances: bool. Whether both classes of each label get the same total weight.
    """

    build: Callable[..., keras.losses.Loss]
    balances: bool = False


LOSSES = {
    "bce": LossEntry(MaskedCrossentropy),
    "weighted-bce": LossEntry(MaskedCrossentropy, balances=True),
    "focal": LossEntry(partial(MaskedFocal, gamma=2.0)),
    "asymmetric": LossEntry(MaskedAsymmetric),
}
