"""A model is cut behind any layer of its image encoder; the cut behind the stem of each entry is checked elsewhere."""

import keras
import numpy as np
import pytest

from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.fusion import find_features
from kmm.models.views.parts import core_of, fusion_of, image_encoder_of, text_encoder_of
from kmm.models.views.path_view import view_path
from tests.model_checks import core_inputs, run_halves, to_numpy

SIZES = {"pixels": 32, "length": 12, "embedding_size": 6, "text_filters": 4, "fusion_units": 16}


def test_a_model_is_cut_behind_any_other_layer_of_its_image_encoder():
    model = build_model(ModelSpec(image_encoder="small-cnn", **SIZES), label_count=2)
    inputs, entry = core_inputs(model), IMAGE_ENCODERS["small-cnn"]
    last = entry.feature_map
    view = view_path(model, image_encoder=entry, image_layer=last)
    assert last == "block5_relu" and view.stem.output[f"image_{last}"].shape == (None, 2, 2, 128)
    np.testing.assert_allclose(run_halves(view, inputs), to_numpy(core_of(model)(inputs, training=False)), atol=1e-5)


@pytest.mark.parametrize("fusion", ["concat", "cross-attention"])
def test_vectors_of_each_layer_are_those_of_the_model(fusion):
    spec = ModelSpec("small-cnn", "text-cnn", fusion, **SIZES)
    model = build_model(spec, label_count=2, vocabulary_size=50)
    described = {"image_encoder": IMAGE_ENCODERS["small-cnn"], "text_encoder": TEXT_ENCODERS["text-cnn"]}
    inputs, parts = core_inputs(model), {}
    for side, encoder in (("image", image_encoder_of(model)), ("text", text_encoder_of(model))):
        given = inputs["image"] if side == "image" else {name: inputs[name] for name in encoder.input}
        parts |= {f"{side}_{part}": value for part, value in to_numpy(encoder(given, training=False)).items()}
    parts["present"], head = inputs["present"], fusion_of(model)
    joint = keras.Model(head.input, find_features(head))({name: parts[name] for name in head.input}, training=False)
    expected = {"joint": joint, "image": parts["image_vector"], "text": parts["text_vector"]}
    for output, vectors in expected.items():
        view = view_path(model, **described, output=output)
        np.testing.assert_allclose(run_halves(view, inputs), to_numpy(vectors), atol=1e-5)
        if output != "joint":
            read = {"image"} if output == "image" else {"rows", "padding_mask"}
            assert {tensor.name for tensor in view.stem.inputs} == read and not {"present"} & set(view.rest.input)
