import numpy as np
import pytest

from kmm.models.fusion import FUSIONS
from kmm.models.heads import HEADS
from tests.checks import build_tiny_fusion, check_fusion, fusion_inputs
from tests.model_checks import stir, to_numpy

HEAD_PARAMETERS = [pytest.param(name, marks=[pytest.mark.large] * (name != "mlp")) for name in sorted(HEADS)]


@pytest.mark.large
@pytest.mark.parametrize("head", HEAD_PARAMETERS)
@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_every_entry(name, head, tmp_path):
    check_fusion(name, head, tmp_path)


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
