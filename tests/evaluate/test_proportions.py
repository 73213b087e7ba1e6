"""Intervals of proportions: against SciPy, a published example, and their coverage of clustered studies."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from kmm.errors import InputError
from kmm.evaluate.statistics.proportions import clustered_interval, newcombe_interval, wilson_interval


@pytest.mark.large
@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.99))
def test_wilson_is_that_of_scipy(pair, level):
    known = binomtest(*pair).proportion_ci(level, method="wilson")
    assert wilson_interval(*pair, level=level) == pytest.approx([known.low, known.high], abs=1e-9)


def test_newcombe_is_the_published_example():
    # Newcombe 1998, table II: (a) 56/70 - 48/80, (f) 0/10 - 0/20, (h) 10/10 - 0/10
    assert newcombe_interval((56, 70), (48, 80)) == pytest.approx([0.0524, 0.3339], abs=5e-5)
    assert newcombe_interval((0, 10), (0, 20)) == pytest.approx([-0.1611, 0.2775], abs=5e-5)
    assert newcombe_interval((10, 10), (0, 10)) == pytest.approx([0.6075, 1.0], abs=5e-5)
    assert newcombe_interval((1, 2), (0, 0)) is None


def test_copies_of_a_study_tell_nothing_new():
    hits = np.array([1, 1, 0, 1, 0, 1, 1, 1, 1, 1])
    alone = clustered_interval(hits)
    assert alone == pytest.approx(wilson_interval(8, 10))
    for copies in (2, 5):
        assert clustered_interval(np.repeat(hits, copies), np.repeat(np.arange(10), copies)) == pytest.approx(alone)


def test_where_all_agree_the_patients_count():
    assert clustered_interval([1] * 12, [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]) == pytest.approx(wilson_interval(4, 4))
    assert clustered_interval([0, 0, 0]) == pytest.approx(wilson_interval(0, 3))
    assert clustered_interval([]) is None


def test_intervals_of_clustered_studies_cover_the_true_share():
    rng = np.random.default_rng(0)
    covered = naive = 0
    for _ in range(600):
        groups = np.repeat(np.arange(80), rng.integers(1, 8, 80))
        shares = rng.beta(2, 1, 80)  # mean 2/3
        hits = rng.random(len(groups)) < shares[groups]
        low, high = clustered_interval(hits, groups)
        covered += low <= 2 / 3 <= high
        low, high = wilson_interval(int(hits.sum()), len(hits))
        naive += low <= 2 / 3 <= high
    assert 0.925 < covered / 600 < 0.975
    assert naive / 600 < 0.85


@pytest.mark.parametrize(("successes", "n", "level"), [(-1, 3, 0.9), (4, 3, 0.9), (1, 3, 0), (float("nan"), 3, 0.9)])
def test_numbers_out_of_range_are_refused(successes, n, level):
    with pytest.raises(InputError):
        wilson_interval(successes, n, level=level)
