"""Decision curves: against the definition, the closed form of calibrated probabilities, and their intervals."""

import json

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.evaluate.decisions.decision_curve import THRESHOLDS, compute_decision_curve


def make_calibrated(n, seed=0):
    """Probabilities drawn evenly from [0, 1], and labels that are positive as often as these say."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return (rng.random(n) < p).astype(float), p


def test_it_is_the_definition():
    labels, p = make_calibrated(300)
    curve = compute_decision_curve(labels, p, repeats=0)
    for place, cut in enumerate(THRESHOLDS):
        called = p >= cut
        weight = cut / (1 - cut)
        benefit = np.mean(called & (labels == 1)) - weight * np.mean(called & (labels == 0))
        assert curve.net_benefit[place] == pytest.approx(benefit)
        assert curve.treat_all[place] == pytest.approx(labels.mean() - weight * (1 - labels.mean()))
    assert np.isnan(curve.intervals).all() and (curve.n, curve.n_positive) == (300, labels.sum())


def test_it_is_the_closed_form_of_calibrated_probabilities():
    # of p even in [0, 1]: true positives (1 - t^2) / 2, false positives (1 - t)^2 / 2, so the net benefit (1 - t) / 2
    curve = compute_decision_curve(*make_calibrated(40_000), repeats=0)
    low = curve.thresholds < 0.9
    np.testing.assert_allclose(curve.net_benefit[low], ((1 - curve.thresholds) / 2)[low], atol=0.02)
    default = np.maximum(0.5 - 0.5 * curve.thresholds / (1 - curve.thresholds), 0)
    np.testing.assert_allclose(curve.gain[low], ((1 - curve.thresholds) / 2 - default)[low], atol=0.02)


def test_a_perfect_classifier_gains_the_prevalence_and_a_useless_one_nothing():
    labels = np.repeat([1.0, 0.0], [30, 70])
    perfect = compute_decision_curve(labels, labels, repeats=0)
    np.testing.assert_allclose(perfect.net_benefit, 0.3)
    useless = compute_decision_curve(labels, np.full(100, 0.3), repeats=0)
    np.testing.assert_allclose(useless.gain, 0, atol=1e-12)  # it treats all up to the prevalence, then none


def test_intervals_cover_the_truth_of_clustered_studies():
    covered = []
    for seed in range(120):
        labels, p = make_calibrated(150, seed)
        groups = np.repeat(np.arange(150), 2)
        curve = compute_decision_curve(
            np.repeat(labels, 2), np.repeat(p, 2), [0.2, 0.5], groups, repeats=300, seed=seed
        )
        covered.append([low <= (1 - cut) / 2 <= high for cut, (low, high) in zip((0.2, 0.5), curve.intervals)])
    assert 0.88 <= np.mean(covered) <= 0.99


def test_unknown_labels_are_left_out_and_the_curve_is_json():
    labels, p = make_calibrated(60)
    curve = compute_decision_curve(np.append(labels, np.nan), np.append(p, 0.9), repeats=50)
    alone = compute_decision_curve(labels, p, repeats=0)
    assert curve.net_benefit.tolist() == pytest.approx(alone.net_benefit.tolist()) and curve.n == 60
    found = json.loads(json.dumps(curve.as_dict(), allow_nan=False))
    assert found["treat_none"] == 0 and len(found["gain_intervals"][0]) == 2
    assert json.loads(json.dumps(alone.as_dict(), allow_nan=False))["intervals"] == [None] * 99


@pytest.mark.parametrize("thresholds", [[0.0], [1.0], [], [0.5, float("nan")]])
def test_thresholds_out_of_range_are_refused(thresholds):
    with pytest.raises(InputError, match=r"must be in \(0, 1\)"):
        compute_decision_curve([0, 1], [0.1, 0.9], thresholds)
    with pytest.raises(InputError, match="known label"):
        compute_decision_curve([np.nan], [0.1])
