"""Quadrature rules: the points of the path from baseline to input at which gradients are taken, and their weights."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kmm.errors import InputError, look_up
from kmm.explain.settings import FIRST_STEPS


@dataclass(frozen=True)
class Nodes:
    """Points of a path in `[0, 1]`, 0 = baseline.

    Attributes:
        alphas: float64 array `(n,)`.
        weights: float64 array `(n,)`, on any scale: gradients are averaged by them.
        odd: bool array `(n,)`: whether a node has an odd index when all nodes so far are sorted.
    """

    alphas: np.ndarray
    weights: np.ndarray
    odd: np.ndarray


def _number(alphas, weights):
    return Nodes(alphas, weights, np.arange(len(alphas)) % 2 == 1)


def _midpoint(steps):
    return _number((np.arange(steps) + 0.5) / steps, np.ones(steps))


def _left(steps):
    return _number(np.arange(steps) / steps, np.ones(steps))


def _right(steps):
    return _number((np.arange(steps) + 1) / steps, np.ones(steps))


def _trapezoid(steps):
    weights = np.ones(steps)
    if steps > 1:
        weights[[0, -1]] = 0.5
    return _number(np.linspace(0, 1, steps) if steps > 1 else np.array([0.5]), weights)


def _gauss_legendre(steps):
    alphas, weights = np.polynomial.legendre.leggauss(steps)
    return _number((alphas + 1) / 2, weights)


QUADRATURE_RULES: dict[str, Callable[[int], Nodes]] = {
    "midpoint": _midpoint,
    "left": _left,
    "right": _right,
    "trapezoid": _trapezoid,
    "gauss-legendre": _gauss_legendre,
    "paper": _left,
}
STEPS = {"paper": 50}
DEFAULT_STEPS = 64


def choose_nodes(rule: str = "midpoint", steps: int | None = None) -> Nodes:
    """Chooses the first nodes of a path.

    Args:
        rule: name in `QUADRATURE_RULES`. `"paper"` is the left rule with the 50 steps of the published system.
        steps: int >= 1, or None: 5 for the midpoint rule, which is then refined; 50 for `"paper"`; 64 for the others.

    Returns:
        `Nodes`.

    Raises:
        InputError: if the rule is unknown or `steps` is not a positive whole number.

    Example:
        >>> choose_nodes("midpoint", 4).alphas.tolist()
        [0.125, 0.375, 0.625, 0.875]
    """
    make = look_up(QUADRATURE_RULES, rule, "rule")
    if steps is None:
        steps = FIRST_STEPS if rule == "midpoint" else STEPS.get(rule, DEFAULT_STEPS)
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise InputError(f"`steps` must be a whole number of at least 1. Received: {steps!r}.")
    return make(steps)


def refine_midpoints(steps: int, factor: int) -> tuple[Nodes, bool]:
    """Returns the nodes that turn a midpoint rule of `steps` nodes into one of `factor * steps` nodes.

    The middle one of every `factor` new nodes exists already: old node i becomes node `factor * i + factor // 2`.

    Args:
        steps: int >= 1.
        factor: odd int >= 3.

    Returns:
        `Nodes`, only the new ones, and bool: whether the old nodes with even indices now have odd ones and vice versa.

    Raises:
        InputError: if `factor` is even or below 3.

    Example:
        >>> nodes, flipped = refine_midpoints(1, 3)
        >>> nodes.alphas.round(3).tolist(), flipped
        ([0.167, 0.833], True)
    """
    if factor < 3 or factor % 2 == 0:
        raise InputError(f"`factor` must be 3, 5, 7, ... Received: {factor}.")
    nodes, middle = _midpoint(factor * steps), factor // 2
    new = np.arange(factor * steps) % factor != middle
    return Nodes(nodes.alphas[new], nodes.weights[new], nodes.odd[new]), middle % 2 == 1
