"""Measures of rankings: examples by hand, scikit-learn where its definitions agree, ties as the mean of all orders."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, ndcg_score

from kmm.retrieval.measures.ranking import MEASURES, has_tie, measure_ranking, share_top


def rank(grades, k, **options):
    """Measures candidates that are already in the order of their ranks."""
    return measure_ranking(-np.arange(len(grades), dtype=float), np.array(grades, float), k, **options)


def test_an_example_by_hand():
    found = rank([0, 0.5, 0, 1, 0], 3)
    assert found["precision"] == pytest.approx(1 / 3)
    assert found["recall"] == pytest.approx(1 / 2)
    assert found["map"] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert found["map_at_k"] == pytest.approx((1 / 2) / 2)
    assert found["mrr"] == pytest.approx(1 / 2)
    gain, ideal = 0.5 / np.log2(3), 1 + 0.5 / np.log2(3)
    assert found["ndcg"] == pytest.approx(gain / ideal)


def test_a_perfect_ranking_has_1_everywhere_that_1_can_be_reached():
    found = rank([1, 1, 0.3, 0, 0], 3)
    assert all(found[name] == pytest.approx(1) for name in MEASURES)
    few = rank([1, 0, 0, 0], 3)
    assert few["precision"] == pytest.approx(1 / 3)  # k places, one of them filled
    assert all(few[name] == pytest.approx(1) for name in MEASURES if name != "precision")


@pytest.mark.parametrize("seed", range(20))
def test_average_precision_and_ndcg_are_those_of_scikit_learn(seed):
    random = np.random.default_rng(seed)
    n, k = int(random.integers(2, 60)), int(random.integers(1, 70))
    scores, grades = random.permutation(n).astype(float), random.integers(0, 3, n) / 2.0
    if not grades.any():
        grades[0] = 1
    found = measure_ranking(scores, grades, k)
    assert found["map"] == pytest.approx(average_precision_score(grades > 0, scores))
    assert found["ndcg"] == pytest.approx(ndcg_score([grades], [scores], k=k))
    coarse = np.round(scores / 7)
    assert measure_ranking(coarse, grades, k)["ndcg"] == pytest.approx(ndcg_score([grades], [coarse], k=k))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_ties_are_the_mean_of_all_their_orders(k):
    scores = np.array([3, 2, 2, 2, 1, 1.0])
    grades = np.array([0, 1, 0, 0.5, 1, 0.0])
    orders = [
        [0, *(1 + np.array(first)), *(4 + np.array(last))]
        for first in itertools.permutations(range(3))
        for last in itertools.permutations(range(2))
    ]
    expected = {name: np.mean([rank(grades[order], k)[name] for order in orders]) for name in MEASURES}
    assert measure_ranking(scores, grades, k) == pytest.approx(expected)


def test_equal_scores_are_chance():
    """The closed form of a tie of all is the mean over random orders."""
    random = np.random.default_rng(0)
    grades = np.array([1, 0.5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    found = measure_ranking(np.zeros(12), grades, 4)
    drawn = [measure_ranking(random.permutation(12).astype(float), grades, 4) for _ in range(1000)]
    for name in MEASURES:
        values = np.array([one[name] for one in drawn])
        assert found[name] == pytest.approx(values.mean(), abs=4 * values.std() / np.sqrt(len(values)))
    assert found["precision"] == pytest.approx(2 / 12) and found["recall"] == pytest.approx(4 / 12)


def test_a_query_without_a_relevant_candidate_has_no_measures():
    assert all(np.isnan(value) for value in rank([0, 0, 0], 2).values())
    assert np.isnan(rank([0.3, 0, 0], 2, relevant_from=0.5)["precision"])
    assert rank([0.3, 0, 0], 2, relevant_from=0.5)["ndcg"] == pytest.approx(1)


def test_fewer_candidates_than_places():
    found = rank([0, 1], 10)
    assert found["precision"] == pytest.approx(0.1) and found["recall"] == 1 and found["mrr"] == 0.5


def test_the_first_relevant_behind_k_counts_0():
    assert rank([0, 0, 1], 2)["mrr"] == 0
    assert measure_ranking(np.array([2, 1, 1, 1.0]), np.array([0, 0, 0, 1.0]), 1)["mrr"] == 0


def test_ties_among_the_first_k_are_seen():
    scores = np.array([5, 4, 4, 3, 2, 2.0])
    assert [has_tie(scores, k) for k in (1, 2, 3)] == [False, True, True]
    assert not has_tie(np.array([5, 4, 3, 3.0]), 2)
    assert share_top(scores, 2).tolist() == [1, 0.5, 0.5, 0, 0, 0] and share_top(scores, 9).tolist() == [1] * 6
