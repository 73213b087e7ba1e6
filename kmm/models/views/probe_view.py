"""A view of a model's image encoder with a linear probe in place of its head."""

import keras

from kmm.models.fusion import FUSIONS, build_fusion
from kmm.models.heads import write_linear
from kmm.models.linear_probe import LinearProbe
from kmm.models.views.parts import image_encoder_of


def view_probe(model: keras.Model, probe: LinearProbe) -> keras.Model:
    """Makes a model of films whose logits are those of a linear probe. It shares its encoder with `model`.

    Args:
        model: `keras.Model` from `kmm.models.build.build_model`, which reads films.
        probe: `LinearProbe` of the vectors of its image encoder.

    Returns:
        `keras.Model` from `{"image": (n, h, w, 1), "present": (n, 2)}` to logits float32 `(n, n_labels)`; the logit of
        a study without a film is the probe's intercept.
    """
    encoder = image_encoder_of(model)
    assert encoder is not None
    count = len(probe.intercept)
    fusion = build_fusion(FUSIONS["concat"], {"image": encoder}, label_count=count, units=1, dropout=0.0, head="linear")
    write_linear(fusion, "image", mean=probe.mean, scale=probe.scale, coef=probe.coef, intercept=probe.intercept)
    inputs = {"image": keras.Input(encoder.input.shape[1:], name="image"), "present": keras.Input((2,), name="present")}
    vector = encoder(inputs["image"])["vector"]
    logits = fusion({"image_vector": vector, "present": inputs["present"]})
    return keras.Model(inputs, keras.layers.Identity(dtype="float32", name="logits")(logits))
