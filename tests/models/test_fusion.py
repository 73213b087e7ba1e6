import keras
import numpy as np
import pytest

from kmm.models.cross.shape import CrossShape
from kmm.models.fusion import FUSIONS, find_features
from kmm.models.heads import HEADS
from tests.checks import build_tiny_fusion, check_fusion, fusion_inputs
from tests.model_checks import stir, to_numpy

HEAD_PARAMETERS = [pytest.param(name, marks=[pytest.mark.large] * (name != "mlp")) for name in sorted(HEADS)]


@pytest.mark.large
@pytest.mark.parametrize("head", HEAD_PARAMETERS)
@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_every_entry(name, head, tmp_path):
    check_fusion(name, head, tmp_path)


SIDES = [("image", "text"), ("image",)]


def run_training(fusion, inputs, seed):
    """The features and the logits of one pass in training mode."""
    keras.utils.set_random_seed(seed)
    both = keras.Model(fusion.input, {"features": find_features(fusion), "logits": fusion.output})
    return {name: to_numpy(value) for name, value in both(inputs, training=True).items()}


@pytest.mark.parametrize("sides", SIDES, ids="-".join)
@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_nothing_is_dropped_from_the_logits_in_training(name, head, sides):
    """Dropout on the logits, as in one published system, would set the logits of some labels to 0."""
    shape = CrossShape(layers=1, heads=1, width=4, stochastic_depth=0.5)
    fusion = build_tiny_fusion(name, sides, head, dropout=0.5, shape=shape)
    stir(fusion)
    inputs, (kernel, bias) = fusion_inputs(fusion, n=40), fusion.get_layer("logits").get_weights()
    found = run_training(fusion, inputs, seed=1)
    np.testing.assert_allclose(found["logits"], found["features"] @ kernel + bias, atol=1e-5)
    dropped = any(isinstance(layer, keras.layers.Dropout) for layer in fusion.layers)
    assert dropped != np.array_equal(found["features"], run_training(fusion, inputs, seed=2)["features"])


@pytest.mark.parametrize("head", sorted(HEADS))
@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_without_dropout_of_the_decoder_training_has_no_chance_in_it(name, head):
    still = CrossShape(layers=1, heads=1, width=4, stochastic_depth=0.0)
    fusion = build_tiny_fusion(name, head=head, shape=still)
    inputs = fusion_inputs(fusion, n=40)
    one, other = (run_training(fusion, inputs, seed)["logits"] for seed in (1, 2))
    np.testing.assert_array_equal(one, other)
    assert one.all() and np.ptp(one, axis=0).min() > 1e-3


def normalise(x, layer):
    gamma, beta, mean, variance = (to_numpy(weight) for weight in layer.weights)
    return (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


def test_concat_by_its_definition():
    fusion = build_tiny_fusion("concat")
    inputs = fusion_inputs(fusion)
    stir(fusion)
    layer = fusion.get_layer
    image, text = inputs["image_vector"].copy(), inputs["text_vector"].copy()
    image[1], text[2] = to_numpy(layer("image_stand_in").stand_in), to_numpy(layer("text_stand_in").stand_in)
    x = normalise(np.concatenate([text, normalise(image, layer("image_bn"))], axis=-1), layer("decoder_bn"))
    x = np.maximum(x @ to_numpy(layer("decoder").kernel) + to_numpy(layer("decoder").bias), 0)
    x = normalise(x, layer("joint"))
    expected = x @ to_numpy(layer("logits").kernel) + to_numpy(layer("logits").bias)
    assert np.allclose(to_numpy(fusion(inputs, training=False)), expected, atol=1e-5)
