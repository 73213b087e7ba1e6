"""Layers of a vision transformer that Keras lacks: its tokens, their attention, the scale of a residual, the map."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kmm.models.networks.position_table import resample_positions
from kmm.models.transformer.dot_product import count_attention_bytes, weigh

HIDDEN = -1e4  # added to the logits of attention to a token that a checkpoint does not have: its weight is exactly 0


@keras.saving.register_keras_serializable(package="kmm")
class Tokens(layers.Layer):
    """Makes the sequence of tokens of patches: prefix tokens, such as [CLS] and registers, then the patches row by row.

    Positions are added to the patches; those of the prefix are part of it. The layer is an affine function of patches.

    Args:
        prefix: int. Number of prefix tokens.

    Example:
        >>> Tokens(prefix=1, name="tokens")(keras.Input((4, 3, 8))).shape
        (None, 13, 8)
    """

    def __init__(self, prefix: int, **options: Any):
        super().__init__(**options)
        self.prefix = prefix

    def build(self, shape: tuple) -> None:
        """Adds `prefix (p, d)`, unless there is none, and `positions (rows, columns, d)`."""
        start = keras.initializers.TruncatedNormal(stddev=0.02)
        if self.prefix:
            self.prefix_tokens = self.add_weight(shape=(self.prefix, shape[-1]), initializer=start, name="prefix")
        self.positions = self.add_weight(shape=shape[1:], initializer=start, name="positions")

    def call(self, patches: Any) -> Any:
        """Takes patches `(n, rows, columns, d)`; returns tokens `(n, p + rows * columns, d)`."""
        rows, columns, size = self.positions.shape
        x = ops.reshape(patches + self.positions, (-1, rows * columns, size))
        if not self.prefix:
            return x
        first = ops.broadcast_to(ops.cast(self.prefix_tokens, x.dtype), (ops.shape(x)[0], self.prefix, size))
        return ops.concatenate([first, x], axis=1)

    def compute_output_shape(self, shape: tuple) -> tuple:
        return shape[0], self.prefix + shape[1] * shape[2], shape[3]

    def fit_arrays(self, arrays: list[Any]) -> list[Any]:
        """Brings the positions of weights that were made for films of another size to the size of this layer.

        Positions are resampled with antialiasing, as timm does; those of DINOv2 without registers, which then are 0,
        without it, as transformers does.
        """
        if [len(array.shape) for array in arrays] != [2] * bool(self.prefix) + [3]:
            return arrays
        *prefix, table = (np.asarray(array) for array in arrays)
        if table.shape[:2] == self.positions.shape[:2]:
            return arrays
        without_registers = self.prefix > 1 and not prefix[0][1:].any()
        return [*prefix, resample_positions(table, self.positions.shape[:2], antialias=not without_registers)]

    def get_config(self) -> dict[str, Any]:
        """Returns what describes the layer."""
        return {**super().get_config(), "prefix": self.prefix}


@keras.saving.register_keras_serializable(package="kmm")
class SelfAttention(layers.Layer):
    """Attention of tokens to each other, between the projections of query, key and value and that of the result.

    Source: https://arxiv.org/abs/1706.03762

    Args:
        heads: int. Number of heads, which divides the size of a token.
        optional: tuple of two int, `(first, last)`. The tokens `first <= i < last` are registers that a checkpoint may
            lack: a weight, added to the logits of attention to them, is 0 if it has them, and hides them if not.

    Example:
        >>> SelfAttention(heads=2)(keras.Input((5, 3 * 8))).shape
        (None, 5, 8)
    """

    def __init__(self, heads: int, optional: tuple[int, int] = (0, 0), **options: Any):
        super().__init__(**options)
        self.heads, self.optional = heads, tuple(optional)

    def build(self, shape: tuple) -> None:
        """Adds `hidden (registers,)`, if there are optional tokens; it is not trained."""
        first, last = self.optional
        if last > first:
            self.hidden = self.add_weight(shape=(last - first,), initializer="zeros", trainable=False, name="hidden")

    def call(self, x: Any) -> Any:
        """Takes queries, keys and values `(n, t, 3 d)` side by side; returns `(n, t, d)`."""
        return self.read(x)[0]

    def read(self, x: Any, *, nudge: Any = None) -> tuple[Any, Any]:
        """Computes what `call` returns, and the weights of attention.

        Args:
            x: float `(n, t, 3 d)`, as for `call`.
            nudge: float `(n, heads, t, t)`, added to the weights; None adds nothing.

        Returns:
            mixed `(n, t, d)` and weights `(n, heads, t, t)`.
        """
        _, length, size = x.shape
        size = size // 3
        x = ops.reshape(x, (-1, length, 3, self.heads, size // self.heads))
        query, key, value = (ops.transpose(x[:, :, part], (0, 2, 1, 3)) for part in range(3))
        first, last = self.optional
        bias = ops.pad(self.hidden, (first, length - last)) if last > first else None
        weights = weigh(query, key, bias)
        if nudge is not None:
            weights = weights + ops.cast(nudge, weights.dtype)
        x = ops.matmul(ops.cast(weights, value.dtype), value)
        return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, length, size)), weights

    def compute_output_shape(self, shape: tuple) -> tuple:
        return *shape[:-1], shape[-1] // 3

    def path_point_bytes(self, outputs: float) -> float:
        """Returns the bytes that a gradient keeps for one study, from those of the layer's output."""
        return count_attention_bytes(outputs, self.heads * self.output.shape[1] ** 2)

    def get_config(self) -> dict[str, Any]:
        """Returns what describes the layer."""
        return {**super().get_config(), "heads": self.heads, "optional": list(self.optional)}


@keras.saving.register_keras_serializable(package="kmm")
class ResidualScale(layers.Layer):
    """Multiplies each channel by a weight of its own.

    Source: https://arxiv.org/abs/2103.17239

    Args:
        start: float. Initial value of the weights.
    """

    def __init__(self, start: float = 1e-5, **options: Any):
        super().__init__(**options)
        self.start = start

    def build(self, shape: tuple) -> None:
        """Adds `gamma (d,)`."""
        self.gamma = self.add_weight(
            shape=(shape[-1],), initializer=keras.initializers.Constant(self.start), name="gamma"
        )

    def call(self, x: Any) -> Any:
        """Takes `(..., d)`; returns the same shape."""
        return x * self.gamma

    def get_config(self) -> dict[str, Any]:
        """Returns what describes the layer."""
        return {**super().get_config(), "start": self.start}


@keras.saving.register_keras_serializable(package="kmm")
class PlacesOfTokens(layers.Layer):
    """Arranges the tokens of patches as a map, without the prefix tokens.

    Args:
        prefix: int. Number of tokens before the patches.
        rows: int. Rows of the map.

    Example:
        >>> PlacesOfTokens(prefix=1, rows=4)(keras.Input((13, 8))).shape
        (None, 4, 3, 8)
    """

    def __init__(self, prefix: int, rows: int, **options: Any):
        super().__init__(**options)
        self.prefix, self.rows = prefix, rows

    def call(self, tokens: Any) -> Any:
        """Takes tokens `(n, t, d)`; returns `(n, rows, columns, d)`."""
        _, rows, columns, size = self.compute_output_shape(tokens.shape)
        return ops.reshape(tokens[:, self.prefix :], (-1, rows, columns, size))

    def compute_output_shape(self, shape: tuple) -> tuple:
        return shape[0], self.rows, (shape[1] - self.prefix) // self.rows, shape[2]

    def get_config(self) -> dict[str, Any]:
        """Returns what describes the layer."""
        return {**super().get_config(), "prefix": self.prefix, "rows": self.rows}
