"""Auxiliary terms: a model also predicts other facts of a study than its labels, while it is trained.

What a film shows is more than its label says. A layer that is left behind after training predicts it from the features
that the labels are predicted from.

Source: Multitask learning, https://doi.org/10.1023/A:1007379606734
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kmm.models.loss import MaskedCrossentropy, MaskedLoss

AUXILIARY = "auxiliary_targets"  # input of a model with auxiliary terms
LABELS, NUMBERS = "labels", "numbers"  # kinds of targets


@keras.saving.register_keras_serializable(package="kmm")
class MaskedSquares(MaskedLoss):
    """Squared error of numbers of which NaN means unknown; arguments as for `kmm.models.loss.MaskedLoss`.

    Example:
        >>> loss = MaskedSquares(reduction="none")
        >>> float(loss(np.array([[1.0, np.nan, -2.0]], "float32"), np.array([[3.0, 9.0, 0.0]], "float32"))[0])
        4.0
    """

    def __init__(self, class_weights: Any = None, name: str = "masked_squares", **options: Any) -> None:
        super().__init__(class_weights, name=name, **options)

    def cost(self, labels: Any, logits: Any) -> Any:
        return ops.square(labels - logits)


COSTS: dict[str, Callable[..., MaskedLoss]] = {LABELS: MaskedCrossentropy, NUMBERS: MaskedSquares}


@keras.saving.register_keras_serializable(package="kmm")
class AuxiliaryTerms(layers.Layer):
    """Adds what the predictions of auxiliary targets cost to the loss of a model, and returns its logits.

    One dense layer predicts all targets. It starts with kernels of 0, so that it predicts the same for every study and
    moves nothing else in the first step. The cost of a group of targets is the mean over the studies of the batch that
    have a film (`present`) and a known target of the group, of the mean over the known ones; 0 if there is none. The
    sum over the groups, times the weight, is added to the loss.

    Args:
        groups: sequence of pairs: the kind of a group of targets, a key of `COSTS`, and the number of its columns.
        start: sequence of float, one per target: what is predicted at the start, of labels as logits.
        weight: float, of all groups together.

    Example:
        >>> terms = AuxiliaryTerms([(LABELS, 1), (NUMBERS, 2)], start=[0.0, 1.0, 0.0], weight=0.5)
        >>> targets = np.array([[1.0, 3.0, np.nan], [np.nan, np.nan, np.nan]], "float32")
        >>> values = {"logits": np.ones((2, 1)), "joint": np.ones((2, 4)), "present": np.ones((2, 2))}
        >>> _ = terms({**values, AUXILIARY: targets})
        >>> round(float(terms.losses[0]), 4)  # (ln 2 + 2 ** 2) / 2
        2.3466
    """

    def __init__(
        self, groups: Sequence[tuple[str, int]], start: Sequence[float] | np.ndarray, weight: float, **options: Any
    ) -> None:
        super().__init__(dtype="float32", **{name: value for name, value in options.items() if name != "dtype"})
        self.groups = [(str(kind), int(count)) for kind, count in groups]
        self.start, self.weight = [float(value) for value in start], weight
        self.costs = [COSTS[kind](reduction="none") for kind, _ in self.groups]
        self.prediction = layers.Dense(
            len(self.start),
            kernel_initializer="zeros",
            bias_initializer=_start_at(self.start),
            dtype="float32",
            name="prediction",
        )

    def build(self, input_shape: Mapping[str, Any]) -> None:
        self.prediction.build(input_shape["joint"])

    def call(self, inputs: Mapping[str, Any]) -> Any:
        """Takes `logits`, the features `joint (n, d)`, `present (n, 2)` and `auxiliary_targets (n, k)`, NaN where
        unknown; returns `logits`."""
        targets = ops.where(inputs["present"][:, :1] > 0.5, ops.cast(inputs[AUXILIARY], "float32"), np.nan)
        self.add_loss(self.weight * self.measure(inputs["joint"], targets))
        return inputs["logits"]

    def measure(self, features: Any, targets: Any) -> Any:
        """Returns the sum over the groups, a scalar, for `features (n, d)` and `targets (n, k)`."""
        predicted, first, total = self.prediction(ops.cast(features, "float32")), 0, 0.0
        for cost, (_, count) in zip(self.costs, self.groups, strict=True):
            own = targets[:, first : first + count]
            known = ops.cast(ops.any(ops.equal(own, own), axis=-1), "float32")
            losses = cost(own, predicted[:, first : first + count])  # 0 for a study without a known target
            total = total + ops.sum(losses) / ops.maximum(ops.sum(known), 1.0)
            first += count
        return total

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> Any:
        return input_shape["logits"]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups, "start": self.start, "weight": self.weight}


def _start_at(values):
    """Returns an initializer of given values."""
    return lambda shape, dtype=None: ops.convert_to_tensor(np.asarray(values, np.float32), dtype=dtype)
