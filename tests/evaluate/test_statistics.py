import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from kmm.errors import InputError
from kmm.evaluate.metrics import METRICS, score_labels
from kmm.evaluate.statistics import (
    RESAMPLED,
    _draw_groups,
    _measure_weighted,
    compare_accuracy,
    compare_auc,
    interval,
    resample_metrics,
)


def make_case(seed, n=120, ties=20):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n).astype(float)
    p = np.clip(0.5 + 0.2 * (labels - 0.5) + 0.25 * rng.normal(size=n), 0, 1)
    return labels, np.round(p * ties) / ties


def find_intervals(*arguments, **options):
    return {metric: interval(values) for metric, values in resample_metrics(*arguments, **options).items()}


def test_all_metrics_but_the_calibration_error_are_resampled():
    assert set(METRICS) - {"ece"} == set(RESAMPLED)


@given(st.integers(0, 10**6), st.sampled_from([1, 3, 1000]), st.integers(1, 30))
@settings(max_examples=20)
def test_a_weighted_measure_equals_the_plain_one_on_repeated_studies(seed, ties, n):
    labels, p = make_case(seed, n, ties)
    labels[::5] = np.nan
    rng = np.random.default_rng(seed)
    times = _draw_groups(rng, 4, n)
    weighted = _measure_weighted(labels, p, 0.5, times)
    for draw, row in enumerate(times.astype(int)):
        plain = score_labels(np.repeat(labels, row), np.repeat(p, row), 0.5)
        for metric in RESAMPLED:
            expected = np.nan if plain[metric] is None else plain[metric]
            assert weighted[metric][draw] == pytest.approx(expected, nan_ok=True, abs=1e-9), metric


def test_a_draw_takes_as_many_groups_as_there_are_each_equally_often():
    times = _draw_groups(np.random.default_rng(0), 4000, 10)
    assert np.all(times.sum(axis=1) == 10)
    assert times.mean(axis=0) == pytest.approx(np.ones(10), abs=0.08)  # 5 standard errors
    assert times.var() == pytest.approx(0.9, abs=0.05)  # binomial: 10 * 0.1 * 0.9


@pytest.mark.parametrize("seed", range(10))
def test_intervals_contain_the_measured_number(seed):
    labels, p = make_case(seed)
    intervals, point = find_intervals(labels, p, 0.5, None, seed=seed), score_labels(labels, p, 0.5)
    for metric in RESAMPLED:
        low, high = intervals[metric]
        assert low <= point[metric] <= high


def test_the_interval_of_a_share_is_that_of_the_binomial():
    n, share = 200, 0.7
    labels = np.ones(n)
    p = np.where(np.arange(n) < n * share, 0.9, 0.1)
    low, high = find_intervals(labels, p, 0.5, None, repeats=20000)["accuracy"]
    assert [low, high] == pytest.approx(binom(n, share).ppf([0.025, 0.975]) / n, abs=0.006)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    covered = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0.0, 1.0], 60)
        scores = rng.normal(size=120) + labels
        p = (scores - scores.min()) / np.ptp(scores)
        low, high = find_intervals(labels, p, 0.5, None, repeats=300, seed=seed)["roc_auc"]
        covered += low <= 0.76025 <= high  # Phi(1 / sqrt 2)
    assert 180 <= covered <= 198


def test_whole_patients_are_drawn_so_copies_of_a_study_do_not_narrow_the_interval():
    labels, p = make_case(3, n=60)
    groups = np.arange(60)
    once = find_intervals(labels, p, 0.5, groups)
    copied = find_intervals(np.repeat(labels, 4), np.repeat(p, 4), 0.5, np.repeat(groups, 4))
    apart = find_intervals(np.repeat(labels, 4), np.repeat(p, 4), 0.5, None)
    for metric in RESAMPLED:
        assert copied[metric] == pytest.approx(once[metric])
        assert np.diff(apart[metric]) < 0.7 * np.diff(once[metric])  # half as wide, but for noise


def test_the_same_seed_gives_the_same_draws_and_the_block_size_does_not_matter(monkeypatch):
    labels, p = make_case(0)
    whole = resample_metrics(labels, p, 0.5, None, repeats=50, seed=4)
    monkeypatch.setattr("kmm.evaluate.statistics._NUMBERS_AT_ONCE", 7 * len(labels))
    blocks = resample_metrics(labels, p, 0.5, None, repeats=50, seed=4)
    other = resample_metrics(labels, p, 0.5, None, repeats=50, seed=5)
    assert all(np.allclose(whole[metric], blocks[metric]) for metric in RESAMPLED)
    assert not np.allclose(whole["roc_auc"], other["roc_auc"])


def test_groups_may_be_strings_and_labels_many():
    labels, p = make_case(0)
    names = [f"patient {i // 2}" for i in range(len(labels))]
    one = resample_metrics(labels, p, 0.5, names, repeats=20)
    two = resample_metrics(np.stack([labels, labels], 1), np.stack([p, p], 1), [0.5, 0.5], names, repeats=20)
    assert all(np.allclose(one[metric], two[metric]) for metric in RESAMPLED)


def test_what_is_undefined_has_no_interval():
    intervals = find_intervals([1, 1, np.nan], [0.2, 0.8, 0.3], 0.5, None)
    assert intervals["roc_auc"] is None and intervals["specificity"] is None
    assert intervals["accuracy"] == [0.0, 1.0]
    assert set(find_intervals([], [], 0.5, None).values()) == {None}
    assert set(find_intervals([0, 1], [0.1, 0.9], 0.5, None, repeats=0).values()) == {None}


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="Groups"):
        resample_metrics([0, 1], [0.1, 0.9], 0.5, ["a"])
    with pytest.raises(InputError, match="repeats"):
        resample_metrics([0, 1], [0.1, 0.9], 0.5, None, repeats=-1)
    with pytest.raises(InputError, match="level"):
        interval(np.arange(3.0), level=1.0)
    with pytest.raises(InputError, match="one label at a time"):
        compare_auc(np.zeros((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)))


def delong_by_pairs(labels, first, second):
    """DeLong's statistic as written, over all pairs."""

    def placements(scores):
        wins = np.subtract.outer(scores[labels == 1], scores[labels == 0])
        wins = (wins > 0) + 0.5 * (wins == 0)
        return wins.mean(axis=1), wins.mean(axis=0)

    (a10, a01), (b10, b01) = placements(first), placements(second)
    s10, s01 = np.cov(a10, b10) / len(a10), np.cov(a01, b01) / len(a01)
    s = s10 + s01
    return a10.mean() - b10.mean(), s[0, 0] + s[1, 1] - 2 * s[0, 1]


@given(st.integers(0, 10**6), st.sampled_from([4, 1000]))
@settings(max_examples=30)
def test_delong_by_ranks_equals_delong_by_pairs(seed, ties):
    from scipy.stats import norm

    labels, first = make_case(seed, 40, ties)
    second = np.round((first + np.random.default_rng(seed).random(40)) * ties) / ties / 2
    difference, variance = delong_by_pairs(labels, first, second)
    found = compare_auc(labels, first, second)
    assert found["difference"] == pytest.approx(difference)
    assert found["difference"] == pytest.approx(roc_auc_score(labels, first) - roc_auc_score(labels, second))
    if variance > 1e-12:
        assert found["p"] == pytest.approx(2 * norm.sf(abs(difference) / np.sqrt(variance)))
    assert compare_auc(labels, second, first)["p"] == pytest.approx(found["p"])


def test_delong_under_the_null_hypothesis_is_uniform():
    p_values = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0.0, 1.0], 50)
        truth = labels + rng.normal(size=100)
        p_values.append(compare_auc(labels, truth + rng.normal(size=100), truth + rng.normal(size=100))["p"])
    assert np.mean(np.array(p_values) < 0.05) == pytest.approx(0.05, abs=0.033)  # 3 standard errors
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.045)


def test_delong_where_nothing_can_be_tested():
    assert compare_auc([1, 1, np.nan], [1, 2, 3], [3, 2, 1]) == {"difference": None, "p": None}
    assert compare_auc([0, 1, 1], [1, 2, 3], [3, 2, 1]) == {"difference": 1.0, "p": None}
    assert compare_auc([0, 0, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1]) == {"difference": 1.0, "p": None}
    assert compare_auc([0, 0, 1, 1], [1, 2, 3, 4], [10, 20, 30, 40]) == {"difference": 0.0, "p": 1.0}


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 0), (1, 9), (7, 7), (12, 3)])
def test_mcnemar_is_the_exact_binomial(b, c):
    labels = np.ones(b + c + 6)
    first = np.repeat([1, 0, 1, 0], [b, c, 3, 3])
    second = np.repeat([0, 1, 1, 0], [b, c, 3, 3])
    found = compare_accuracy(labels, first, second)
    assert (found["first_only"], found["second_only"]) == (b, c)
    assert found["difference"] == pytest.approx((b - c) / len(labels))
    assert found["p"] == pytest.approx(min(1.0, 2 * binom(b + c, 0.5).cdf(min(b, c))))


def test_mcnemar_leaves_unknown_labels_out():
    found = compare_accuracy([1, np.nan, 0], [True, True, False], [True, False, True])
    assert found == {"difference": 0.5, "first_only": 1, "second_only": 0, "p": 1.0}
    assert compare_accuracy([np.nan], [1], [0])["difference"] is None
