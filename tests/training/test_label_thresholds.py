"""Temperatures and thresholds of each label come from validation alone. System B tuned them on the test part too."""

import dataclasses
import json

import numpy as np
import pytest

from kmm.data.collection import read_collection
from kmm.presets import make_settings
from kmm.training.fit import fit_classifier
from kmm.training.preparation.prepared_studies import prepare_studies
from tests.factories.studies import TINY


@pytest.mark.large
def test_labels_of_test_studies_change_no_temperature_and_no_threshold(tiny_folder, tmp_path):
    collection = read_collection(tiny_folder)
    studies = [
        dataclasses.replace(study, labels={"mass": float(int(study.id) % 2), "third": float(int(study.id) % 3 == 0)})
        for study in collection.studies
    ]
    changes = {"image_encoder": "none", "labels": "columns", "threshold_policy": "f1", "text_epochs": 1}
    settings = make_settings("small", {**TINY, **changes})
    prepared = prepare_studies(
        dataclasses.replace(collection, studies=tuple(studies)), settings, films=tmp_path / "cache"
    )
    assert prepared.maker.label_names == ("mass", "third")

    def fit(part):
        """Fits with the labels of a part turned around; None for none."""
        labels = prepared.labels.copy()
        if part:
            rows = prepared.rows(part)
            labels[rows] = 1 - labels[rows]
        own = dataclasses.replace(prepared, labels=labels)
        return fit_classifier(None, settings, work=tmp_path / str(part), cache=tmp_path / "cache", prepared=own)[0]

    plain, test = fit(None), fit("test")
    for name in ("text", "tfidf"):
        assert plain.thresholds[name].shape == (3, 2)
        np.testing.assert_array_equal(plain.thresholds[name], test.thresholds[name])
    np.testing.assert_array_equal(plain.temperatures["text"], test.temperatures["text"])
    measured = [json.loads(json.dumps(one.metrics["test"]["text"])) for one in (plain, test)]
    for label in ("mass", "third"):
        areas = [one["per_label"][label]["roc_auc"] for one in measured]
        assert sum(areas) == pytest.approx(1)  # the same scores, the classes changed places
        assert "weighted" in measured[0] and "micro" in measured[0]
