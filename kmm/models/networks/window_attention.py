"""Layers of a Swin transformer that Keras lacks: attention inside windows of a map, and the squares that are merged."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kmm.models.transformer.dot_product import HIDDEN, attend, count_attention_bytes


@keras.saving.register_keras_serializable(package="kmm")
class WindowAttention(layers.Layer):
    """Attention of the places of a map to those of the same window, between the projections of a block.

    A bias for the distance of two places, down and to the right, is added to their score. Windows may be shifted: then
    the map is turned, so that its last rows and columns become neighbours of the first, which their windows hide.

    Args:
        heads: int. Number of heads, which divides the size of a place.
        window: int. Side of a window in places, which divides the sides of the map.
        shift: int, at least 0 and below `window`. Places by which the windows are shifted, down and to the right.

    Source: https://arxiv.org/abs/2103.14030

    Example:
        >>> WindowAttention(heads=2, window=3, shift=1)(keras.Input((6, 9, 3 * 8))).shape
        (None, 6, 9, 8)
    """

    def __init__(self, heads: int, window: int, shift: int = 0, **options: Any):
        super().__init__(**options)
        self.heads, self.window, self.shift = heads, window, shift

    def build(self, shape: tuple) -> None:
        """Adds `table (distances, heads)`, one row for each distance of two places of a window."""
        start = keras.initializers.TruncatedNormal(stddev=0.02)
        self.table = self.add_weight(shape=((2 * self.window - 1) ** 2, self.heads), initializer=start, name="table")
        self.distances = number_distances(self.window)
        self.hidden = hide_turned(shape[1:3], self.window, self.shift) if self.shift else None

    def call(self, x: Any) -> Any:
        """Takes queries, keys and values `(n, rows, columns, 3 d)` side by side; returns `(n, rows, columns, d)`."""
        _, rows, columns, size = x.shape
        size, side = size // 3, self.window
        across, area = columns // side, side**2
        x = _turn(x, self.shift)
        x = ops.reshape(x, (-1, rows // side, side, across, side, 3 * size))
        x = ops.reshape(
            ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, rows // side * across, area, 3, self.heads, size // self.heads)
        )
        query, key, value = (ops.transpose(x[:, :, :, part], (0, 1, 3, 2, 4)) for part in range(3))
        x = ops.transpose(attend(query, key, value, self._find_bias()), (0, 1, 3, 2, 4))
        x = ops.reshape(x, (-1, rows // side, across, side, side, size))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, rows, columns, size))
        return _turn(x, -self.shift)

    def _find_bias(self):
        """Returns the bias `(1 or windows, heads, area, area)` of each pair of places."""
        area = self.window**2
        bias = ops.take(ops.convert_to_tensor(self.table), self.distances.ravel(), axis=0)
        bias = ops.cast(ops.transpose(ops.reshape(bias, (1, area, area, self.heads)), (0, 3, 1, 2)), "float32")
        return bias if self.hidden is None else bias + ops.convert_to_tensor(self.hidden)

    def compute_output_shape(self, shape: tuple) -> tuple:
        return *shape[:-1], shape[-1] // 3

    def path_point_bytes(self, outputs: float) -> float:
        """Returns the bytes that a gradient keeps for one study, from those of the layer's output."""
        _, rows, columns, _ = self.output.shape
        return count_attention_bytes(outputs, self.heads * rows * columns * self.window**2)

    def get_config(self) -> dict[str, Any]:
        """Returns what describes the layer."""
        return {**super().get_config(), "heads": self.heads, "window": self.window, "shift": self.shift}


def _turn(x, shift):
    """Moves the first `shift` rows and columns of a map to its end; with a negative `shift`, the last to its start."""
    for axis in (1, 2) if shift else ():
        first, rest = ops.split(x, [shift % x.shape[axis]], axis=axis)
        x = ops.concatenate([rest, first], axis=axis)
    return x


def number_distances(window: int) -> np.ndarray:
    """Numbers the distances between the places of a window, row by row.

    Args:
        window: int. Side of a window.

    Returns:
        int32 array `(window ** 2, window ** 2)`, 0 to `(2 * window - 1) ** 2 - 1`: the number of the distance from
        each place (column) to each place that reads it (row), beginning with a place that is furthest below, to the
        right.

    Example:
        >>> number_distances(2).tolist()
        [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    """
    rows, columns = (places.ravel() for places in np.indices((window, window)))
    down, right = (places[:, None] - places + window - 1 for places in (rows, columns))
    return (down * (2 * window - 1) + right).astype(np.int32)


def hide_turned(size: tuple[int, int], window: int, shift: int) -> np.ndarray:
    """Makes the bias that hides places of a turned map from those that were not their neighbours before.

    Args:
        size: pair of int. Rows and columns of the map.
        window: int. Side of a window.
        shift: int, above 0. Rows and columns at the start of the map that were moved to its end.

    Returns:
        float32 array `(windows, 1, window ** 2, window ** 2)`: `HIDDEN` for a pair of which one was moved
        down or to the right, and the other was not; otherwise 0.

    Example:
        >>> (hide_turned((2, 4), window=2, shift=1)[:, 0] == 0).astype(int)[:, 0].tolist()
        [[1, 1, 0, 0], [1, 0, 0, 0]]
    """
    moved = [np.arange(side) >= side - shift for side in size]
    parts = moved[0][:, None] * 2 + moved[1]
    down, across = (side // window for side in size)
    parts = parts.reshape(down, window, across, window).transpose(0, 2, 1, 3).reshape(down * across, 1, window**2)
    return np.where(parts[..., None] == parts[..., None, :], 0.0, HIDDEN).astype(np.float32)


@keras.saving.register_keras_serializable(package="kmm")
class SquaresOfPlaces(layers.Layer):
    """Puts the numbers of the four places of each square of a map side by side, column by column.

    Example:
        >>> SquaresOfPlaces()(keras.Input((6, 4, 8))).shape
        (None, 3, 2, 32)
    """

    def call(self, x: Any) -> Any:
        """Takes `(n, rows, columns, d)`; returns `(n, rows / 2, columns / 2, 4 d)`."""
        _, rows, columns, size = x.shape
        x = ops.transpose(ops.reshape(x, (-1, rows // 2, 2, columns // 2, 2, size)), (0, 1, 3, 4, 2, 5))
        return ops.reshape(x, (-1, rows // 2, columns // 2, 4 * size))

    def compute_output_shape(self, shape: tuple) -> tuple:
        return shape[0], shape[1] // 2, shape[2] // 2, 4 * shape[3]
