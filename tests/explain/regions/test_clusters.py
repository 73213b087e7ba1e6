"""Clusters: single linkage against SciPy's, the others against what their names promise."""

import resource
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.cluster.hierarchy import fclusterdata

from kmm.errors import InputError
from kmm.explain.regions.clusters import CLUSTERINGS, cluster_points


def assert_same_partition(points, distance):
    expected = fclusterdata(points, distance, criterion="distance")
    found = cluster_points(points, distance)
    assert len(np.unique(np.stack([expected, found]), axis=1)[0]) == expected.max() == found.max() + 1


@settings(max_examples=200)
@given(
    points=st.integers(2, 40).flatmap(
        lambda side: arrays(np.int64, st.tuples(st.integers(2, 120), st.just(2)), elements=st.integers(0, side))
    ),
    distance=st.sampled_from([0.5, 1, 2**0.5, 2, 5**0.5, 3, 5, 10]),
)
def test_pixels_give_the_partition_of_scipy_ties_and_duplicates_too(points, distance):
    assert_same_partition(points, distance)


@settings(max_examples=200)
@given(
    points=arrays(np.float64, st.tuples(st.integers(2, 60), st.just(2)), elements=st.floats(-1e6, 1e6)),
    distance=st.floats(1e-3, 1e6),
)
def test_any_points_give_the_partition_of_scipy(points, distance):
    assert_same_partition(points, distance)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), gap=st.sampled_from([0.9, 1.0, 1.1, 1.4, 2.0]))
def test_crowds_at_the_edge_of_the_distance_give_the_partition_of_scipy(seed, gap):
    generator = np.random.default_rng(seed)
    turn = generator.uniform(0, np.pi)
    ring = generator.normal(size=(150, 2))
    ring *= 0.5 / np.linalg.norm(ring, axis=1, keepdims=True)
    points = np.concatenate([ring, ring[::-1] + (1 + gap) * np.array([np.cos(turn), np.sin(turn)])])
    assert_same_partition(points + generator.choice([0, 1e5]), 1.0)
    # each point again exactly one distance away, from a lattice on which sums are exact
    lattice = generator.integers(0, 64, (40, 2)) / 8
    assert_same_partition(np.concatenate([lattice, lattice + np.array([0.75, 1.0])]), 1.25)


@pytest.mark.parametrize("apart", [0.5, 0.94, 0.99, 1.01, 1.05, 1.2, 1.34, 1.5])
def test_two_points_are_together_up_to_the_distance_in_every_direction(apart):
    for angle in np.linspace(0, np.pi, 37):
        points = [[0, 0], [7 * apart * np.cos(angle), 7 * apart * np.sin(angle)]]
        assert cluster_points(points, 7).max() == (apart > 1)


def test_rows_that_only_one_pair_joins():
    """Two walls further apart than the distance, and one point between: the pass over all pairs must find it."""
    wall = np.stack([np.zeros(300), np.linspace(0, 3, 300)], 1)
    walls = np.concatenate([wall, wall + np.array([1.02, 0])])
    assert_same_partition(walls, 1.0)
    assert cluster_points(walls, 1.0).max() == 1
    bridge = np.concatenate([walls, [[0.021, 1.234]]])
    assert_same_partition(bridge, 1.0)
    assert cluster_points(bridge, 1.0).max() == 0


def test_numbers_follow_the_order_of_the_points_and_small_clusters_are_dropped():
    points = [[50, 0], [0, 0], [50, 1], [90, 90], [0, 1], [0, 2]]
    assert cluster_points(points, 1).tolist() == [0, 1, 0, 2, 1, 1]
    assert cluster_points(points, 1, min_points=2).tolist() == [0, 1, 0, -1, 1, 1]
    assert cluster_points(points, 1, min_points=3).tolist() == [-1, 0, -1, -1, 0, 0]
    assert cluster_points(points, 1, min_points=4).tolist() == [-1] * 6


@pytest.mark.parametrize("method", CLUSTERINGS)
def test_two_groups_are_two_clusters(method):
    generator = np.random.default_rng(0)
    points = np.concatenate([generator.normal(0, 1, (40, 2)), generator.normal(30, 1, (30, 2))])
    labels = cluster_points(points, 3.0, method=method, min_points=5)
    assert labels.max() == 1
    for group, number in ((labels[:40], 0), (labels[40:], 1)):
        assert np.mean(group == number) > 0.9 and set(group) <= {number, -1}


@pytest.mark.parametrize("method", CLUSTERINGS)
@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_few_points_are_no_error(method, count):
    points = np.arange(2.0 * count).reshape(count, 2)
    for min_points in (1, 2, 5):
        labels = cluster_points(points, 1.0, method=method, min_points=min_points)
        assert labels.shape == (count,) and np.issubdtype(labels.dtype, np.integer)
        assert count >= min_points or (labels == -1).all()


def test_density_with_two_points_is_single_linkage_without_singletons():
    points = np.random.default_rng(0).integers(0, 80, (200, 2))
    single = cluster_points(points, 4, min_points=2)
    np.testing.assert_array_equal(cluster_points(points, 4, method="dbscan", min_points=2), single)


def test_fifty_thousand_pixels_in_half_a_second_and_little_memory():
    chosen = np.random.default_rng(0).choice(512 * 512, 50_000, replace=False)
    points = np.stack([chosen % 512, chosen // 512], 1)
    cluster_points(points[:100], 10)  # imports
    for distance in (1, 4, 10, 30):
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        cluster_points(points, distance)
        assert time.process_time() - start < 0.5
        assert (
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000
        )  # kB; all pairs at 30 would be 4 GB


@pytest.mark.parametrize(
    "values, said",
    [
        ({"points": [1, 2]}, r"\(n, 2\)"),
        ({"points": [[1, 2, 3]]}, r"\(n, 2\)"),
        ({"points": [[np.nan, 0]]}, "finite"),
        ({"distance": 0}, "distance"),
        ({"distance": np.nan}, "distance"),
        ({"distance": np.inf}, "distance"),
        ({"method": "average"}, "Known: single-linkage"),
        ({"min_points": 0}, "min_points"),
    ],
)
def test_values_out_of_range_are_named(values, said):
    values = {"points": [[0, 0]], "distance": 1, **values}
    with pytest.raises(InputError, match=said):
        cluster_points(values.pop("points"), values.pop("distance"), **values)
