import json

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.evaluate.compare import ROWS, compare_models
from kmm.evaluate.metrics import METRICS, score_labels
from kmm.evaluate.statistics import RESAMPLED, compare_accuracy, compare_auc, interval, resample_metrics


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
        assert list(result[name]) == [*METRICS, "intervals"]
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
    test = result["tests"]["image"]
    assert test["roc_auc"]["p"] == compare_auc(labels, scores["joint"], scores["image"])["p"]
    assert test["accuracy"]["p"] == compare_accuracy(labels, scores["joint"] >= 0.4, scores["image"] >= 0.5)["p"]
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
    assert test["per_label"]["b"]["roc_auc"] == expected
    assert result["majority"]["per_label"]["c"]["sensitivity"] == 1.0
    json.dumps(result, allow_nan=False)


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
    with pytest.raises(InputError, match='Unknown scores "video"'):
        make_result_of({"video": [0.5, 0.5]}, {})
    with pytest.raises(InputError, match='No threshold was given for the scores "joint"'):
        make_result_of({"joint": [0.5, 0.5]}, {})


def make_result_of(scores, thresholds):
    return compare_models(
        [0, 1], scores, thresholds=thresholds, groups=None, label_names=["a"], train_prevalence=0.5, repeats=1
    )
