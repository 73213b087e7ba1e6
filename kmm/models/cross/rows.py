"""Rows of film and report as attention reads them: a learned row for an absent side, and learned places."""

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="kmm")
class StandInRows(layers.Layer):
    """Replaces the rows of an absent film or report by one learned row, and rows of padding by zeros.

    They are replaced, not multiplied, so that NaN or infinity in them reaches neither the output nor a gradient. A
    side that is there but has no row to read counts as absent, so there is always a row to read.

    Args:
        column: int. The column of `present` for this side: 0 = image, 1 = text.

    Example:
        >>> rows = ops.array([[[1.0], [2.0]], [[float("nan")], [4.0]]])
        >>> read, present = ops.array([[1.0, 0.0], [1.0, 1.0]]), ops.array([[1.0, 1.0], [1.0, 0.0]])
        >>> rows, read = StandInRows(column=1)(rows, read, present)
        >>> ops.convert_to_numpy(rows)[..., 0].tolist(), ops.convert_to_numpy(read).tolist()
        ([[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]])
    """

    def __init__(self, column: int, **options: Any):
        super().__init__(**options)
        self.column = column

    def build(self, sequence_shape: tuple, row_mask_shape: tuple, present_shape: tuple | None = None) -> None:
        """Adds `row (k,)`."""
        self.row = self.add_weight(shape=(sequence_shape[-1],), initializer="zeros", name="row")

    def call(self, sequence: Any, row_mask: Any, present: Any) -> Any:
        """Takes `sequence (n, m, k)`, `row_mask (n, m)`, 1 = a row, 0 = padding, and `present (n, 2)`; returns the rows
        `(n, m, k)` and which of them are read, `(n, m)`, 1 or 0."""
        found = row_mask > 0.5
        there = ops.logical_and(present[:, self.column : self.column + 1] > 0.5, ops.any(found, axis=1, keepdims=True))
        first = ops.equal(ops.arange(sequence.shape[1]), 0)
        read = ops.where(there, found, first)
        rows = ops.where(ops.expand_dims(ops.logical_and(there, found), -1), sequence, 0.0)
        stands = ops.expand_dims(ops.logical_and(ops.logical_not(there), first), -1)
        return ops.where(stands, ops.cast(self.row, rows.dtype), rows), ops.cast(read, rows.dtype)

    def compute_output_shape(
        self, sequence_shape: tuple, row_mask_shape: tuple, present_shape: tuple | None = None
    ) -> tuple:
        return sequence_shape, row_mask_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "column": self.column}


@keras.saving.register_keras_serializable(package="kmm")
class Places(layers.Layer):
    """Adds a learned row to each place, which tells attention where it is.

    Example:
        >>> Places()(keras.Input((5, 8))).shape
        (None, 5, 8)
    """

    def build(self, shape: tuple) -> None:
        """Adds `places (m, k)`."""
        start = keras.initializers.TruncatedNormal(stddev=0.02)
        self.places = self.add_weight(shape=shape[1:], initializer=start, name="places")

    def call(self, rows: Any) -> Any:
        """Takes and returns `(n, m, k)`."""
        return rows + self.places
