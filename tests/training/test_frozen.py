"""Whole runs whose image encoder starts from a file of weights: frozen, or tuned."""

import json

import keras
import numpy as np
import pytest

import kmm.training.features
from kmm.classifier import Classifier
from kmm.data.collection import read_collection
from kmm.data.split import split_studies
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.views import parts
from kmm.models.weights.checkpoints import weights_digest
from kmm.presets import make_settings
from kmm.training.cache.array_store import ArrayStore
from kmm.training.fit import fit_classifier
from kmm.training.stages.checkpoint import Checkpoint
from tests.factories.studies import TINY

pytestmark = pytest.mark.large
FAST = {**TINY, "text_epochs": 1, "image_epochs": 2, "joint_epochs": 2, "tune_epochs": 1, "bootstrap_repeats": 2}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small CNN of 32 px with weights of its own, and the file that holds them."""
    keras.utils.set_random_seed(7)
    encoder = build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=TINY["pixels"])
    path = tmp_path_factory.mktemp("weights") / "film.weights.h5"
    encoder.save_weights(path)
    return encoder, path


def fit(folder, weights, work, tune, cache=None):
    settings = make_settings("small", {**FAST, "image_weights": str(weights[1]), "tune_image": tune})
    return fit_classifier(read_collection(folder), settings, work=work, cache=cache or work / "cache")


@pytest.fixture(scope="module")
def frozen(tiny_folder, weights, tmp_path_factory):
    """A fit on frozen features: (classifier, run, work folder)."""
    work = tmp_path_factory.mktemp("frozen")
    return *fit(tiny_folder, weights, work, "none"), work


def is_as_given(model, weights):
    encoders = (parts.image_encoder_of(model), weights[0])
    return all(np.array_equal(a, b) for a, b in zip(*(encoder.get_weights() for encoder in encoders), strict=True))


def test_a_frozen_encoder_stays_as_it_was_given_and_its_features_predict_what_its_films_do(frozen, weights, tmp_path):
    classifier, run, _ = frozen
    assert {"image head", "joint head", "joint tuning"} <= set(run.history) and "image tuning" not in run.history
    assert is_as_given(run.models["image"], weights) and is_as_given(run.models["joint"], weights)
    test = run.predictions["test"]
    classifier.save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved")
    assert loaded.provenance["image_weights"]["source"] == "film.weights.h5"
    for model in (classifier, loaded):
        again = model.predict(test.studies, parts=model.models)
        for part in ("joint", "image", "text"):
            np.testing.assert_allclose(again.logits[part], test.logits[part], atol=1e-4)  # float32 in other batches


def test_a_second_fit_takes_all_features_from_the_cache(frozen, tiny_folder, weights, tmp_path, monkeypatch):
    add = ArrayStore.add

    def store(self, *arguments):
        assert self.folder.parent.name == "features", "a film was prepared or encoded again"  # text, of this run alone
        add(self, *arguments)

    monkeypatch.setattr(ArrayStore, "add", store)
    again, _ = fit(tiny_folder, weights, tmp_path, "none", cache=frozen[2] / "cache")
    assert json.dumps(again.metrics) == json.dumps(frozen[0].metrics)


def stop_after(monkeypatch, stage, epoch):
    """Lets a run be stopped as soon as a stage has kept an epoch."""
    on_epoch_end = Checkpoint.on_epoch_end

    def stop(self, number, logs=None):
        on_epoch_end(self, number, logs)
        if (self.stage.name, number + 1) == (stage, epoch):
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "on_epoch_end", stop)


def test_a_frozen_fit_that_was_stopped_goes_on_to_the_same_numbers(frozen, tiny_folder, weights, tmp_path, monkeypatch):
    stop_after(monkeypatch, "joint head", 1)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_folder, weights, tmp_path, "none")
    monkeypatch.undo()
    resumed, run = fit(tiny_folder, weights, tmp_path, "none")
    assert json.dumps(resumed.metrics) == json.dumps(frozen[0].metrics) and run.history == frozen[1].history


def test_a_tuned_encoder_leaves_its_weights_and_a_stopped_tuning_goes_on(tiny_folder, weights, tmp_path, monkeypatch):
    monkeypatch.setitem(FAST, "tune_epochs", 2)
    monkeypatch.setitem(FAST, "head", "decoder")  # which is kept as it was trained
    encoded = []
    fill_stores = kmm.training.features.fill_stores

    def note(encoder, source, stores, progress, **options):
        encoded.append((source.name, *(store.folder.parent.name for store in stores.values())))
        fill_stores(encoder, source, stores, progress, **options)

    monkeypatch.setattr(kmm.training.features, "fill_stores", note)
    whole, run = fit(tiny_folder, weights, tmp_path / "whole", "top")
    # The features of the first head are of the file's weights; later ones are of this run alone.
    assert encoded == [("image", "cache"), ("image", "features"), ("token_ids", "features")]
    assert {"image head", "image tuning", "joint head", "joint tuning"} <= set(run.history)
    assert not is_as_given(run.models["image"], weights)
    layers = parts.image_encoder_of(run.models["image"]).layers
    kept = [layer for layer in layers if layer.weights and not layer.trainable]
    assert kept
    for layer in kept:
        given = weights[0].get_layer(layer.name).get_weights()
        assert all(np.array_equal(a, b) for a, b in zip(layer.get_weights(), given, strict=True)), layer.name
    test = run.predictions["test"]
    np.testing.assert_allclose(whole.predict(test.studies).logits["joint"], test.logits["joint"], atol=1e-4)

    with monkeypatch.context() as stopped:
        stop_after(stopped, "image tuning", 1)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_folder, weights, tmp_path / "parts", "top")
    resumed, _ = fit(tiny_folder, weights, tmp_path / "parts", "top")
    assert json.dumps(resumed.metrics) == json.dumps(whole.metrics)


def test_gradual_tuning_with_all_that_can_be_added_goes_on_after_a_stop(tiny_folder, weights, tmp_path, monkeypatch):
    added = {"warmup": 0.3, "schedule": "cosine", "rate_decay": 0.8, "weight_average": 0.8, "label_smoothing": 0.1}
    others = {"mixup": 0.4, "augmentation": "strong", "tune_epochs": 3, "head": "decoder"}  # without a linear rival
    for name, value in {**added, **others}.items():
        monkeypatch.setitem(FAST, name, value)
    monkeypatch.setattr(Checkpoint, "measure_start", lambda self, validation: None)  # a stage ends with a later epoch
    whole, run = fit(tiny_folder, weights, tmp_path / "whole", "gradual")
    names = [f"image tuning {number}" for number in (1, 2, 3)]
    assert list(run.history) == ["text", "image head", *names, "joint head", "joint tuning"]
    assert all(len(run.history[name]["loss"]) == 1 for name in names)
    norms = [layer for layer in weights[0].layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in norms:  # stored statistics, scale and shift stay through all stages
        kept = parts.image_encoder_of(run.models["joint"]).get_layer(layer.name)
        assert all(np.array_equal(a, b) for a, b in zip(kept.get_weights(), layer.get_weights(), strict=True))
    assert len(norms) == 5 and not is_as_given(run.models["image"], weights)
    with monkeypatch.context() as stopped:
        stop_after(stopped, "image tuning 2", 1)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_folder, weights, tmp_path / "parts", "gradual")
    resumed, again = fit(tiny_folder, weights, tmp_path / "parts", "gradual")
    assert json.dumps(resumed.metrics) == json.dumps(whole.metrics) and again.history == run.history


def test_random_weights_are_frozen_and_their_features_serve_every_split(tiny_folder, tmp_path):
    settings = make_settings("small", {**FAST, "image_weights": "random", "tune_image": "none"})
    collection, digests = read_collection(tiny_folder), []
    for seed in (1, 2):
        split = split_studies(collection.studies, shares=settings.shares, seed=seed)
        work = tmp_path / str(seed)
        classifier, run = fit_classifier(collection, settings, work=work, cache=tmp_path / "cache", split=split)
        assert "image head" in run.history and "image" not in run.history
        assert classifier.provenance["image_weights"]["source"] == "random"
        digests.append(weights_digest(parts.image_encoder_of(run.models["joint"])))
    assert digests[0] == digests[1] == classifier.provenance["image_weights"]["sha256"]
    assert len(list((tmp_path / "cache").glob("features-small-cnn-vector-*"))) == 1
