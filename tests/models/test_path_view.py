"""A model is cut behind any layer of its image encoder; the cut behind the stem of each entry is checked elsewhere."""

import numpy as np

from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.views.parts import core_of
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
