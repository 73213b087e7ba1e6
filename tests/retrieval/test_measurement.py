"""The table of retrieval: rows whose right result is known, queries without one, intervals over patients."""

import re
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import average_precision_score, ndcg_score

import kmm
from kmm.cli.retrieval_tables import ROWS
from kmm.errors import InputError
from kmm.retrieval.exclusions import EXCLUDED
from kmm.retrieval.layers import LAYERS
from kmm.retrieval.measures.measurement import group_patients, measure_index
from kmm.retrieval.measures.ranking import MEASURES
from kmm.retrieval.measures.relevance import add_no_finding, grade_relevance, weigh_findings
from kmm.retrieval.measures.summary import summarise_findings, summarise_rows
from tests.factories.indexes import make_rows, write_index

NAMES = ("mass", "cyst", "effusion")


def test_the_page_names_every_measure_row_layer_and_exclusion():
    page = (Path(kmm.__file__).parents[1] / "docs" / "retrieval.md").read_text(encoding="utf-8")
    for name in (*MEASURES, *ROWS, *LAYERS, *EXCLUDED):
        assert re.search(rf"\b{name}\b", page, re.IGNORECASE), name


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(folder, labels, vectors, *, patterns=("both",), **more):
    ids = [f"{number:04d}" for number in range(len(labels))]
    rows = make_rows(ids, vectors, labels=labels, patterns=patterns, **more)
    predicted = NAMES if "predicted" in more else ()
    return write_index(folder, [rows], labels=NAMES, predicted=predicted)


@pytest.fixture(scope="module")
def random_index(tmp_path_factory):
    """An index whose features say nothing about the labels."""
    random = np.random.default_rng(0)
    labels = (random.uniform(size=(160, 3)) < [0.3, 0.2, 0.1]).astype(np.uint8)
    vectors = unit(random.normal(size=(160, 6)))
    patients = [f"p{number // 2}" for number in range(160)]
    return write(tmp_path_factory.mktemp("index") / "random", labels, vectors, patients=patients, predicted=labels)


def test_every_measure_is_that_of_brute_force(random_index):
    found = measure_index(random_index, k=5, repeats=10)["modes"][0]
    labels, vectors = add_no_finding(random_index.labels), random_index.read_vectors("both", range(160))
    grades = grade_relevance(labels, labels, weigh_findings(labels))
    precisions, ndcgs, means = [], [], []
    for row in range(160):
        free = np.arange(160) // 2 != row // 2  # two studies of each patient
        grade, score = grades[row][free], np.round(vectors[free] @ vectors[row], 6)
        order = np.argsort(-score)
        precisions.append((grade[order][:5] > 0).mean())
        ndcgs.append(ndcg_score([grade], [score], k=5))
        means.append(average_precision_score(grade > 0, score))
    rows = found["rows"]["cosine"]
    assert rows["precision"]["mean"] == pytest.approx(np.mean(precisions))
    assert rows["ndcg"]["mean"] == pytest.approx(np.mean(ndcgs), abs=1e-6)
    assert rows["map"]["mean"] == pytest.approx(np.mean(means), abs=1e-6)
    assert (found["queries"], found["patients"], found["candidates"]) == (160, 80, 160)


def test_features_that_say_nothing_have_a_lift_of_1(random_index):
    found = measure_index(random_index, k=10)["modes"][0]["rows"]
    low, high = found["cosine"]["ndcg"]["lift_interval"]
    assert low < 1 < high and found["oracle"]["ndcg"]["mean"] == found["oracle"]["map"]["mean"] == pytest.approx(1)
    assert found["oracle"]["ndcg"]["lift"] > 1.5 and "lift" not in found["chance"]["ndcg"]


def test_chance_is_the_share_of_relevant_pairs(random_index):
    found = measure_index(random_index, k=10, repeats=0)["modes"][0]
    labels = add_no_finding(random_index.labels)
    grades = grade_relevance(labels, labels, weigh_findings(labels))
    free = np.arange(160)[:, None] // 2 != np.arange(160) // 2
    share = np.mean([(grades[row][free[row]] > 0).mean() for row in range(160)])
    assert found["rows"]["chance"]["precision"]["mean"] == pytest.approx(share)
    assert found["rows"]["chance"]["precision"]["interval"] is None


def test_predictions_earn_their_place_where_they_are_right(random_index):
    found = measure_index(random_index, rerank=0.5, repeats=200)["modes"][0]["rows"]["reranked"]["ndcg"]
    assert found["mean"] > 0.9 and found["gain"] < 0 and found["gain_interval"][1] < 0
    assert "reranked" not in measure_index(random_index, rerank=0, repeats=0)["modes"][0]["rows"]


def test_features_that_are_the_labels_are_perfect(tmp_path):
    labels = np.eye(3, dtype=np.uint8)[np.arange(30) % 3]
    found = measure_index(write(tmp_path / "index", labels, labels), k=4, repeats=20)
    row = found["modes"][0]["rows"]["cosine"]
    assert all(row[name]["mean"] == pytest.approx(1) for name in MEASURES if name not in ("recall",))
    assert row["recall"]["mean"] == pytest.approx(4 / 9) and row["ndcg"]["interval"] == [1.0, 1.0]
    assert found["modes"][0]["with_ties"] == 30
    for one in found["modes"][0]["findings"]:
        assert (one["queries"], one["precision"]) == (10, pytest.approx(1)) and one["chance"] == pytest.approx(9 / 29)


def test_queries_without_a_relevant_study_are_counted_and_left_out(tmp_path):
    labels = np.zeros((8, 3), np.uint8)
    labels[0] = [1, 0, 0]  # the only mass
    labels[1:3, 1] = 1
    labels[3] = 255  # not known
    index = write(tmp_path / "index", labels, unit(np.random.default_rng(0).normal(size=(8, 4))))
    found = measure_index(index, k=3, repeats=10)
    mode = found["modes"][0]
    assert found["unknown"] == 1 and mode["candidates"] == 7
    assert (mode["queries"], mode["without_relevant"]) == (6, 1)
    assert {one["finding"]: one["queries"] for one in mode["findings"]} == {"cyst": 2, "no finding": 4}
    alone = measure_index(index, k=3, queries=["study=0000"], repeats=10)["modes"][0]
    assert alone["queries"] == 0 and alone["rows"] == {} and alone["without_relevant"] == 1


def test_relevance_can_be_stricter(random_index):
    loose, strict = (measure_index(random_index, relevant_from=least, repeats=0)["modes"][0] for least in (0.0, 1.0))
    assert strict["rows"]["chance"]["precision"]["mean"] < loose["rows"]["chance"]["precision"]["mean"]
    assert strict["rows"]["oracle"]["map"]["mean"] == pytest.approx(1)


def test_queries_and_candidates_are_filtered(random_index):
    found = measure_index(random_index, queries=["label=mass"], among=["label=cyst|mass"], repeats=0)
    labels = random_index.labels
    assert found["modes"][0]["candidates"] == (labels[:, :2] == 1).any(axis=1).sum()
    assert found["modes"][0]["queries"] + found["modes"][0]["without_relevant"] == (labels[:, 0] == 1).sum()
    few = measure_index(random_index, most=20, repeats=0)["modes"][0]
    assert few["queries"] + few["without_relevant"] == 20


def test_modes_compare_what_studies_have(tmp_path):
    labels = np.eye(3, dtype=np.uint8)[np.arange(30) % 3]
    index = write(tmp_path / "index", labels, labels, patterns=("both", "image", "text"))
    baselines = {"tfidf": sparse.csr_matrix(labels, dtype=np.float32), "film": np.ones((30, 1), np.float32)}
    found = {
        (one["query"], one["against"]): one["rows"]
        for one in measure_index(index, k=3, repeats=5, baselines=baselines)["modes"]
    }
    assert list(found) == [("both", "both"), ("image", "image"), ("text", "text"), ("image", "text"), ("text", "image")]
    assert {"tfidf", "film"} <= set(found["both", "both"]) and "tfidf" not in found["image", "image"]
    assert "film" in found["image", "image"] and "film" not in found["text", "text"]
    assert not {"tfidf", "film"} & set(found["image", "text"])
    assert found["text", "text"]["tfidf"]["ndcg"]["mean"] == pytest.approx(1)
    film, chance = (found["image", "image"][name]["ndcg"]["mean"] for name in ("film", "chance"))
    assert film == pytest.approx(chance)  # equal for all films


def test_intervals_are_over_patients():
    random = np.random.default_rng(0)
    values = np.repeat(random.uniform(size=(20, 1)), len(MEASURES), axis=1)
    one = {"cosine": values, "chance": np.full_like(values, 0.5)}
    copied = {name: np.repeat(table, 5, axis=0) for name, table in one.items()}
    single = summarise_rows(one, np.arange(20))["cosine"]["ndcg"]
    repeated = summarise_rows(copied, np.repeat(np.arange(20), 5))["cosine"]["ndcg"]
    for name in single:  # five equal studies of a patient say no more than one
        assert np.array(repeated[name]) == pytest.approx(np.array(single[name]))
    width = np.diff(single["interval"])[0]
    assert width == pytest.approx(2 * 1.96 * values[:, 0].std() / np.sqrt(20), rel=0.25)
    assert single["lift"] == pytest.approx(2 * values.mean())
    assert np.array(single["lift_interval"]) == pytest.approx(2 * np.array(single["interval"]))


def test_findings_that_no_query_has_are_left_out():
    has = np.array([[True, False], [True, False]])
    found = summarise_findings(["mass", "cyst"], has, np.full((2, 2), 0.5), np.zeros((2, 2)), np.arange(2), repeats=4)
    assert [one["finding"] for one in found] == ["mass"] and found[0]["lift"] is None


def test_studies_of_unknown_patients_are_patients_of_their_own():
    groups = group_patients(np.array([5, 0, 5, 0, 9], np.uint64))
    assert groups[0] == groups[2] and len(set(groups.tolist())) == 4 and groups.max() == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"k": 0}, "`k`"),
        ({"most": True}, "`most`"),
        ({"rerank": 1.5}, "`rerank`"),
        ({"relevant_from": -1}, "`relevant_from`"),
        ({"queries": ["study=nobody"]}, "`queries`"),
        ({"among": ["study=nobody"]}, "`among`"),
    ],
)
def test_wrong_arguments_are_refused(random_index, options, says):
    with pytest.raises(InputError, match=says):
        measure_index(random_index, **options)
