from math import isnan, pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.explain.fidelity.boxes import Box
from kmm.explain.fidelity.localisation import (
    cover_circles,
    iou_of_circles,
    peak_of,
    point_by_chance,
    pointing_hit,
    rasterize_boxes,
)
from kmm.explain.regions.find import Region

whole_boxes = st.builds(
    Box, st.just("Mass"), st.integers(0, 30), st.integers(0, 20), st.integers(1, 40), st.integers(1, 40)
)


def test_pointing_counts_edges_of_pixels():
    boxes = [Box("Mass", 10, 20, 3, 2), Box("Mass", 0, 0, 1, 1)]
    assert all(pointing_hit(point, boxes) for point in [(9.5, 19.5), (12.5, 21.5), (11, 20), (0, 0)])
    assert not any(pointing_hit(point, boxes) for point in [(9.4, 20), (12.6, 20), (11, 21.6), None])
    assert not pointing_hit((0, 0), [])


def test_peak_is_in_pixels_of_the_film():
    heat = np.zeros((4, 8))
    heat[3, 1] = 2
    assert peak_of(heat, (4, 8)) == (1, 3)
    assert peak_of(heat, (400, 1600)) == (299.5, 349.5)


@given(st.lists(whole_boxes, max_size=5))
def test_chance_is_the_area_of_the_union(boxes):
    assert point_by_chance(boxes, (32, 48))["random_expected"] == pytest.approx(rasterize_boxes(boxes, (32, 48)).mean())


def test_chance_of_boxes_between_pixels():
    boxes = [Box("Mass", 10.2, 20, 30.6, 30), Box("Mass", 30, 40, 50, 20)]
    expected = point_by_chance(boxes, (100, 90))["random_expected"]
    assert expected == pytest.approx((30.6 * 30 + 50 * 20 - 10.8 * 10) / 9000)


def test_centre_and_no_boxes():
    assert point_by_chance([Box("Mass", 4, 4, 2, 2)], (10, 10))["centre"]
    assert not point_by_chance([Box("Mass", 0, 0, 4, 4)], (10, 10))["centre"]
    assert point_by_chance([], (10, 10)) == {"random_expected": 0, "centre": False}


def test_circle_covers_its_area():
    assert cover_circles([Region(250.3, 249.8, 200, 1)], (500, 500)).sum() == pytest.approx(pi * 200**2, rel=1e-3)
    assert cover_circles([Region(0, 0, 200, 1)], (500, 500)).sum() == pytest.approx(pi * 50**2 * 4, rel=1e-2)


def test_smallest_circle_covers_a_pixel_and_none_outside():
    assert np.argwhere(cover_circles([Region(3, 2, 0, 1)], (5, 6))).tolist() == [[2, 3]]
    assert cover_circles([Region(3.5, 2.5, 0, 1)], (5, 6)).any()
    assert not cover_circles([Region(-50, 2, 3, 1)], (5, 6)).any()
    assert not cover_circles([], (5, 6)).any()


@given(st.integers(1, 6), st.integers(1, 6), st.floats(0, 47), st.floats(0, 31), st.floats(8, 30))
def test_grid_samples_the_film(down, right, x, y, radius):
    """A grid of odd blocks has its centres on pixels of the film, so it must agree with every one of them."""
    blocks, size = (2 * down - 1, 2 * right - 1), ((2 * down - 1) * 8, (2 * right - 1) * 8)
    fine = cover_circles([Region(x, y, radius, 1)], size)
    coarse = cover_circles([Region(x, y, radius, 1)], size, shape=(size[0] // blocks[0], size[1] // blocks[1]))
    assert np.array_equal(coarse, fine[down - 1 :: blocks[0], right - 1 :: blocks[1]])


def test_iou_of_known_shapes():
    box = Box("Mass", 100, 100, 200, 200)
    inside = Region(199.5, 199.5, 100, 1)
    assert iou_of_circles([inside], [box], (400, 400)) == pytest.approx(pi / 4, abs=2e-3)
    around = Region(199.5, 199.5, 100 * 2**0.5, 1)
    assert iou_of_circles([around], [box], (400, 400)) == pytest.approx(2 / pi, abs=2e-3)
    assert iou_of_circles([inside, inside], [box, box], (400, 400)) == iou_of_circles([inside], [box], (400, 400))
    assert iou_of_circles([Region(20, 20, 10, 1)], [box], (400, 400)) == 0
    assert iou_of_circles([], [box], (400, 400)) == iou_of_circles([inside], [], (400, 400)) == 0
    assert isnan(iou_of_circles([], [], (400, 400)))


def test_a_box_between_pixel_centres_and_no_circle_overlap_nothing():
    assert iou_of_circles([], [Box("Mass", 10.6, 10.6, 0.3, 0.3)], (40, 40)) == 0


@given(st.lists(whole_boxes, min_size=1, max_size=3), st.floats(0, 47), st.floats(0, 31), st.floats(0, 30))
def test_iou_by_its_definition(boxes, x, y, radius):
    rows, columns = np.mgrid[:32, :48]
    circle = np.hypot(rows - y, columns - x) <= max(radius, 0.5**0.5) + 1e-9
    truth = np.zeros((32, 48), bool)
    for box in boxes:
        truth[box.y : box.y + box.height, box.x : box.x + box.width] = True
    expected = (circle & truth).sum() / (circle | truth).sum()
    assert iou_of_circles([Region(x, y, radius, 1)], boxes, (32, 48)) == pytest.approx(expected, abs=1e-6)
