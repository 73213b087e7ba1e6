"""Scaled dot-product attention: the one computation, and the one count of memory, of all layers of attention."""

from typing import Any

from keras import ops

HIDDEN = -1e9  # added to the score of a hidden place; its weight is exactly 0
FLOAT = 4  # bytes


def weigh(query: Any, key: Any, bias: Any = None) -> Any:
    """Computes the weights of attention: the softmax of the scaled products of queries and keys.

    The softmax is computed in float32, whatever the precision of the tensors.

    Args:
        query: float `(..., q, d)`; the dimensions before those are, for example, studies and heads.
        key: float `(..., k, d)`.
        bias: float that broadcasts to `(..., q, k)`, added to the scores: `HIDDEN` hides a place. None adds nothing.

    Returns:
        float `(..., q, k)`, of the type of `key`. Each row sums to 1.

    Source: https://arxiv.org/abs/1706.03762

    Example:
        >>> weights = weigh(ops.zeros((1, 1)), ops.zeros((3, 1)), ops.array([0.0, 0.0, HIDDEN]))
        >>> ops.convert_to_numpy(weights).tolist()
        [[0.5, 0.5, 0.0]]
    """
    query = ops.multiply(query, query.shape[-1] ** -0.5)
    scores = ops.cast(ops.matmul(query, ops.swapaxes(key, -1, -2)), "float32")
    if bias is not None:
        scores = scores + ops.cast(bias, "float32")
    weights = ops.ones_like(scores) if scores.shape[-1] == 1 else ops.softmax(scores, axis=-1)  # Keras warns of one
    return ops.cast(weights, key.dtype)


def attend(query: Any, key: Any, value: Any, bias: Any = None) -> Any:
    """Computes means of values, weighted by `weigh(query, key, bias)`.

    Args:
        query: float `(..., q, d)`.
        key: float `(..., k, d)`.
        value: float `(..., k, e)`.
        bias: float that broadcasts to `(..., q, k)`, or None.

    Returns:
        float `(..., q, e)`, of the type of `value`.

    Example:
        >>> same, values = ops.zeros((3, 1)), ops.array([[1.0], [3.0], [9.0]])
        >>> ops.convert_to_numpy(attend(same, same, values, ops.array([0.0, 0.0, HIDDEN])))[:, 0].tolist()
        [2.0, 2.0, 2.0]
    """
    return ops.matmul(ops.cast(weigh(query, key, bias), value.dtype), value)


def count_attention_bytes(outputs: float, scores: int) -> float:
    """Counts the bytes that a gradient keeps of attention for one study.

    Args:
        outputs: float. Bytes of the layer's output for one study.
        scores: int. Products of queries and keys, of all heads.

    Returns:
        float. Copies of query, key, value and result in another order, and twice the weights. See
        `kmm.explain.attribution.held_memory`.

    Example:
        >>> count_attention_bytes(outputs=10, scores=5)
        100
    """
    return 6 * outputs + 2 * FLOAT * scores
