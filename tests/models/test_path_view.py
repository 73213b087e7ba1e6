"""The two halves of a model, for every encoder: their product is the model, and the first is affine."""

import keras
import numpy as np
import pytest
from keras import ops

from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.parts import core_of, embed_of
from kmm.models.path_view import view_path
from tests.checks import model_inputs, to_numpy

SIZES = {"pixels": 32, "length": 12, "embedding_size": 6, "text_filters": 4, "fusion_units": 16}
PIXELS = {"xception": 71}  # what `keras.applications` asks for at least
SIDES = (
    *({"image_encoder": name} for name in IMAGE_ENCODERS),
    *({"text_encoder": name} for name in TEXT_ENCODERS),
    *({"image_encoder": "small-cnn", "text_encoder": name} for name in TEXT_ENCODERS),
)


@pytest.fixture(scope="module", params=SIDES, ids=lambda sides: "+".join(sides.values()))
def cut(request):
    """A model with weights that all say something, its inputs, and its halves."""
    sides = request.param
    spec = ModelSpec(**{**SIZES, "pixels": PIXELS.get(sides.get("image_encoder"), 32)}, **sides)
    model = build_model(spec, label_count=2, vocabulary_size=20)
    stir(model)
    return model, core_inputs(model), view_path(model, **sides)


def stir(model):
    """Statistics of normalisation and offsets, which start at 0 and 1, become random."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(weight + random.uniform(0.1, 0.5, weight.shape))


def core_inputs(model, seed=0):
    inputs = model_inputs(model, n=4, seed=seed)
    token_ids = inputs.pop("token_ids", None)
    if token_ids is not None:
        inputs["rows"] = to_numpy(embed_of(model)(token_ids))
        inputs["padding_mask"] = (token_ids != 0).astype(np.float32)
    return inputs


def take(inputs, model):
    return {tensor.name: ops.convert_to_tensor(inputs[tensor.name]) for tensor in model.inputs}


def run_halves(view, inputs):
    inner = view.stem(take(inputs, view.stem), training=False)
    return to_numpy(view.rest(take({**inputs, **inner}, view.rest), training=False))


def test_the_halves_together_are_the_core(cut):
    model, inputs, view = cut
    expected = to_numpy(core_of(model)(inputs, training=False))
    assert np.ptp(expected, axis=0).min() > 1e-3
    np.testing.assert_allclose(run_halves(view, inputs), expected, rtol=1e-5, atol=1e-5)


def test_the_stem_is_affine(cut):
    model, inputs, view = cut
    other = {**core_inputs(model, seed=1), "padding_mask": inputs.get("padding_mask")}
    if "rows" in inputs:
        other["rows"] = np.random.default_rng(2).normal(size=inputs["rows"].shape).astype(np.float32)
    share = np.float32(0.3)
    between = {
        name: value if name == "padding_mask" else (1 - share) * value + share * other[name]
        for name, value in inputs.items()
    }
    x, y, here = (to_numpy(view.stem(take(values, view.stem), training=False)) for values in (inputs, other, between))
    for name in x:
        expected = (1 - share) * x[name] + share * y[name]
        assert (np.abs(x[name] - y[name]).max() > 1e-2) != name.endswith("mask")
        np.testing.assert_allclose(here[name], expected, atol=1e-5 * np.abs(expected).max(), err_msg=name)


def test_the_halves_share_the_weights_of_the_model(cut):
    model, _, view = cut
    own = {id(weight) for weight in core_of(model).weights}
    assert {id(weight) for half in (view.stem, view.rest) for weight in half.weights} <= own


def test_a_saved_and_loaded_model_is_cut_alike(tmp_path):
    sides = {"image_encoder": "small-cnn", "text_encoder": "text-cnn"}
    model = build_model(ModelSpec(**SIZES, **sides), label_count=2, vocabulary_size=20)
    stir(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    inputs = core_inputs(model)
    expected = run_halves(view_path(model, **sides), inputs)
    np.testing.assert_allclose(run_halves(view_path(loaded, **sides), inputs), expected, rtol=1e-5, atol=1e-6)


def test_a_model_is_cut_behind_any_other_layer_of_its_image_encoder():
    model = build_model(ModelSpec(image_encoder="small-cnn", **SIZES), label_count=2)
    inputs, last = core_inputs(model), IMAGE_ENCODERS["small-cnn"].feature_map
    view = view_path(model, image_encoder="small-cnn", image_layer=last)
    assert last == "block5_relu" and view.stem.output[f"image_{last}"].shape == (None, 2, 2, 128)
    np.testing.assert_allclose(run_halves(view, inputs), to_numpy(core_of(model)(inputs, training=False)), atol=1e-5)
