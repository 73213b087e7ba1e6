"""Sums that add up as they are printed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.explain.output.balance import choose_decimals, format_signed, round_to_sum

NUMBERS = st.floats(-1e4, 1e4)


@given(st.lists(NUMBERS, min_size=1, max_size=12), st.integers(0, 4))
def test_what_adds_up_is_printed_so_that_it_adds_up(values, decimals):
    rounded, total, rest = round_to_sum(values, sum(values), decimals)
    unit = 10.0**-decimals
    assert rest == 0 and sum(rounded) == pytest.approx(total, abs=unit / 100)
    assert all(abs(one - other) < 1.001 * unit for one, other in zip(rounded, values))
    assert abs(total - sum(values)) <= 0.501 * unit


@given(st.lists(NUMBERS, min_size=1, max_size=5), NUMBERS)
def test_what_is_missing_is_the_rest(values, total):
    rounded, whole, rest = round_to_sum(values, total, 2)
    assert sum(rounded) + rest == pytest.approx(whole, abs=1e-6)
    if abs(total - sum(values)) > 0.02 * (len(values) + 2):
        assert rest and rounded == pytest.approx([round(value, 2) for value in values], abs=0.011)


def test_the_example_of_a_page():
    assert round_to_sum([-8.7, 3.5, -1.5], -6.7, 1) == ([-8.7, 3.5, -1.5], -6.7, 0)


def test_decimals_show_three_digits_of_the_largest():
    assert [choose_decimals([value]) for value in (123.4, -8.7, 0.5, 0.04, 1e-9, 0.0)] == [2, 2, 3, 4, 6, 2]


def test_zero_has_no_sign_of_its_own():
    assert [format_signed(value, 2) for value in (0.0, -0.0, 1.5, -1.5)] == ["0.00", "0.00", "+1.50", "−1.50"]
