"""Tests over the folds of a cross-validation: which are done, and Holm's correction over all of them."""

import numpy as np
import pytest

from kmm.evaluate.statistics.fold_tests import compare_folds
from kmm.experiments.comparison import TESTED_ONCE, _flatten_pooled, _list_claims
from kmm.experiments.output.page_results import list_differences
from kmm.experiments.planning.resampling import Resampling
from kmm.experiments.pooled_folds import count_pooled, pool_folds
from kmm.experiments.tables import PREDICTIONS, join_columns, make_columns

STUDIES, FOLDS = 60, 3
STRENGTH = {"joint": 2.0, "text": 1.0, "image": 0.2, "tfidf": 2.0}


def make_predictions(repeats=2, labels=("mass", "cyst"), variant="", seed=0):
    """Predictions of cross-validations in which each study is tested once."""
    tables, truth = [], np.arange(STUDIES) % 2
    for repeat in range(repeats):
        order, rng = np.random.default_rng(repeat).permutation(STUDIES), np.random.default_rng([seed, repeat])
        for fold, studies in enumerate(np.array_split(order, FOLDS)):
            for model, strength in STRENGTH.items():
                for label in labels:
                    logits = strength * (2 * truth[studies] - 1) + rng.normal(size=len(studies))
                    place = {
                        "split": str(repeat * FOLDS + fold + 1),
                        "variant": variant,
                        "part": "test",
                        "model": model,
                    }
                    found = {"study": studies, "patient": studies, "label": label, "truth": truth[studies]}
                    found |= {"probability": 1 / (1 + np.exp(-logits)), "threshold": 0.5}
                    tables.append(make_columns(PREDICTIONS, {**place, **found, "has_image": 1, "has_report": 1}))
    return join_columns(PREDICTIONS, tables)


def table_rows(table, model):
    """The rows of a model in the first cross-validation."""
    chosen = np.isin(table["split"], ["1", "2", "3"]) & (table["model"] == model)
    return {name: column[chosen] for name, column in table.items()}


def list_tests(rows):
    return [test for row in rows for test in (row["mean_auc"], row["pooled"]["roc_auc"], row["pooled"]["accuracy"])]


def test_all_tests_are_one_family_of_holm():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    rows = pool_folds(make_predictions(), FOLDS)
    tests = list_tests(rows)
    assert len(tests) == count_pooled(rows) == 18 and {row["family"] for row in rows} == {"pooled"}
    expected = multitest.multipletests([test["p"] for test in tests], method="holm")[1]
    assert [test["p_holm"] for test in tests] == pytest.approx(expected)
    assert all(test["p_holm"] >= test["p"] for test in tests)


def test_a_single_pair_is_that_of_the_folds_of_the_first_cross_validation():
    predictions = make_predictions(labels=("mass",))
    (row,) = [row for row in pool_folds(predictions, FOLDS) if row["second"] == "text"]
    first, second = (table_rows(predictions, model) for model in ("joint", "text"))
    expected = compare_folds(
        *(first["truth"], first["probability"], second["probability"]),
        first["split"].tolist(),
        studies=first["study"].tolist(),
    )
    assert row["n"] == STUDIES and row["mean_auc"]["p"] == expected["mean_auc"]["p"]
    assert row["pooled"]["roc_auc"]["p"] == pytest.approx(expected["pooled"]["roc_auc"]["p"])
    assert row["pooled"]["caution"]


def test_each_variant_is_compared_with_the_first_one():
    one, two = (make_predictions(labels=("mass",), variant=name, seed=seed) for name, seed in (("a", 0), ("b", 7)))
    rows = pool_folds(join_columns(PREDICTIONS, [one, two]), FOLDS)
    assert [row["against"] for row in rows if row["variant"] == "a"] == [None] * 3
    between = {row["first"]: row for row in rows if row["against"] is not None}
    assert list(between) == ["joint", "image", "text"]
    assert all((row["variant"], row["against"], row["second"]) == ("b", "a", name) for name, row in between.items())
    first, second = (table_rows(table, "image") for table in (two, one))
    expected = compare_folds(
        *(first["truth"], first["probability"], second["probability"]),
        first["split"].tolist(),
        studies=first["study"].tolist(),
    )
    assert between["image"]["mean_auc"]["difference"] == pytest.approx(expected["mean_auc"]["difference"])
    low, high = between["image"]["mean_auc"]["interval"]
    assert low < between["image"]["mean_auc"]["difference"] < high


def test_a_single_split_is_tested_and_printed():
    tables = [make_predictions(1, ("mass",), name, seed) for name, seed in (("a", 0), ("b", 7))]
    rows = pool_folds(join_columns(PREDICTIONS, tables), Resampling(splits=1).tested_once)
    assert {row["folds"] for row in rows} == {1} and {row["n"] for row in rows} == {STUDIES // FOLDS}
    printed = str(_list_claims(_flatten_pooled(rows), True, "", title=TESTED_ONCE).columns[0]._cells)
    assert "image - image of a" in printed and "joint - tfidf" in printed


def test_repeated_splits_are_never_pooled():
    assert Resampling(splits=2).tested_once == 0 and Resampling(folds=5, repeats=2).tested_once == 5
    assert pool_folds(make_predictions(), 0) == []


def test_the_page_shows_both_p():
    rows = pool_folds(make_predictions(labels=("mass",)), FOLDS)
    differences = [{"label": "macro", "first": "joint", "second": "text", "metric": "roc_auc", "difference": 0.1}]
    section = list_differences({"differences": differences, "pooled": rows})
    (table,) = section.folded
    assert "Holm" in table.caption and len(table.rows) == 3
    test = rows[0]["mean_auc"]
    assert table.rows[0][3].endswith("; <0.001)" if test["p_holm"] < 0.0005 else f"; {test['p_holm']:.3f})")
