"""Attention over the places of a sequence, without those that a mask hides, and the block around it."""

from typing import Any

import keras
from keras import layers, ops

from kmm.models.transformer.dot_product import FLOAT, HIDDEN, count_attention_bytes, weigh
from kmm.models.transformer.shape import ACTIVATIONS, TransformerShape


@keras.saving.register_keras_serializable(package="kmm")
class Attention(layers.Layer):
    """Means of values, weighted by the softmax of the products of queries and keys, per head.

    A hidden place has exactly the weight 0, so nothing follows from what stands there.

    Args:
        heads: int. Divides the width of query, key and value.
        dropout: float in [0, 1). Fraction of the weights dropped in training.
        return_weights: bool. Whether to return the weights too.

    Source: https://arxiv.org/abs/1706.03762

    Example:
        >>> same, values = ops.zeros((1, 3, 1)), ops.array([[[1.0], [3.0], [9.0]]])
        >>> found = Attention(heads=1)(same, same, values, ops.array([[1.0, 1.0, 0.0]]))
        >>> ops.convert_to_numpy(found)[0, 0].tolist()
        [2.0]
    """

    def __init__(self, heads: int, dropout: float = 0.0, return_weights: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads, self.rate, self.return_weights = heads, dropout, return_weights
        self.dropout = layers.Dropout(dropout)

    def build(self, query_shape: tuple, key_shape: tuple, value_shape: tuple, row_mask_shape: Any = None) -> None:
        self.score_count = self.heads * (query_shape[1] or 0) * (key_shape[1] or 0)

    def call(self, query: Any, key: Any, value: Any, row_mask: Any = None, training: bool | None = None) -> Any:
        """Takes `query (n, q, d)`, `key (n, k, d)`, `value (n, k, d)` and `row_mask (n, k)`, 1 = read, 0 = hidden, or
        None for a sequence without padding; returns `(n, q, d)`, and with `return_weights` also the weights
        `(n, heads, q, k)` before dropout."""
        mixed, weights = self.read(query, key, value, row_mask, training=training)
        return (mixed, weights) if self.return_weights else mixed

    def read(
        self,
        query: Any,
        key: Any,
        value: Any,
        row_mask: Any = None,
        *,
        nudge: Any = None,
        training: bool | None = None,
    ) -> tuple[Any, Any]:
        """Computes what `call` returns with `return_weights`.

        Args:
            query, key, value, row_mask, training: as for `call`.
            nudge: float `(n, heads, q, k)`, added to the weights before dropout; None adds nothing.

        Returns:
            mixed `(n, q, d)` and weights `(n, heads, q, k)`.
        """
        bias = None
        if row_mask is not None:
            read = ops.expand_dims(ops.expand_dims(row_mask, 1), 1) > 0.5
            bias = ops.where(read, ops.cast(0, "float32"), ops.cast(HIDDEN, "float32"))
        query, key, value = (self._split(rows) for rows in (query, key, value))
        weights = weigh(query, key, bias)
        if nudge is not None:
            weights = weights + ops.cast(nudge, weights.dtype)
        mixed = ops.matmul(self.dropout(weights, training=training), value)
        mixed = ops.transpose(mixed, (0, 2, 1, 3))
        return ops.reshape(mixed, (-1, mixed.shape[1], self.heads * mixed.shape[3])), weights

    def _split(self, rows):
        """Splits `(n, t, d)` into heads: `(n, heads, t, d / heads)`."""
        split = ops.reshape(rows, (-1, rows.shape[1], self.heads, rows.shape[2] // self.heads))
        return ops.transpose(split, (0, 2, 1, 3))

    def compute_output_shape(
        self, query_shape: tuple, key_shape: tuple, value_shape: tuple, row_mask_shape: Any = None
    ) -> tuple:
        if not self.return_weights:
            return query_shape
        return query_shape, (query_shape[0], self.heads, query_shape[1], key_shape[1])

    def path_point_bytes(self, outputs: float) -> float:
        """Returns the bytes that a gradient keeps for one study, from those of the layer's outputs."""
        return count_attention_bytes(outputs - FLOAT * self.score_count * self.return_weights, self.score_count)

    def get_config(self) -> dict[str, Any]:
        more = {"return_weights": True} if self.return_weights else {}  # caches are named after the configuration
        return {**super().get_config(), "heads": self.heads, "dropout": self.rate, **more}


@keras.saving.register_keras_serializable(package="kmm")
def gelu_tanh(x: Any) -> Any:
    """Returns GELU approximated by tanh.

    Source: https://arxiv.org/abs/1606.08415
    """
    return ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="kmm")
def quick_gelu(x: Any) -> Any:
    """Returns GELU approximated by a sigmoid, `x * sigmoid(1.702 x)`.

    Source: https://arxiv.org/abs/1606.08415

    Example:
        >>> ops.convert_to_numpy(quick_gelu(ops.array([0.0, 100.0]))).tolist()
        [0.0, 100.0]
    """
    return x * ops.sigmoid(1.702 * x)


def add_block(
    rows: keras.KerasTensor, row_mask: keras.KerasTensor | None, shape: TransformerShape, dropout: float, name: str
) -> keras.KerasTensor:
    """Adds a block that normalises after each sum, as BERT does: attention, then a hidden layer.

    Args:
        rows: KerasTensor `(n, t, d)`.
        row_mask: KerasTensor `(n, t)`, 1 = read, 0 = hidden; None for a sequence without padding.
        shape: `TransformerShape`.
        dropout: float in [0, 1). Fraction of the attention's weights, and of both results, dropped in training.
        name: str. Beginning of the names of its layers.

    Returns:
        KerasTensor `(n, t, d)`.

    Source: https://arxiv.org/abs/1810.04805

    Example:
        >>> rows = keras.Input((5, 8))
        >>> add_block(rows, None, TransformerShape(width=8, heads=2, hidden=16), 0.1, "block1").shape
        (None, 5, 8)
    """

    def dense(part, width, x):
        return layers.Dense(width, name=f"{name}_{part}")(x)

    def join(part, x, result):
        result = layers.Dropout(dropout, name=f"{name}_{part}_dropout")(result)
        total = layers.Add(name=f"{name}_{part}_sum")([x, result])
        return layers.LayerNormalization(epsilon=shape.epsilon, name=f"{name}_{part}_norm")(total)

    read = [dense(part, shape.width, rows) for part in ("query", "key", "value")]
    given = read if row_mask is None else [*read, row_mask]
    mixed = Attention(shape.heads, dropout, name=f"{name}_attention")(*given)
    rows = join("mixed", rows, dense("mixed", shape.width, mixed))
    hidden = dense("hidden", shape.hidden, rows)
    activation = ACTIVATIONS[shape.activation]
    active = layers.Activation(gelu_tanh if activation == "gelu_tanh" else activation, name=f"{name}_active")(hidden)
    return join("result", rows, dense("result", shape.width, active))
