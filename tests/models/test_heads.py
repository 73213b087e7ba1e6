"""Heads by their definitions: what they compute, what a linear model becomes in them, where the decoder starts."""

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.models.build import ModelSpec
from kmm.models.heads import EPSILON, HEADS, write_linear
from tests.checks import build_tiny_fusion, fusion_inputs
from tests.model_checks import compile_quickly, stir, to_numpy

LINEAR = [name for name, head in HEADS.items() if head.linear]


def side_by_side(fusion, inputs):
    """The vectors of text and image, with stand-ins for those that a study lacks."""
    image, text = inputs["image_vector"].copy(), inputs["text_vector"].copy()
    image[1] = to_numpy(fusion.get_layer("image_stand_in").stand_in)
    text[2] = to_numpy(fusion.get_layer("text_stand_in").stand_in)
    return np.concatenate([text, image], axis=-1)


def standardise(x, layer):
    mean, variance = (to_numpy(weight) for weight in layer.weights)
    return (x - mean) / np.sqrt(variance + EPSILON)


def apply_logits(fusion, x):
    layer = fusion.get_layer("logits")
    return x @ to_numpy(layer.kernel) + to_numpy(layer.bias)


def test_a_linear_head_is_a_linear_function_of_the_standardised_vectors():
    fusion = build_tiny_fusion("concat", head="linear")
    inputs = fusion_inputs(fusion)
    stir(fusion)
    x = standardise(side_by_side(fusion, inputs), fusion.get_layer("standard"))
    assert np.allclose(to_numpy(fusion(inputs, training=False)), apply_logits(fusion, x), atol=1e-5)


def test_mlp_adds_a_decoder_of_the_standardised_vectors():
    fusion = build_tiny_fusion("concat", head="mlp")
    inputs = fusion_inputs(fusion)
    stir(fusion)
    x = standardise(side_by_side(fusion, inputs), fusion.get_layer("standard"))
    decoder, norm = fusion.get_layer("decoder"), fusion.get_layer("decoder_bn")
    hidden = np.maximum(x @ to_numpy(decoder.kernel) + to_numpy(decoder.bias), 0)
    gamma, beta, mean, variance = (to_numpy(weight) for weight in norm.weights)
    hidden = (hidden - mean) / np.sqrt(variance + norm.epsilon) * gamma + beta
    expected = apply_logits(fusion, np.concatenate([x, hidden], axis=-1))
    assert np.allclose(to_numpy(fusion(inputs, training=False)), expected, atol=1e-5)


def test_the_decoder_of_mlp_starts_at_zero_and_learns():
    fusion = build_tiny_fusion("concat", head="mlp")
    inputs, labels = fusion_inputs(fusion), np.resize([[0.0, 1.0], [1.0, 0.0]], (6, 2))
    logits = fusion.get_layer("logits")
    assert not to_numpy(logits.kernel)[-8:].any() and to_numpy(logits.kernel)[:-8].all()
    before = to_numpy(fusion.get_layer("decoder").kernel)
    compile_quickly(fusion)
    for _ in range(2):  # the first step moves the last kernel off zero, the second the decoder
        fusion.train_on_batch(inputs, labels)
    assert to_numpy(logits.kernel)[-8:].any()
    assert not np.array_equal(to_numpy(fusion.get_layer("decoder").kernel), before)


@pytest.mark.parametrize("head", LINEAR)
def test_a_linear_model_is_written_exactly_even_with_scales_far_from_one(head):
    fusion = build_tiny_fusion("concat", ("image",), head=head)
    stir(fusion)
    inputs = fusion_inputs(fusion)
    random = np.random.default_rng(1)
    mean, scale = random.normal(size=4), np.array([1e-4, 0.01, 1.0, 50.0])
    inputs["image_vector"] = (mean + scale * random.normal(size=(6, 4))).astype(np.float32)
    coef, intercept = random.normal(size=(4, 2)), np.array([0.5, -2.0])
    write_linear(fusion, "image", mean=mean, scale=scale, coef=coef, intercept=intercept)
    expected = (inputs["image_vector"].astype(float) - mean) / scale @ coef + intercept
    expected[inputs["present"][:, 0] == 0] = intercept
    # float32 keeps a mean of 1 to 6e-8, which is 6e-4 of the smallest scale
    np.testing.assert_allclose(to_numpy(fusion(inputs, training=False)), expected, atol=3e-3)
    standard = fusion.get_layer("standard")
    kept = [to_numpy(weight) for weight in standard.weights]
    compile_quickly(fusion)
    fusion.train_on_batch(inputs, np.ones((6, 2)))
    for weight, value in zip(standard.weights, kept, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), value)


def test_statistics_are_learnt_until_a_linear_model_is_written():
    fusion = build_tiny_fusion("concat", ("image",), head="linear")
    inputs = fusion_inputs(fusion)
    compile_quickly(fusion)
    fusion.train_on_batch(inputs, np.ones((6, 2)))
    assert to_numpy(fusion.get_layer("standard").moving_mean).any()


def test_a_specification_without_a_head_is_of_a_decoder_and_an_unknown_one_is_refused():
    assert ModelSpec(image_encoder="small-cnn").head == "decoder"
    with pytest.raises(InputError, match=r"^Unknown head 'tree'. Known: linear, mlp, decoder."):
        ModelSpec(image_encoder="small-cnn", head="tree")
