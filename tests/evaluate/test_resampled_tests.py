import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student
from scipy.stats import ttest_1samp

from benchmarks.error_rates import compare_identical, count_below, count_covered, draw_differences
from kmm.errors import InputError
from kmm.evaluate.statistics.resampled_tests import FEW, NO_SPREAD, compare_splits, summarize_splits

HALVES = {"n_train": 1, "n_test": 1}


def draw(seed, splits):
    return np.random.default_rng(seed).normal(0.02, 0.05, splits)


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 9))
def test_the_statistic_is_that_of_the_article(seed, splits, n_train):
    d = draw(seed, splits)
    found = compare_splits(d, n_train=n_train, n_test=1)
    t = d.mean() / np.sqrt((1 / splits + 1 / n_train) * d.var(ddof=1))
    assert found["t"] == pytest.approx(t)
    assert found["p"] == pytest.approx(2 * student.cdf(-abs(t), splits - 1))
    plain = ttest_1samp(d, 0)
    assert found["naive_p"] == pytest.approx(plain.pvalue)
    assert found["p"] > found["naive_p"] and found["reason"] is None


@given(st.integers(0, 10**6), st.integers(2, 30), st.sampled_from([0.5, 0.9, 0.95]))
def test_a_test_and_its_interval_agree(seed, splits, level):
    found = compare_splits(draw(seed, splits), n_train=4, n_test=1, level=level)
    low, high = found["interval"]
    assert (low <= 0 <= high) == (found["p"] >= 1 - level)
    assert (low + high) / 2 == pytest.approx(found["difference"])


def test_without_correction_the_interval_is_that_of_scipy():
    d = draw(0, 10)
    low, high = summarize_splits(d, n_train=1, n_test=1e-12)["interval"]
    assert (low, high) == pytest.approx(tuple(ttest_1samp(d, 0).confidence_interval(0.95)))


def test_only_the_ratio_of_the_sizes_counts_and_the_sign_follows_the_order():
    d = draw(1, 10)
    found = compare_splits(d, n_train=0.8, n_test=0.2)
    counts = compare_splits(d, n_train=800, n_test=200)
    assert counts["p"] == pytest.approx(found["p"]) and counts["interval"] == pytest.approx(found["interval"])
    swapped = compare_splits(-d, n_train=0.8, n_test=0.2)
    assert swapped["t"] == -found["t"] and swapped["p"] == found["p"]
    assert swapped["interval"] == [-end for end in found["interval"][::-1]]


def test_classifiers_that_never_differ_give_a_p_of_one():
    found = compare_splits(np.zeros(10), **HALVES)
    assert (found["difference"], found["interval"], found["p"], found["naive_p"]) == (0.0, [0.0, 0.0], 1.0, 1.0)
    assert found["reason"] is None


@pytest.mark.parametrize("value", (0.1, -3.0))
def test_an_equal_difference_in_all_splits_has_no_p_and_a_reason(value):
    found = compare_splits([value] * 3 + [value + 1e-15], **HALVES)  # rounding is no variance
    assert found["difference"] == pytest.approx(value) and found["reason"] == NO_SPREAD
    assert (found["interval"], found["t"], found["p"], found["naive_p"]) == (None,) * 4
    assert summarize_splits([value] * 3, **HALVES)["interval"] is None


@pytest.mark.parametrize("values", ([], [0.3], [0.3, np.nan]))
def test_fewer_than_two_splits_support_nothing(values):
    found = compare_splits(values, **HALVES)
    assert found["reason"] == FEW and found["p"] is None and found["interval"] is None
    assert found["difference"] == (0.3 if values else None)
    assert summarize_splits(values, **HALVES)["sd"] is None


def test_undefined_splits_are_left_out_and_counted():
    d = draw(2, 8)
    found = compare_splits([*d[:3], np.nan, *d[3:], np.nan], n_train=4, n_test=1)
    assert (found["n"], found["left_out"]) == (8, 2)
    assert found | {"left_out": 0} == compare_splits(d, n_train=4, n_test=1)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


@pytest.mark.parametrize(
    ("values", "options", "message"),
    (
        ([[0.1, 0.2]], HALVES, "one finite number"),
        ([0.1, np.inf], HALVES, "1 infinite"),
        ([0.1, 0.2], {"n_train": 0, "n_test": 1}, "must be above 0"),
        ([0.1, 0.2], {"n_train": 1, "n_test": np.nan}, "must be above 0"),
        ([0.1, 0.2], {**HALVES, "level": 1}, "`level`"),
    ),
)
def test_wrong_arguments_are_refused(values, options, message):
    with pytest.raises(InputError, match=message):
        compare_splits(values, **options)


@pytest.mark.large
def test_over_random_splits_the_corrected_test_errs_as_often_as_it_says_and_the_naive_one_far_more():
    """Standard error of a share of 0.05: 0.007."""
    equal = draw_differences(1000, 10, 130, 40, folds=False, seed=7)
    found = [compare_splits(row, n_train=160, n_test=40) for row in equal]
    assert 0.03 < count_below(found, "p") < 0.07
    assert 0.18 < count_below(found, "naive_p") < 0.32
    assert 0.93 < count_covered(found, 0.0) < 0.97
    unequal = draw_differences(1000, 10, 130, 40, folds=False, seed=8, strength=0.7)
    truth = unequal.mean()
    assert truth > 0.02
    assert 0.93 < count_covered([compare_splits(row, n_train=160, n_test=40) for row in unequal], truth) < 0.97


def test_every_test_of_a_score_against_itself_gives_a_p_of_one():
    """DeLong's test of MLstatkit 0.1.91 gives 0 here."""
    assert set(compare_identical().values()) == {1.0}
