"""Views of a model that start from, or return, encoder features, such as those computed once by a frozen encoder."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from kmm.models.fusion import find_features
from kmm.models.transformer.attention import Attention
from kmm.models.views.parts import embed_of, fusion_of, image_encoder_of, text_encoder_of


def view_features(
    model: keras.Model, sides: Collection[str], encoders: Mapping[str, keras.Model] | None = None
) -> keras.Model:
    """Makes a model that starts from the encoder features of some sides. It shares its weights with `model`.

    Args:
        model: `keras.Model` from `kmm.models.build.build_model`.
        sides: collection of `"image"` and `"text"`: the sides whose features are inputs.
        encoders: mapping of a side to a model with the inputs and outputs of its encoder, to use in the place of it; or
            None.

    Returns:
        `keras.Model` from `present` and, for each side of the model, either its features (`image_vector`, ...) or its
        raw input (`image`, `token_ids`), to logits float32 `(n, n_labels)`.
    """
    inputs, values = _read_sides(model, sides, encoders or {})
    logits = keras.layers.Identity(dtype="float32", name="logits")(fusion_of(model)(values))
    return keras.Model(inputs, logits)


def view_vectors(
    model: keras.Model, sides: Collection[str], encoders: Mapping[str, keras.Model] | None = None
) -> keras.Model:
    """Makes a model as `view_features` does, from encoder features of some sides or of none, that also returns the
    vectors of its sides and of the fusion.

    Args:
        model: `keras.Model` from `kmm.models.build.build_model`.
        sides, encoders: as for `view_features`.

    Returns:
        `keras.Model` to `{"logits": (n, n_labels), "image": (n, d_image), "text": (n, d_text), "joint": (n, d)}`,
        without a side that the model does not read.
    """
    inputs, values = _read_sides(model, sides, encoders or {})
    fusion = fusion_of(model)
    found = keras.Model(fusion.input, {"logits": fusion.output, "joint": find_features(fusion)})(values)
    vectors = {side: values[f"{side}_vector"] for side in ("image", "text") if f"{side}_vector" in values}
    return keras.Model(inputs, {**found, **vectors})


def _read_sides(model, sides, encoders):
    """Returns the inputs of a view, and the features of both sides that the fusion reads: inputs, or computed."""
    fusion = fusion_of(model)
    inputs = {"present": keras.Input((2,), name="present")}
    values = {"present": inputs["present"]}
    encoded: dict[str, Any] = {}
    for name, tensor in fusion.input.items():
        if name == "present":
            continue
        side, part = name.split("_", 1)
        if side in sides:
            inputs[name] = values[name] = keras.Input(tensor.shape[1:], name=name)
        else:
            encoded[side] = encoded.get(side) or _encode(model, side, inputs, encoders.get(side))
            values[name] = encoded[side][part]
    return inputs, values


def view_joint(model: keras.Model) -> keras.Model:
    """Makes a model that also returns the features from which the logits are computed. It shares its weights.

    Args:
        model: `keras.Model` from `kmm.models.build.build_model`.

    Returns:
        `keras.Model` from the inputs of `model` to `{"logits": (n, n_labels), "features": (n, d)}`, float32.
    """
    return _view_fusion(model, {"features": find_features(fusion_of(model))})


def view_attention(model: keras.Model) -> keras.Model:
    """Makes a model that also returns the weights of attention of its fusion, in one pass. It shares its weights.

    Args:
        model: `keras.Model` from `kmm.models.build.build_model`.

    Returns:
        `keras.Model` from the inputs of `model` to `{"logits": (n, n_labels)}` and, for each layer of attention of the
        fusion that returns its weights, its name to `(n, heads, q, k)`, float32: how much place q reads of place k of
        the same or the other side, which sum to 1 over k. The rows of the film are its places, row by row. Without
        such layers `logits` is alone. See `kmm.models.cross.network`.

    Example:
        >>> from kmm.models.build import ModelSpec, build_model
        >>> spec = ModelSpec("small-cnn", "text-cnn", "cross-attention", pixels=32, length=9, embedding_size=4)
        >>> view = view_attention(build_model(spec, label_count=1, vocabulary_size=9))
        >>> view.output["cross1_image_attention"].shape  # places of the film read words
        (None, 4, 4, 9)
    """
    found = [layer for layer in fusion_of(model).layers if isinstance(layer, Attention) and layer.return_weights]
    return _view_fusion(model, {layer.name: layer.output[1] for layer in found})


def _view_fusion(model, more):
    """Makes a model that returns the logits and, by name, other tensors of the fusion."""
    fusion = fusion_of(model)
    inputs, values = _read_sides(model, (), {})
    found = keras.Model(fusion.input, {"logits": fusion.output, **more})(values)
    return keras.Model(
        inputs, {name: keras.layers.Identity(dtype="float32", name=name)(value) for name, value in found.items()}
    )


def view_encoder(model: keras.Model, side: str, parts: Sequence[str], *, length: int = 0) -> keras.Model:
    """Makes a model of the encoder of one side, from its raw input to some parts of its `Encoding`. It shares its
    weights with `model`.

    Args:
        model: `keras.Model` from `kmm.models.build.build_model`.
        side: str. `"image"` or `"text"`.
        parts: of `"vector"`, `"sequence"` and `"mask"`.
        length: int. Words of a report; 0 for those of the model. Fewer are possible for a text encoder that says so,
            see `kmm.models.encoders_text.TextEncoder.any_length`; sequence and mask then have as many places fewer.

    Returns:
        `keras.Model` from `{"image": (n, h, w, 1)}` or `{"token_ids": (n, t)}` to a dict of the parts.
    """
    inputs: dict[str, keras.KerasTensor] = {}
    encoded = _encode_shorter(model, inputs, length) if length else _encode(model, side, inputs)
    return keras.Model(inputs, {part: encoded[part] for part in parts})


def _encode_shorter(model, inputs, length):
    """As `_encode` for the side of reports. The models of the parts accept tensors of their own shapes only, but their
    layers can be called with others."""
    token_ids = inputs["token_ids"] = keras.Input((length,), dtype="int32", name="token_ids")
    mask = ops.cast(ops.not_equal(token_ids, 0), "float32")
    return text_encoder_of(model).call({"rows": embed_of(model).call(token_ids), "padding_mask": mask})


def _encode(model, side, inputs, encoder=None):
    if side == "image":
        encoder = encoder or image_encoder_of(model)
        inputs["image"] = keras.Input(encoder.input.shape[1:], name="image")
        return encoder(inputs["image"])
    if "token_ids" not in inputs:
        length = embed_of(model).input.shape[1]
        inputs["token_ids"] = keras.Input((length,), dtype="int32", name="token_ids")
    token_ids = inputs["token_ids"]
    mask = ops.cast(ops.not_equal(token_ids, 0), "float32")
    return (encoder or text_encoder_of(model))({"rows": embed_of(model)(token_ids), "padding_mask": mask})
