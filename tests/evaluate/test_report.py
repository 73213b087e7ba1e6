"""On which studies each row of the results is measured, and by which numbers."""

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from kmm.classifier import StudyLogits
from kmm.cli.result_tables import print_results
from kmm.data.collection import read_collection
from kmm.evaluate.output.card import evaluate_rows
from kmm.evaluate.report import evaluate_predictions, find_measured
from kmm.evaluate.result_files import draw_pictures, write_results


@pytest.fixture(scope="module")
def classifier(loaded):
    """The tiny classifier with numbers of its own for each pattern."""
    table = np.array([[1.0], [3.0], [0.5]])
    parts = {"joint": table, "image": [2.0], "text": [1.5]}
    cuts = {"joint": [[0.5], [0.6], [0.4]], "image": [0.45], "text": [0.55], "tfidf": [0.5]}
    return replace(loaded, temperatures=parts, thresholds=cuts, prevalence=np.array([[0.4], [0.6], [0.55]]))


@pytest.fixture(scope="module")
def predictions(loaded, tiny_folder):
    """Made-up logits of 60 studies: 30 hold both sides, 18 a film alone, 12 a report alone."""
    rng = np.random.default_rng(0)
    labels = (rng.random((60, 1)) < 0.5).astype(np.float32)
    present = np.repeat([[1, 1], [1, 0], [0, 1]], [30, 18, 12], axis=0).astype(np.float32)
    logits = {part: (2 * labels - 1 + rng.normal(0, 1.5, (60, 1))) for part in ("joint", "image", "text")}
    return StudyLogits(list(read_collection(tiny_folder).studies), present, logits, labels, [])


@pytest.fixture(scope="module")
def result(classifier, predictions):
    return evaluate_predictions(classifier, predictions, repeats=20)


def score(predictions, part, temperatures, thresholds, rows):
    """Accuracy and area under the curve by hand."""
    p = expit(predictions.logits[part][rows, 0] / temperatures[rows])
    y = predictions.labels[rows, 0]
    return np.mean((p >= thresholds[rows]) == y), roc_auc_score(y, p)


def test_rows_of_one_side_leave_out_studies_without_it(result, predictions):
    labels = predictions.labels[:, 0]
    counts = {"joint": slice(None), "majority": slice(None), "image": slice(48), "text": np.r_[:30, 48:60]}
    counts |= {"chance": counts["joint"], "tfidf": counts["text"]}
    for row, kept in counts.items():
        assert result[row]["n"] == len(labels[kept]) and result[row]["n_positive"] == labels[kept].sum(), row
        assert find_measured(row, predictions.present).sum() == result[row]["n"]
    assert (result["n"], result["n_positive"]) == (60, labels.sum())


def test_every_study_is_decided_by_the_numbers_of_what_it_holds(result, predictions):
    rows, all_of = np.repeat([0, 1, 2], [30, 18, 12]), np.arange(60)
    temperatures, cuts = np.array([1.0, 3.0, 0.5])[rows], np.array([0.5, 0.6, 0.4])[rows]
    assert score(predictions, "joint", temperatures, cuts, all_of) == pytest.approx(
        (result["joint"]["accuracy"], result["joint"]["roc_auc"])
    )
    image = score(predictions, "image", np.full(60, 2.0), np.full(60, 0.45), all_of[:48])
    assert image == pytest.approx((result["image"]["accuracy"], result["image"]["roc_auc"]))
    prevalence = np.array([0.4, 0.6, 0.55])[rows]
    assert result["majority"]["accuracy"] == np.mean((prevalence >= 0.5) == predictions.labels[:, 0])


def test_a_side_is_compared_with_the_joint_classifier_on_the_same_studies(result, predictions):
    rows, with_film = np.repeat([0, 1, 2], [30, 18, 12]), np.arange(48)
    temperatures, cuts = np.array([1.0, 3.0, 0.5])[rows], np.array([0.5, 0.6, 0.4])[rows]
    joint = score(predictions, "joint", temperatures, cuts, with_film)
    for place, metric in enumerate(("accuracy", "roc_auc")):
        test = result["tests"]["image"][metric]
        assert test["difference"] == pytest.approx(joint[place] - result["image"][metric])
        low, high = test["interval"]
        assert low <= test["difference"] <= high and 0 <= test["p"] <= 1


def test_where_all_studies_hold_both_sides_every_row_is_of_all(classifier, predictions):
    whole = replace(predictions, present=np.ones_like(predictions.present))
    result = evaluate_predictions(classifier, whole, repeats=5)
    assert {result[row]["n"] for row in ("joint", "image", "text", "tfidf", "majority", "chance")} == {60}


def test_a_side_that_no_study_holds_is_measured_on_none(classifier, predictions):
    films = replace(predictions, present=np.tile(np.float32([1, 0]), (60, 1)))
    result = evaluate_predictions(classifier, films, repeats=5)
    assert result["text"]["n"] == 0 and result["text"]["accuracy"] is None and result["joint"]["n"] == 60
    assert result["tests"]["text"]["roc_auc"]["p"] is None


def test_the_table_says_how_many_studies_each_row_is_measured_on(result, predictions, capsys):
    rows = {row[0]: row[1] for row in evaluate_rows(result)[1:]}
    positive = predictions.labels[:, 0]
    assert rows["Image only"] == f"48 ({positive[:48].sum():.0f})"
    assert rows["Joint (image and text)"] == f"60 ({positive.sum():.0f})"
    print_results({"test": result})
    shown = capsys.readouterr().out
    assert rows["Image only"] in shown and "on studies with a film; Text only and TF-IDF on" in shown
    low, high = result["joint"]["intervals"]["accuracy"]
    assert f"{result['joint']['accuracy']:.3f} [{low:.3f}, {high:.3f}]" in shown  # on one line
    assert max(map(len, shown.splitlines())) <= 160 and "Joint minus Image only, ROC AUC" in shown


@pytest.mark.large
def test_pictures_are_of_the_same_studies(classifier, predictions, tmp_path, monkeypatch):
    seen = {}

    def keep(curves, path, **given):
        seen[path.stem] = (curves, given)

    for name in ("roc", "precision_recall", "calibration", "confusion", "decision_curve"):
        monkeypatch.setattr(f"kmm.evaluate.result_files.plot_{name}", keep)
    draw_pictures(classifier, predictions, tmp_path)
    for curves, _ in seen.values():
        assert {name: len(labels) for name, (labels, _) in curves.items()} == {
            "joint": 60, "image": 48, "text": 42, "tfidf": 42,
        }  # fmt: skip
    cuts = seen["confusion"][1]["thresholds"]
    assert sorted(set(cuts["joint"][:, 0])) == [0.4, 0.5, 0.6] and len(cuts["image"]) == 48
    monkeypatch.undo()
    draw_pictures(classifier, predictions, tmp_path)
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def read_shown(folder):
    return re.findall(r"^!\[[^\]]+\]\(([^)]+)\)$", (folder / "model_card.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_card_shows_every_picture_beside_it(classifier, predictions, tmp_path):
    write_results(classifier, predictions, {"text": {"loss": [1.0, 0.5]}}, tmp_path, path=tmp_path)
    shown = read_shown(tmp_path)
    assert shown[:2] == ["pictures/roc.png", "pictures/confusion.png"]
    assert set(shown) == {f"pictures/{path.name}" for path in (tmp_path / "pictures").glob("*.png")}


def test_a_card_without_test_studies_shows_the_learning_curves_alone(classifier, tmp_path):
    write_results(classifier, None, {"text": {"loss": [1.0]}}, tmp_path, path=tmp_path)
    assert read_shown(tmp_path) == ["pictures/learning_curves.png"]
