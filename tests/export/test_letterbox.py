"""The graph knows where films lie in their squares."""

import numpy as np
import pytest
import tensorflow as tf

from kmm.export.graph.letterbox import find_boxes, mask_letterbox
from kmm.image.prepare import ImagePreparation

SIZES = [(40, 90), (100, 50), (48, 48), (32, 31), (31, 32), (17, 400), (400, 16), (33, 35)]


@pytest.mark.parametrize("side", [32, 33])
def test_boxes_of_prepared_films_are_found(side):
    preparation = ImagePreparation(side)
    squares = np.stack([preparation.apply(np.full(size, 9.0)) for size in SIZES])
    assert find_boxes(tf.constant(squares), "letterbox").numpy().tolist() == [
        list(preparation.find_box(size)) for size in SIZES
    ]


def test_a_stretched_film_and_no_film_fill_the_square():
    bars = ImagePreparation(32).apply(np.full((10, 40), 9.0))
    assert find_boxes(tf.constant(bars[None]), "stretch").numpy().tolist() == [[0, 0, 32, 32]]
    assert find_boxes(tf.zeros((1, 32, 32, 1)), "letterbox").numpy().tolist() == [[0, 0, 32, 32]]


def test_dark_edges_across_the_bars_are_film():
    film = np.full((100, 50), 9.0)
    film[:8] = film[-8:] = 0  # narrower than the bars beside the film
    square = ImagePreparation(50).apply(film)
    assert find_boxes(tf.constant(square[None]), "letterbox").numpy().tolist() == [[0, 12, 50, 25]]


def test_boxes_are_covered_and_nothing_else():
    boxes = [(0, 12, 50, 25), (3, 0, 44, 50), (0, 0, 0, 0), (0, 0, 50, 50)]
    covered = mask_letterbox(tf.constant(boxes), 50).numpy()
    assert covered.shape == (4, 50, 50, 1)
    for mask, (top, left, height, width) in zip(covered, boxes):
        assert mask[top : top + height, left : left + width].all() and mask.sum() == height * width
