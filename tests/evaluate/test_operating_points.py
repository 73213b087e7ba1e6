"""Confusion counts at a threshold, against scikit-learn, and where a count is zero."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, precision_score, recall_score

from kmm.errors import InputError
from kmm.evaluate.decisions.operating_points import COUNTS, RATES, measure_operating_point
from kmm.evaluate.metrics import score_labels
from kmm.evaluate.statistics.proportions import wilson_interval


@pytest.mark.large
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_counts_and_rates_are_those_of_scikit_learn(seed, threshold):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 40).astype(float)
    p = rng.random(40).round(1)
    point = measure_operating_point(labels, p, threshold)
    called = p >= threshold
    tn, fp, fn, tp = confusion_matrix(labels, called, labels=[0, 1]).ravel()
    assert [point[name] for name in COUNTS] == [tp, fp, tn, fn]
    known = {
        "sensitivity": recall_score(labels, called, zero_division=np.nan),
        "specificity": recall_score(labels, called, pos_label=0, zero_division=np.nan),
        "ppv": precision_score(labels, called, zero_division=np.nan),
        "npv": precision_score(labels, called, pos_label=0, zero_division=np.nan),
    }
    for name, value in known.items():
        assert point[name] == (None if np.isnan(value) else pytest.approx(value)), name
        assert (point["intervals"][name] is None) == np.isnan(value)


def test_the_rates_are_those_of_the_results():
    rng = np.random.default_rng(3)
    labels, p = rng.integers(0, 2, 300).astype(float), rng.random(300)
    labels[:20] = np.nan
    cuts = np.where(np.arange(300) % 2, 0.3, 0.6)
    point, row = measure_operating_point(labels, p, cuts), score_labels(labels[:, None], p[:, None], cuts[:, None])
    assert sum(point[name] for name in COUNTS) == row["n"] == 280
    assert point["thresholds"] == [0.3, 0.6]
    assert [point[name] for name in ("sensitivity", "specificity")] == [row["sensitivity"], row["specificity"]]


def test_a_threshold_of_its_own_for_each_study():
    point = measure_operating_point([1, 1, 0, 0], [0.5, 0.5, 0.5, 0.5], [0.4, 0.6, 0.4, 0.6])
    assert [point[name] for name in COUNTS] == [1, 1, 1, 1]


def test_intervals_count_patients():
    labels, p = np.repeat([1.0, 1, 1, 0], 3), np.repeat([0.9, 0.8, 0.2, 0.1], 3)
    patients = np.repeat(list("abcd"), 3)
    point = measure_operating_point(labels, p, 0.5, patients)
    assert point["intervals"]["sensitivity"] == pytest.approx(wilson_interval(2, 3))
    assert point["intervals"]["specificity"] == pytest.approx(wilson_interval(1, 1))
    assert set(point["intervals"]) == set(RATES)


def test_no_study_gives_no_rate():
    point = measure_operating_point([np.nan], [0.5], 0.5)
    assert [point[name] for name in (*COUNTS, *RATES)] == [0, 0, 0, 0, None, None, None, None]
    with pytest.raises(InputError, match="belongs to one label"):
        measure_operating_point(np.zeros((3, 2)), np.zeros((3, 2)), 0.5)
