import dataclasses
import json

import keras
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.models.build import ModelSpec, build_model
from kmm.models.views.parts import core_of, embed_of, fusion_of, image_encoder_of, text_encoder_of
from tests.model_checks import check_learns, compile_quickly, model_inputs, to_numpy

SMALL = {"pixels": 64, "length": 12, "embedding_size": 6, "text_filters": 4, "fusion_units": 16}
JOINT = ModelSpec(image_encoder="small-cnn", text_encoder="text-cnn", **SMALL)


def build(spec=JOINT, label_count=2, seed=0, **kwargs):
    return build_model(spec, label_count=label_count, vocabulary_size=20, seed=seed, **kwargs)


@pytest.mark.large
def test_inputs_follow_the_encoders():
    assert set(build().input) == {"image", "token_ids", "present"}
    assert set(build(ModelSpec(image_encoder="small-cnn", **SMALL)).input) == {"image", "present"}
    assert set(build(ModelSpec(text_encoder="text-cnn", **SMALL)).input) == {"token_ids", "present"}


def test_model_is_core_after_embed():
    model = build()
    inputs = model_inputs(model)
    rows = to_numpy(embed_of(model)(inputs["token_ids"]))
    mask = (inputs["token_ids"] != 0).astype("float32")
    core_inputs = {"image": inputs["image"], "rows": rows, "padding_mask": mask, "present": inputs["present"]}
    assert np.array_equal(to_numpy(core_of(model)(core_inputs)), to_numpy(model(inputs)))


def test_model_is_fusion_of_features_computed_apart():
    model = build()
    inputs = model_inputs(model)
    mask = (inputs["token_ids"] != 0).astype("float32")
    text = {"rows": to_numpy(embed_of(model)(inputs["token_ids"])), "padding_mask": mask}
    features = {
        "image_vector": to_numpy(image_encoder_of(model)(inputs["image"])["vector"]),
        "text_vector": to_numpy(text_encoder_of(model)(text)["vector"]),
        "present": inputs["present"],
    }
    assert np.allclose(to_numpy(fusion_of(model)(features)), to_numpy(model(inputs)), atol=1e-6)


def test_absent_sides_do_not_change_the_answer():
    model = build()
    inputs = model_inputs(model)
    logits = to_numpy(model(inputs))
    inputs["image"][1] = np.nan
    inputs["token_ids"][2] = 0
    assert np.array_equal(to_numpy(model(inputs)), logits)


def test_one_label_gets_a_logit_of_its_own_not_a_constant():
    logits = to_numpy(build(label_count=1)(model_inputs(build())))
    assert logits.shape == (6, 1)
    assert np.ptp(logits) > 0


def train(seed):
    model = build(seed=seed)
    compile_quickly(model)
    initial = model.get_weights()
    inputs = model_inputs(model)
    return initial, [float(model.train_on_batch(inputs, np.eye(6, 2))) for _ in range(3)]


@pytest.mark.large
def test_equal_seeds_give_equal_weights_and_equal_dropout():
    (first, losses), (second, again), (other, _) = train(7), train(7), train(8)
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
    assert np.allclose(losses, again, rtol=1e-6)  # the sum of a batch may run in another order
    assert not all(np.array_equal(a, b) for a, b in zip(first, other))


def test_embedding_rows_are_those_given():
    matrix = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    model = build(embedding=matrix)
    ids = model_inputs(model)["token_ids"]
    assert np.array_equal(to_numpy(embed_of(model)(ids)), matrix[ids])


@pytest.mark.large
def test_frozen_embedding_stays():
    model = build(dataclasses.replace(JOINT, train_embedding=False))
    before = embed_of(model).get_weights()[0]
    check_learns(model, model_inputs(model))
    assert np.array_equal(embed_of(model).get_weights()[0], before)


@pytest.mark.large
def test_logits_are_float32_under_mixed_precision():
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = build()
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    inputs = model_inputs(model)
    logits = to_numpy(model(inputs))
    assert logits.dtype == np.float32
    assert np.allclose(logits, to_numpy(build()(inputs)), atol=0.1)


def test_output_is_named_logits():
    assert build().output_names == ["logits"]


def test_spec_goes_to_json_and_back():
    assert ModelSpec(**json.loads(json.dumps(dataclasses.asdict(JOINT)))) == JOINT


def test_spec_fills_in_the_encoders_own_numbers():
    spec = ModelSpec(image_encoder="densenet121", text_encoder="text-cnn-paper")
    assert (spec.pixels, spec.text_filters) == (224, 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Received neither"),
        ({"image_encoder": "x"}, "Unknown image encoder 'x'. Known: clip-base-16, clip-base-16-quick, "),
        ({"text_encoder": "x"}, "Unknown text encoder 'x'. Known: text-cnn, text-cnn-paper, transformer-small, bert."),
        ({"image_encoder": "small-cnn", "fusion": "x"}, "Unknown fusion 'x'. Known: concat, cross-attention."),
        ({"image_encoder": "xception", "pixels": 8}, "`pixels` must be at least 32. Received: 8."),
        ({"text_encoder": "text-cnn", "length": 1}, "`length` must be at least 2. Received: 1."),
        ({"text_encoder": "text-cnn", "text_filters": 0}, "`text_filters` must be at least 1. Received: 0."),
        ({"text_encoder": "text-cnn", "text_dropout": 1}, r"`text_dropout` must be in [0, 1). Received: 1."),
    ],
)
def test_a_wrong_specification_is_refused(fields, message):
    with pytest.raises(InputError) as caught:
        ModelSpec(**fields)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"label_count": 0, "vocabulary_size": 20}, "`label_count` must be at least 1. Received: 0."),
        ({"label_count": 1}, "`vocabulary_size` must be at least 2 (padding, unknown). Received: None."),
        ({"label_count": 1, "embedding": np.zeros((20, 5))}, "The embedding must have the shape (20, 6)"),
        (
            {"label_count": 1, "embedding": np.zeros((9, 6)), "vocabulary_size": 20},
            "the shape (20, 6). Received: (9, 6)",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(kwargs, message):
    with pytest.raises(InputError) as caught:
        build_model(JOINT, **kwargs)
    assert message in str(caught.value)
