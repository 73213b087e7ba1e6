"""Contrastive terms in a fit: what the joint model learns with them, and what a fit leaves behind."""

import dataclasses

import keras
import numpy as np
import pytest

from kmm.classifier import Classifier
from kmm.data.collection import read_collection
from kmm.data.study import Report, Study
from kmm.errors import InputError
from kmm.models.build import ModelSpec, build_model
from kmm.models.contrastive import NUMBERS
from kmm.models.views.feature_view import view_features
from kmm.models.views.projection import read_projection
from kmm.presets import make_settings
from kmm.retrieval.layers import LayerReader, digest_model, normalise
from kmm.settings import FitSettings
from kmm.training.fit import fit_classifier
from kmm.training.stages import projection_fit
from kmm.training.stages.contrastive_stage import add_terms, number_studies
from kmm.training.stages.dataset import StudyDataset
from kmm.training.stages.projection_fit import fit_projection
from kmm.training.stages.recipe import FEATURES, Stage, make_recipe
from tests.checks import to_numpy
from tests.factories.studies import TINY

STAGE = Stage(
    "joint head", 1, 0.1, image=FEATURES, text=FEATURES, contrastive="infonce", contrastive_pairs=("image-text",),
    contrastive_weight=0.5,
)  # fmt: skip


def test_numbers_are_equal_for_copies_of_a_report_and_for_a_patient():
    body = Report(findings="No  MASS.")
    studies = [
        Study("1", "a", report=body),
        Study("2", "b", report=dataclasses.replace(body, findings="No mass.", indication="Pain.")),
        Study("3", "a", report=Report(findings="A mass.")),
        Study("4", "c"),
    ]
    bodies, patients = number_studies(studies).T
    np.testing.assert_array_equal(bodies, [0, 0, 1, np.nan])
    np.testing.assert_array_equal(patients, [0, 1, 0, 2])


@pytest.mark.parametrize("fusion", ["concat", "cross-attention"])
def test_the_model_with_terms_has_the_same_logits(fusion):
    spec = ModelSpec("small-cnn", "text-cnn", fusion, pixels=32, length=9, embedding_size=4, fusion_units=8)
    model = build_model(spec, label_count=2, vocabulary_size=9)
    plain, trained = view_features(model, STAGE.features), add_terms(model, STAGE)
    generator = np.random.default_rng(0)
    columns = {tensor.name: generator.normal(size=(5, *tensor.shape[1:])) for tensor in plain.inputs}
    columns |= {name: np.ones_like(value) for name, value in columns.items() if name == "present" or "mask" in name}
    found = trained({**columns, NUMBERS: np.arange(10.0).reshape(5, 2)})
    np.testing.assert_allclose(to_numpy(found), to_numpy(plain(columns)), rtol=1e-5, atol=1e-6)
    assert float(to_numpy(sum(trained.losses))) > 0
    own = {weight.path for weight in trained.weights} - {weight.path for weight in plain.weights}
    assert len(own) == 2 * 5 + 2 and all(path.startswith("contrastive/") for path in own)


def test_terms_start_the_same_from_a_seed():
    spec = ModelSpec("small-cnn", "text-cnn", pixels=32, length=9, embedding_size=4, fusion_units=8)
    model = build_model(spec, label_count=2, vocabulary_size=9)
    one, again, other = (
        read_projection(add_terms(model, STAGE, seed=seed).get_layer("contrastive")) for seed in (1, 1, 2)
    )
    assert one.digest == again.digest != other.digest and one.names == ("image", "text")


@pytest.mark.large
@pytest.mark.parametrize("contrast", ["infonce", "siglip"])
def test_projections_find_what_two_vectors_share(contrast, monkeypatch):
    """Vectors of films and reports that are different linear functions of one hidden vector, with noise."""
    monkeypatch.setattr(projection_fit, "EPOCHS", 30)
    monkeypatch.setattr(projection_fit, "RATE", 1e-2)
    random = np.random.default_rng(0)
    maps = {"image": random.normal(size=(4, 9)), "text": random.normal(size=(4, 7))}

    def draw(count):
        hidden = random.normal(size=(count, 4))
        vectors = {
            name: hidden @ kernel + 0.1 * random.normal(size=(count, kernel.shape[1])) for name, kernel in maps.items()
        }
        return {
            **{name: rows.astype(np.float32) for name, rows in vectors.items()},
            NUMBERS: np.arange(count * 1.0)[:, None],
        }

    stage = dataclasses.replace(STAGE, contrastive=contrast, batch_size=64)
    parts = draw(300), draw(60)
    found = fit_projection(stage, *parts, seed=3)
    if contrast == "infonce":
        assert fit_projection(stage, *parts, seed=3).digest == found.digest
    test = draw(100)
    points = {name: normalise(found.project(name, test[name])) for name in maps}
    own = np.argmax(points["image"] @ points["text"].T, axis=1) == np.arange(100)
    assert own.mean() > 0.6  # by chance 0.01


def test_studies_that_fill_up_a_batch_are_no_pairs():
    columns = {"x": np.zeros((5, 2)), NUMBERS: np.arange(10.0).reshape(5, 2)}
    data = StudyDataset(columns, np.zeros((5, 1), np.float32), rows=range(5), batch_size=4)
    inputs, _, weights = data[1]
    np.testing.assert_array_equal(np.isnan(inputs[NUMBERS]).all(axis=1), weights == 0)
    assert np.isfinite(columns[NUMBERS]).all()


def test_stages_of_the_joint_model_alone_have_terms_and_large_batches():
    recipe = make_recipe(FitSettings(contrastive="siglip", image_weights="film.h5", batch_size=16))
    assert {stage.contrastive for side in ("image", "text") for stage in recipe[side]} == {""}
    assert [(stage.contrastive, stage.batch_size) for stage in recipe["joint"]] == [("siglip", 256), ("siglip", 16)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mixup": 0.2}, "exclude each other"),
        ({"text_encoder": None}, "It needs both encoders"),
        ({"members": 2}, "It needs both encoders, and one member"),
        ({"contrastive_pairs": ()}, "must name at least one pair"),
        ({"contrastive_pairs": ("image-film",)}, "`contrastive_pairs` must be one of image-text"),
        ({"contrastive_temperature": 0}, "must be a number above 0"),
    ],
)
def test_settings_that_exclude_each_other(changes, message):
    with pytest.raises(InputError, match=message):
        FitSettings(contrastive="infonce", **changes)


@pytest.mark.large
def test_a_fit_with_terms_resumes_and_keeps_its_projection(tiny_folder, tmp_path, monkeypatch):
    """With the loss `hybrid` and weighted sampling too."""
    monkeypatch.setattr(projection_fit, "EPOCHS", 3)
    collection = read_collection(tiny_folder)
    changes = {"contrastive": "siglip", "loss": "hybrid", "sampling": "balanced", "head": "decoder", "text_teacher": 0}
    short = {"text_epochs": 1, "image_epochs": 1, "joint_epochs": 3, "tune_epochs": 0, "bootstrap_repeats": 2}
    settings = make_settings("small", {**TINY, **changes, **short, "contrastive_weight": 1.0})

    def fit(name, callbacks=()):
        work, cache = tmp_path / name, tmp_path / "cache"
        return fit_classifier(collection, settings, work=work, cache=cache, callbacks=callbacks)[0]

    whole = fit("whole")
    stopped = []

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if NUMBERS in {tensor.name for tensor in self.model.inputs} and epoch == 1:
                stopped.append(epoch)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit("parts", callbacks=[Stop()])
    again = fit("parts")
    assert stopped
    for one, other in zip(whole.models["joint"].get_weights(), again.models["joint"].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert not [weight.path for weight in whole.models["joint"].weights if "projection" in weight.path]
    assert whole.projection.names == ("image", "text", "joint") and whole.projection.digest == again.projection.digest
    whole.save(tmp_path / "saved")
    assert Classifier.load(tmp_path / "saved").projection.digest == whole.projection.digest
    assert digest_model(Classifier.load(tmp_path / "saved")) == digest_model(whole)
    assert LayerReader(whole, "projection").patterns == ("both", "image", "text")
