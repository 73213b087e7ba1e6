"""Results of cohorts: the same numbers as of their studies alone, and a word on cohorts that are too small."""

import json

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.evaluate.breakdown.subgroups import LEAST_OF_A_CLASS, MEASURES, measure_subgroups, subgroup_rows
from kmm.evaluate.compare import compare_models


def make_case(n=200, n_labels=1):
    rng = np.random.default_rng(0)
    labels = (rng.random((n, n_labels)) < 0.5).astype(float)
    return labels, (0.5 * labels + 0.5 * rng.random((n, n_labels))), np.arange(n) // 2


def test_a_cohort_is_measured_as_its_studies_alone():
    labels, p, patients = make_case()
    mask = np.arange(200) < 120
    rows = measure_subgroups(
        labels, p, 0.6, {"sex": {"F": mask, "M": ~mask}}, patients, label_names=["mass"], repeats=200
    )
    assert [(row["grouping"], row["value"]) for row in rows] == [("all", "all"), ("sex", "F"), ("sex", "M")]
    for row, chosen in zip(rows, (np.ones(200, bool), mask, ~mask), strict=True):
        alone = compare_models(
            labels[chosen], {"joint": p[chosen]}, thresholds={"joint": 0.6}, groups=patients[chosen].tolist(),
            label_names=["mass"], train_prevalence=0.5, repeats=200,
        )["joint"]  # fmt: skip
        assert [row[name] for name in MEASURES] == [alone[name] for name in MEASURES]
        assert row["intervals"]["roc_auc"] == alone["intervals"]["roc_auc"]
        for name in ("sensitivity", "specificity"):
            assert row["intervals"][name] == alone["operating_point"]["intervals"][name]
        assert row["note"] == "" and row["n"] == chosen.sum() and row["n_positive"] == labels[chosen].sum()


def test_a_small_cohort_has_no_area_and_says_why():
    labels = np.r_[np.ones(LEAST_OF_A_CLASS), np.zeros(LEAST_OF_A_CLASS)]
    p, every = np.linspace(0.9, 0.1, len(labels)), np.ones(len(labels), bool)
    few, one_class = every.copy(), labels == 1
    few[0] = False
    cohorts = {"g": {"enough": every, "few": few, "one": one_class, "none": ~every, "two": np.arange(20) % 9 == 0}}
    rows = {row["value"]: row for row in measure_subgroups(labels, p, 0.5, cohorts, label_names=["mass"], repeats=50)}
    assert rows["enough"]["roc_auc"] == 1 and rows["enough"]["note"] == ""
    assert rows["few"]["note"] == "9 positives: fewer than 10, too few for a ROC AUC"
    assert rows["one"]["note"] == "no negatives: no ROC AUC"
    assert rows["two"]["note"] == "2 positives, 1 negative: fewer than 10, too few for a ROC AUC"
    assert rows["none"]["note"].startswith("no positives, no negatives")
    for name in ("few", "one", "none", "two"):
        assert rows[name]["roc_auc"] is None and rows[name]["intervals"]["roc_auc"] is None
    assert rows["one"]["sensitivity"] == 1 and rows["one"]["intervals"]["sensitivity"][0] < 0.8
    assert rows["none"]["accuracy"] is None
    json.dumps(list(rows.values()), allow_nan=False)


def test_every_label_has_rows_and_unknown_labels_do_not_count():
    labels, p, _ = make_case(60, 2)
    labels[:30, 1] = np.nan
    first = np.arange(60) < 30
    rows = measure_subgroups(labels, p, [0.5, 0.6], {"half": {"a": first}}, label_names=["mass", "cyst"], repeats=5)
    assert [(row["value"], row["label"], row["n"]) for row in rows] == [
        ("all", "mass", 60), ("all", "cyst", 30), ("a", "mass", 30), ("a", "cyst", 0),
    ]  # fmt: skip
    table = subgroup_rows(rows)
    assert table[0][:4] == ["Group", "", "Label", "n (positive)"] and {len(row) for row in table} == {8}
    assert table[4][0:4] == ["half", "a", "cyst", "0 (0)"] and table[4][4] == "–"


def test_arguments_that_do_not_match_are_refused():
    with pytest.raises(InputError, match="sex F must be a bool array"):
        measure_subgroups([0, 1], [0.1, 0.9], 0.5, {"sex": {"F": np.array([1, 0])}}, label_names=["mass"])
    with pytest.raises(InputError, match="1 label names"):
        measure_subgroups([0, 1], [0.1, 0.9], 0.5, {}, label_names=["mass", "cyst"])
