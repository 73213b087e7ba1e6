"""Averages over labels against scikit-learn, and the tables and CSV of many labels."""

import csv
import io

import numpy as np
import pytest
from sklearn import metrics as sk

from kmm.evaluate.compare import compare_models
from kmm.evaluate.label_averages import AVERAGED, average_micro, average_weighted
from kmm.evaluate.output.label_tables import FEW, RARE, arrange_rows, measure_rows, order_labels, write_labels_csv
from kmm.evaluate.output.tables import write_results_table

N, LABELS = 120, 5
GENERATOR = np.random.default_rng(4)
KNOWN = (GENERATOR.random((N, LABELS)) < np.array([0.5, 0.3, 0.2, 0.1, 0.04])).astype(float)
SCORES = np.clip(0.25 * KNOWN + 0.6 * GENERATOR.random((N, LABELS)) + 0.05, 0, 1)
CUTS = np.array([0.5, 0.45, 0.5, 0.55, 0.6])
SCORERS = {
    "roc_auc": lambda y, p, d, average: sk.roc_auc_score(y, p, average=average),
    "average_precision": lambda y, p, d, average: sk.average_precision_score(y, p, average=average),
    "f1": lambda y, p, d, average: sk.f1_score(y, d, average=average),
    "sensitivity": lambda y, p, d, average: sk.recall_score(y, d, average=average),
}


def compare(labels=KNOWN, scores=SCORES, cuts=CUTS, **options):
    names = [f"label {i}" for i in range(labels.shape[1])]
    settings = {"groups": None, "label_names": names, "train_prevalence": 0.3, "repeats": 60}
    return compare_models(labels, {"joint": scores}, thresholds={"joint": cuts}, **(settings | options))


@pytest.mark.parametrize("metric", SCORERS)
def test_averages_are_those_of_scikit_learn(metric):
    row, decided = compare()["joint"], SCORES >= CUTS
    found = {"macro": row, "micro": row["micro"], "weighted": row["weighted"]}
    for average, one in found.items():
        assert one[metric] == pytest.approx(SCORERS[metric](KNOWN, SCORES, decided, average))
        low, high = one["intervals"][metric]
        assert low < one[metric] < high


def test_specificity_of_all_decisions_together():
    row, decided = compare()["joint"], SCORES >= CUTS
    assert row["micro"]["specificity"] == pytest.approx((~decided)[KNOWN == 0].mean())
    each = [(~decided)[KNOWN[:, i] == 0, i].mean() for i in range(LABELS)]
    assert row["weighted"]["specificity"] == pytest.approx(np.average(each, weights=KNOWN.sum(axis=0)))


def test_unknown_labels_take_no_part():
    holes = KNOWN.copy()
    holes[GENERATOR.random(holes.shape) < 0.3] = np.nan
    flat = np.isfinite(holes)
    found = average_micro(holes, SCORES, CUTS, None, repeats=5)
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(holes[flat], SCORES[flat]))


def test_labels_of_a_patient_are_drawn_together():
    """If every patient has all studies twice, the intervals are those of the patients alone."""
    once = average_micro(KNOWN, SCORES, CUTS, list(range(N)), repeats=40, seed=3)
    doubled = [np.repeat(values, 2, axis=0) for values in (KNOWN, SCORES)]
    twice = average_micro(*doubled, CUTS, np.repeat(range(N), 2).tolist(), repeats=40, seed=3)
    for metric in ("f1", "sensitivity", "specificity", "roc_auc"):
        assert twice["intervals"][metric] == pytest.approx(once["intervals"][metric])


def test_a_label_without_a_positive_study_weighs_nothing():
    singles = [{"n_positive": 0, **dict.fromkeys(AVERAGED)}, {"n_positive": 3, **dict.fromkeys(AVERAGED, 0.5)}]
    draws = {metric: np.stack([np.full(4, np.nan), np.full(4, 0.5)], axis=1) for metric in AVERAGED}
    found = average_weighted(singles, draws)
    assert found["f1"] == 0.5 and found["intervals"]["f1"] == [0.5, 0.5]
    assert average_weighted(singles[:1], {metric: draws[metric][:, :1] for metric in AVERAGED})["f1"] is None


def test_one_label_has_no_averages():
    row = compare_models(
        KNOWN[:, 0],
        {"joint": SCORES[:, 0]},
        thresholds={"joint": 0.5},
        groups=None,
        label_names=["mass"],
        train_prevalence=0.5,
        repeats=5,
    )["joint"]
    assert "micro" not in row and "weighted" not in row


@pytest.fixture(scope="module")
def many():
    """40 labels, of 200 down to 1 positive of 400 studies."""
    generator = np.random.default_rng(0)
    counts = np.round(np.geomspace(200, 1, 40)).astype(int)
    order = generator.permutation(40)
    labels = np.zeros((400, 40))
    for column, count in zip(order, counts):
        labels[generator.choice(400, count, replace=False), column] = 1
    scores = np.clip(0.3 * labels + 0.6 * generator.random(labels.shape), 0, 1)
    return compare(labels, scores, 0.5, repeats=20) | {"mined": ["findings"]}, labels


def test_a_table_of_40_labels_is_sorted_and_has_rare_labels_apart(many):
    result, labels = many
    header, *rows = measure_rows(result)
    assert header == ["Joint", "Studies (positive)", "Threshold", "ROC AUC", "AP", "F1", "Sensitivity", "Specificity"]
    place = next(i for i, row in enumerate(rows) if row[0] == RARE)
    counts = {f"label {i}": int(column.sum()) for i, column in enumerate(labels.T)}
    shown = [row[0] for row in rows[:-3] if row[0] != RARE]
    assert shown == sorted(counts, key=lambda name: -counts[name]) and len(rows) == 40 + 1 + 3
    assert all(counts[row[0]] >= FEW for row in rows[:place])
    assert all(counts[row[0]] < FEW for row in rows[place + 1 : -3])
    assert [row[0] for row in rows[-3:]] == [
        "Mean over labels",
        "Weighted by positives",
        "All decisions together",
    ]
    assert rows[0][1] == "400 (200)" and rows[0][2] == "0.500" and "[" in rows[0][3]


def test_printed_tables_fit_and_say_what_was_mined(many):
    text = write_results_table({"test": many[0]})
    assert max(map(len, text.splitlines())) <= 160
    flat = " ".join(text.split())
    assert flat.count("labels made from the words of FINDINGS, which the text model reads") == 4
    assert flat.count(RARE) == 3 and "each label at its threshold" in flat
    assert all(f"label {i} " in flat for i in range(40))


def test_csv_has_every_label_and_average(many):
    result, labels = many
    rows = list(csv.DictReader(io.StringIO(write_labels_csv({"test": result}, {"label 3": ("findings", "mesh")}))))
    assert len(rows) == 43 and {row["model"] for row in rows} == {"joint"}
    assert [row["label"] for row in rows[-3:]] == ["macro", "weighted", "micro"]
    (row,) = [row for row in rows if row["label"] == "label 3"]
    single = result["joint"]["per_label"]["label 3"]
    assert (int(row["n"]), int(row["n_positive"])) == (400, int(labels[:, 3].sum()))
    assert float(row["roc_auc"]) == pytest.approx(single["roc_auc"], rel=1e-5)
    assert float(row["roc_auc_high"]) == pytest.approx(single["intervals"]["roc_auc"][1], rel=1e-5)
    assert (row["made_from"], row["mined"], row["thresholds"]) == ("findings mesh", "findings", "0.5")


def test_order_without_rare_labels_has_no_heading():
    counts = {"a": {"n": 100, "n_positive": 20}, "b": {"n": 100, "n_positive": 50}, "c": {"n": 60, "n_positive": 55}}
    assert order_labels(counts) == (["b", "a"], ["c"])
    rows = {name: [name, "x"] for name in "ab"}
    assert arrange_rows(rows, {name: counts[name] for name in "ab"}) == [["b", "x"], ["a", "x"]]
    assert arrange_rows({**rows, "c": ["c", "x"]}, counts)[2:] == [[RARE, ""], ["c", "x"]]
