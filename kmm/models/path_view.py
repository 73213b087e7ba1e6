"""A model as two: the affine stem that reads pixels and rows, and all that follows it.

On a straight path between two inputs the output of an affine stem is a straight path too. Integrated gradients
therefore compute the stem twice a study instead of at every point, and carry gradients back through it once.
"""

from dataclasses import dataclass

import keras

from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.parts import core_of, fusion_of, image_encoder_of, text_encoder_of


@dataclass(frozen=True)
class PathView:
    """A model's core, cut behind its affine stem. Weights are shared with the model.

    Attributes:
        stem: `keras.Model` `{"image": (n, h, w, 1), "rows": (n, t, d), "padding_mask": (n, t)}`, as the model has them
            -> dict of float tensors, each affine in image and rows.
        rest: `keras.Model` that takes those and `present` -> logits `(n, n_labels)`.
    """

    stem: keras.Model
    rest: keras.Model


def view_path(model, *, image_encoder=None, text_encoder=None, image_layer=None):
    """Cuts a model behind its affine stem.

    Args:
        model: `keras.Model` from `build_model`.
        image_encoder, text_encoder: names in the tables of encoders, or None for a side that the model does not have.
        image_layer: str. Name of another layer of the image encoder to cut behind, for example of `name_feature_map`:
            the stem's output `image_<name>` is then not affine in the image.

    Returns:
        `PathView`.
    """
    fusion = fusion_of(model)
    raw = {tensor.name: keras.Input(tensor.shape[1:], name=tensor.name) for tensor in core_of(model).inputs}
    sides = {}
    if image_encoder:
        layer = image_layer or IMAGE_ENCODERS[image_encoder].stem
        sides["image"] = (image_encoder_of(model), (layer,), ["image"])
    if text_encoder:
        sides["text"] = (text_encoder_of(model), TEXT_ENCODERS[text_encoder].stem, ["rows", "padding_mask"])
    stems, features, inner = {}, {"present": raw["present"]}, {}
    for side, (encoder, layers, names) in sides.items():
        stem = keras.Model(encoder.input, [encoder.get_layer(layer).output for layer in layers])
        given = {name: raw[name] for name in names}
        outputs = stem(given if len(given) > 1 else raw[names[0]])
        named = dict(zip([f"{side}_{layer}" for layer in layers], keras.tree.flatten(outputs)))
        stems.update(named)
        own = {name: keras.Input(tensor.shape[1:], name=name, dtype=tensor.dtype) for name, tensor in named.items()}
        inner.update(own)
        features.update(_go_on(side, encoder, layers, list(own.values()), fusion))
    logits = keras.layers.Identity(dtype="float32", name="logits")(
        fusion({name: features[name] for name in fusion.input})
    )
    given = {name: tensor for name, tensor in raw.items() if name != "present"}
    rest = keras.Model({**inner, "present": raw["present"]}, logits)
    return PathView(stem=keras.Model(given, stems), rest=rest)


def name_feature_map(model):
    """Finds the layer of the image encoder whose output is the last feature map `(n, rows, columns, channels)`.

    Args:
        model: `keras.Model` from `build_model`, with an image encoder.

    Returns:
        str, the layer's name.
    """
    encoder = image_encoder_of(model)
    feature_map = encoder.get_layer("places").input
    return next(layer.name for layer in encoder.layers if layer.output is feature_map)


def _go_on(side, encoder, layers, inner, fusion):
    """The parts of an encoding that the fusion reads, from the outputs of the encoder's stem on."""
    parts = [part for part in encoder.output if f"{side}_{part}" in fusion.input]
    cut = [encoder.get_layer(layer).output for layer in layers]
    rest = keras.Model(cut, [encoder.output[part] for part in parts])
    return {f"{side}_{part}": tensor for part, tensor in zip(parts, keras.tree.flatten(rest(inner)))}
