"""What equal encoders compute is computed once, and the logits are those of every model run by itself."""

import keras
import numpy as np
import pytest

from kmm.models.build import ModelSpec, build_model
from kmm.models.parts import copy_encoder_weights, image_encoder_of, set_trainable, text_encoder_of
from kmm.models.shared_encoders import SharedEncoders, find_shared, predict_batch

SIZES = {"pixels": 32, "length": 9, "embedding_size": 6, "text_filters": 5, "fusion_units": 12}
SIDES = {"joint": ("small-cnn", "text-cnn"), "image": ("small-cnn", None), "text": (None, "text-cnn")}


def build(image, text, seed, **more):
    spec = ModelSpec(image_encoder=image, text_encoder=text, **{**SIZES, **more})
    return build_model(spec, label_count=2, vocabulary_size=20, seed=seed)


@pytest.fixture
def models():
    """Three parts whose encoders are equal, as where training kept both frozen; their fusions differ."""
    made = {part: build(*sides, seed) for seed, (part, sides) in enumerate(SIDES.items())}
    for part in ("image", "text"):
        copy_encoder_weights(made[part], made["joint"])
    return made


@pytest.fixture
def inputs():
    random = np.random.default_rng(0)
    return {
        "image": random.uniform(0, 255, (4, 32, 32, 1)).astype(np.float32),
        "token_ids": random.integers(0, 20, (4, 9)).astype(np.int32),
        "present": np.array([[1, 1], [1, 0], [0, 1], [1, 1]], np.float32),
    }


def alone(models, inputs):
    return {part: predict_batch(model, inputs) for part, model in models.items()}


def nudge(encoder, index):
    """Changes one number of one array of an encoder, as a step of training does."""
    values = np.array(keras.ops.convert_to_numpy(encoder.weights[index].value))
    values.flat[-1] += 0.25
    encoder.weights[index].assign(values)


def count_calls(monkeypatch):
    """Records the input names of each run of a model."""
    calls = []

    def record(model, inputs):
        calls.append(tuple(sorted(tensor.name for tensor in model.inputs)))
        return predict_batch(model, inputs)

    monkeypatch.setattr("kmm.models.shared_encoders.predict_batch", record)
    return calls


def test_equal_encoders_run_once_and_the_logits_stay(models, inputs, monkeypatch):
    assert find_shared(models) == {"image": [("joint", "image")], "text": [("joint", "text")]}
    expected, calls = alone(models, inputs), count_calls(monkeypatch)
    found = SharedEncoders().prepare(models)(inputs)
    for part in models:
        np.testing.assert_allclose(found[part], expected[part], atol=1e-6)
    assert sorted(calls) == [
        ("image",), ("image_vector", "present"), ("image_vector", "present", "text_vector"),
        ("present", "text_vector"), ("token_ids",),
    ]  # fmt: skip


@pytest.mark.parametrize("side, index", [("image", 0), ("image", -1), ("text", 0)])
def test_an_encoder_that_training_changed_is_run_for_its_own_part(models, inputs, side, index):
    run = SharedEncoders().prepare(models)
    before = run(inputs)
    nudge((image_encoder_of if side == "image" else text_encoder_of)(models["joint"]), index)
    other = "text" if side == "image" else "image"
    assert find_shared(models) == {side: [], other: [("joint", other)]}
    found, expected = SharedEncoders().prepare(models)(inputs), alone(models, inputs)
    for part in models:
        np.testing.assert_allclose(found[part], expected[part], atol=1e-6)
    assert not np.allclose(found["joint"], before["joint"], atol=1e-6)
    np.testing.assert_allclose(found[side], before[side], atol=1e-6)


def test_weights_changed_after_the_views_were_made_count(models, inputs):
    shared = SharedEncoders()
    shared.prepare(models)(inputs)
    nudge(image_encoder_of(models["image"]), 0)
    found, expected = shared.prepare(models)(inputs), alone(models, inputs)
    for part in models:
        np.testing.assert_allclose(found[part], expected[part], atol=1e-6)
    models["text"] = build(None, "text-cnn", 9)
    np.testing.assert_allclose(shared.prepare(models)(inputs)["text"], alone(models, inputs)["text"], atol=1e-6)


def test_what_is_trainable_or_saved_does_not_matter_but_other_layers_do(models, tmp_path):
    set_trainable(models["image"], ModelSpec(image_encoder="small-cnn", **SIZES), image=False)
    for part, model in models.items():
        model.save(tmp_path / f"{part}.keras")
    loaded = {part: keras.models.load_model(tmp_path / f"{part}.keras", compile=False) for part in models}
    assert find_shared(loaded) == find_shared(models) == {"image": [("joint", "image")], "text": [("joint", "text")]}
    larger = build("small-cnn", None, 1, pixels=48)
    copy_encoder_weights(models["image"], larger)
    assert find_shared({"image": models["image"], "larger": larger})["image"] == []


def test_one_model_is_run_as_it_is(models, inputs, monkeypatch):
    calls = count_calls(monkeypatch)
    found = SharedEncoders().prepare({"joint": models["joint"]})(inputs)
    assert list(found) == ["joint"] and calls == [("image", "present", "token_ids")]
