import itertools
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.errors import InputError
from kmm.evaluate.decisions.selective import measure_selection, trace_risk

cases = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), min_size=1, max_size=6)


@given(cases)
def test_ties_give_the_mean_over_all_their_orders(case):
    loss, confidence = (np.array(column, float) for column in zip(*case))
    n = len(loss)
    orders = [
        order
        for order in itertools.permutations(range(n))
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order))
    ]
    expected = np.mean([np.cumsum(loss[list(order)]) / np.arange(1, n + 1) for order in orders], axis=0)
    curve = trace_risk(loss, confidence)
    np.testing.assert_allclose(curve.risk, expected, atol=1e-12)
    np.testing.assert_allclose(curve.coverage, np.arange(1, n + 1) / n)


def test_losses_may_be_any_numbers_and_there_may_be_none():
    assert trace_risk([3.0, -1.0], [0, 1]).risk.tolist() == [-1.0, 1.0]
    curve = trace_risk([], [])
    assert curve.risk.shape == curve.coverage.shape == (0,)


def make_case(seed=0, n=300):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n).astype(float)
    return labels, 1 / (1 + np.exp(-2 * (labels - 0.5) - rng.normal(size=n)))


def test_the_oracle_has_the_area_of_the_closed_form():
    """All right decisions first: the risk is 0 up to `n - e`, then `(k - n + e) / k`."""
    labels, p = make_case()
    found = measure_selection(labels, p, 0.5)
    n, e = 300, int(((p >= 0.5) != labels).sum())
    expected = sum((k - n + e) / k for k in range(n - e + 1, n + 1)) / n
    assert found["oracle"] == pytest.approx(expected)
    assert found["excess"] == pytest.approx(found["aurc"] - expected) and found["excess"] > 0
    assert found["random"] == pytest.approx(e / n) and found["aurc"] < found["random"]


def test_the_best_order_has_no_excess_and_no_order_is_that_of_chance():
    p = np.array([0.1, 0.2, 0.9, 0.8, 0.55, 0.45])
    labels = np.array([0, 0, 1, 1, 0, 1.0])  # the two wrong ones are nearest to the threshold
    best = measure_selection(labels, p, 0.5)
    assert best["excess"] == 0 and best["aurc"] == best["oracle"]
    flat = measure_selection(labels, np.full(6, 0.7), 0.5)
    assert flat["aurc"] == pytest.approx(flat["random"]) and flat["random"] == 0.5
    perfect = measure_selection([0, 1], [0.1, 0.9], 0.5)
    assert (perfect["aurc"], perfect["oracle"], perfect["excess"], perfect["random"]) == (0, 0, 0, 0)


def test_the_risk_at_a_coverage_is_that_of_the_fewest_studies_that_reach_it():
    labels, p = make_case(1, n=21)
    found = measure_selection(labels, p, 0.5, coverages=[1.0, 0.5, 0.05, 2 / 3])
    order = np.argsort(-np.abs(p - 0.5))
    wrong = ((p >= 0.5) != labels)[order]
    assert [row["n"] for row in found["risk"]] == [21, 11, 2, 14]
    for row in found["risk"]:
        assert row["risk"] == pytest.approx(wrong[: row["n"]].mean())


def test_the_distance_is_that_from_the_own_threshold_of_each_study():
    labels = np.array([0, 1, 1.0])
    found = measure_selection(labels, [0.5, 0.5, 0.5], [0.9, 0.2, 0.51], coverages=[1.0, 0.6])
    assert found["random"] == pytest.approx(1 / 3) and found["risk"][1]["risk"] == 0  # the last is wrong, and nearest
    assert measure_selection(labels[:, None], [[0.5]] * 3, [[0.9], [0.2], [0.51]]) == measure_selection(
        labels, [0.5] * 3, [0.9, 0.2, 0.51]
    )


def test_unknown_labels_are_left_out_and_nothing_has_no_numbers():
    labels, p = make_case(2, n=50)
    some = labels.copy()
    some[::3] = np.nan
    known = ~np.isnan(some)
    assert measure_selection(some, p, 0.5) == measure_selection(labels[known], p[known], 0.5)
    none = measure_selection([np.nan], [0.3], 0.5)
    assert none["n"] == 0 and none["aurc"] is None and none["risk"][0] == {"coverage": 1.0, "n": 0, "risk": None}
    assert json.loads(json.dumps(none, allow_nan=False)) == none


def test_wrong_arguments_are_refused():
    with pytest.raises(InputError, match="one label at a time"):
        measure_selection(np.zeros((2, 2)), np.zeros((2, 2)), 0.5)
    with pytest.raises(InputError, match="Coverages must be in"):
        measure_selection([0, 1], [0.1, 0.9], 0.5, coverages=[0.0])
    with pytest.raises(InputError, match="finite, one per study"):
        trace_risk([0, 1], [0.1, np.nan])
    with pytest.raises(InputError, match="thresholds"):
        measure_selection([0, 1], [0.1, 0.9], [0.5, 0.5, 0.5])
