"""Paths in progress: their nodes still to compute, and which of them are computed together.

Labels of one study that follow the same path have the same points. The score's forward pass is then computed once for
several labels, and followed by one backward pass for each.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from keras import ops

from kmm.explain.attribution.path_integral import Path
from kmm.explain.attribution.quadrature import Nodes, refine_midpoints

BACKWARD = 1.6  # time of a backward pass of a small convolutional network on a CPU, in units of its forward pass
Node = tuple[float, float, int]  # alpha, weight, whether its index is odd


@dataclass(frozen=True)
class Ends:
    """The ends of a path behind the stem.

    Attributes:
        start, delta: dict of name to tensor: the output of the stem at the start, and its change along the path.
        scores: float64 array `(2, n_labels)`, of both ends.
    """

    start: dict[str, Any]
    delta: dict[str, Any]
    scores: np.ndarray


@dataclass
class Walk:
    """A path of one study for one label, in progress.

    Attributes:
        study, place: int. Number of the study and label, and of the path among theirs.
        path: `Path`.
        ends: `Ends`, the same object for all labels that share the path.
        target: int. Index of the label.
        ahead: deque of nodes still to compute.
        steps: int. Number of nodes of the path, those ahead included.
        sums: dict of name to tensor `(2, ...)`: weighted sums of gradients over even and odd nodes; None before the
            first.
        weights: float array `(2,)`, the sums of their weights.
    """

    study: int
    place: int
    path: Path
    ends: Ends
    target: int
    ahead: deque[Node]
    steps: int
    sums: dict[str, Any] | None = None
    weights: np.ndarray = field(default_factory=lambda: np.zeros(2))

    def refine(self, factor: int) -> None:
        """Adds the nodes that multiply the number of steps by `factor`."""
        nodes, flipped = refine_midpoints(self.steps, factor)
        self.ahead.extend(list_nodes(nodes))
        self.steps *= factor
        if flipped and self.sums is not None:
            self.weights = self.weights[::-1].copy()
            self.sums = {name: ops.flip(value, axis=0) for name, value in self.sums.items()}


@dataclass(frozen=True)
class Stretch:
    """The next nodes of walks of several labels along the same path, which are computed together.

    Attributes:
        walks: list of `Walk` with equal ends and equal nodes ahead.
        count: int. How many of these nodes.
    """

    walks: list[Walk]
    count: int

    def take(self) -> list[Node]:
        """Takes the nodes off all walks and returns them."""
        taken = [[walk.ahead.popleft() for _ in range(self.count)] for walk in self.walks]
        return taken[0]


def list_nodes(nodes: Nodes) -> list[Node]:
    """Lists the nodes of a rule."""
    return list(zip(nodes.alphas.tolist(), nodes.weights.tolist(), nodes.odd.astype(int).tolist(), strict=True))


def group_studies(studies: Iterable[Sequence[Path]]) -> Iterator[list[tuple[int, Sequence[Path]]]]:
    """Groups successive items that follow the same paths: the labels of one study.

    Args:
        studies: iterable of sequences of `Path`. Paths are the same if their arrays are the same objects.

    Yields:
        list of the number of an item, from 0, and its paths.
    """
    group: list[tuple[int, Sequence[Path]]] = []
    for number, paths in enumerate(studies):
        if group and not _are_same(group[0][1], paths):
            yield group
            group = []
        group.append((number, paths))
    if group:
        yield group


def _are_same(first, second):
    return len(first) == len(second) and all(
        one.start is other.start and one.end is other.end and one.fixed is other.fixed
        for one, other in zip(first, second)
    )


def count_points(walks: Iterable[Walk], labels: int) -> int:
    """Counts the points ahead; those that up to `labels` labels share count once."""
    return sum(len(nodes) * -(-len(some) // labels) for (_, nodes), some in _group_walks(walks).items())


def pack_nodes(walks: Iterable[Walk], *, points: int, slots: int, labels: int) -> list[Stretch]:
    """Chooses the nodes of the next chunk, those of the earliest walks first.

    A chunk takes one forward pass and as many backward passes as the largest stretch has labels. Of the numbers of
    passes, that with the most nodes and labels per time is taken.

    Args:
        walks: iterable of `Walk`, some with nodes ahead.
        points: int >= 1. Most points of a chunk.
        slots: int >= 1. Most stretches of a chunk.
        labels: int >= 1. Most labels of a stretch.

    Returns:
        list of `Stretch`.
    """
    groups = _group_walks(walks)
    most = min(labels, max(map(len, groups.values())))
    choices = [_pack(groups, points, slots, passes) for passes in range(1, most + 1)]
    return max(choices, key=_rate)


def _group_walks(walks):
    groups: dict[tuple[int, tuple[Node, ...]], list[Walk]] = {}
    for walk in walks:
        if walk.ahead:
            groups.setdefault((id(walk.ends), tuple(walk.ahead)), []).append(walk)
    return groups


def _pack(groups, points, slots, labels):
    packed = []
    for (_, nodes), walks in groups.items():
        for first in range(0, len(walks), labels):
            count = min(len(nodes), points)
            if not count or len(packed) == slots:
                return packed
            packed.append(Stretch(walks[first : first + labels], count))
            points -= count
    return packed


def _rate(stretches):
    """Returns the nodes times labels of a chunk per time, in units of a forward pass."""
    passes = max(len(one.walks) for one in stretches)
    return sum(one.count * len(one.walks) for one in stretches) / (1 + BACKWARD * passes)
