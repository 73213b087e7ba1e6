"""Weights of attention, handed out in the one pass that computes the logits: by their formula, of every family."""

import json

import keras
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.explain.attribution.held_memory import count_point_bytes
from kmm.models.build import ModelSpec, build_model
from kmm.models.cross.network import GATE
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.networks.vision_layers import HIDDEN, SelfAttention
from kmm.models.transformer.attention import Attention
from kmm.models.views.attention_view import NOTHING, SEVERAL, WINDOWS, find_obstacle, open_attention
from kmm.models.views.feature_view import view_attention
from kmm.models.views.parts import core_of, fusion_of, image_encoder_of, text_encoder_of
from tests.checks import SIZES, SMALL_SHAPE
from tests.factories.tiny_networks import PIXELS, TINY_ENTRIES
from tests.model_checks import VOCABULARY_SIZE, core_inputs, model_inputs, stir, to_numpy

CROSS = {"fusion": "cross-attention", "fusion_shape": {"layers": 2, "heads": 2, "width": 8}}
BERT = {"text_encoder": "transformer-small", "text_shape": SMALL_SHAPE}


@pytest.fixture(autouse=True)
def tiny_entries(monkeypatch):
    for name, entry in TINY_ENTRIES.items():
        monkeypatch.setitem(IMAGE_ENCODERS, name, entry)


def build(image=None, **more):
    pixels = {"pixels": PIXELS.get(image, 32)} if image else {}
    model = build_model(
        ModelSpec(image_encoder=image, **pixels, **SIZES | more), label_count=2, vocabulary_size=VOCABULARY_SIZE
    )
    stir(model)
    for weight in model.weights:
        if weight.path.endswith("kernel"):
            weight.assign(1.5 * weight)  # attention that differs from place to place
    if more.get("fusion") == CROSS["fusion"] and len(model.input) == 3:
        fusion_of(model).get_layer(GATE).set_weights([np.linspace(-1, 1, 16)])
    return model


def look(view, inputs):
    n = len(inputs["present"])
    given = {f"{name}_nudge": np.zeros((n, *shape), np.float32) for name, shape in view.weights.items()}
    return to_numpy(view.model({name: {**inputs, **given}[name] for name in view.model.input}, training=False))


def softmax(scores):
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return scores / scores.sum(axis=-1, keepdims=True)


def weigh(query, key, heads, hidden=0.0):
    """Weights `(n, heads, q, k)` in float64."""
    query, key = (rows.reshape(*rows.shape[:2], heads, -1).swapaxes(1, 2).astype(np.float64) for rows in (query, key))
    return softmax(query @ key.swapaxes(2, 3) / np.sqrt(query.shape[-1]) + hidden)


def read_layer(model, name, given):
    return to_numpy(keras.Model(model.input, model.get_layer(name).output)(given, training=False))


@pytest.mark.parametrize("image", ["tiny-dinov2", pytest.param("tiny-siglip", marks=pytest.mark.large)])
def test_weights_of_a_film_are_the_softmax_of_its_products(image):
    model = build(image)
    encoder, inputs = image_encoder_of(model), core_inputs(model)
    found, network = look(open_attention(model), inputs), TINY_ENTRIES[image].network
    np.testing.assert_allclose(found["logits"], to_numpy(core_of(model)(inputs, training=False)), atol=1e-6)
    for number in range(network.depth):
        query, key, _ = np.split(read_layer(encoder, f"block{number}_qkv", inputs["image"]), 3, axis=-1)
        weights, hidden = found[f"image_block{number}_attention"], np.zeros(query.shape[1])
        if network.registers:
            hidden[1:5] = to_numpy(encoder.get_layer(f"block{number}_attention").hidden)
        np.testing.assert_allclose(weights, weigh(query, key, network.heads, hidden), atol=1e-5)
        assert np.ptp(weights) > 1e-3


def test_weights_of_a_report_hide_padding():
    model = build(**BERT)
    encoder, inputs = text_encoder_of(model), core_inputs(model)
    found = look(open_attention(model), inputs)
    np.testing.assert_allclose(found["logits"], to_numpy(core_of(model)(inputs, training=False)), atol=1e-6)
    given = {name: inputs[name] for name in encoder.input}
    read = read_layer(encoder, "frame_mask", given)
    assert read[0].tolist() == [1] * 8 + [0] * 6
    for number in (1, 2):
        query, key = (read_layer(encoder, f"block{number}_{part}", given) for part in ("query", "key"))
        weights = found[f"text_block{number}_attention"]
        np.testing.assert_allclose(weights, weigh(query, key, 2, 1e9 * (read[:, None, None] - 1)), atol=1e-5)
        assert (weights[0, ..., 8:] == 0).all() and weights[0, ..., :8].min() > 0


@pytest.mark.large
@pytest.mark.parametrize(("image", "text"), [("small-cnn", {"text_encoder": "text-cnn"}), ("tiny-dinov2", BERT)])
def test_the_whole_model_hands_out_all_its_weights_and_gives_its_own_logits(image, text):
    model = build(image, **text, **CROSS)
    inputs, view = core_inputs(model), open_attention(model)
    found = look(view, inputs)
    np.testing.assert_allclose(found["logits"], to_numpy(core_of(model)(inputs, training=False)), atol=1e-5)
    assert set(found) == {"logits", "image_read", "text_read", *view.weights}
    fusion = to_numpy(view_attention(model)(model_inputs(model, n=4), training=False))
    for name, weights in fusion.items():
        np.testing.assert_allclose(found[name], weights, atol=1e-6, err_msg=name)
    assert {name: weights.shape[1:] for name, weights in found.items() if name in view.weights} == view.weights
    assert found["image_read"][1].sum() == found["text_read"][2].sum() == 1  # the learned row of an absent side
    trails = view.trails
    assert view.crossings == 2 and view.explained == ("image", "text")
    assert trails["image"].shape == ((2, 2) if image == "small-cnn" else (6, 6))
    assert trails["image"].first == (5 if image == "tiny-dinov2" else 0)
    assert trails["text"].first == (1 if text is BERT else 0) and trails["text"].shape == (12,)
    assert sum(name.startswith("image_block") for name in view.weights) == (4 if image == "tiny-dinov2" else 0)


def test_layers_give_the_same_with_their_weights_and_without():
    random = np.random.default_rng(0)
    query, key, value = random.normal(size=(3, 2, 5, 8)).astype(np.float32)
    mask = np.float32([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    layer = Attention(heads=2)
    mixed, weights = layer.read(query, key, value, mask)
    np.testing.assert_array_equal(to_numpy(layer(query, key, value, mask)), to_numpy(mixed))
    assert (to_numpy(weights)[0, ..., 3:] == 0).all()
    packed, optional = np.concatenate([query, key, value], axis=-1), SelfAttention(heads=2, optional=(1, 3))
    optional.build(packed.shape)
    optional.set_weights([np.full(2, HIDDEN)])
    mixed, weights = optional.read(packed)
    np.testing.assert_array_equal(to_numpy(optional(packed)), to_numpy(mixed))
    assert (to_numpy(weights)[..., 1:3] == 0).all()
    np.testing.assert_allclose(to_numpy(weights).sum(axis=-1), 1, atol=1e-6)


@pytest.mark.large
def test_the_model_stays_as_it_was():
    model = build("tiny-vit", **BERT, **CROSS)
    inputs = model_inputs(model)
    before = to_numpy(model(inputs, training=False)), json.dumps(model.get_config()), count_point_bytes(core_of(model))
    weights = model.get_weights()
    view = open_attention(model)
    after = to_numpy(model(inputs, training=False)), json.dumps(model.get_config()), count_point_bytes(core_of(model))
    np.testing.assert_array_equal(after[0], before[0])
    assert after[1:] == before[1:]
    assert all(np.array_equal(*pair) for pair in zip(model.get_weights(), weights, strict=True))
    assert {id(weight) for weight in view.model.weights} <= {id(weight) for weight in model.weights}


def test_the_memory_of_a_study_counts_the_weights_and_their_gradients():
    model = build(**BERT)
    view = open_attention(model)
    scores = 4 * sum(heads * queries * keys for heads, queries, keys in view.weights.values())  # bytes
    assert count_point_bytes(view.model) - count_point_bytes(core_of(model)) >= 3 * scores


@pytest.mark.parametrize(
    ("spec", "obstacle"),
    [
        ({"image": "tiny-swin"}, WINDOWS),
        pytest.param({"image": "tiny-swin", "tta": 2, **BERT, **CROSS}, WINDOWS, marks=pytest.mark.large),
        ({"image": "tiny-vit", "tta": 2}, SEVERAL),
        ({"image": "tiny-vit", "members": (0, 1)}, SEVERAL),
        ({"image": "small-cnn", "text_encoder": "text-cnn"}, NOTHING),
        ({"image": "small-cnn", "text_encoder": "text-cnn", **CROSS}, ""),
        ({"image": "small-cnn", **BERT}, ""),
    ],
)
def test_what_cannot_be_followed_is_said_in_one_line(spec, obstacle):
    model = build(**spec)
    assert find_obstacle(model) == obstacle and "\n" not in obstacle
    if obstacle:
        with pytest.raises(InputError) as caught:
            open_attention(model)
        assert str(caught.value) == obstacle


@pytest.mark.large
def test_words_whose_rows_are_pairs_are_not_explained():
    view = open_attention(build("small-cnn", text_encoder="text-cnn-paper", **CROSS))
    assert view.explained == ("image",) and view.trails["text"].shape is None
