"""Regions: laws of the threshold, circles against geometry, the paper's recipe, the mapping to the film."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.cluster.hierarchy import fclusterdata

from kmm.errors import InputError
from kmm.explain.regions.circles import CIRCLES
from kmm.explain.regions.find import THRESHOLD_RULES, Region, choose_points, find_regions, smooth_map
from kmm.explain.settings import RegionSettings
from kmm.image.prepare import ImagePreparation

PLAIN = RegionSettings(smoothing=0, min_points=1)
MAPS = arrays(np.float32, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.floats(-100, 100, width=32))
SHARES = st.floats(0, 1)


def disk(height, width, x, y, radius):
    rows, columns = np.mgrid[:height, :width]
    return ((columns - x) ** 2 + (rows - y) ** 2 <= radius**2).astype(float)


# --- the threshold


@pytest.mark.parametrize("rule", THRESHOLD_RULES)
@settings(max_examples=150)
@given(heat=MAPS, low=SHARES, high=SHARES)
def test_raising_the_sensitivity_never_adds_a_point(rule, heat, low, high):
    low, high = sorted([low, high])
    many, few = (choose_points(heat, sensitivity=level, rule=rule) for level in (low, high))
    assert not (few & ~many).any()


@pytest.mark.parametrize("rule", ["mass", "quantile"])
@settings(max_examples=150)
@given(heat=MAPS, level=SHARES)
def test_only_positive_points_stay_all_at_0_the_strongest_at_1_and_ties_together(rule, heat, level):
    chosen = choose_points(heat, sensitivity=level, rule=rule)
    assert not chosen[heat <= 0].any()
    if heat.min() < heat.max():
        np.testing.assert_array_equal(choose_points(heat, sensitivity=0, rule=rule), heat > 0)
        strongest = (heat == heat.max()) & (heat > 0)
        np.testing.assert_array_equal(choose_points(heat, sensitivity=1, rule=rule), strongest)
        if chosen.any():
            np.testing.assert_array_equal(chosen, heat >= heat[chosen].min())


@settings(max_examples=150)
@given(heat=MAPS, level=SHARES)
def test_mass_keeps_the_fewest_points_that_hold_the_rest_of_the_positive_sum(heat, level):
    chosen = choose_points(heat, sensitivity=level, rule="mass")
    if not chosen.any():
        return
    positive = np.sort(heat[heat > 0].astype(np.float64))
    capped = np.minimum(heat.clip(min=0), positive[int(0.999 * (len(positive) - 1))]).astype(np.float64)
    total = capped.sum()
    assert capped[chosen].sum() >= (1 - level) * total - 1e-9 * total
    weakest = heat == heat[chosen].min()
    if level < 1 and weakest.sum() != chosen.sum():  # without its weakest value it would hold too little
        assert capped[chosen & ~weakest].sum() <= (1 - level) * total + 1e-9 * total


def test_mass_leaves_out_exactly_its_share():
    assert choose_points([[4, 4, 4, 3, 1, -8]], sensitivity=0.25).tolist() == [[True] * 3 + [False] * 3]
    assert choose_points([[4, 4, 4, 3, 1, -8]], sensitivity=0.24).tolist() == [[True] * 4 + [False] * 2]


def test_scaling_the_map_changes_nothing_and_one_outlier_changes_little():
    heat = np.random.default_rng(0).normal(size=(60, 60)) + 4 * disk(60, 60, 30, 20, 8)
    for level in (0.3, 0.7, 0.9):
        chosen = choose_points(heat, sensitivity=level)
        np.testing.assert_array_equal(choose_points(1e-6 * heat, sensitivity=level), chosen)
        outlier = heat.copy()
        outlier[50, 5] = 1e6
        assert np.count_nonzero(choose_points(outlier, sensitivity=level) != chosen) <= 0.02 * chosen.sum() + 2


def test_quantile_keeps_its_share_of_the_positive_points():
    heat = np.arange(-100.0, 101).reshape(3, 67)
    for level, count in ((0, 100), (0.25, 76), (0.9, 11), (1, 1)):
        assert choose_points(heat, sensitivity=level, rule="quantile").sum() == count


def test_paper_stretches_the_signed_map_and_turns_three_channels_to_grey():
    heat = np.random.default_rng(0).normal(size=(20, 30, 3))
    stretched = (heat - heat.min()) / (heat.max() - heat.min())
    grey = stretched @ [0.114, 0.587, 0.299]
    assert np.abs(grey - 0.6).min() > 1e-6  # so that rounding decides nothing
    np.testing.assert_array_equal(choose_points(heat, sensitivity=0.6, rule="paper"), grey >= 0.6)
    single = heat[..., 0]
    stretched = (single - single.min()) / (single.max() - single.min())
    np.testing.assert_array_equal(choose_points(single, sensitivity=0.7, rule="paper"), stretched >= 0.7)
    np.testing.assert_array_equal(choose_points(single, sensitivity=0, rule="paper"), single > single.min())


def test_other_rules_take_the_sum_of_the_channels():
    heat = np.random.default_rng(0).normal(size=(20, 30, 3))
    for rule in ("mass", "quantile"):
        summed = choose_points(heat.sum(axis=2), sensitivity=0.6, rule=rule)
        np.testing.assert_array_equal(choose_points(heat, sensitivity=0.6, rule=rule), summed)


# --- smoothing


@settings(max_examples=50)
@given(heat=MAPS, smoothing=st.floats(0, 0.5))
def test_smoothing_keeps_the_sum_of_what_is_not_cut(heat, smoothing):
    heat = heat.clip(-1, 1)  # with ties at the cap, or the cap is the greatest but one
    magnitudes = np.sort(np.abs(heat[heat != 0]))
    cut = heat.clip(-magnitudes[-2:].min(), magnitudes[-2:].min()) if len(magnitudes) and smoothing else heat
    smooth = smooth_map(heat, smoothing)[..., 0]
    if heat.min() < heat.max():
        assert smooth.sum() == pytest.approx(cut.sum(dtype=np.float64), abs=1e-5)
    else:
        np.testing.assert_array_equal(smooth, heat)


def test_smoothing_makes_no_spot_of_one_outlier():
    heat = np.random.default_rng(0).normal(size=(100, 100)) + 3 * disk(100, 100, 70, 30, 10)
    heat[80, 10] = 1e6
    strongest = find_regions(heat, RegionSettings())[0]
    assert np.hypot(strongest.x - 70, strongest.y - 30) < 4


# --- circles


@settings(max_examples=200)
@given(
    points=st.one_of(
        arrays(np.int64, st.tuples(st.integers(1, 9), st.just(2)), elements=st.integers(0, 6)).map(np.float64),
        arrays(np.float64, st.tuples(st.integers(1, 9), st.just(2)), elements=st.floats(-1000, 1000)),
    )
)
def test_smallest_circle_holds_all_and_none_of_two_or_three_points_is_larger_than_needed(points):
    x, y, radius = CIRCLES["smallest"](points, 1.0)
    distances = np.hypot(*(points - (x, y)).T)
    assert distances.max() <= radius * (1 + 1e-12)
    # the smallest circle of all is the largest of the smallest circles of three of them (Helly)
    needed = [np.hypot(*(a - b)) / 2 for a, b in combinations(points, 2)]
    for three in combinations(points, 3):
        sides = sorted(np.hypot(*(a - b)) for a, b in combinations(three, 2))
        area = abs(np.cross(np.append(three[1] - three[0], 0), np.append(three[2] - three[0], 0))[2]) / 2
        if sides[2] ** 2 < sides[0] ** 2 + sides[1] ** 2 and area > 1e-6 * sides[2] ** 2:
            needed.append(np.prod(sides) / (4 * area))
    assert radius == pytest.approx(max(needed, default=0), rel=1e-6, abs=1e-6)


def test_smallest_circle_of_many_points():
    generator = np.random.default_rng(0)
    angles = generator.uniform(0, 2 * np.pi, 5000)
    points = np.stack([np.cos(angles), np.sin(angles)], 1) * generator.uniform(0, 1, (5000, 1)) ** 0.1
    corners = np.array([[0.6, 0.8], [-1, 0], [0.6, -0.8]])
    x, y, radius = CIRCLES["smallest"](1e-3 * np.concatenate([points, corners]) + 2000, 1.0)
    assert (x, y, radius) == pytest.approx((2000, 2000, 1e-3), abs=1e-11)


def test_centroid_and_quantile_circles():
    points = np.array([[0.0, 0], [10, 0], [0, 10], [10, 10], [5, 5], [5, 5], [5, 5], [5, 9]])
    x, y, radius = CIRCLES["centroid"](points, 0.5)
    assert (x, y) == (5, 5.5) and radius == np.hypot(5, 5.5)
    for share in (0.1, 0.375, 0.5, 0.75, 0.9, 1.0):
        x, y, radius = CIRCLES["quantile"](points, share)
        distances = np.hypot(*(points - (x, y)).T)
        assert (x, y) == (5, 5.5) and np.mean(distances <= radius) >= share > np.mean(distances < radius)


# --- maps to regions


def test_two_disks_are_two_circles_with_their_shares_heaviest_first():
    heat = disk(60, 80, 20, 15, 5) + 3 * disk(60, 80, 60, 40, 7) - disk(60, 80, 40, 30, 4)
    first, second = find_regions(heat, replace(PLAIN, sensitivity=0))
    small, large = disk(60, 80, 20, 15, 5).sum(), 3 * disk(60, 80, 60, 40, 7).sum()
    assert (first.x, first.y, first.radius) == pytest.approx((60, 40, 7))
    assert (second.x, second.y, second.radius) == pytest.approx((20, 15, 5))
    assert (first.weight, second.weight) == pytest.approx((large / (small + large), small / (small + large)))
    assert find_regions(heat, replace(PLAIN, sensitivity=0, min_points=100)) == [first]
    assert find_regions(heat, replace(PLAIN, sensitivity=0, min_points=1000)) == []
    assert first.as_dict() == {"x": first.x, "y": first.y, "radius": first.radius, "weight": first.weight}


@pytest.mark.parametrize("circle", CIRCLES)
@pytest.mark.parametrize("cluster", ["single-linkage", "dbscan", "hdbscan"])
def test_every_circle_and_clustering_finds_the_disk(circle, cluster):
    heat = disk(64, 64, 40, 20, 6) + 0.01 * np.random.default_rng(0).normal(size=(64, 64))
    found = find_regions(
        heat, RegionSettings(sensitivity=0.7, smoothing=0.01, circle=circle, cluster=cluster, distance=3)
    )[0]
    assert (found.x, found.y) == pytest.approx((40, 20), abs=1) and 3 < found.radius < 9


@pytest.mark.parametrize("size", [(300, 400), (400, 300), (2048, 1500), (100, 100), (60, 97)])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_circles_lie_on_the_film_as_the_preparation_maps_them(size, fit):
    preparation = ImagePreparation(pixels=96, fit=fit)
    top, left, height, width = preparation.find_box(size)
    heat = np.zeros((height, width))
    heat[10:14, 20:31] = 1
    (found,) = find_regions(heat, replace(PLAIN, sensitivity=0), film_size=size)
    corners = preparation.mapping(size).to_original([[left + 20, top + 10], [left + 30, top + 13]])
    assert (found.x, found.y) == pytest.approx(corners.mean(axis=0))
    assert found.radius == pytest.approx(np.hypot(*(corners[1] - corners[0])) / 2)


def test_pixels_of_the_corners_lie_on_the_corners_of_the_film():
    heat = np.zeros((4, 4))
    heat[0, 0], heat[3, 3] = 2, 1
    first, last = find_regions(heat, replace(PLAIN, sensitivity=0), film_size=(400, 800))
    assert first == Region(x=99.5, y=49.5, radius=0.0, weight=2 / 3)
    assert (last.x, last.y) == (699.5, 349.5)


def test_the_paper_is_reproduced_but_for_the_five_pixels_of_its_radius():
    generator = np.random.default_rng(3)
    heat = generator.normal(size=(90, 90, 3)).astype(np.float32)
    stretched = (heat - heat.min()) / (heat.max() - heat.min())
    rows, columns = np.nonzero(stretched @ np.float32([0.114, 0.587, 0.299]) >= 0.7)
    points = np.stack([columns, rows], 1)
    labels = fclusterdata(points, 10, criterion="distance")
    expected = []
    for label in np.unique(labels):
        members = points[labels == label]
        if len(members) > 1:
            centre = members.mean(axis=0)
            expected.append((*centre, np.linalg.norm(members - centre, axis=1).max()))
    paper = RegionSettings(rule="paper", sensitivity=0.7, smoothing=0, distance=10, min_points=2)
    found = [(region.x, region.y, region.radius) for region in find_regions(heat, paper)]
    assert len(expected) > 3
    np.testing.assert_allclose(sorted(found), sorted(expected))


@pytest.mark.parametrize("rule", THRESHOLD_RULES)
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0])
def test_a_constant_map_has_no_region(rule, value):
    assert find_regions(np.full((20, 30), value), RegionSettings(rule=rule)) == []


@pytest.mark.parametrize("rule", ["mass", "quantile"])
def test_a_map_without_positive_points_has_no_region(rule):
    heat = -np.random.default_rng(0).uniform(1, 2, (20, 30))
    assert find_regions(heat, RegionSettings(rule=rule, min_points=1, sensitivity=0)) == []


def test_the_paper_draws_a_negative_map_too_and_weighs_its_grey_values():
    """Its points are those of the stretched map, whatever the sign: -0.1 is white where all else is -1."""
    heat = np.full((40, 50), -1.0)
    heat[10:20, 30:40] = -0.1
    heat[5, 5] = -0.55  # half grey
    paper = RegionSettings(rule="paper", sensitivity=0.7, smoothing=0)
    (found,) = find_regions(heat, paper)
    assert (found.x, found.y) == (34.5, 14.5) and found.weight == pytest.approx(100 / 100.5)
    (again,) = find_regions(heat + 7, paper)
    assert again.as_dict() == pytest.approx(found.as_dict())


@settings(max_examples=100)
@given(
    heat=MAPS,
    level=SHARES,
    smoothing=st.sampled_from([0, 0.01, 0.2]),
    circle=st.sampled_from(list(CIRCLES)),
    rule=st.sampled_from(list(THRESHOLD_RULES)),
)
def test_weights_are_sorted_shares_and_circles_lie_on_the_film(heat, level, smoothing, circle, rule):
    chosen = RegionSettings(sensitivity=level, smoothing=smoothing, circle=circle, min_points=1, rule=rule)
    found = find_regions(heat, chosen, film_size=(50, 70))
    weights = [region.weight for region in found]
    assert weights == sorted(weights, reverse=True) and sum(weights) <= 1 + 1e-9
    for region in found:
        assert -0.5 <= region.x <= 69.5 and -0.5 <= region.y <= 49.5 and 0 <= region.radius < 90


@pytest.mark.parametrize(
    "heat, said",
    [
        (np.full((3, 3), np.nan), "finite"),
        (np.full((3, 3), np.inf), "finite"),
        (np.zeros(4), r"\(4,\)"),
        (np.zeros((4, 4, 2)), r"\(4, 4, 2\)"),
        (np.zeros((0, 4)), r"\(0, 4\)"),
    ],
)
def test_invalid_maps_are_refused(heat, said):
    with pytest.raises(InputError, match=said):
        find_regions(heat, RegionSettings())
    with pytest.raises(InputError, match=said):
        choose_points(heat, sensitivity=0.5)


@pytest.mark.parametrize(
    "values, said",
    [
        ({"sensitivity": 1.1}, "sensitivity"),
        ({"sensitivity": np.nan}, "sensitivity"),
        ({"rule": "otsu"}, "Known: mass, quantile, paper"),
        ({"smoothing": -0.1}, "smoothing"),
        ({"cluster": "kmeans"}, "Known: single-linkage"),
        ({"distance": 0}, "distance"),
        ({"min_points": 0}, "min_points"),
        ({"circle": "square"}, "Known: centroid"),
        ({"radius_quantile": 0}, "radius_quantile"),
    ],
)
def test_settings_out_of_range_are_named(values, said):
    with pytest.raises(InputError, match=said):
        find_regions(np.eye(4), RegionSettings(**values))


def test_a_film_without_size_and_a_rule_without_name_are_named():
    with pytest.raises(InputError, match="film_size"):
        find_regions(np.eye(4), PLAIN, film_size=(0, 4))
    with pytest.raises(InputError, match="Known: mass"):
        choose_points(np.eye(4), sensitivity=0.5, rule="otsu")
    with pytest.raises(InputError, match="sensitivity"):
        choose_points(np.eye(4), sensitivity=-0.1)
