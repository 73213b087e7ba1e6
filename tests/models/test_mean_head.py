"""The head of several members answers as the mean of theirs."""

import numpy as np
import pytest

from kmm.models.build import ModelSpec, build_model
from kmm.models.heads import HEADS
from kmm.models.joined.joined_encoder import list_members
from kmm.models.joined.mean_head import average_linear, is_linear, join_members
from kmm.models.views.parts import fusion_of, image_encoder_of
from tests.model_checks import model_inputs, to_numpy

SIZES = {"image_encoder": "small-cnn", "pixels": 32, "fusion_dropout": 0.0}


def build(head, seed=0, units=6, **options):
    model = build_model(ModelSpec(head=head, fusion_units=units, **SIZES, **options), label_count=2, seed=seed)
    random = np.random.default_rng(seed)
    fusion = fusion_of(model)
    fusion.set_weights([random.uniform(0.5, 1.5, weight.shape) for weight in fusion.get_weights()])
    return model


def answer(model, inputs):
    return to_numpy(model(inputs, training=False)).astype(np.float64)


def silence(model):
    """Sets what a decoder adds to the logits to 0."""
    layer = fusion_of(model).get_layer("logits")
    kernel, bias = layer.get_weights()
    kernel[256:] = 0
    layer.set_weights([kernel, bias])


@pytest.mark.large
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 0, 0), (0, 1, 0)])
@pytest.mark.parametrize("head", HEADS)
def test_the_logits_are_the_mean_of_those_of_the_members(head, order):
    """Also of a study without a film, where each member has learnt another vector in its place."""
    members = [build(head, seed) for seed in range(3)]
    encoders = [image_encoder_of(members[number]).get_weights() for number in order]
    for member, weights in zip(members, encoders, strict=True):
        image_encoder_of(member).set_weights(weights)
    mean = build(head, seed=9, units=18, members=order)
    for number, encoder in enumerate(list_members(image_encoder_of(mean))):
        encoder.set_weights(encoders[order.index(number)])
    join_members(fusion_of(mean), [fusion_of(member) for member in members], head)
    inputs = model_inputs(mean)
    expected = np.mean([answer(member, inputs) for member in members], axis=0)
    scale = np.abs([answer(member, inputs) for member in members]).max()
    np.testing.assert_allclose(answer(mean, inputs), expected, atol=1e-6 * scale)
    assert np.ptp(expected, axis=0).min() > 1e-3


@pytest.mark.large
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_the_mean_of_linear_heads_is_one_linear_head(head):
    members = [build(head, seed) for seed in range(3)]
    for member in members:
        image_encoder_of(member).set_weights(image_encoder_of(members[0]).get_weights())
        if head == "mlp":
            assert not is_linear(fusion_of(member), head)
            silence(member)
        assert is_linear(fusion_of(member), head)
    mean = build_model(ModelSpec(head=head, fusion_units=6, **SIZES), label_count=2, seed=7)
    image_encoder_of(mean).set_weights(image_encoder_of(members[0]).get_weights())
    average_linear(fusion_of(mean), [fusion_of(member) for member in members])
    inputs = model_inputs(mean)
    found = [answer(member, inputs) for member in members]
    np.testing.assert_allclose(answer(mean, inputs), np.mean(found, axis=0), atol=1e-6 * np.abs(found).max())


def test_a_decoder_is_no_linear_head():
    assert not is_linear(fusion_of(build("decoder")), "decoder")
