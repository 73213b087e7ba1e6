"""Fits with the fusion `cross-attention`: from the weighted sum of both sides to a saved, explained classifier."""

import numpy as np
import pytest

from kmm.classifier import Classifier
from kmm.data.collection import read_collection
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.models.cross.network import GATE
from kmm.models.views.parts import fusion_of
from kmm.presets import make_settings
from kmm.training.fit import fit_classifier
from tests.factories.studies import TINY

# One layer: `tests/models/test_cross_attention.py` has stacks of them, and the start with every head.
FUSION = {"fusion": "cross-attention", "fusion_layers": 1, "fusion_heads": 2, "fusion_width": 8, "fusion_adapter": 4}
FROZEN = {"image_weights": "random", "tune_image": "none", "tune_epochs": 0}


def fit(folder, work, **settings):
    chosen = make_settings("small", {**TINY, **FUSION, **FROZEN, "bootstrap_repeats": 2, **settings})
    return fit_classifier(read_collection(folder), chosen, work=work, cache=work / "cache")


def fit_jointly(folder, work):
    """Fits, and keeps the trained fusion if its loss is lower, whether or not by more than a standard error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kmm.training.head_choice.is_better", lambda difference, error: True)
        return fit(folder, work, joint_epochs=4)


@pytest.fixture(scope="module")
def trained(tiny_folder, tmp_path_factory):
    return fit_jointly(tiny_folder, tmp_path_factory.mktemp("cross"))


@pytest.mark.large
def test_a_fit_that_trains_nothing_jointly_is_the_weighted_sum_of_both_sides(tiny_folder, tmp_path):
    classifier, run = fit(tiny_folder, tmp_path, joint_epochs=0)
    rows, weights = run.prepared.rows("test"), classifier.provenance["start_weights"]
    logits = {side: answer(rows) for side, answer in run.answers.items()}
    summed = sum(np.array(weights[side]) * logits[side] for side in ("image", "text"))
    offset = logits["joint"] - summed
    np.testing.assert_allclose(offset, np.broadcast_to(offset[:1], offset.shape), atol=1e-5)
    assert not np.any(fusion_of(classifier.models["joint"]).get_layer(GATE).get_weights()[0])


@pytest.mark.large
def test_a_fit_opens_the_gate_and_is_saved_loaded_and_explained(trained, tmp_path):
    classifier, run = trained
    joint = classifier.models["joint"]
    assert np.abs(fusion_of(joint).get_layer(GATE).get_weights()[0]).max() > 1e-4
    assert {"linear", "sum"} & set(classifier.provenance["head_choice"]["joint"]["losses"])
    found = run.features.recall(joint)
    assert {f"image_{part}" for part in ("vector", "sequence", "mask")} <= set(found)
    classifier.save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved")
    studies = [run.prepared.studies[row] for row in run.prepared.rows("test")][:6]
    again, expected = (one.predict(studies, parts=one.models) for one in (loaded, classifier))
    for side in ("joint", "image", "text"):
        np.testing.assert_allclose(again.logits[side], expected.logits[side], atol=1e-5, err_msg=side)
    explained = list(Explainer(loaded, ExplainSettings()).explain(studies))
    assert len(explained) == len(studies)
    assert max(one.attribution.completeness_gap for one in explained) <= 0.02
    assert all(np.isfinite(values).all() for one in explained for values in one.attribution.values.values())


@pytest.mark.large
def test_a_seed_always_gives_the_same_fit(trained, tiny_folder, tmp_path):
    one, again = (run[0].models["joint"] for run in (trained, fit_jointly(tiny_folder, tmp_path)))
    for first, second in zip(one.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
