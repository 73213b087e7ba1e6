"""The same predictions under other label schemes."""

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from kmm.data.study import Study
from kmm.errors import InputError
from kmm.evaluate.breakdown.label_sensitivity import measure_label_schemes, relabel_studies

TERMS = ["normal", "Opacity/lung", "No Indexing", "Technical Quality of Image Unsatisfactory", "Cardiomegaly/mild"]


def make_studies(repeats=10):
    return [
        Study(f"{term[0]}{place}", f"{term[0]}{place}", mesh_major=(term,))
        for place in range(repeats)
        for term in TERMS
    ]


def measure(studies, scores, **changed):
    given = {"thresholds": dict.fromkeys(scores, 0.5), "train_prevalence": 0.6, "repeats": 20}
    return measure_label_schemes(
        studies, scores, **{"label_names": ["abnormal"], "scheme": "normal-abnormal", **given, **changed}
    )


def test_schemes_differ_in_what_they_do_not_know():
    known = {name: np.isfinite(table).sum() for name, table in relabel_studies(make_studies(), ["abnormal"]).items()}
    assert known == {
        "normal-abnormal": 50,
        "normal-abnormal-indexed-only": 40,
        "normal-abnormal-unindexed-unknown": 40,
        "normal-abnormal-poor-quality-unknown": 40,
    }
    findings = relabel_studies(make_studies(), ["Opacity"])
    assert list(findings) == ["findings"] and np.nansum(findings["findings"]) == 10


def test_every_scheme_measures_the_same_predictions():
    studies = make_studies()
    rng = np.random.default_rng(0)
    scores = {name: rng.random((50, 1)) for name in ("joint", "text")}
    found = measure(studies, scores)
    assert next(iter(found)) == "normal-abnormal" and found["normal-abnormal"]["changed"] == 0
    tables = relabel_studies(studies, ["abnormal"])
    for scheme, result in found.items():
        labels = tables[scheme][:, 0]
        known = np.isfinite(labels)
        assert result["n"] == known.sum() and result["n_positive"] == labels[known].sum() and result["description"]
        for name, p in scores.items():
            row, p = result["rows"][name], p[known, 0]
            assert row["roc_auc"] == pytest.approx(roc_auc_score(labels[known], p))
            assert row["accuracy"] == pytest.approx(accuracy_score(labels[known], p >= 0.5))
            assert row["intervals"]["roc_auc"][0] <= row["roc_auc"] <= row["intervals"]["roc_auc"][1]
        assert "majority" in result["rows"] and "image" not in result["rows"]
        difference = result["rows"]["joint"]["roc_auc"] - result["rows"]["text"]["roc_auc"]
        assert result["tests"]["text"]["roc_auc"]["difference"] == pytest.approx(difference)
    assert found["normal-abnormal-indexed-only"]["changed"] == 10
    same = found["normal-abnormal-unindexed-unknown"]
    assert same["same_as"] == "normal-abnormal-indexed-only" and same["rows"] == found[same["same_as"]]["rows"]
    json.dumps(found, allow_nan=False)


def test_a_rule_that_calls_unread_films_abnormal_costs_what_it_costs():
    studies = make_studies()
    seen = np.array([[float(study.mesh_major[0] not in ("normal", "No Indexing"))] for study in studies])
    found = measure(studies, {"joint": seen})
    assert found["normal-abnormal"]["rows"]["joint"]["accuracy"] == 0.8
    assert found["normal-abnormal-indexed-only"]["rows"]["joint"]["accuracy"] == 1


def test_labels_given_by_the_own_scheme_are_no_columns():
    studies = [Study("1", "1", mesh_major=("normal",), labels={"abnormal": 0.0})]
    studies += [Study("2", "2", mesh_major=("Opacity",), labels={"abnormal": 1.0})]
    assert "columns" not in measure(studies, {"joint": [[0.1], [0.9]]})
    read = [Study(study.id, study.id, mesh_major=study.mesh_major, labels={"abnormal": 1.0}) for study in studies]
    assert measure(read, {"joint": [[0.1], [0.9]]})["columns"]["changed"] == 1
    own = measure(read, {"joint": [[0.1], [0.9]]}, scheme="columns")
    assert list(own)[:2] == ["columns", "normal-abnormal"]


def test_a_label_that_no_study_has_is_still_measured():
    studies = [Study(str(place), str(place), mesh_major=("normal",)) for place in range(4)]
    (result,) = measure(studies, {"joint": np.zeros((4, 1))}, label_names=["Opacity"], scheme="findings").values()
    assert (result["n"], result["n_positive"]) == (4, 0) and result["rows"]["joint"]["roc_auc"] is None


def test_an_unknown_scheme_is_refused():
    with pytest.raises(InputError, match="Unknown label scheme 'mine'"):
        measure(make_studies(), {"joint": np.zeros((50, 1))}, scheme="mine")
