"""Rules by which relevance is carried through layers of attention, from what a model reads to the tokens of its inputs.

The relevance of a side is a matrix: row i says how much each token of the inputs counts for token i of a layer. A layer
of attention, whose weights are averaged over its heads, carries it on; what stands between the layers leaves it alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keras import ops

Relevance = dict[tuple[str, str], Any]  # (side of the rows, side of the columns) to (n, tokens, tokens)


@dataclass(frozen=True)
class Rules:
    """Rules of one method.

    Attributes:
        average: function `(weights, gradients) -> (n, q, k)`: mean of `(n, heads, q, k)` over the heads. `gradients`
            is d score / d weights.
        attend: function `(before, read, weights)`: the relevance `(n, q, t)` behind a layer, from that before it and
            from `read`, the weights times the relevance of what it reads.
        cross: function `(relevance, weights) -> Relevance`, of a layer in which two sides read each other. `weights`
            maps the side of the queries to `(n, q, k)`.
        by_gradient: bool. Whether gradients are read. Then what counts is what attention adds to the identity.
    """

    average: Callable[[Any, Any], Any]
    attend: Callable[[Any, Any, Any], Any]
    cross: Callable[[Relevance, Mapping[str, Any]], Relevance]
    by_gradient: bool


def start_relevance(side: str, tokens: int) -> Relevance:
    """Makes the relevance of a side before any attention: `(1, tokens, tokens)`, each token for itself."""
    return {(side, side): ops.eye(tokens)[None]}


def attend_to_itself(rules: Rules, relevance: Relevance, side: str, weights: Any) -> Relevance:
    """Carries relevance through a layer in which the tokens of one side read each other.

    Args:
        rules: `Rules`.
        relevance: `Relevance`; rows of other sides stay as they are.
        side: str.
        weights: float `(n, t, t)`, averaged over the heads; a row of zeros reads nothing.

    Returns:
        `Relevance`.

    Example:
        >>> before, weights = start_relevance("text", 2), ops.array([[[0.0, 1.0], [0.5, 0.5]]])
        >>> after = attend_to_itself(RULES["rollout"], before, "text", weights)["text", "text"]
        >>> ops.convert_to_numpy(after)[0].tolist()
        [[0.5, 0.5], [0.25, 0.75]]
    """
    return {
        (rows, columns): rules.attend(value, ops.matmul(weights, value), weights) if rows == side else value
        for (rows, columns), value in relevance.items()
    }


def attend_to_each_other(rules: Rules, relevance: Relevance, weights: Mapping[str, Any]) -> Relevance:
    """Carries relevance through a layer in which two sides read each other, both as they were before it.

    Args:
        rules: `Rules`.
        relevance: `Relevance` of two sides.
        weights: dict of each side to float `(n, tokens of this side, tokens of the other)`, averaged over the heads.

    Returns:
        `Relevance`, with that of each side for the other.
    """
    first, second = weights
    whole = dict(relevance)
    for rows, columns in ((first, second), (second, first)):
        empty = ops.zeros_like(relevance[rows, rows][..., :1]) * ops.zeros_like(relevance[columns, columns][:, :1])
        whole.setdefault((rows, columns), empty)
    return rules.cross(whole, weights)


def average_heads(weights: Any, gradients: Any = None) -> Any:
    """Computes the mean of weights `(n, heads, q, k)` over the heads."""
    return ops.mean(weights, axis=1)


def weigh_heads(weights: Any, gradients: Any) -> Any:
    """Computes the mean over the heads of what weights `(n, heads, q, k)` add to the score: the positive part of their
    product with the gradient."""
    return ops.mean(ops.relu(weights * gradients), axis=1)


def mix(before: Any, read: Any, weights: Any) -> Any:
    """Averages the relevance of a token and that of what it reads, as the sum of a residual connection; a token that
    reads nothing keeps its own."""
    return (before + read) / (1 + ops.sum(weights, axis=-1, keepdims=True))


def add(before: Any, read: Any, weights: Any) -> Any:
    """Adds the relevance of what a token reads to its own."""
    return before + read


def cross_by_mixing(relevance: Relevance, weights: Mapping[str, Any]) -> Relevance:
    """Carries relevance through a crossing as through attention of the tokens of both sides, side by side."""
    other = _pair(weights)
    return {
        (rows, columns): mix(value, ops.matmul(weights[rows], relevance[other[rows], columns]), weights[rows])
        for (rows, columns), value in relevance.items()
    }


def cross_by_adding(relevance: Relevance, weights: Mapping[str, Any]) -> Relevance:
    """Carries relevance through a crossing by rules 10 and 11 of the source: for the other side by the weights in the
    context of both sides, for its own side by what it gets back.

    Source: https://arxiv.org/abs/2103.15679
    """
    made = {}
    for side, other in _pair(weights).items():
        context = ops.matmul(weights[side], normalise(relevance[other, other]))
        seen = ops.matmul(ops.swapaxes(normalise(relevance[side, side]), 1, 2), context)
        made[side, other] = relevance[side, other] + seen
        made[side, side] = relevance[side, side] + ops.matmul(weights[side], relevance[other, side])
    return made


def _pair(weights):
    """Returns the other one of two sides, for each."""
    first, second = weights
    return {first: second, second: first}


def normalise(relevance: Any) -> Any:
    """Divides what attention has added to the identity by the sum of its row, and adds the identity again.

    Example:
        >>> ops.convert_to_numpy(normalise(ops.array([[[4.0, 1.0], [0.0, 1.0]]])))[0].tolist()
        [[1.75, 0.25], [0.0, 1.0]]
    """
    identity = ops.eye(relevance.shape[-1])
    added = relevance - identity
    total = ops.sum(added, axis=-1, keepdims=True)
    return added / ops.where(total == 0, 1.0, total) + identity


RULES = {
    "rollout": Rules(average_heads, mix, cross_by_mixing, by_gradient=False),
    "gradient-rollout": Rules(weigh_heads, add, cross_by_adding, by_gradient=True),
}
