"""The leak probe: the text baseline before and after a redaction, in numbers and in sentences."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kmm.classifier import StudyLogits
from kmm.cli.result_tables import print_results
from kmm.data.study import Report, Study
from kmm.evaluate.leak_probe import choose_text_thresholds, describe_leak, score_texts
from kmm.evaluate.output.card import write_card
from kmm.evaluate.report import evaluate_predictions
from kmm.text.redaction import Redaction
from kmm.text.tfidf import TfidfBaseline

VERDICTS = ("normal", "abnormal")


def make_studies(count, seed):
    """Reports of which the verdict gives the label away, and the word "patchy" hints at it."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    hints = ["patchy" if random.random() < 0.3 + 0.4 * label else "smooth" for label in labels]
    reports = [Report(findings=f"A {hint} film. It is {VERDICTS[label]}.") for label, hint in zip(labels, hints)]
    studies = [Study(f"{seed}-{row}", f"{seed}-{row}", report=report) for row, report in enumerate(reports)]
    return studies, labels[:, None].astype(np.float32)


@pytest.fixture(scope="module")
def redacted(build_classifier):
    classifier = build_classifier(None, "text-cnn", labels=("abnormal",), redaction=Redaction(VERDICTS))
    studies, labels = make_studies(200, 0)
    texts = {name: [make(study) for study in studies] for name, make in (
        ("tfidf", classifier.batches.text.redacted_text), ("tfidf_before", classifier.batches.text.text),
    )}  # fmt: skip
    baselines = {name: TfidfBaseline.fit(found, labels) for name, found in texts.items()}
    return replace(classifier, **baselines)


def predict(classifier, studies, labels):
    logits = {"text": np.zeros((len(studies), 1))}
    present = np.tile(np.float32([0, 1]), (len(studies), 1))
    return StudyLogits(studies, present, logits, labels, [])


@pytest.fixture(scope="module")
def result(redacted):
    validation = predict(redacted, *make_studies(100, 1))
    choose_text_thresholds(redacted, validation)
    return evaluate_predictions(redacted, predict(redacted, *make_studies(120, 2)), repeats=50)


def test_before_and_after(result):
    studies, labels = make_studies(120, 2)
    probe = result["leak_probe"]
    assert probe["before"]["roc_auc"] == probe["before"]["accuracy"] == 1
    hints = [float("patchy" in study.report.findings) for study in studies]
    assert probe["after"]["roc_auc"] == pytest.approx(roc_auc_score(labels[:, 0], hints))
    assert 0.55 < probe["after"]["roc_auc"] < 0.85
    assert probe["after"]["roc_auc"] == result["tfidf"]["roc_auc"]
    assert probe["after"]["intervals"]["accuracy"] == result["tfidf"]["intervals"]["accuracy"]
    assert probe["before"]["n"] == probe["after"]["n"] == 120
    test = probe["difference"]["roc_auc"]
    assert test["difference"] == pytest.approx(1 - probe["after"]["roc_auc"])
    assert test["interval"][0] < test["difference"] < test["interval"][1] and test["p"] < 1e-3


def test_the_sentences_stand_below_the_table_and_in_the_card(result, capsys):
    first, second = describe_leak(result)
    after, gave = result["leak_probe"]["after"]["roc_auc"], result["leak_probe"]["difference"]["roc_auc"]
    assert first.startswith("Leak probe: TF-IDF reaches ROC AUC 1.000 [1.000, 1.000] on the reports before")
    assert f" and {after:.3f} [" in first and f"before minus after: {gave['difference']:+.3f} [" in first
    assert second.startswith("If the value after the redaction is near 1")
    print_results({"test": result})
    assert first in capsys.readouterr().out
    card = write_card({"name": "x", "reads": ("text",), "results": {"test": result}})
    assert f"{first} {second}" in card


def test_studies_without_a_report_are_not_measured(redacted):
    predictions = predict(redacted, *make_studies(60, 3))
    predictions.present[:20] = [1, 0]
    probe = evaluate_predictions(redacted, predictions, repeats=5)["leak_probe"]
    assert probe["before"]["n"] == probe["after"]["n"] == 40
    none = replace(predictions, present=np.tile(np.float32([1, 0]), (60, 1)))
    result = evaluate_predictions(redacted, none, repeats=5)
    assert result["leak_probe"]["before"]["roc_auc"] is None and describe_leak(result) == []


def test_without_a_redaction_there_is_one_number(redacted):
    plain = replace(redacted, tfidf_before=None)
    result = evaluate_predictions(plain, predict(plain, *make_studies(60, 4)), repeats=5)
    assert set(result["leak_probe"]) == {"after"} and set(score_texts(plain, [])) == {"tfidf"}
    first, second = describe_leak(result)
    assert "from the words that the model reads" in first and second.startswith("Near 1")


def test_without_a_text_baseline_there_is_none(redacted):
    none = replace(redacted, tfidf=None, tfidf_before=None)
    result = evaluate_predictions(none, predict(none, *make_studies(60, 4)), repeats=5)
    assert "leak_probe" not in result and describe_leak(result) == [] and score_texts(none, []) == {}
