"""Linear baselines: kept in a file, the same in a fit, in an evaluation and by hand, and dropped with other weights."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kmm.classifier import Classifier
from kmm.errors import ArtefactError
from kmm.evaluate.changed_weights import mark_changed
from kmm.evaluate.linear_baselines import list_measured
from kmm.evaluate.linear_probe import add_logits, find_odds, fit_probe
from kmm.evaluate.output.card import write_card
from kmm.evaluate.output.result_rows import ROW_TITLES, judge_baselines, title_briefly
from kmm.evaluate.output.tables import write_results_table
from kmm.evaluate.recalibration import recalibrate
from kmm.evaluate.report import evaluate_predictions
from kmm.experiments.tasks.answers import gather_answers
from kmm.experiments.titles import BASELINES, MODEL_TITLES
from kmm.models.linear_probe import IMAGE_LINEAR, LINEAR_SUM, LinearBaselines, LinearProbe, LinearSum

PROBE = LinearProbe(np.array([1.0, 2.0]), np.array([0.5, 3.0]), np.eye(2), np.array([0.1, -0.2]), (1e-3, None))
TOTAL = LinearSum(*(np.array([value, value / 2]) for value in (1.0, 2.0, 0.5, 0.25)))


@pytest.mark.parametrize("total", [None, TOTAL])
def test_a_file_keeps_every_number(tmp_path, total):
    LinearBaselines(PROBE, total).save(tmp_path / "linear.npz")
    found = LinearBaselines.load(tmp_path / "linear.npz")
    for name, value in vars(PROBE).items():
        assert np.array_equal(getattr(found.probe, name), value) if name != "strengths" else True
    assert found.probe.strengths == PROBE.strengths and (found.total is None) == (total is None)
    if total is not None:
        assert all(np.array_equal(getattr(found.total, name), value) for name, value in vars(total).items())


@pytest.mark.parametrize(
    "change", [{"mean": np.zeros(3)}, {"scale": np.array([0.0, 1.0])}, {"coef": np.full((2, 2), np.nan)}]
)
def test_a_file_with_wrong_numbers_is_refused(tmp_path, change):
    path = tmp_path / "linear.npz"
    LinearBaselines(replace(PROBE, **change)).save(path)
    with pytest.raises(ArtefactError, match="holds no linear baselines"):
        LinearBaselines.load(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ArtefactError, match="holds no linear baselines"):
        LinearBaselines.load(path)
    with pytest.raises(ArtefactError, match="cannot be read"):
        LinearBaselines.load(tmp_path / "none.npz")


def compute_by_hand(run):
    """Logits of all studies: of the probe on the trained features of films, and of its sum with TF-IDF."""
    features = np.asarray(run.features.compute(run.models["image"], ("image",))["image_vector"])
    has_film = run.prepared.present[:, 0] > 0
    rows = {part: run.rows(part)[has_film[run.rows(part)]] for part in ("train", "validation")}
    return fit_probe(features, run.prepared.labels, **rows).logits(features)


def test_a_fit_measures_the_probe_of_its_features_and_the_sum(tiny_run):
    classifier, run, _ = tiny_run
    logits, rows = compute_by_hand(run), run.rows("test")
    present, labels = run.prepared.present[rows], run.prepared.labels[rows]
    measured = present[:, 0] > 0
    result = classifier.metrics["test"]
    area = roc_auc_score(labels[measured, 0], logits[rows][measured, 0])
    assert result[IMAGE_LINEAR]["roc_auc"] == pytest.approx(area) and result[IMAGE_LINEAR]["n"] == measured.sum()
    texts = classifier.tfidf.predict([classifier.batches.text.redacted_text(run.prepared.studies[row]) for row in rows])
    total = add_logits(classifier.linear.total, logits[rows], find_odds(texts), present)
    assert result[LINEAR_SUM]["roc_auc"] == pytest.approx(roc_auc_score(labels[:, 0], total[:, 0]))
    assert result[LINEAR_SUM]["n"] == len(rows)
    for name in (IMAGE_LINEAR, LINEAR_SUM):
        assert len(result[name]["intervals"]["roc_auc"]) == 2
        assert set(result["tests"][name]) == {"roc_auc", "accuracy"}


def test_a_saved_classifier_answers_as_the_fit_did(tiny_run, loaded):
    _, run, _ = tiny_run
    before = run.predictions["test"]
    found = loaded.predict(before.studies, parts=list_measured(loaded))
    assert set(found.logits) == {"joint", "image", "text", IMAGE_LINEAR}
    np.testing.assert_allclose(found.logits[IMAGE_LINEAR], before.logits[IMAGE_LINEAR], atol=1e-4)
    again, fitted = evaluate_predictions(loaded, found, repeats=20), loaded.metrics["test"]
    for name in (IMAGE_LINEAR, LINEAR_SUM):
        assert again[name]["roc_auc"] == pytest.approx(fitted[name]["roc_auc"])
        assert again[name]["accuracy"] == pytest.approx(fitted[name]["accuracy"])


def test_a_comparison_uses_the_same_numbers_and_titles(tiny_run):
    classifier, run, _ = tiny_run
    answers, facts = gather_answers(classifier, run)
    for part, metrics in classifier.metrics.items():
        labels = run.prepared.labels[run.rows(part), 0]
        for name in (IMAGE_LINEAR, LINEAR_SUM):
            kept = answers[part][name].measured
            area = roc_auc_score(labels[kept], answers[part][name].probabilities[kept, 0])
            assert metrics[name]["roc_auc"] == pytest.approx(area)
    assert facts == {
        "features": len(classifier.linear.probe.mean),
        "strengths": list(classifier.linear.probe.strengths),
    }
    assert all(MODEL_TITLES[name] == ROW_TITLES[name] for name in BASELINES[:3])


def test_tables_and_card_show_them(tiny_run):
    classifier, _, folder = tiny_run
    table, card = write_results_table(classifier.metrics), (folder / "model_card.md").read_text(encoding="utf-8")
    for name in (IMAGE_LINEAR, LINEAR_SUM):
        assert f"| {ROW_TITLES[name]} |" in card and title_briefly(name) in table
    results = {"test": classifier.metrics["test"]}
    for sentence in judge_baselines(results["test"]):
        assert sentence in table and sentence in write_card({"results": results})


def test_the_best_baseline_is_beaten_only_where_the_interval_is_above_0():
    def compare(low, best="linear-sum"):
        rows = {name: {"roc_auc": 0.9 if name == best else 0.8} for name in ("tfidf", IMAGE_LINEAR, LINEAR_SUM)}
        test = {"roc_auc": {"difference": 0.02, "interval": [low, 0.05], "p": 0.1}}
        return judge_baselines({**rows, "tests": dict.fromkeys(rows, test)})

    assert compare(0.001) == [] and judge_baselines({"image": {"roc_auc": 0.9}, "tests": {"tfidf": None}}) == []
    assert compare(-0.01) == [
        "The joint classifier does not beat the best simple baseline, sum of both linear scores: ROC AUC +0.020 "
        "[-0.010, +0.050]."
    ]
    assert "baseline, TF-IDF + logistic regression: " in compare(-0.01, "tfidf")[0]


@pytest.mark.large
def test_changed_weights_drop_them(tiny_run, tiny_folder):
    _, run, folder = tiny_run
    changed = Classifier.load(folder)
    mark_changed(changed)
    assert list_measured(changed) == ("joint", "image", "text")
    recalibrate(changed, [run.prepared.studies[row] for row in run.rows("validation")])
    assert changed.linear is None and IMAGE_LINEAR not in changed.thresholds
    assert changed.metrics["validation"][IMAGE_LINEAR] is None
