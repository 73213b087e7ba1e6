"""What is computed together: labels of one study that follow the same path."""

from collections import deque

import numpy as np
import pytest

from kmm.explain.attribution.path_integral import Path
from kmm.explain.attribution.path_walks import Ends, Walk, count_points, group_studies, list_nodes, pack_nodes
from kmm.explain.attribution.quadrature import choose_nodes


def make_walks(labels, steps=5):
    """The walks of one study."""
    ends, nodes = Ends({}, {}, np.zeros((2, labels))), list_nodes(choose_nodes("midpoint", steps))
    return [Walk(target, 0, Path({}, {}, {}), ends, target, deque(nodes), steps) for target in range(labels)]


def test_successive_items_with_the_same_arrays_are_one_study():
    start, ends, fixed = {}, [{}, {}], {}
    paths = [[Path(start, ends[study], fixed, target)] for study, target in [(0, 0), (0, 1), (1, 0), (0, 2)]]
    grouped = group_studies(iter(paths))
    assert [[number for number, _ in group] for group in grouped] == [[0, 1], [2], [3]]
    assert list(group_studies([])) == []


def test_points_that_labels_share_count_once():
    walks = [*make_walks(3), *make_walks(1)]
    assert [count_points(walks, labels) for labels in (1, 2, 3)] == [20, 15, 10]


@pytest.mark.parametrize(
    ("points", "sizes"),
    [
        (5, [(3, 5)]),  # 15 gradients for one forward pass and three backward ones
        (10, [(1, 5), (1, 5)]),  # two such chunks are cheaper than one with three backward passes, not all full
        (20, [(1, 5), (1, 5), (1, 5), (1, 5)]),  # room for everything behind one backward pass
        (3, [(3, 3)]),
        (2, [(3, 2)]),
    ],
)
def test_the_number_of_passes_is_that_with_the_most_nodes_per_time(points, sizes):
    walks = [*make_walks(3), *make_walks(1)]
    packed = pack_nodes(walks, points=points, slots=9, labels=3)
    assert [(len(one.walks), one.count) for one in packed] == sizes
    assert [len(one.take()) for one in packed] == [count for _, count in sizes]
    left = 20 - sum(labels * count for labels, count in sizes)
    assert sum(len(walk.ahead) for walk in walks) == left


def test_one_label_at_a_time_has_stretches_of_one_walk_and_no_more_than_there_are_slots():
    packed = pack_nodes(make_walks(4), points=100, slots=3, labels=1)
    assert [(len(one.walks), one.count) for one in packed] == [(1, 5)] * 3
