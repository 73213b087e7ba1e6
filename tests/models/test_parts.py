import dataclasses

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.views.parts import (
    copy_encoder_weights,
    core_of,
    embed_of,
    image_encoder_of,
    part,
    set_trainable,
    text_encoder_of,
)
from tests.model_checks import compile_quickly, model_inputs, to_numpy

SMALL = {"pixels": 32, "length": 10, "embedding_size": 6, "text_filters": 4, "fusion_units": 16}
IMAGE = ModelSpec(image_encoder="small-cnn", **SMALL)
TEXT = ModelSpec(text_encoder="text-cnn", **SMALL)
JOINT = ModelSpec(image_encoder="small-cnn", text_encoder="text-cnn", **SMALL)


def build(spec, seed=0):
    return build_model(spec, label_count=1, vocabulary_size=20, seed=seed)


def step(model):
    """Trains one step; returns for each weight, by layer and number, whether it changed."""
    inputs = model_inputs(model)
    compile_quickly(model)
    parts = [part(model, name) for name in ("image_encoder", "text_encoder", "embed", "fusion") if part(model, name)]
    weights = [(p.name, layer, w, to_numpy(w)) for p in parts for layer in p.layers for w in layer.weights]
    model.train_on_batch(inputs, np.resize([[0.0], [1.0]], (6, 1)))
    return [(name, layer, not np.array_equal(to_numpy(w), before)) for name, layer, w, before in weights]


def test_parts_share_weights_with_the_model():
    model = build(JOINT)
    inputs = model_inputs(model)
    before = to_numpy(model(inputs))
    image_encoder_of(model).set_weights([weight * 0 for weight in image_encoder_of(model).get_weights()])
    assert not np.array_equal(to_numpy(model(inputs)), before)
    assert image_encoder_of(core_of(model)) is image_encoder_of(model)


def test_absent_parts_are_none():
    assert image_encoder_of(build(TEXT)) is None
    assert embed_of(build(IMAGE)) is None
    assert text_encoder_of(build(IMAGE)) is None


def test_joint_model_starts_from_both_encoders():
    image, text, joint = build(IMAGE, 1), build(TEXT, 2), build(JOINT, 3)
    assert copy_encoder_weights(image, joint) == ("image_encoder",)
    assert copy_encoder_weights(text, joint) == ("embed", "text_encoder")
    inputs = model_inputs(joint)
    features = [to_numpy(image_encoder_of(model)(inputs["image"])["vector"]) for model in (image, joint)]
    assert np.array_equal(*features)
    assert np.array_equal(*(to_numpy(embed_of(model)(inputs["token_ids"])) for model in (text, joint)))


def test_copy_between_models_without_a_common_part_does_nothing():
    assert copy_encoder_weights(build(IMAGE), build(TEXT)) == ()


def test_copy_of_another_size_is_refused():
    other = build_model(TEXT, label_count=1, vocabulary_size=21)
    with pytest.raises(InputError, match="The embed differs in shape"):
        copy_encoder_weights(other, build(JOINT))


def test_frozen_sides_stay_as_they_are_normalisations_included():
    model = build(JOINT)
    set_trainable(model, JOINT, image=False, text=False)
    assert {name for name, _, changed in step(model) if changed} == {"fusion"}


@pytest.mark.large
def test_thawed_sides_change():
    model = build(JOINT)
    set_trainable(model, JOINT, image=False, text=False)
    set_trainable(model, JOINT)
    assert all(changed for _, _, changed in step(model))


def test_one_side_is_frozen_alone():
    model = build(JOINT)
    set_trainable(model, JOINT, image=False)
    assert {name for name, _, changed in step(model) if changed} == {"fusion", "text_encoder", "embed"}


@pytest.mark.large
@pytest.mark.parametrize(("top", "trained"), [("", {"conv3", "conv4", "conv5"}), ("conv4", {"conv4", "conv5"})])
def test_the_top_of_the_text_encoder_is_trained_without_the_word_rows(monkeypatch, top, trained):
    entry = dataclasses.replace(TEXT_ENCODERS[JOINT.text_encoder], top=top)
    monkeypatch.setitem(TEXT_ENCODERS, JOINT.text_encoder, entry)
    model = build(JOINT)
    set_trainable(model, JOINT, image=False, text="top")
    assert {name for name, _, changed in step(model) if changed} == {"fusion", "text_encoder"}
    layers = text_encoder_of(model).layers
    assert {layer.name for layer in layers if layer.trainable_weights} == trained


def test_a_top_that_the_text_encoder_does_not_have(monkeypatch):
    entry = dataclasses.replace(TEXT_ENCODERS[JOINT.text_encoder], top="con5")
    monkeypatch.setitem(TEXT_ENCODERS, JOINT.text_encoder, entry)
    with pytest.raises(InputError, match="Unknown layer of the text encoder 'con5'"):
        build(JOINT)


@pytest.mark.large
def test_word_rows_that_are_kept_stay_kept():
    spec = ModelSpec(**{**JOINT.__dict__, "train_embedding": False})
    model = build(spec)
    set_trainable(model, spec)
    assert {name for name, _, changed in step(model) if not changed} == {"embed"}


def list_trained(model):
    return [layer.name for layer in image_encoder_of(model).layers if layer.trainable_weights]


@pytest.mark.large
@pytest.mark.parametrize(("share", "lowest"), [(0.25, 5), (0.5, 4), (0.75, 3), (0.1, 5)])
def test_a_fraction_of_the_blocks_is_trained_from_the_top(share, lowest):
    model = build(JOINT)
    set_trainable(model, JOINT, image=share, text=False)
    blocks = range(lowest, 6)
    assert list_trained(model) == [f"block{number}_{kind}" for number in blocks for kind in ("conv", "bn")]
    assert {name for name, _, changed in step(model) if changed} == {"fusion", "image_encoder"}


@pytest.mark.large
@pytest.mark.parametrize("image", (True, "top", 0.5))
def test_batch_normalisation_in_inference_uses_stored_statistics_in_training(image):
    """A step leaves all of its weights, and training and inference give the same encoding."""
    model = build(JOINT)
    set_trainable(model, JOINT, image=image, text=False, batch_norm="inference")
    assert not [name for name in list_trained(model) if name.endswith("bn")] and list_trained(model)
    changes = {layer.name: changed for name, layer, changed in step(model) if name == "image_encoder"}
    assert changes["block5_conv"] and not any(changed for name, changed in changes.items() if name.endswith("_bn"))
    encoder, films = image_encoder_of(model), model_inputs(model)["image"]
    assert np.array_equal(*(to_numpy(encoder(films, training=mode)["vector"]) for mode in (True, False)))
    set_trainable(model, JOINT, image=True, text=False)
    assert not np.array_equal(*(to_numpy(encoder(films, training=mode)["vector"]) for mode in (True, False)))


def test_batch_normalisation_has_two_modes():
    with pytest.raises(InputError, match=r"`batch_norm` must be 'train' or 'inference'\. Received: 'off'"):
        set_trainable(build(JOINT), JOINT, batch_norm="off")


def test_trainable_must_be_known():
    for side in ("image", "text"):
        said = f"`{side}` must be True, False, 'top', 'lora' or a fraction. Received: 'half'"
        with pytest.raises(InputError, match=said):
            set_trainable(build(JOINT), JOINT, **{side: "half"})
