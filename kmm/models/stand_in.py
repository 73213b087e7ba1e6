"""Learned replacement for the image or report that a study lacks."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kmm")
class StandIn(keras.layers.Layer):
    """Replaces the vectors of absent images or reports by one learned vector.

    The absent side is replaced, not multiplied by zero, so that NaN or infinity in it does not reach the output. In
    training it must still be finite, for example zero, because zero times NaN is NaN in the gradient of its encoder.

    Args:
        column: int. The column of `present` for this side: 0 = image, 1 = text.

    Example:
        >>> vector = ops.array([[1.0, 2.0], [float("nan"), 4.0]])
        >>> present = ops.array([[1.0, 1.0], [1.0, 0.0]])
        >>> ops.convert_to_numpy(StandIn(column=1)(vector, present)).tolist()
        [[1.0, 2.0], [0.0, 0.0]]
    """

    def __init__(self, column: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.column = column

    def build(self, vector_shape: tuple, present_shape: tuple | None = None) -> None:
        self.stand_in = self.add_weight(shape=(vector_shape[-1],), initializer="zeros", name="stand_in")

    def call(self, vector: Any, present: Any) -> Any:
        """Takes the tensors `vector (n, d)` and `present (n, 2)`, 1 = present, 0 = absent; returns `(n, d)`."""
        there = present[:, self.column : self.column + 1] > 0.5
        return ops.where(there, vector, ops.convert_to_tensor(self.stand_in))

    def compute_output_shape(self, vector_shape: tuple, present_shape: tuple | None = None) -> tuple:
        return vector_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "column": self.column}
