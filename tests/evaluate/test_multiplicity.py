import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.errors import InputError
from kmm.evaluate.statistics.multiplicity import adjust_holm

families = st.lists(st.floats(0, 1), max_size=12).map(lambda values: {str(i): p for i, p in enumerate(values)})


def test_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, which may not fall again."""
    assert adjust_holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02}
    )


@pytest.mark.large  # statsmodels takes long to import
@given(families)
def test_it_is_that_of_statsmodels(family):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    if family:
        expected = multitest.multipletests(list(family.values()), method="holm")[1]
        np.testing.assert_allclose(list(adjust_holm(family).values()), expected, atol=1e-12)


@given(families)
def test_step_by_step_the_smallest_p_is_multiplied_by_the_tests_that_are_left(family):
    values, expected, before = sorted(family.values()), {}, 0.0
    for rank, p in enumerate(values):
        before = expected[p] = max(before, min(1.0, p * (len(values) - rank)))
    assert adjust_holm(family) == pytest.approx({name: expected[p] for name, p in family.items()})


@given(families)
def test_adjusting_never_lowers_a_p_keeps_the_order_and_is_no_stricter_than_bonferroni(family):
    found = adjust_holm(family)
    assert list(found) == list(family)
    for name, p in family.items():
        assert p <= found[name] <= min(1.0, p * len(family)) + 1e-12
        assert all(found[name] <= found[other] for other, q in family.items() if p <= q)


def test_a_test_that_could_not_be_done_does_not_count():
    assert adjust_holm({"a": 0.02, "b": None, "c": 0.5}) == {"a": 0.04, "b": None, "c": 0.5}
    assert adjust_holm({"a": None}) == {"a": None} and adjust_holm({}) == {}


@pytest.mark.parametrize("p", (-0.1, 1.1, float("nan")))
def test_what_is_no_probability_is_refused(p):
    with pytest.raises(InputError, match='The p of "joint-text" must be in'):
        adjust_holm({"joint-text": p})
