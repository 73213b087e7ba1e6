"""Statistics across splits, on tables made in the test: means, claims, the best baseline, families, variants."""

import json

import numpy as np
import pytest
from scipy.stats import t as student

from kmm.evaluate.statistics.multiplicity import adjust_holm
from kmm.evaluate.statistics.resampled_tests import compare_splits
from kmm.experiments.common_studies import CommonStudies
from kmm.experiments.comparison import render_summary
from kmm.experiments.planning.plan import make_plan
from kmm.experiments.published import PUBLISHED, list_published
from kmm.experiments.statistics import SplitValues, average_models, compare_claims, describe_families
from kmm.experiments.summary import summarize
from kmm.experiments.tables import PREDICTIONS, ROWS, join_columns, make_columns
from kmm.presets import gather_settings

SIZES = (0.65, 0.2)
MODELS = ("joint", "image", "text", "tfidf", "image-linear", "linear-sum", "majority", "chance")


def make_values(splits=5, seed=0):
    """Values by model, part and metric, `(splits,)` each."""
    rng = np.random.default_rng(seed)
    return {
        (model, part, metric): rng.uniform(0.6, 0.9, splits)
        for model in MODELS
        for part in ("train", "validation", "test")
        for metric in ("roc_auc", "accuracy", "average_precision", "brier")
    }


def tabulate(values, *, variant="", labels=("macro", "abnormal"), leave_out=()):
    tables = []
    for (model, part, metric), found in values.items():
        for split, value in enumerate(found, start=1):
            if (split, model) not in leave_out:
                place = {"split": str(split), "variant": variant, "model": model, "part": part, "label": list(labels)}
                tables.append(make_columns(ROWS, {**place, "metric": metric, "value": value, "n": 10, "n_positive": 4}))
    return join_columns(ROWS, tables)


def find(differences, second, metric, **more):
    wanted = {"second": second, "metric": metric, "label": "macro", **more}
    (row,) = [row for row in differences if all(row[name] == value for name, value in wanted.items())]
    return row


def test_means_are_those_of_the_splits_with_corrected_intervals():
    values = make_values()
    rows = tabulate(values)
    found = average_models(SplitValues(rows), rows, SIZES)[""]
    assert set(found) == set(MODELS)
    own = values["joint", "test", "roc_auc"]
    row = found["joint"]["roc_auc"]
    assert row["values"] == pytest.approx(own.tolist()) and row["mean"] == pytest.approx(own.mean())
    half = student.ppf(0.975, 4) * own.std(ddof=1) * np.sqrt(1 / 5 + 0.2 / 0.65)
    assert row["interval"] == pytest.approx([own.mean() - half, own.mean() + half])
    train = average_models(SplitValues(rows), rows, SIZES, part="train")[""]["text"]["accuracy"]
    assert train["mean"] == pytest.approx(values["text", "train", "accuracy"].mean())


def test_claims_are_the_joint_model_against_both_sides_and_the_best_baseline():
    values = make_values()
    differences = compare_claims(SplitValues(tabulate(values)), ["abnormal"], [""], SIZES)
    assert [(row["second"], row["metric"]) for row in differences] == [
        (other, metric) for metric in ("roc_auc", "accuracy") for other in ("text", "image", "best-baseline")
    ]
    text = values["joint", "test", "roc_auc"] - values["text", "test", "roc_auc"]
    row, expected = find(differences, "text", "roc_auc"), compare_splits(text, n_train=0.65, n_test=0.2)
    assert {name: row[name] for name in expected} == expected and row["p"] > row["naive_p"]
    assert row["values"] == pytest.approx(text.tolist())


def test_the_best_baseline_is_chosen_on_validation_in_each_split():
    values = make_values(seed=3)
    names = ["tfidf", "image-linear", "linear-sum"]
    chosen = np.stack([values[name, "validation", "accuracy"] for name in names]).argmax(axis=0)
    assert len(set(chosen)) > 1
    measured = np.array([values[names[best], "test", "accuracy"][split] for split, best in enumerate(chosen)])
    found = SplitValues(tabulate(values))
    assert found.best_names("", "accuracy") == [names[best] for best in chosen]
    row = find(compare_claims(found, ["abnormal"], [""], SIZES), "best-baseline", "accuracy")
    assert row["difference"] == pytest.approx((values["joint", "test", "accuracy"] - measured).mean())


def test_holm_counts_the_claims_of_all_variants_as_one_family():
    tables = [tabulate(make_values(seed=seed), variant=name) for seed, name in ((0, "seed=1"), (1, "seed=2"))]
    differences = compare_claims(SplitValues(join_columns(ROWS, tables)), ["a"], ["seed=1", "seed=2"], SIZES)
    claims = [row for row in differences if row["family"] == "claims"]
    assert len(claims) == 12
    adjusted = adjust_holm({str(place): row["p"] for place, row in enumerate(claims)})
    assert [row["p_holm"] for row in claims] == list(adjusted.values())
    variants = [row for row in differences if row["family"] == "variants"]
    assert {(row["variant"], row["against"], row["first"], row["second"]) for row in variants} == {
        ("seed=2", "seed=1", side, side) for side in ("joint", "image", "text")
    }
    assert {name: family["tests"] for name, family in describe_families(differences).items()} == {
        "claims": 12,
        "variants": 6,
    }


def test_variants_are_paired_on_the_splits_that_both_have():
    values = make_values(seed=0), make_values(seed=1)
    tables = [
        tabulate(values[0], variant="a", leave_out={(2, model) for model in MODELS}),
        tabulate(values[1], variant="b", leave_out={(4, model) for model in MODELS}),
    ]
    found = SplitValues(join_columns(ROWS, tables))
    row = find(compare_claims(found, ["x"], ["a", "b"], SIZES), "joint", "roc_auc", family="variants")
    kept = [0, 2, 4]
    paired = [(values[1]["joint", "test", "roc_auc"] - values[0]["joint", "test", "roc_auc"])[place] for place in kept]
    known = dict(zip(found.splits, row["values"], strict=True))
    assert [known[str(place + 1)] for place in kept] == pytest.approx(paired) and row["left_out"] == 2


def test_several_labels_have_a_family_of_their_own():
    rows = tabulate(make_values(), labels=("macro", "mass", "cyst"))
    differences = compare_claims(SplitValues(rows), ["mass", "cyst"], [""], SIZES)
    assert [row["family"] for row in differences].count("labels") == 12 and len(differences) == 18


def test_identical_models_have_p_one_and_a_single_split_has_none():
    values = make_values()
    for metric in ("roc_auc", "accuracy"):
        values["text", "test", metric] = values["joint", "test", metric]
    same = find(compare_claims(SplitValues(tabulate(values)), ["a"], [""], SIZES), "text", "roc_auc")
    assert same["p"] == 1.0 and same["difference"] == 0
    one = compare_claims(SplitValues(tabulate(make_values(splits=1))), ["a"], [""], SIZES)
    assert all(row["p"] is None and row["p_holm"] is None and row["reason"] for row in one)


def test_a_model_of_one_side_makes_no_claims():
    values = {key: value for key, value in make_values().items() if key[0] in ("text", "tfidf", "majority", "chance")}
    assert compare_claims(SplitValues(tabulate(values)), ["a"], [""], SIZES) == []


def make_summary(**given):
    rows = tabulate(make_values())
    plan = make_plan(lambda changes, protocol: gather_settings(changes, protocol=protocol), **{"splits": 5, **given})
    predictions = make_columns(
        PREDICTIONS,
        {
            **{name: "" for name in ("split", "variant", "part", "study", "patient", "model")},
            **{"label": ["abnormal"], "truth": 1.0, "probability": 0.5, "threshold": 0.5},
            **{"has_image": 1, "has_report": 1},
        },
    )
    facts = {"split": "1", "variant": "", "within": {}, "leaks": None, "parts": {"train": 6}, "notes": ["a note"]}
    facts |= {"minutes": 0.5, "memory_gb": 1.5}
    return summarize(plan, rows, predictions, [facts, facts], [{"split": "6", "variant": "", "reason": "killed"}], {})


def test_the_summary_is_json_and_prints_as_tables():
    summary = make_summary(protocol="high")
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["minutes"] == 1.0 and summary["notes"] == ["a note"] and summary["failed"][0]["split"] == "6"
    text = render_summary(summary)
    for part in ("joint - text", "joint - best-baseline", "Nadeau-Bengio", "published: joint", "0.81", "note: "):
        assert part in text, part
    assert "linear-sum" in text and max(map(len, text.splitlines()[:40])) <= 140


def test_published_rows_have_a_source_and_belong_to_a_protocol():
    assert all(row["source"].startswith("https://") and 0 < row["value"] < 1 for row in PUBLISHED)
    high = [row for row in list_published("high") if row["what"].startswith("table 3")]
    assert {row["model"]: row["value"] for row in high} == {"joint": 0.81, "text": 0.77, "image": 0.74}
    assert {row["protocol"] for row in list_published("quick")} == {"", "high", "low"}


def predict(split, model, studies, correct, variant="", label="abnormal"):
    """Predictions of studies `(study, truth)`, of which some are decided correctly."""
    truth = np.array([label for _, label in studies], float)
    right = np.isin([name for name, _ in studies], correct)
    place = {"split": split, "variant": variant, "part": "test", "patient": "", "model": model, "label": label}
    found = {"study": [name for name, _ in studies], "truth": truth, "threshold": 0.5}
    found |= {"probability": np.where(right, truth, 1 - truth), "has_image": 1, "has_report": 1}
    return make_columns(PREDICTIONS, {**place, **found})


def test_a_side_is_compared_on_the_studies_that_have_it():
    """The joint model is right on the studies with a film, as the image model is, and wrong on the one without."""
    studies = [("1", 0), ("2", 1), ("3", 0), ("4", 1), ("5", 1)]
    filmed = [row for row in studies if row[0] != "5"]
    tables = []
    for split in ("1", "2", "3"):
        tables.append(predict(split, "joint", studies, ["1", "2", "3", "4"]))
        tables.append(predict(split, "image", filmed, ["1", "2", "3", "4"]))
        tables.append(predict(split, "text", studies, ["1"]))
    values = {key: value for key, value in make_values(splits=3).items() if key[0] in ("joint", "image", "text")}
    values["joint", "test", "accuracy"], values["image", "test", "accuracy"] = np.full(3, 0.8), np.full(3, 1.0)
    common = CommonStudies(join_columns(PREDICTIONS, tables))
    differences = compare_claims(SplitValues(tabulate(values)), ["abnormal"], [""], SIZES, common)
    row = find(differences, "image", "accuracy")
    assert row["difference"] == 0 and row["p"] == 1 and row["restricted"] == 3
    area = find(differences, "image", "roc_auc")
    assert area["difference"] == 0 and area["restricted"] == 3
    same = find(differences, "text", "accuracy")
    assert same["restricted"] == 0
    assert same["values"] == pytest.approx((0.8 - values["text", "test", "accuracy"]).tolist())


def test_variants_that_read_other_studies_are_compared_on_those_of_both():
    studies = [("1", 0), ("2", 1), ("3", 0), ("4", 1)]
    tables = [
        predict(split, "text", chosen, correct, variant)
        for split in ("1", "2")
        for variant, chosen, correct in (("a", studies, ["1", "2", "3"]), ("b", studies[:2], ["1"]))
    ]
    values = {key: value for key, value in make_values(splits=2).items() if key[0] == "text"}
    rows = join_columns(ROWS, [tabulate(values, variant=variant) for variant in "ab"])
    common = CommonStudies(join_columns(PREDICTIONS, tables))
    found = compare_claims(SplitValues(rows), ["abnormal"], ["a", "b"], SIZES, common)
    row = find(found, "text", "accuracy", family="variants")
    assert row["values"] == [-0.5, -0.5] and row["restricted"] == 2


def compare_labels(labels):
    """Differences of two variants with labels of their own; `labels` is a dict of variant to label to studies right."""
    studies, splits = [("1", 0), ("2", 1), ("3", 0), ("4", 1)], ("1", "2")
    tables, rows = [], []
    for variant, found in labels.items():
        values = {key: value for key, value in make_values(splits=2).items() if key[0] == "text"}
        rows.append(tabulate(values, variant=variant, labels=("macro", *found)))
        tables += [
            predict(split, "text", studies, right, variant, label) for split in splits for label, right in found.items()
        ]
    names = list(dict.fromkeys(label for found in labels.values() for label in found))
    common = CommonStudies(join_columns(PREDICTIONS, tables))
    return compare_claims(SplitValues(join_columns(ROWS, rows)), names, list(labels), SIZES, common)


def test_variants_with_other_labels_are_compared_on_those_of_both():
    """`a` decides 1/4 of `mass` and all of `cyst`, which `b` lacks; `b` decides 3/4 of `mass` and none of `node`."""
    given = {"a": {"mass": ["1"], "cyst": ["1", "2", "3", "4"]}, "b": {"mass": ["1", "2", "3"], "node": []}}
    row = find(compare_labels(given), "text", "accuracy", family="variants")
    assert row["values"] == [0.5, 0.5] and row["labels"] == ["mass"] and row["restricted"] == 0
    same = find(compare_labels({"a": given["a"], "b": given["a"]}), "text", "accuracy", family="variants")
    assert same["labels"] is None


def test_variants_without_a_common_label_are_not_compared():
    found = compare_labels({"a": {"mass": ["1"]}, "b": {"node": ["2"]}})
    row = find(found, "text", "accuracy", family="variants")
    assert row["difference"] is None and row["p_holm"] is None and row["labels"] == []
    assert "no label in common" in row["reason"]
    assert describe_families(found) == {}


def test_the_labels_of_a_variant_are_its_own():
    assert make_summary()["labels_by_variant"] == {"": ["abnormal"]}


def test_the_correction_counts_validation_as_not_tested():
    summary = make_summary()["resampling"]
    assert (summary["n_train"], summary["n_test"]) == (0.65, 0.2) and summary["ratio"] == pytest.approx(0.25)
    folds = make_summary(splits=None, folds=5)["resampling"]
    assert folds["ratio"] == pytest.approx(0.25) and folds["n_train"] == 4
