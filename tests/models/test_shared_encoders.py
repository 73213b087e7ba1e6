"""What equal encoders compute is computed once, and the logits are those of every model run by itself."""

import keras
import numpy as np
import pytest

from kmm.models.build import ModelSpec, build_model
from kmm.models.views.parts import copy_encoder_weights, image_encoder_of, part, set_trainable, text_encoder_of
from kmm.models.views.shared_encoders import SharedEncoders, find_shared, join_models
from tests.model_checks import to_numpy

SIZES = {"pixels": 32, "length": 9, "embedding_size": 6, "text_filters": 5, "fusion_units": 12}
SIDES = {"joint": ("small-cnn", "text-cnn"), "image": ("small-cnn", None), "text": (None, "text-cnn")}


def build(image, text, seed, **more):
    spec = ModelSpec(image_encoder=image, text_encoder=text, **{**SIZES, **more})
    return build_model(spec, label_count=2, vocabulary_size=20, seed=seed)


@pytest.fixture
def models():
    """Three parts whose encoders are equal, as where training kept both frozen; their fusions differ."""
    made = {name: build(*sides, seed) for seed, (name, sides) in enumerate(SIDES.items())}
    for name in ("image", "text"):
        copy_encoder_weights(made[name], made["joint"])
    return made


@pytest.fixture
def inputs():
    random = np.random.default_rng(0)
    return {
        "image": random.uniform(0, 255, (4, 32, 32, 1)).astype(np.float32),
        "token_ids": random.integers(0, 20, (4, 9)).astype(np.int32),
        "present": np.array([[1, 1], [1, 0], [0, 1], [1, 1]], np.float32),
    }


def answer(model, inputs):
    """Calls a model without tracing it, which takes far longer than one small batch."""
    return to_numpy(model({tensor.name: inputs[tensor.name] for tensor in model.inputs}, training=False))


def alone(models, inputs):
    return {name: answer(model, inputs) for name, model in models.items()}


def nudge(encoder, index):
    """Changes one array of an encoder, as a step of training does."""
    encoder.weights[index].assign(encoder.weights[index] + 0.25)


def count_encoders(joined, name):
    """Counts how often a joined model calls an encoder."""
    return sum(part(layer, name) is not None for layer in joined.layers if isinstance(layer, keras.Model))


@pytest.mark.large
def test_equal_encoders_run_once_and_the_logits_stay(models, inputs):
    shared = find_shared(models)
    assert shared == {"image": [("joint", "image")], "text": [("joint", "text")]}
    found, expected = SharedEncoders().prepare(models)(inputs), alone(models, inputs)
    for name in models:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    for sides, counts in ((shared, [1, 1]), ({**shared, "text": []}, [1, 2]), ({}, [2, 2])):
        joined = join_models(models, sides)
        assert [count_encoders(joined, name) for name in ("image_encoder", "text_encoder")] == counts
        for name, rows in answer(joined, inputs).items():
            np.testing.assert_allclose(rows, expected[name], atol=1e-6)


@pytest.mark.large
@pytest.mark.parametrize("side, index", [("image", 0), ("image", -1), ("text", 0)])
def test_an_encoder_that_training_changed_is_run_for_its_own_part(models, inputs, side, index):
    run = SharedEncoders().prepare(models)
    before = run(inputs)
    nudge((image_encoder_of if side == "image" else text_encoder_of)(models["joint"]), index)
    other = "text" if side == "image" else "image"
    assert find_shared(models) == {side: [], other: [("joint", other)]}
    found, expected = SharedEncoders().prepare(models)(inputs), alone(models, inputs)
    for name in models:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    assert not np.allclose(found["joint"], before["joint"], atol=1e-6)
    np.testing.assert_allclose(found[side], before[side], atol=1e-6)


@pytest.mark.large
def test_weights_changed_after_the_views_were_made_count(models, inputs):
    shared = SharedEncoders()
    shared.prepare(models)(inputs)
    nudge(image_encoder_of(models["image"]), 0)
    found, expected = shared.prepare(models)(inputs), alone(models, inputs)
    for name in models:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)
    models["text"] = build(None, "text-cnn", 9)
    np.testing.assert_allclose(shared.prepare(models)(inputs)["text"], alone(models, inputs)["text"], atol=1e-6)


@pytest.mark.large
def test_what_is_trainable_or_saved_does_not_matter_but_other_layers_do(models, tmp_path):
    set_trainable(models["image"], ModelSpec(image_encoder="small-cnn", **SIZES), image=False)
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    loaded = {name: keras.models.load_model(tmp_path / f"{name}.keras", compile=False) for name in models}
    assert find_shared(loaded) == find_shared(models) == {"image": [("joint", "image")], "text": [("joint", "text")]}
    larger = build("small-cnn", None, 1, pixels=48)
    copy_encoder_weights(models["image"], larger)
    assert find_shared({"image": models["image"], "larger": larger})["image"] == []


def test_one_model_and_models_that_share_nothing_are_run_as_they_are(models, inputs, monkeypatch):
    calls = []
    monkeypatch.setattr(
        "kmm.models.views.shared_encoders.predict_batch", lambda model, _: calls.append(model) or np.zeros((4, 2))
    )
    nudge(image_encoder_of(models["image"]), 0)
    for names in (["joint"], ["joint", "image"], ["image", "text"]):
        calls.clear()
        found = SharedEncoders().prepare({name: models[name] for name in names})(inputs)
        assert list(found) == names and calls == [models[name] for name in names]


@pytest.mark.large
def test_the_joined_model_is_made_once(models, inputs, monkeypatch):
    made = []
    monkeypatch.setattr(
        "kmm.models.views.shared_encoders.join_models", lambda *given: made.append(given) or join_models(*given)
    )
    shared = SharedEncoders()
    for _ in range(3):
        shared.prepare(models)(inputs)
    assert len(made) == 1
