"""Defects of a published retrieval system (docs/retrieval.md lists them), none of which kmm has."""

import os
import subprocess
import sys

import numpy as np
import pytest

from kmm.errors import ArtefactError
from kmm.retrieval.index import Index
from kmm.retrieval.measures.measurement import measure_index
from kmm.retrieval.measures.ranking import measure_ranking
from tests.factories.indexes import make_rows, write_index

NAMES = ("mass", "cyst")


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def number(count):
    return [f"{place:04d}" for place in range(count)]


def test_average_precision_of_k_places_is_not_divided_by_what_they_cannot_hold():
    """Divided by all 100 relevant studies, a perfect ranking of 10 places would have 0.1."""
    perfect = measure_ranking(-np.arange(200.0), np.repeat([1.0, 0.0], 100), 10)
    assert perfect["map_at_k"] == perfect["map"] == 1


def test_the_ideal_of_ndcg_is_that_of_all_candidates():
    """Compared with the best order of what was found, any first two studies in their best order would have 1."""
    found = measure_ranking(np.array([4, 3, 2, 1.0]), np.array([0.2, 0.1, 1.0, 1.0]), 2)
    assert found["ndcg"] == pytest.approx((0.2 + 0.1 / np.log2(3)) / (1 + 1 / np.log2(3)))


def test_chance_and_lift_show_that_a_loose_relevance_says_nothing(tmp_path):
    """Where nine of ten pairs are relevant, features that say nothing have a precision of 0.9, and a lift of 1."""
    random = np.random.default_rng(0)
    labels = (random.uniform(size=(300, 2)) < [0.95, 0.1]).astype(np.uint8)
    index = write_index(
        tmp_path / "index", [make_rows(number(300), unit(random.normal(size=(300, 5))), labels=labels)], labels=NAMES
    )
    found = measure_index(index, k=5, repeats=200)["modes"][0]["rows"]["cosine"]["precision"]
    assert found["mean"] > 0.85 and found["lift"] == pytest.approx(1, abs=0.03)
    assert found["lift_interval"][0] < 1 < found["lift_interval"][1]


def test_known_labels_play_no_part_in_ranking(tmp_path):
    """Neither the query's nor the others' labels change what is found, with or without reranking by predictions."""
    random = np.random.default_rng(1)
    vectors, predicted = unit(random.normal(size=(90, 5))), random.uniform(size=(90, 2)).astype(np.float32)
    found = []
    for place, labels in enumerate((np.zeros((90, 2)), random.integers(0, 2, (90, 2)))):
        rows = make_rows(number(90), vectors, labels=labels, predicted=predicted)
        index = write_index(tmp_path / str(place), [rows], labels=NAMES, predicted=NAMES)
        results = [index.search(number(90), rerank=weight) for weight in (0.0, 0.4)]
        found.append([[(hit.study, hit.score) for hit in one.hits] for some in results for one in some])
    assert found[0] == found[1]


def test_the_nearest_study_is_always_found(tmp_path):
    """A greedy walk on a graph of links above a similarity misses studies that no link leads to, and best ones."""
    random = np.random.default_rng(2)
    vectors = unit(random.normal(size=(400, 64)))  # hardly any pair has a cosine above 0.5
    twins = unit(vectors[:50] + 0.02 * random.normal(size=(50, 64)))
    index = write_index(tmp_path / "index", [make_rows(number(450), np.concatenate([vectors, twins]))])
    results = index.search(number(50), k=1)
    assert [one.hits[0].study for one in results] == number(450)[400:]
    assert all(one.allowed == 450 for one in results)


def test_an_index_of_as_many_vectors_of_the_same_size_is_another_one(tmp_path):
    """A cache that is found by number and dimension alone answers with old vectors."""
    random = np.random.default_rng(3)
    results = []
    for place in range(2):
        rows = make_rows(number(40), unit(random.normal(size=(40, 4))))
        index = write_index(tmp_path / str(place), [rows])
        results.append([hit.study for hit in index.search("0000", k=20)[0].hits])
    assert results[0] != results[1]


def test_nothing_is_unpickled(tmp_path):
    index = write_index(tmp_path / "index", [make_rows(number(5), unit(np.ones((5, 4))))])
    path = index.shards[0].folder / "vectors-both.npy"
    np.save(path, np.array([{"run": "me"}] * 5, object), allow_pickle=True)
    with pytest.raises(ArtefactError, match="damaged"):
        Index(tmp_path / "index").search("0000")


SCRIPT = """
import sys
from kmm.retrieval.index import Index
print([[hit.study for hit in one.hits] for one in Index(sys.argv[1]).search(sys.argv[2:], k=5)])
"""


def test_results_do_not_depend_on_the_seed_of_hashes(tmp_path):
    """Starts of a search that are drawn by `hash(id)` differ from process to process."""
    random = np.random.default_rng(4)
    index = write_index(tmp_path / "index", [make_rows(number(200), unit(random.integers(-1, 2, (200, 4)) + 0.1))])
    shown = []
    for seed in ("0", "1"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", SCRIPT, str(index.folder), *number(20)]
        shown.append(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert shown[0] == shown[1] == f"{[[hit.study for hit in one.hits] for one in index.search(number(20), k=5)]}\n"


def test_both_films_of_a_patient_never_find_each_other(tmp_path):
    """Frontal and lateral film, or two visits, of one patient are the easiest neighbours and say least."""
    random = np.random.default_rng(5)
    first = unit(random.normal(size=(60, 8)))
    vectors = np.concatenate([first, unit(first + 0.01 * random.normal(size=(60, 8)))])
    patients = [f"p{place}" for place in range(60)] * 2
    index = write_index(tmp_path / "index", [make_rows(number(120), vectors, patients=patients)])
    for row, one in enumerate(index.search(number(120), k=119)):
        assert len(one.hits) == 118 and patients[row] not in {patients[hit.row] for hit in one.hits}
