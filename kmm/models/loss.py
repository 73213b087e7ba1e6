"""Loss of logits against labels that may be unknown, serializable with a Keras model."""

from typing import Any

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable(package="kmm")
class MaskedCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of logits against labels in which NaN means unknown.

    The loss of an example is the mean over its known labels, or 0 if it has none.

    Args:
        class_weights: float array `(n_labels, 2)`, the weights of a 0 and of a 1 of each label; None for weights of 1.
        reduction: str, as in `keras.losses.Loss`: the default is the mean over examples; "none" returns one number per
            example.

    Example:
        >>> loss = MaskedCrossentropy(reduction="none")
        >>> float(loss(np.array([[1.0, np.nan]], "float32"), np.array([[0.0, 9.0]], "float32"))[0])  # ln 2
        0.6931471824645996
    """

    def __init__(
        self,
        class_weights: np.ndarray | None = None,
        reduction: str = "sum_over_batch_size",
        name: str = "masked_crossentropy",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.class_weights = np.ones((1, 2)) if class_weights is None else np.asarray(class_weights)

    def call(self, labels: Any, logits: Any) -> Any:
        """Takes the tensors `labels (n, n_labels)` and `logits (n, n_labels)`; returns `(n,)`, one loss per example."""
        weights = self.class_weights.astype("float32")
        logits = ops.cast(logits, "float32")
        known = ops.equal(labels, labels)
        labels = ops.where(known, labels, 0.0)
        weight = ops.where(labels > 0.5, weights[:, 1], weights[:, 0])
        cost = ops.maximum(logits, 0.0) - logits * labels + ops.softplus(-ops.abs(logits))
        known = ops.cast(known, "float32")
        return ops.sum(cost * weight * known, axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "class_weights": self.class_weights.tolist()}
