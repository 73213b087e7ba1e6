"""Metrics of learning curves agree with scikit-learn on the labels that are known."""

import keras
import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from kmm.models.curve_metrics import BINS, LabelAccuracy, LabelAuc, LabelF1


def make_batches(count=5, size=40, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        logits = rng.normal(0, 2, (size, 2)).astype(np.float32)
        labels = (rng.random((size, 2)) < 1 / (1 + np.exp(-logits))).astype(np.float32)
        labels[rng.random((size, 2)) < 0.2] = np.nan
        weights = np.ones(size, np.float32)
        weights[-5:] = 0  # fill up the last batch of an epoch
        yield labels, logits, weights


REFERENCES = {
    LabelAccuracy: lambda truth, value: accuracy_score(truth, value > 0),
    LabelF1: lambda truth, value: f1_score(truth, value > 0),
    LabelAuc: roc_auc_score,
}


@pytest.mark.parametrize("metric", REFERENCES)
def test_metrics_are_those_of_scikit_learn(metric):
    found, seen = metric(2), []
    for labels, logits, weights in make_batches():
        found.update_state(labels, logits, weights)
        seen.append((labels[:-5], logits[:-5]))
    labels, logits = map(np.concatenate, zip(*seen, strict=True))
    expected = []
    for column in range(2):
        known = np.isfinite(labels[:, column])
        truth, value = labels[known, column], logits[known, column]
        expected.append(REFERENCES[metric](truth, value))
    assert float(found.result()) == pytest.approx(np.mean(expected), abs=1 / BINS if metric is LabelAuc else 1e-6)
    found.reset_state()
    assert np.isnan(float(found.result()))


def test_a_label_without_two_classes_has_no_area_and_a_lone_one_decides():
    labels = np.float32([[1, 1], [1, 0], [1, np.nan]])
    logits = np.float32([[3, 2], [1, -2], [0, 0]])
    area = LabelAuc(2)
    area.update_state(labels, logits)
    assert float(area.result()) == 1.0
    alone = LabelAuc(1)
    alone.update_state(labels[:, :1], logits[:, :1])
    assert np.isnan(float(alone.result()))


def test_f1_is_that_of_labels_with_a_positive_study_and_0_where_all_are_missed():
    labels = np.float32([[1, 0, 1], [0, 0, 1], [1, 0, 0]])
    logits = np.float32([[3, 2, -1], [-1, -2, -1], [1, -1, -1]])
    score = LabelF1(3)
    score.update_state(labels, logits)
    assert float(score.result()) == pytest.approx((1 + 0) / 2)  # the second label has no positive study


def test_they_hold_no_variable_of_the_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    count = len(model.variables)
    model.compile(loss="mse", weighted_metrics=[LabelAccuracy(1), LabelAuc(1), LabelF1(1)], jit_compile=False)
    model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0)
    assert len(model.variables) == count
