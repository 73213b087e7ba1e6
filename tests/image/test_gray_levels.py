"""16-bit pixels to gray levels, against numpy's percentiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kmm.image.gray_levels import PERCENTILES, count_levels, find_percentiles, scale_16_bits, stretch


@settings(max_examples=100)
@given(pixels=hnp.arrays(np.uint16, st.tuples(st.integers(1, 40), st.integers(1, 40))))
def test_percentiles_are_numpy_s(pixels):
    assert find_percentiles(count_levels(pixels)) == tuple(np.percentile(pixels, PERCENTILES))


def test_percentiles_of_a_film_of_every_level_are_numpy_s():
    pixels = np.random.default_rng(0).permutation(np.arange(1 << 16, dtype=np.uint16).repeat(30))
    assert find_percentiles(count_levels(pixels)) == tuple(np.percentile(pixels, PERCENTILES))


def test_burnt_in_and_dead_pixels_do_not_darken_a_film():
    film = (np.mgrid[0:64, 0:64].sum(0) * 4095 / 126).astype(np.uint16)
    clean = scale_16_bits(film)
    film[0, 0], film[-1, -1] = 65535, 0
    marked = scale_16_bits(film)
    assert marked[0, 0] == 255 and marked[-1, -1] == 0
    assert np.abs(marked - clean)[(film > 0) & (film < 65535)].max() < 3 and clean.mean() > 120


@given(levels=hnp.arrays(np.uint8, (16, 16)))
def test_an_8_bit_film_times_257_is_itself(levels):
    assert np.array_equal(scale_16_bits(levels.astype(np.uint16) * 257), levels)


@pytest.mark.parametrize("low, high", [(10, 10), (10, 5)])
def test_a_range_of_no_width_has_two_levels(low, high):
    assert stretch(np.float32([9, 10, 11]), low, high).tolist() == [0, 0, 255]
