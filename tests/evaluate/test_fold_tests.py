import json

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from kmm.errors import InputError
from kmm.evaluate.statistics.fold_tests import CAUTION, ONE_CLASS, SHARED, UNKNOWN, compare_folds
from kmm.evaluate.statistics.paired_tests import compare_accuracy, compare_auc, estimate_auc_difference


def flatten(found):
    """A result whose interval is two entries."""
    low, high = found["interval"]
    return {**found, "interval": low, "interval_end": high}


def make_case(seed=0, n=200, folds=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n).astype(float)
    scores = [1 / (1 + np.exp(-strength * (labels - 0.5) - rng.normal(size=n))) for strength in (2.0, 1.0)]
    return labels, *scores, np.arange(n) % folds, [f"s{number}" for number in range(n)]


def test_the_auc_is_the_mean_of_the_folds_and_its_variance_the_sum_of_theirs():
    labels, first, second, folds, studies = make_case()
    found = compare_folds(labels, first, second, folds, studies=studies)
    parts = [folds == fold for fold in range(5)]
    one, other = ([roc_auc_score(labels[rows], p[rows]) for rows in parts] for p in (first, second))
    assert (found["n"], found["folds"], found["left_out"]) == (200, 5, 0)
    assert found["mean_auc"]["first"] == pytest.approx(np.mean(one))
    assert found["mean_auc"]["second"] == pytest.approx(np.mean(other))
    difference = np.mean(one) - np.mean(other)
    assert found["mean_auc"]["difference"] == pytest.approx(difference)
    variance = sum(estimate_auc_difference(labels[rows], first[rows], second[rows])[1] for rows in parts) / 25
    assert found["mean_auc"]["p"] == pytest.approx(2 * norm.sf(abs(difference) / np.sqrt(variance)))
    assert found["mean_auc"]["interval"] == pytest.approx(norm.interval(0.95, difference, np.sqrt(variance)))


def test_scores_of_different_folds_are_never_ranked_against_each_other():
    """A shift of the scores of one fold changes the pooled AUC alone."""
    labels, first, second, folds, studies = make_case()
    found = compare_folds(labels, first, second, folds, studies=studies)
    moved = compare_folds(labels, np.where(folds == 1, first**8, first), second, folds, studies=studies)
    assert flatten(moved["mean_auc"]) == pytest.approx(flatten(found["mean_auc"]))
    assert moved["pooled"]["roc_auc"]["difference"] < found["pooled"]["roc_auc"]["difference"]


def test_the_pooled_tests_are_the_usual_ones_and_say_what_they_assume():
    labels, first, second, _, studies = make_case(1)
    groups, cuts = np.arange(200) // 10, (0.4, np.full(200, 0.6))
    found = compare_folds(labels, first, second, groups % 5, studies=studies, thresholds=cuts, groups=groups)
    assert found["pooled"]["roc_auc"] == compare_auc(labels, first, second, groups)
    assert found["pooled"]["accuracy"] == compare_accuracy(labels, first >= 0.4, second >= 0.6, groups)
    assert found["pooled"]["caution"] == CAUTION
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_one_fold_is_delongs_test():
    labels, first, second, _, studies = make_case(2)
    found = compare_folds(labels, first, second, ["all"] * 200, studies=studies)
    assert found["mean_auc"]["p"] == pytest.approx(compare_auc(labels, first, second)["p"])


def test_identical_scores_give_a_p_of_one():
    labels, first, _, folds, studies = make_case()
    found = compare_folds(labels, first, first, folds, studies=studies)
    assert found["mean_auc"]["p"] == found["pooled"]["roc_auc"]["p"] == found["pooled"]["accuracy"]["p"] == 1.0


def test_a_study_that_is_tested_twice_is_refused():
    labels, first, second, folds, studies = make_case()
    with pytest.raises(InputError, match=r"each study in one fold. In several: 1 studies \(s7\)"):
        compare_folds(labels, first, second, folds, studies=["s7" if s == "s8" else s for s in studies])
    with pytest.raises(InputError, match="one id for each of 200"):
        compare_folds(labels, first, second, folds, studies=studies[1:])


def test_folds_without_both_classes_are_left_out_and_unknown_labels_too():
    labels, first, second, folds, studies = make_case()
    labels[folds == 0] = 1
    labels[(folds == 1) & (np.arange(200) < 100)] = np.nan
    found = compare_folds(labels, first, second, folds, studies=studies)
    assert (found["n"], found["folds"], found["left_out"]) == (180, 5, 1)
    kept = (folds != 0) & ~np.isnan(labels)
    other = compare_folds(labels[kept], first[kept], second[kept], folds[kept], studies=np.array(studies)[kept])
    assert flatten(found["mean_auc"]) == pytest.approx(flatten(other["mean_auc"]))
    none = compare_folds(np.ones(200), first, second, folds, studies=studies)
    assert none["mean_auc"]["reason"] == ONE_CLASS and none["mean_auc"]["p"] is None and none["left_out"] == 5


def test_without_independent_folds_or_a_variance_there_is_no_p():
    labels, first, second, folds, studies = make_case()
    found = compare_folds(labels, first, second, folds, studies=studies, groups=np.arange(200) // 2)
    assert found["mean_auc"]["p"] is None and found["mean_auc"]["reason"] == SHARED
    found = compare_folds([0, 1] * 2, [0.1, 0.9] * 2, [0.9, 0.1] * 2, [0, 0, 1, 1], studies=list("abcd"))
    assert (found["mean_auc"]["difference"], found["mean_auc"]["reason"]) == (1.0, UNKNOWN)


@pytest.mark.large
def test_equal_models_are_called_different_as_often_as_the_test_says():
    """Standard error of a share of 0.05 among 400: 0.011."""
    found = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        labels = np.arange(150) // 5 % 2  # both classes in each fold
        scores = [norm.cdf(labels + rng.normal(size=150) - 0.5) for _ in range(2)]
        found.append(compare_folds(labels, *scores, np.arange(150) % 5, studies=[str(n) for n in range(150)]))
    assert np.mean([one["mean_auc"]["p"] < 0.05 for one in found]) == pytest.approx(0.05, abs=0.033)
