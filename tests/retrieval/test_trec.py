"""Measures of rankings against trec_eval, by pytrec_eval, where the definitions agree."""

import numpy as np
import pytest

from kmm.retrieval.measures.ranking import measure_ranking

trec = pytest.importorskip("pytrec_eval", reason="needs pytrec-eval-terrier, of the extra kmm[test]")


def evaluate(scores, grades, *names):
    """Measures of one query by trec_eval."""
    documents = [f"d{number:03d}" for number in range(len(scores))]
    judged = {"q": {name: int(grade) for name, grade in zip(documents, grades, strict=True)}}
    ranked = {"q": {name: float(score) for name, score in zip(documents, scores, strict=True)}}
    return trec.RelevanceEvaluator(judged, set(names)).evaluate(ranked)["q"]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("k", [1, 5, 10, 30])
def test_measures_are_those_of_trec_eval(seed, k):
    """Grades are whole numbers, as trec_eval has them; no scores are tied, as it orders ties by the names."""
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 60))
    scores, grades = random.permutation(n).astype(float), random.choice(4, n, p=[0.7, 0.1, 0.1, 0.1])
    grades[random.integers(n)] = 2
    found = measure_ranking(scores, grades.astype(float), k)
    other = evaluate(
        scores, grades, "map", f"P.{k}", f"recall.{k}", "recip_rank", f"ndcg_cut.{k}", f"map_cut.{k}", f"success.{k}"
    )
    assert found["precision"] == pytest.approx(other[f"P_{k}"])
    assert found["recall"] == pytest.approx(other[f"recall_{k}"])
    assert found["map"] == pytest.approx(other["map"])
    assert found["ndcg"] == pytest.approx(other[f"ndcg_cut_{k}"])
    # trec_eval divides by all relevant ones, also by those for which k places have no room
    total = int((grades > 0).sum())
    assert found["map_at_k"] == pytest.approx(other[f"map_cut_{k}"] * total / min(total, k))
    # and looks for the first relevant one beyond k
    assert found["mrr"] == pytest.approx(other["recip_rank"] * other[f"success_{k}"])


@pytest.mark.parametrize("seed", range(5))
def test_a_least_grade_is_the_relevance_level_of_trec_eval(seed):
    random = np.random.default_rng(seed)
    scores, grades = random.permutation(40).astype(float), random.integers(0, 4, 40)
    grades[0] = 3
    found = measure_ranking(scores, grades.astype(float), 10, relevant_from=2)
    other = evaluate(scores, np.where(grades >= 2, 1, 0), "map", "P.10", "recall.10")
    assert found["map"] == pytest.approx(other["map"])
    assert (found["precision"], found["recall"]) == pytest.approx((other["P_10"], other["recall_10"]))


def test_tied_scores_are_the_mean_of_what_trec_eval_says_of_all_orders():
    """trec_eval breaks ties by names; a mean over random small differences takes their place."""
    random = np.random.default_rng(0)
    scores, grades = np.array([3, 2, 2, 2, 2, 1, 1.0]), np.array([0, 2, 0, 1, 0, 1, 0])
    found = measure_ranking(scores, grades.astype(float), 3)
    draws = [evaluate(scores + random.permutation(7) / 100, grades, "map", "P.3", "ndcg_cut.3") for _ in range(2000)]
    for name, other in (("map", "map"), ("precision", "P_3"), ("ndcg", "ndcg_cut_3")):
        values = np.array([draw[other] for draw in draws])
        assert found[name] == pytest.approx(values.mean(), abs=5 * values.std() / np.sqrt(len(values)))
