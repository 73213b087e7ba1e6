import keras
import numpy as np
import pytest

from kmm.models.build import ModelSpec, build_model
from kmm.models.fusion import FUSIONS, build_fusion
from kmm.models.parts import fusion_of
from tests.checks import check_learns, check_same_after_save_and_load, to_numpy

SIZES = {"image": 4, "text": 3}


def encoder(side):
    """A stand-in for an encoder: a fusion asks only for the shapes of its outputs."""
    rows = keras.Input((5, SIZES[side]))
    mask = keras.ops.max(rows, axis=-1)
    return keras.Model(rows, {"vector": keras.ops.max(rows, axis=1), "sequence": rows, "mask": mask})


def build(name, sides=("image", "text")):
    keras.utils.set_random_seed(0)
    return build_fusion(FUSIONS[name], {side: encoder(side) for side in sides}, label_count=2, units=8, dropout=0.0)


def features(fusion, n=6):
    random = np.random.default_rng(0)
    inputs = {
        name: random.normal(size=(n, *tensor.shape[1:])).astype("float32") for name, tensor in fusion.input.items()
    }
    inputs["present"] = np.ones((n, 2), "float32")
    inputs["present"][1] = 0, 1
    inputs["present"][2] = 1, 0
    return inputs


@pytest.mark.parametrize("sides", [("image", "text"), ("image",), ("text",)])
@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_learns_and_is_the_same_after_save_and_load(name, sides, tmp_path):
    fusion = build(name, sides)
    inputs = features(fusion)
    check_learns(fusion, inputs)
    check_same_after_save_and_load(fusion, inputs, tmp_path)


@pytest.mark.parametrize("name", sorted(FUSIONS))
def test_what_is_absent_does_not_leak(name):
    fusion = build(name)
    inputs = features(fusion)
    logits = to_numpy(fusion(inputs, training=False))
    for part in FUSIONS[name].needs:
        inputs[f"image_{part}"][1] = np.nan
        inputs[f"text_{part}"][2] = np.inf
    assert np.array_equal(to_numpy(fusion(inputs, training=False)), logits)


def normalise(x, layer):
    gamma, beta, mean, variance = (to_numpy(weight) for weight in layer.weights)
    return (x - mean) / np.sqrt(variance + layer.epsilon) * gamma + beta


def test_concat_by_its_definition():
    fusion = build("concat")
    inputs = features(fusion)
    check_learns(fusion, inputs)  # gives the normalisations and stand-ins values of their own
    layer = fusion.get_layer
    image, text = inputs["image_vector"].copy(), inputs["text_vector"].copy()
    image[1], text[2] = to_numpy(layer("image_stand_in").stand_in), to_numpy(layer("text_stand_in").stand_in)
    x = normalise(np.concatenate([text, normalise(image, layer("image_bn"))], axis=-1), layer("decoder_bn"))
    x = np.maximum(x @ to_numpy(layer("decoder").kernel) + to_numpy(layer("decoder").bias), 0)
    x = normalise(x, layer("joint"))
    expected = x @ to_numpy(layer("logits").kernel) + to_numpy(layer("logits").bias)
    assert np.allclose(to_numpy(fusion(inputs, training=False)), expected, atol=1e-5)


def test_a_joined_fusion_starts_as_the_weighted_sum_of_both_sides():
    shared = {"pixels": 32, "length": 6, "embedding_size": 4, "text_filters": 3}
    sides = {"image": {"image_encoder": "small-cnn"}, "text": {"text_encoder": "text-cnn"}}
    generator = np.random.default_rng(0)
    parts = {}
    for number, (side, encoder) in enumerate(sides.items()):
        spec = ModelSpec(**shared, **encoder, fusion_units=5 + number)
        parts[side] = fusion_of(build_model(spec, label_count=2, vocabulary_size=9, seed=number))
        parts[side].set_weights([generator.uniform(0.5, 1.5, w.shape) for w in parts[side].get_weights()])
    spec = ModelSpec(**shared, image_encoder="small-cnn", text_encoder="text-cnn", fusion_units=11)
    fusion = fusion_of(build_model(spec, label_count=2, vocabulary_size=9))
    weights = {"image": np.array([0.5, 2.0]), "text": np.array([1.5, 0.0])}
    FUSIONS["concat"].join(fusion, parts, weights, np.array([0.25, -1.0]))
    vectors = {name: generator.normal(size=(8, t.shape[1])).astype("float32") for name, t in fusion.input.items()}
    vectors["present"] = np.array([[1, 1], [1, 0], [0, 1], [0, 0]] * 2, "float32")
    expected = np.array([0.25, -1.0])
    for side, part in parts.items():
        logits = part.predict_on_batch({name: vectors[name] for name in (f"{side}_vector", "present")})
        expected = expected + weights[side] * logits
    np.testing.assert_allclose(fusion.predict_on_batch(vectors), expected, rtol=1e-3, atol=1e-3)
