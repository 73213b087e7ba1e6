"""Grades of relevance: common findings by rarity, unknown ones left out, studies without findings alike."""

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from kmm.retrieval.measures.relevance import add_no_finding, grade_relevance, weigh_findings

NAN = np.nan


def test_with_equal_weights_the_grade_is_the_jaccard_index():
    labels = np.random.default_rng(0).integers(0, 2, (12, 6)).astype(float)
    found = grade_relevance(labels[:4], labels, np.ones(6))
    for row in range(4):
        for column in range(12):
            expected = jaccard_score(labels[row], labels[column], zero_division=0)
            assert found[row, column] == pytest.approx(expected, abs=1e-6)


def test_unknown_findings_are_left_out_of_their_pair():
    query, other = np.array([[1, 1, NAN]]), np.array([[1, NAN, 1], [NAN, NAN, 1]])
    assert grade_relevance(query, other, np.array([2.0, 1, 1]))[0].tolist() == [1.0, 0.0]


def test_grades_are_symmetric():
    random = np.random.default_rng(1)
    labels = random.choice([0, 1, NAN], (40, 5))
    found = grade_relevance(labels, labels, random.uniform(0, 3, 5))
    assert np.allclose(found, found.T) and found.min() >= 0 and found.max() <= 1


def test_rare_findings_weigh_more():
    labels = np.zeros((8, 2))
    labels[0, 0] = labels[:4, 1] = 1
    assert weigh_findings(labels).tolist() == [3.0, 1.0]
    both = np.array([[1.0, 1.0]])
    assert grade_relevance(both, np.array([[1.0, 0], [0, 1.0]]), weigh_findings(labels))[0].tolist() == [0.75, 0.25]
    assert weigh_findings(np.ones((4, 1))).tolist() == [0.0] == weigh_findings(np.zeros((4, 1))).tolist()


def test_studies_without_findings_are_alike_and_unlike_others():
    labels = add_no_finding(np.array([[0, 0], [0, 0], [1, 0], [NAN, 0]]))
    assert labels[:, -1].tolist()[:3] == [1, 1, 0] and np.isnan(labels[3, -1])
    grades = grade_relevance(labels[:1], labels, np.ones(3))
    assert grades[0].tolist() == [1, 1, 0, 0]
