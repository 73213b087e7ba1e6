"""Test-time averaging in whole runs: what is trained, what is averaged, and that everything after it agrees."""

import json

import numpy as np
import pytest

from kmm.classifier import Classifier
from kmm.data.collection import read_collection
from kmm.errors import InputError
from kmm.evaluate.decisions.calibration import fit_temperature
from kmm.explain.attribution.methods import METHODS
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.export.write import export_classifier
from kmm.models.joined.film_views import FilmViews
from kmm.models.joined.joined_encoder import count_views
from kmm.models.views.feature_view import view_encoder, view_features
from kmm.models.views.parts import encoders_of, image_encoder_of
from kmm.presets import make_settings
from kmm.settings import FitSettings
from kmm.training.fit import fit_classifier
from kmm.training.save_run import save_run
from tests.factories.notes import Notes
from tests.factories.studies import TINY

pytestmark = pytest.mark.large  # its fixtures train whole classifiers

VIEWS = 3


def fit(folder, work, progress=None, **settings):
    settings = make_settings("small", {**TINY, **settings})
    return fit_classifier(read_collection(folder), settings, work=work, cache=work.parent / ".cache", progress=progress)


@pytest.fixture(scope="module")
def averaged(tiny_folder, tmp_path_factory):
    """The fit of `tiny_run` with views of each film: (classifier, run, folder, notes)."""
    out, notes = tmp_path_factory.mktemp("averaged"), Notes()
    classifier, run = fit(tiny_folder, out / "work", notes, tta=VIEWS)
    save_run(classifier, run, out / "saved")
    return classifier, run, out / "saved", notes.lines


def test_training_sees_the_film_alone(averaged, tiny_run):
    classifier, run, _, notes = averaged
    plain, plain_run, _ = tiny_run
    assert run.history == plain_run.history
    for part, model in classifier.models.items():
        for weight, same in zip(model.get_weights(), plain.models[part].get_weights(), strict=True):
            assert np.array_equal(weight, same)
        assert [count_views(encoder) for encoder in encoders_of(model, "image")] == [VIEWS] * (part != "text")
    assert [line for line in notes if "Test-time" in line] == [
        "Test-time averaging over 3 views of a film: from here on, films cost 3 times the computation"
    ]


def test_the_logits_of_a_linear_head_are_the_mean_of_those_of_the_views(averaged, tiny_run):
    """The features that the head reads are means over views, of the model that reads one."""
    _, run, _, _ = averaged
    plain = tiny_run[0].models["image"]
    rows = run.rows("test")
    films, present = run.prepared.films[rows], run.prepared.present[rows]
    views = np.asarray(FilmViews(VIEWS)(films))
    vectors = view_encoder(plain, "image", ("vector",)).predict_on_batch({"image": views})["vector"]
    mean = vectors.reshape(len(rows), VIEWS, -1).mean(axis=1)
    expected = view_features(plain, ("image",)).predict_on_batch({"image_vector": mean, "present": present})
    np.testing.assert_allclose(run.predictions["test"].logits["image"], expected, atol=1e-4)
    assert (
        np.abs(run.predictions["test"].logits["image"] - tiny_run[1].predictions["test"].logits["image"]).max() > 1e-4
    )


def test_temperatures_and_baselines_are_those_of_the_averaged_model(averaged, tiny_run):
    classifier, run, _, _ = averaged
    found = run.predictions["validation"]
    chosen = found.present[:, 0] > 0
    expected = fit_temperature(found.logits["image"][chosen], found.labels[chosen])
    np.testing.assert_allclose(classifier.temperatures["image"][1], expected, rtol=1e-6)
    vectors = view_encoder(classifier.models["image"], "image", ("vector",)).predict_on_batch(
        {"image": run.prepared.films[run.rows("test")]}
    )["vector"]
    features = run.features.compute(classifier.models["image"], ("image",))["image_vector"]
    np.testing.assert_allclose(features[run.rows("test")], vectors, atol=1e-4)
    assert np.abs(classifier.linear.probe.mean - tiny_run[0].linear.probe.mean).max() > 1e-6


def test_a_saved_classifier_answers_as_the_run_did(averaged):
    _, run, folder, _ = averaged
    loaded = Classifier.load(folder)
    assert loaded.settings.tta == VIEWS
    test = run.predictions["test"]
    again = loaded.predict(test.studies, parts=loaded.models)
    for part in loaded.models:
        np.testing.assert_allclose(again.logits[part], test.logits[part], atol=1e-4)


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if not method.at_attention])
def test_every_method_explains_the_averaged_model(averaged, method):
    classifier, run, _, _ = averaged
    studies = [study for study in run.predictions["test"].studies if study.frontal and study.report][:3]
    found = list(Explainer(classifier, ExplainSettings(method=method)).explain(studies))
    logits = classifier.predict(studies).logits["joint"]
    assert len(found) == 3
    for explanation, expected in zip(sorted(found, key=lambda one: studies.index(by_id(studies, one))), logits):
        attribution = explanation.attribution
        assert attribution.score == pytest.approx(float(expected[attribution.target]), abs=1e-3)
        assert np.isfinite(attribution.values["image"]).all() and attribution.values["image"].shape[:2] == (32, 32)
        if method == "integrated-gradients":
            assert attribution.completeness_gap < 0.01


def by_id(studies, explanation):
    return next(study for study in studies if study.id == explanation.study)


def test_an_export_is_of_the_averaged_model(averaged, tmp_path):
    """The export itself compares its answers with the classifier's."""
    _, _, folder, _ = averaged
    exported = export_classifier(folder, out=tmp_path / "exported")
    assert (exported / "saved_model.pb").is_file()


def test_a_stopped_run_goes_on_to_the_same_averages(averaged, tiny_folder, tmp_path):
    again, _ = fit(tiny_folder, tmp_path / "work", tta=VIEWS)
    assert json.dumps(again.metrics) == json.dumps(averaged[0].metrics)
    resumed, _ = fit(tiny_folder, tmp_path / "work", tta=VIEWS)
    assert json.dumps(resumed.metrics) == json.dumps(again.metrics)
    with pytest.raises(InputError, match="tta changed since this run started"):
        fit(tiny_folder, tmp_path / "work", tta=5)


@pytest.mark.parametrize("value", [-1, 10])
def test_a_number_of_views_out_of_range_is_refused(value):
    with pytest.raises(InputError, match=r"^Setting `tta` must be from 0 to 9. Received: "):
        FitSettings(tta=value)


def test_no_view_but_the_film_is_no_averaging(tiny_run, tmp_path, tiny_folder):
    classifier, _ = fit(tiny_folder, tmp_path / "work", tta=0, text_encoder=None, image_epochs=1)
    assert count_views(image_encoder_of(classifier.models["image"])) == 1
