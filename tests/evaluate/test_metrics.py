import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from kmm.errors import InputError
from kmm.evaluate.metrics import METRICS, score_labels


@st.composite
def cases(draw, both=True):
    """Labels of both classes and probabilities with many ties."""
    n = draw(st.integers(2, 40))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda y: not both or len(set(y)) == 2))
    steps = draw(st.sampled_from([2, 5, 1000]))
    scores = draw(st.lists(st.integers(0, steps), min_size=n, max_size=n))
    return np.array(labels, dtype=float), np.array(scores) / steps


def test_a_small_case_by_hand():
    # true positives .9 .6; false negative .3; false positive .7; true negatives .2 .1 at threshold .5
    scores = score_labels([1, 1, 1, 0, 0, 0], [0.9, 0.6, 0.3, 0.7, 0.2, 0.1], 0.5)
    assert scores["n"] == 6 and scores["n_positive"] == 3
    for metric in ("accuracy", "balanced_accuracy", "sensitivity", "specificity", "f1"):
        assert scores[metric] == pytest.approx(2 / 3)
    assert scores["roc_auc"] == pytest.approx(7 / 9)
    assert scores["average_precision"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert scores["mcc"] == pytest.approx(1 / 3)
    assert scores["brier"] == pytest.approx((0.01 + 0.16 + 0.49 + 0.49 + 0.04 + 0.01) / 6)
    assert scores["log_loss"] == pytest.approx(-np.log([0.9, 0.6, 0.3, 0.3, 0.8, 0.9]).mean())


def test_a_score_at_the_threshold_is_positive():
    assert score_labels([1, 0], [0.5, 0.4], 0.5)["accuracy"] == 1.0


@given(cases())
@settings(max_examples=30)
def test_every_metric_is_in_its_range(case):
    scores = score_labels(*case, 0.5)
    assert list(scores) == ["n", "n_positive", *METRICS]
    assert all(isinstance(value, int | float) and np.isfinite(value) for value in scores.values())
    for metric in set(METRICS) - {"mcc", "log_loss"}:
        assert 0 <= scores[metric] <= 1 + 1e-12


@pytest.mark.large
@given(cases(), st.floats(0.1, 8))
@settings(max_examples=30)
def test_order_metrics_do_not_change_under_a_monotone_map(case, power):
    labels, p = case
    ranks = np.unique(p, return_inverse=True)[1]
    before, after = score_labels(labels, p, 0.5), score_labels(labels, (ranks / max(1, ranks.max())) ** power, 0.5)
    assert after["roc_auc"] == pytest.approx(before["roc_auc"], abs=1e-12)
    assert after["average_precision"] == pytest.approx(before["average_precision"], abs=1e-12)


@pytest.mark.large
@given(cases())
@settings(max_examples=30)
def test_swapping_the_classes_mirrors_the_metrics(case):
    labels, p = case
    p = np.round(p * 64) / 64  # so that 1 - p is exact
    here, there = score_labels(labels, p, 0.5 + 1 / 128), score_labels(1 - labels, 1 - p, 0.5)
    for metric in ("accuracy", "balanced_accuracy", "roc_auc", "mcc", "brier"):
        assert there[metric] == pytest.approx(here[metric], abs=1e-12)
    assert there["sensitivity"] == pytest.approx(here["specificity"])
    assert score_labels(labels, 1 - p, 0.5)["roc_auc"] == pytest.approx(1 - here["roc_auc"])


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("p", [0.0, 0.4, 1.0])
def test_one_class_gives_none_where_a_class_is_needed(label, p):
    scores = score_labels([label] * 4, [p] * 4, 0.5)
    both = ("balanced_accuracy", "roc_auc", "average_precision", "mcc")
    assert [scores[metric] for metric in both] == [None] * 4
    assert (scores["sensitivity"] is None) == (scores["f1"] is None) == (label == 0)
    assert (scores["specificity"] is None) == (label == 1)
    assert None not in [scores[metric] for metric in ("accuracy", "brier", "log_loss", "ece")]
    json.dumps(scores, allow_nan=False)


@pytest.mark.parametrize("labels", [[], [np.nan, np.nan]])
def test_nothing_known_gives_none_everywhere(labels):
    scores = score_labels(labels, [0.5] * len(labels), 0.5)
    assert scores == {"n": 0, "n_positive": 0, **dict.fromkeys(METRICS)}


def test_unknown_labels_change_nothing():
    rng = np.random.default_rng(0)
    labels, p = rng.integers(0, 2, 50).astype(float), rng.random(50)
    padded = np.append(labels, [np.nan] * 20), np.append(p, rng.random(20))
    assert score_labels(*padded, 0.4) == score_labels(labels, p, 0.4)


def test_many_labels_are_averaged_over_those_that_define_the_metric():
    rng = np.random.default_rng(1)
    labels, p = rng.integers(0, 2, (60, 3)).astype(float), rng.random((60, 3))
    labels[:, 2] = 1.0
    labels[:10, 0] = labels[:5, 1] = labels[:5, 2] = np.nan
    scores = score_labels(labels, p, [0.3, 0.5, 0.7], label_names=["a", "b", "c"])
    single = score_labels(labels[:, 1], p[:, 1], 0.5)
    assert scores["per_label"]["b"] == single
    assert scores["n"] == 55 and scores["per_label"]["a"]["n"] == 50
    expected = [sk.roc_auc_score(labels[10:, 0], p[10:, 0]), sk.roc_auc_score(labels[5:, 1], p[5:, 1])]
    assert scores["roc_auc"] == pytest.approx(np.mean(expected))
    assert scores["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in scores["per_label"].values()]))
    json.dumps(scores, allow_nan=False)


@pytest.mark.parametrize("names", [None, ["a"], ["a", "a"]])
def test_many_labels_need_as_many_names(names):
    with pytest.raises(InputError, match="2 different label names"):
        score_labels(np.zeros((3, 2)), np.zeros((3, 2)), 0.5, label_names=names)
