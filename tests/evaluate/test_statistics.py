import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from kmm.errors import InputError
from kmm.evaluate.metrics import METRICS, score_labels
from kmm.evaluate.statistics.bootstrap import (
    RESAMPLED,
    _measure_weighted,
    average_draws,
    draw_groups,
    interval,
    resample_metrics,
)
from kmm.evaluate.statistics.paired_tests import compare_accuracy, compare_auc


def make_case(seed, n=120, ties=20):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n).astype(float)
    p = np.clip(0.5 + 0.2 * (labels - 0.5) + 0.25 * rng.normal(size=n), 0, 1)
    return labels, np.round(p * ties) / ties


def find_intervals(*arguments, **options):
    return {metric: interval(values) for metric, values in resample_metrics(*arguments, **options).items()}


def test_all_metrics_but_the_calibration_error_are_resampled():
    assert set(METRICS) - {"ece"} == set(RESAMPLED)


@pytest.mark.large
@given(st.integers(0, 10**6), st.sampled_from([1, 3, 1000]), st.integers(1, 30))
@settings(max_examples=20)
def test_a_weighted_measure_equals_the_plain_one_on_repeated_studies(seed, ties, n):
    labels, p = make_case(seed, n, ties)
    labels[::5] = np.nan
    rng = np.random.default_rng(seed)
    times = draw_groups(rng, 4, n)
    weighted = _measure_weighted(labels, p, 0.5, times)
    for draw, row in enumerate(times.astype(int)):
        plain = score_labels(np.repeat(labels, row), np.repeat(p, row), 0.5)
        for metric in RESAMPLED:
            expected = np.nan if plain[metric] is None else plain[metric]
            assert weighted[metric][draw] == pytest.approx(expected, nan_ok=True, abs=1e-9), metric


def test_a_draw_takes_as_many_groups_as_there_are_each_equally_often():
    times = draw_groups(np.random.default_rng(0), 4000, 10)
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
    monkeypatch.setattr("kmm.evaluate.statistics.bootstrap._NUMBERS_AT_ONCE", 7 * len(labels))
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
    with pytest.raises(InputError, match="`groups` must have one entry"):
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


def obuchowski(labels, first, second, groups):
    """The clustered variance as Obuchowski wrote it (1997, equations 4 to 8), of both AUCs and their covariance."""
    patients = sorted(set(groups))

    def parts(scores):
        x, y = scores[labels == 1], scores[labels == 0]
        wins = np.array([[(a > b) + 0.5 * (a == b) for b in y] for a in x])
        of_x, of_y, auc = dict(enumerate(wins.mean(axis=1))), dict(enumerate(wins.mean(axis=0))), wins.mean()
        at_x, at_y = groups[labels == 1], groups[labels == 0]
        sums_x = [sum(of_x[i] - auc for i in range(len(x)) if at_x[i] == patient) for patient in patients]
        sums_y = [sum(of_y[i] - auc for i in range(len(y)) if at_y[i] == patient) for patient in patients]
        return auc, np.array(sums_x), np.array(sums_y)

    m, n = (labels == 1).sum(), (labels == 0).sum()
    i10, i01, i = len(set(groups[labels == 1])), len(set(groups[labels == 0])), len(patients)
    (a, a10, a01), (b, b10, b01) = parts(first), parts(second)

    def covariance(p10, p01, q10, q01):
        s10, s01 = i10 / ((i10 - 1) * m) * p10 @ q10, i01 / ((i01 - 1) * n) * p01 @ q01
        return s10 / m + s01 / n + i / (i - 1) * (p10 @ q01 + q10 @ p01) / (m * n)

    of_first, of_second = covariance(a10, a01, a10, a01), covariance(b10, b01, b10, b01)
    return a - b, of_first + of_second - 2 * covariance(a10, a01, b10, b01)


@given(st.integers(0, 10**6), st.sampled_from([1, 3, 12]), st.sampled_from([4, 1000]))
@settings(max_examples=30)
def test_clustered_delong_is_obuchowskis(seed, per_patient, ties):
    """With one study per patient it is DeLong's, which the pairs give too."""
    from scipy.stats import norm

    rng = np.random.default_rng(seed)
    labels, first = make_case(seed, 40, ties)
    second = np.round((first + rng.random(40)) * ties) / ties / 2
    groups = rng.permutation(40) // per_patient
    difference, variance = obuchowski(labels, first, second, groups)
    if per_patient == 1:
        assert variance == pytest.approx(delong_by_pairs(labels, first, second)[1])
    if variance > 1e-12:
        found = compare_auc(labels, first, second, [f"patient {group}" for group in groups])
        assert found["difference"] == pytest.approx(difference)
        assert found["p"] == pytest.approx(2 * norm.sf(abs(difference) / np.sqrt(variance)))


@pytest.mark.parametrize("compare", (compare_auc, compare_accuracy))
@pytest.mark.parametrize("seed", range(5))
def test_copies_of_studies_under_their_patient_are_no_evidence(compare, seed):
    labels, first = make_case(seed)
    second = np.clip(first + np.random.default_rng(seed).normal(0, 0.3, 120), 0, 1)
    if compare is compare_accuracy:
        first, second = (first >= 0.5).astype(float), (second >= 0.5).astype(float)
    groups = np.arange(120) // 2
    once = compare(labels, first, second, groups)
    five = compare(np.tile(labels, 5), np.tile(first, 5), np.tile(second, 5), np.tile(groups, 5))
    apart = compare(np.tile(labels, 5), np.tile(first, 5), np.tile(second, 5))
    assert five["p"] == pytest.approx(once["p"], rel=1e-9) and five["difference"] == pytest.approx(once["difference"])
    assert apart["p"] < once["p"]


def make_clustered(seed, patients=80, per_patient=4):
    """Studies whose label and whose noise in two equally good scores are mostly those of their patient."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(patients), per_patient)
    labels = ((np.arange(patients)[group] % 2) ^ (rng.random(len(group)) < 0.1)).astype(float)
    scores = [labels + 0.9 * rng.normal(size=patients)[group] + 0.4 * rng.normal(size=len(group)) for _ in range(2)]
    return labels, *scores, group


@pytest.mark.large
def test_tests_of_clustered_studies_err_as_often_as_they_say():
    """Of two equally good scores, 5 % of the tests find a difference; many more where patients are not heeded."""
    found = {"auc": [], "accuracy": [], "auc apart": [], "accuracy apart": []}
    for seed in range(500):
        labels, first, second, groups = make_clustered(seed)
        decided = [(scores > 0.5).astype(float) for scores in (first, second)]
        found["auc"].append(compare_auc(labels, first, second, groups)["p"])
        found["accuracy"].append(compare_accuracy(labels, *decided, groups)["p"])
        found["auc apart"].append(compare_auc(labels, first, second)["p"])
        found["accuracy apart"].append(compare_accuracy(labels, *decided)["p"])
    share = {name: np.mean(np.array(values) < 0.05) for name, values in found.items()}
    assert share["auc"] == pytest.approx(0.05, abs=0.03)  # 3 standard errors
    assert 0.01 < share["accuracy"] < 0.08  # exact tests err a little less often
    assert share["auc apart"] > 0.15 and share["accuracy apart"] > 0.1


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_clustered_mcnemar_counts_all_choices_of_signs(balances):
    """Each patient has as many studies as its balance says, all right by one classifier and wrong by the other."""
    first = np.concatenate([np.full(max(1, abs(balance)), float(balance > 0)) for balance in balances])
    second = np.concatenate([np.full(max(1, abs(balance)), float(balance < 0)) for balance in balances])
    groups = np.repeat(np.arange(len(balances)), [max(1, abs(balance)) for balance in balances])
    signs = np.array(list(itertools.product((-1, 1), repeat=len(balances))))
    expected = np.mean(np.abs(signs @ np.abs(balances)) >= abs(sum(balances)))
    assert compare_accuracy(np.ones(len(groups)), first, second, groups)["p"] == pytest.approx(expected)


def test_a_large_clustered_mcnemar_is_near_its_normal_limit():
    from scipy.stats import norm

    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(4000), rng.integers(1, 8, 4000))
    first, second = (rng.random((2, len(groups))) < [[0.7], [0.69]]).astype(float)
    found = compare_accuracy(np.ones(len(groups)), first, second, groups)
    balances = np.bincount(groups, first - second)
    assert found["p"] == pytest.approx(2 * norm.sf(abs(balances.sum()) / np.sqrt(np.sum(balances**2))), abs=0.01)


@pytest.mark.parametrize("groups", (None, [0, 0, 0, 0], [0, 1, 2, 3]))
def test_equal_scores_do_not_differ_however_few_they_are(groups):
    for labels in ([0, 1, 1, 1], [0, 0, 1, 1], [0, 1, np.nan, np.nan]):
        same = [0.3, 0.3, 0.6, 0.9]
        assert compare_auc(labels, same, same, groups) == {"difference": 0.0, "p": 1.0}
        assert compare_accuracy(labels, [0, 1, 1, 1], [0, 1, 1, 1], groups)["p"] == 1.0


def test_a_class_of_one_patient_has_no_p():
    scores = [0.1, 0.4, 0.3, 0.9], [0.1, 0.4, 0.9, 0.3]
    assert compare_auc([0, 0, 1, 1], *scores, ["a", "a", "b", "c"])["p"] is None
    assert compare_auc([0, 0, 1, 1], *scores, ["a", "b", "b", "c"])["p"] is not None


def test_a_mean_over_labels_is_of_the_same_labels_in_every_draw():
    values = np.array([[0.9, 0.5, np.nan], [0.7, np.nan, np.nan], [0.8, 0.4, np.nan]])
    np.testing.assert_allclose(average_draws(values, [True, True, False]), [0.7, np.nan, 0.6])
    np.testing.assert_array_equal(average_draws(values, [False] * 3), [np.nan] * 3)


def test_fewer_than_half_of_the_draws_make_no_interval():
    assert interval(np.array([1.0, np.nan])) == [1.0, 1.0]
    assert interval(np.array([1.0, np.nan, np.nan])) is None and interval(np.empty(0)) is None


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
