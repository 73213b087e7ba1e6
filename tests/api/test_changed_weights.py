"""Whoever changes the weights changes the classifier: nothing measured before holds, until it is recalibrated."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

import kmm
from kmm.api.classifier import Classifier
from kmm.data.split import load_split
from kmm.evaluate.changed_weights import STALE
from kmm.evaluate.recalibration import recalibrate

pytestmark = pytest.mark.large  # its fixtures train whole classifiers


@pytest.fixture
def classifier(tiny_run):
    return kmm.load(tiny_run[2])


@pytest.fixture(scope="module")
def parts(tiny_run, tiny_folder):
    """The studies of each part of the fit."""
    studies = kmm.read(tiny_folder).studies
    split = load_split(tiny_run[2] / "split.csv", studies)
    return {
        part: [study for study in studies if split.parts[study.id] == part] for part in ("train", "validation", "test")
    }


def tune(classifier, studies):
    """Trains the plain Keras model by hand, as a notebook would; returns the classifier."""
    model = classifier.model
    inputs = classifier.preprocess(studies)
    labels = np.array([[float("normal" not in study.mesh_major)] for study in studies], np.float32)
    model.compile("sgd", loss=keras.losses.BinaryCrossentropy(from_logits=True))
    model.train_on_batch(inputs, labels)
    return classifier


def test_untouched_weights_change_nothing(classifier, tiny_folder, tiny_run):
    classifier.predict(report="There is a mass")
    found = classifier.evaluate(tiny_folder)
    assert set(found.parts) == {"validation", "test"} and not found.caution
    assert classifier.metrics == tiny_run[0].metrics


def test_a_model_tuned_on_its_test_studies_keeps_no_metrics_and_no_test(classifier, parts, tmp_path):
    before = classifier.metrics["test"]["joint"]["roc_auc"]
    tune(classifier, parts["test"])
    with pytest.warns(UserWarning, match="no study counts as test"):
        found = classifier.evaluate(parts["test"])
    assert before is not None and set(found.parts) == {"unverified"} and classifier.metrics == {}
    assert "recalibrate" in found.caution and "unverified: " in str(found) and found.caution in str(found)
    assert "weights changed" in repr(classifier)
    with pytest.warns(UserWarning, match="Recalibrate"):
        classifier.save(tmp_path / "tuned")
    saved = json.loads((tmp_path / "tuned" / "classifier.json").read_text())
    assert saved["provenance"]["weights_changed"] == STALE
    card = (tmp_path / "tuned" / "model_card.md").read_text()
    assert "The weights were changed after the fit" in card and "Not recorded." in card
    assert not (tmp_path / "tuned" / "pictures").exists() and (tmp_path / "tuned" / "split.csv").exists()
    loaded = Classifier.load(tmp_path / "tuned")
    assert "weights changed" in repr(loaded) and loaded.metrics == {}


def test_recalibration_restores_what_holds(classifier, parts):
    tune(classifier, parts["train"])
    old = classifier._record.temperatures["joint"].copy()
    assert classifier.recalibrate(parts["validation"], trained_on=parts["train"]) is classifier
    assert set(classifier.metrics) == {"validation"}
    assert not np.array_equal(classifier._record.temperatures["joint"], old)
    assert classifier._record.conformal[0].sum() <= len(parts["validation"])
    found = classifier.evaluate([*parts["validation"], *parts["test"], *parts["train"]])
    assert set(found.parts) == {"validation", "test"} and not found.caution
    assert found.parts["test"]["n"] == len(parts["test"])
    assert found.parts["validation"]["joint"] == classifier.metrics["validation"]["joint"]


def test_explanations_decide_by_the_new_thresholds(classifier, parts):
    before = classifier.explain(report="There is a mass", steps=5).explanation.thresholds
    tune(classifier, parts["train"]).recalibrate(parts["validation"])
    after = classifier.explain(report="There is a mass", steps=5)
    assert after.explanation.thresholds == after.prediction.thresholds != before


def test_without_the_training_studies_a_caution_remains(classifier, parts):
    tune(classifier, parts["train"]).recalibrate(parts["validation"])
    found = classifier.evaluate(parts["test"])
    assert set(found.parts) == {"test"} and "are not known" in found.caution
    tune(classifier, parts["train"])
    with pytest.warns(UserWarning, match="changed after the fit"):
        classifier.evaluate(parts["test"])


def test_recalibrated_studies_count_as_validation(classifier, parts, tmp_path):
    new = [replace(study, id=f"new-{study.id}", patient=f"new-{study.id}") for study in parts["test"]]
    tune(classifier, parts["train"]).recalibrate(new, trained_on=())
    assert set(classifier.evaluate(parts["test"]).parts) == {"validation"}
    loaded = kmm.load(classifier.save(tmp_path / "tuned"))
    assert set(loaded.evaluate(parts["test"]).parts) == {"validation"} == set(loaded.metrics)


def test_unchanged_weights_are_recalibrated_to_the_numbers_of_the_fit(tiny_run, parts):
    inner = kmm.load(tiny_run[2])._record
    fitted = {name: {part: rows.copy() for part, rows in getattr(inner, name).items()}
              for name in ("temperatures", "thresholds")}  # fmt: skip
    assert recalibrate(inner, parts["validation"]) == []
    for name, rows in fitted.items():
        for part, numbers in rows.items():
            np.testing.assert_allclose(getattr(inner, name)[part], numbers, rtol=1e-4, err_msg=f"{name} of {part}")
    assert "weights_changed" not in inner.provenance


def test_recalibration_refuses_studies_of_training(classifier, parts):
    seen, numbers = dict(classifier._record.seen), dict(classifier._record.temperatures)
    for studies, trained_on in ((parts["train"], None), (parts["test"], parts["test"][:1])):
        with pytest.raises(kmm.KmmError, match=r"not trained on\. It was trained on \d+ studies \("):
            classifier.recalibrate(studies, trained_on=trained_on)
    assert classifier._record.seen == seen and classifier._record.temperatures == numbers


def test_recalibration_needs_both_classes(classifier, parts):
    with pytest.raises(kmm.KmmError, match=r"both classes\. One class of abnormal is missing"):
        classifier.recalibrate([study for study in parts["test"] if "normal" in study.mesh_major])


def test_recalibration_needs_labelled_studies(classifier, parts):
    with pytest.raises(kmm.KmmError, match="known label"):
        classifier.recalibrate([replace(study, mesh_major=(), mesh_automatic=()) for study in parts["test"]])


def test_one_changed_weight_is_noticed(build_classifier):
    classifier = Classifier(build_classifier())
    classifier.model.weights[0].assign(classifier.model.weights[0] + 1)
    classifier._check_weights()
    assert classifier._record.provenance["weights_changed"] == STALE
