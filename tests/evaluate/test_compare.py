import json

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.evaluate.compare import ROWS, compare_models
from kmm.evaluate.metrics import METRICS, score_labels
from kmm.evaluate.output.result_rows import operating_rows
from kmm.evaluate.statistics.bootstrap import RESAMPLED, interval, resample_metrics
from kmm.evaluate.statistics.paired_tests import compare_accuracy, compare_auc


def make_scores(labels, strength, seed):
    noise = np.random.default_rng(seed).normal(size=np.shape(labels))
    return 1 / (1 + np.exp(-strength * (np.nan_to_num(labels, nan=0.5) - 0.5) - noise))


def make_result(**changes):
    labels = (np.random.default_rng(0).random(150) < 0.6).astype(float)
    scores = {"joint": make_scores(labels, 4, 1), "image": make_scores(labels, 1, 2), "text": make_scores(labels, 3, 3)}
    settings = {
        "thresholds": {"joint": 0.4, "image": 0.5, "text": np.array([0.6])},
        "groups": np.arange(150) // 2,
        "label_names": ["abnormal"],
        "train_prevalence": 0.64,
        "repeats": 200,
    }
    return labels, scores, compare_models(labels, scores, **(settings | changes))


def test_every_row_is_there_and_json_can_hold_it():
    labels, _, result = make_result()
    assert list(result) == ["n", "n_positive", *ROWS, "tests"]
    assert result["n"] == 150 and result["n_positive"] == labels.sum()
    assert result["tfidf"] is None and result["tests"]["tfidf"] is None
    for name in ("joint", "image", "text", "majority"):
        assert list(result[name]) == [*METRICS, "intervals", "operating_point"]
        assert set(result[name]["intervals"]) == set(RESAMPLED)
    assert list(result["chance"]) == list(METRICS)
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_rows_and_tests_are_those_of_the_parts():
    labels, scores, result = make_result(seed=7)
    single = score_labels(labels, scores["text"], 0.6)
    assert all(result["text"][metric] == single[metric] for metric in METRICS)
    groups = np.arange(150) // 2
    draws = resample_metrics(labels, scores["text"], 0.6, groups, repeats=200, seed=7)
    assert result["text"]["intervals"] == {metric: interval(values) for metric, values in draws.items()}
    test, decided = result["tests"]["image"], (scores["joint"] >= 0.4, scores["image"] >= 0.5)
    assert test["roc_auc"]["p"] == compare_auc(labels, scores["joint"], scores["image"], groups)["p"]
    assert test["accuracy"]["p"] == compare_accuracy(labels, *decided, groups)["p"]
    for metric in ("roc_auc", "accuracy"):
        assert test[metric]["difference"] == pytest.approx(result["joint"][metric] - result["image"][metric])
        low, high = test[metric]["interval"]
        assert low < test[metric]["difference"] < high


def test_a_classifier_does_not_differ_from_itself():
    labels = np.array([0, 1, 0, 1, 1, 0.0])
    p = np.array([0.1, 0.8, 0.6, 0.4, 0.9, 0.2])
    result = compare_models(
        labels, {"joint": p, "text": p}, thresholds={"joint": 0.5, "text": 0.5}, groups=None, label_names=["a"],
        train_prevalence=0.5, repeats=50,
    )  # fmt: skip
    for test in result["tests"]["text"].values():
        assert test["difference"] == 0 and test["p"] == 1 and test["interval"] == [0, 0]


@pytest.mark.parametrize(("prevalence", "accuracy"), [(0.64, 0.6), (0.5, 0.6), (0.3, 0.4)])
def test_the_majority_row_answers_as_training_would(prevalence, accuracy):
    labels = np.repeat([0.0, 1.0], [40, 60])
    result = compare_models(
        labels, {}, thresholds={}, groups=None, label_names=["a"], train_prevalence=prevalence, repeats=10
    )
    majority = result["majority"]
    assert majority["accuracy"] == accuracy
    assert majority["roc_auc"] == 0.5 and majority["mcc"] == 0 and majority["average_precision"] == pytest.approx(0.6)
    assert majority["brier"] == pytest.approx(0.24 + (prevalence - 0.6) ** 2)
    assert majority["ece"] == pytest.approx(abs(prevalence - 0.6))


def test_the_chance_row_is_what_random_scores_give_on_average():
    labels = np.repeat([0.0, 1.0], [60_000, 140_000])
    scores = np.random.default_rng(0).random(200_000)
    drawn = score_labels(labels, scores, 0.3)
    chance = compare_models(labels, {}, thresholds={}, groups=None, label_names=["a"], train_prevalence=0.5, repeats=1)[
        "chance"
    ]
    for metric in METRICS:
        assert chance[metric] == pytest.approx(drawn[metric], abs=0.01)  # 3 standard errors


def test_many_labels_have_means_and_a_test_each():
    rng = np.random.default_rng(0)
    labels = (rng.random((120, 3)) < [0.2, 0.5, 0.7]).astype(float)
    labels[rng.random((120, 3)) < 0.1] = np.nan
    scores = {"joint": make_scores(labels, 4, 1), "tfidf": make_scores(labels, 2, 2)}
    result = compare_models(
        labels, scores, thresholds={"joint": [0.4, 0.5, 0.6], "tfidf": 0.5}, groups=None, label_names=["a", "b", "c"],
        train_prevalence=[0.2, 0.5, 0.6], repeats=50,
    )  # fmt: skip
    assert list(result["joint"]["per_label"]) == list(result["chance"]["per_label"]) == ["a", "b", "c"]
    test = result["tests"]["tfidf"]
    assert list(test["per_label"]) == ["a", "b", "c"]
    assert test["roc_auc"]["difference"] == pytest.approx(result["joint"]["roc_auc"] - result["tfidf"]["roc_auc"])
    expected = compare_auc(labels[:, 1], scores["joint"][:, 1], scores["tfidf"][:, 1])
    found = dict(test["per_label"]["b"]["roc_auc"])
    low, high = found.pop("interval")
    assert found == expected and low < found["difference"] < high
    assert result["majority"]["per_label"]["c"]["sensitivity"] == 1.0
    json.dumps(result, allow_nan=False)


def compare_two(labels, scores, **options):
    return compare_models(
        labels, scores, thresholds=dict.fromkeys(scores, 0.5), label_names=["a", "b"], train_prevalence=0.5,
        **({"groups": None, "repeats": 200} | options),
    )  # fmt: skip


def test_each_label_has_the_intervals_that_it_has_alone():
    rng = np.random.default_rng(5)
    labels, groups = (rng.random((90, 2)) < 0.4).astype(float), np.arange(90) // 3
    scores = {"joint": make_scores(labels, 3, 1), "text": make_scores(labels, 1, 2)}
    both = compare_two(labels, scores, groups=groups)
    for place, name in enumerate("ab"):
        alone = compare_models(
            labels[:, place], {row: values[:, place] for row, values in scores.items()}, groups=groups, repeats=200,
            thresholds={"joint": 0.5, "text": 0.5}, label_names=[name], train_prevalence=0.5,
        )  # fmt: skip
        for row in ("joint", "text", "majority"):
            assert both[row]["per_label"][name]["intervals"] == alone[row]["intervals"]
        assert both["tests"]["text"]["per_label"][name] == alone["tests"]["text"]
        for metric, test in alone["tests"]["text"].items():
            expected = alone["joint"][metric] - alone["text"][metric]
            assert test["difference"] == pytest.approx(expected)
    assert "interval" in both["tests"]["text"]["roc_auc"] and "p" not in both["tests"]["text"]["roc_auc"]


def test_an_interval_of_a_mean_comes_from_draws_of_the_same_labels():
    """One label with a single positive: half of all draws without it were means over the other label alone."""
    labels = np.zeros((200, 2))
    labels[:100, 0], labels[0, 1] = 1, 1
    joint = np.random.default_rng(3).random((200, 2)) * 0.5
    joint[:100, 0] += 0.45  # AUC near 1
    joint[0, 1] = np.median(joint[:, 1])  # AUC of one half
    row = compare_two(labels, {"joint": joint}, repeats=1000)["joint"]
    low, high = row["intervals"]["roc_auc"]
    singles = [row["per_label"][name] for name in "ab"]
    assert low <= row["roc_auc"] <= high < 0.8
    ends = [np.mean([single["intervals"]["roc_auc"][end] for single in singles]) for end in (0, 1)]
    assert [low, high] == pytest.approx(ends, abs=0.01)  # one of the two hardly varies


def test_a_mean_over_labels_that_few_draws_define_has_no_interval():
    labels = np.zeros((80, 2))
    labels[0, 0], labels[1, 1] = 1, 1  # a draw holds both with a chance of 0.4
    row = compare_two(labels, {"joint": np.random.default_rng(0).random((80, 2))})["joint"]
    assert row["roc_auc"] is not None and row["intervals"]["roc_auc"] is None
    assert all(row["per_label"][name]["intervals"]["roc_auc"] for name in "ab")
    labels[:, 1] = 0  # a label of one class is in neither the mean nor its draws
    row = compare_two(labels, {"joint": np.random.default_rng(0).random((80, 2))})["joint"]
    assert row["intervals"]["roc_auc"] == row["per_label"]["a"]["intervals"]["roc_auc"]


def test_studies_that_come_five_times_under_one_patient_change_no_test():
    labels, scores, once = make_result(groups=np.arange(150))
    copies = {name: np.tile(values, 5) for name, values in scores.items()}
    five = compare_models(
        np.tile(labels, 5), copies, thresholds={"joint": 0.4, "image": 0.5, "text": 0.6}, repeats=200,
        groups=np.tile(np.arange(150), 5), label_names=["abnormal"], train_prevalence=0.64,
    )  # fmt: skip
    for name in ("image", "text"):
        for metric in ("roc_auc", "accuracy"):
            one, other = once["tests"][name][metric], five["tests"][name][metric]
            assert one["p"] == pytest.approx(other["p"], rel=1e-9)
            assert one["interval"] == pytest.approx(other["interval"])


@pytest.mark.parametrize("labels", [[], [1.0, 1.0, 1.0], [np.nan, np.nan]])
def test_degenerate_sets_give_nulls(labels):
    p = np.full(len(labels), 0.7)
    result = compare_models(
        labels, {"joint": p, "image": p}, thresholds={"joint": 0.5, "image": 0.5}, groups=None, label_names=["a"],
        train_prevalence=0.5, repeats=20,
    )  # fmt: skip
    assert result["joint"]["roc_auc"] is None and result["chance"]["roc_auc"] is None
    assert result["tests"]["image"]["roc_auc"] == {"difference": None, "p": None, "interval": None}
    json.dumps(result, allow_nan=False)


def test_wrong_names_are_refused():
    with pytest.raises(InputError, match=r"Unknown scores 'video'\. Known: joint, image, text, tfidf, image-linear, "):
        make_result_of({"video": [0.5, 0.5]}, {})
    with pytest.raises(InputError, match='No threshold was given for the scores "joint"'):
        make_result_of({"joint": [0.5, 0.5]}, {})


def make_result_of(scores, thresholds):
    return compare_models(
        [0, 1], scores, thresholds=thresholds, groups=None, label_names=["a"], train_prevalence=0.5, repeats=1
    )


def test_every_row_states_its_confusion_counts():
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 2)) < 0.5).astype(float)
    labels[:5, 1] = np.nan
    scores = {name: rng.random((60, 2)) for name in ("joint", "text")}
    result = compare_models(
        labels, scores, thresholds={"joint": 0.4, "text": [0.5, 0.6]}, groups=None, label_names=["a", "b"],
        train_prevalence=[0.6, 0.4], repeats=5,
    )  # fmt: skip
    for name in ("joint", "text", "majority"):
        row = result[name]
        assert sum(row["operating_point"].values()) == 60 + 55
        for label, single in row["per_label"].items():
            point = single["operating_point"]
            assert point["tp"] + point["fn"] == single["n_positive"], label
            assert [point["sensitivity"], point["specificity"]] == [single["sensitivity"], single["specificity"]]
    assert "operating_point" not in result["chance"]
    assert operating_rows(result)[0][0] == "Joint" and [row[0] for row in operating_rows(result)[1:]] == ["a", "b"]
    one = {**result, "joint": result["joint"]["per_label"]["a"], "text": None, "majority": None}
    (row,) = operating_rows(one)[1:]
    assert row[:2] == ["Joint", str(one["joint"]["operating_point"]["tp"])] and "[" in row[-1]
