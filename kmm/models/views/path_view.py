"""Split of a model into its affine stem, which reads pixels and rows, and the remaining layers.

An affine stem maps a straight path between two inputs to a straight path. Integrated gradients therefore evaluate the
stem twice per study instead of at every point, and propagate gradients back through it once.
"""

from dataclasses import dataclass

import keras

from kmm.errors import InputError
from kmm.models.description import ImageDescription, TextDescription
from kmm.models.fusion import SIDES, find_features
from kmm.models.joined.joined_encoder import count_views, list_members
from kmm.models.views.joined_cut import finish_encoder, take_front
from kmm.models.views.parts import core_of, fusion_of, image_encoder_of, parts_read, text_encoder_of

LOGITS, JOINT = "logits", "joint"
OUTPUTS = (LOGITS, JOINT, *SIDES)  # what the second half of a `PathView` can return


@dataclass(frozen=True)
class PathView:
    """A model's core, split after its affine stem. Weights are shared with the model.

    Attributes:
        stem: `keras.Model` from `{"image": (n, h, w, 1), "rows": (n, t, d), "padding_mask": (n, t)}`, as far as the
            model reads them, to a dict of float tensors, each affine in image and rows.
        rest: `keras.Model` from these tensors, `present`, and `padding_mask` where the fusion reads the mask of words,
            to logits `(n, n_labels)`, or to vectors `(n, d)` of another of `OUTPUTS`.
        held: float. Memory per path point, as a multiple of what is counted for the layers: see `ImageDescription`.
        views: int. Views of a film, side by side in the channels of what the stem makes of it; see
            `kmm.models.joined.film_views`.
    """

    stem: keras.Model
    rest: keras.Model
    held: float = 1.0
    views: int = 1


def view_path(
    model: keras.Model,
    *,
    image_encoder: ImageDescription | None = None,
    text_encoder: TextDescription | None = None,
    image_layer: str | None = None,
    output: str = LOGITS,
) -> PathView:
    """Splits a model after its affine stem.

    Args:
        model: `keras.Model` from `build_model`.
        image_encoder: `ImageDescription`, or None for a model without films.
        text_encoder: `TextDescription`, or None for a model without reports.
        image_layer: str. Name of another layer of the image encoder to split after, for example its `feature_map`; the
            stem's output `image_<name>` is then not affine in the image.
        output: one of `OUTPUTS`, what the second half returns: the logits; `"joint"`, the features from which they are
            computed; `"image"` or `"text"`, the vector of that encoder, for which nothing else is read.

    Returns:
        `PathView`.

    Raises:
        InputError: if the image encoder has no such layer, or its output is not `(n, rows, columns, channels)`.
    """
    fusion, encoder = fusion_of(model), image_encoder_of(model)
    wanted, vector_alone = ((output,), True) if output in SIDES else (SIDES, False)
    raw = {tensor.name: keras.Input(tensor.shape[1:], name=tensor.name) for tensor in core_of(model).inputs}
    sides: dict[str, tuple[keras.Model, tuple[str, ...], list[str]]] = {}
    if image_encoder and encoder is not None and "image" in wanted:
        sides["image"] = (encoder, (_choose_layer(encoder, image_encoder, image_layer),), ["image"])
    if text_encoder and "text" in wanted:
        sides["text"] = (text_encoder_of(model), text_encoder.stem, ["rows", "padding_mask"])
    stems, features, inner = {}, {"present": raw["present"]}, {}
    masked = "text" in sides and "text_mask" in fusion.input and not vector_alone
    masks = {"padding_mask": raw["padding_mask"]} if masked else {}
    for side, (part, layers, names) in sides.items():
        stem = take_front(part, layers[0]) if side == "image" else _take_stem(part, layers)
        given = {name: raw[name] for name in names}
        outputs = stem(given if len(given) > 1 else raw[names[0]])
        named = dict(zip([f"{side}_{layer}" for layer in layers], keras.tree.flatten(outputs)))
        stems.update(named)
        own = {name: keras.Input(tensor.shape[1:], name=name, dtype=tensor.dtype) for name, tensor in named.items()}
        inner.update(own)
        read = ("vector",) if vector_alone else parts_read(model, side)
        features.update(_finish_encoder(side, part, layers, list(own.values()), read, masks if side == "text" else {}))
    given = {name: raw[name] for _, _, names in sides.values() for name in names}
    other = {} if vector_alone else {"present": raw["present"]}
    found = keras.layers.Identity(dtype="float32", name=output)(_finish(fusion, features, output))
    rest = keras.Model({**inner, **masks, **other}, found)
    held = image_encoder.held if image_encoder else PathView.held
    return PathView(keras.Model(given, stems), rest, held, count_views(encoder) if encoder is not None else 1)


def _finish(fusion, features, output):
    """Computes what the second half returns from the parts of the encodings."""
    if output in SIDES:
        return features[f"{output}_vector"]
    fused = fusion if output == LOGITS else keras.Model(fusion.input, find_features(fusion))
    return fused({name: features[name] for name in fusion.input})


def _take_stem(encoder, layers):
    return keras.Model(encoder.input, [encoder.get_layer(layer).output for layer in layers])


def _choose_layer(encoder, entry, name):
    """Returns the layer to split an image encoder after: its stem, or a named layer that returns a map."""
    if name is None:
        return entry.stem
    maps = {layer.name for layer in list_members(encoder)[0].layers if len(getattr(layer.output, "shape", ())) == 4}
    if name not in maps:
        ends = [block for block in entry.blocks if block in maps] or [entry.feature_map]  # blocks may return tokens
        raise InputError(
            f"The image encoder has no layer {name!r} that returns a map (rows, columns, channels). "
            f"Its blocks end with: {', '.join(ends)}."
        )
    return name


def _finish_encoder(side, encoder, layers, inner, read, masks):
    """Computes the parts of an encoding that are read from the outputs of the encoder's stem and its masks."""
    parts = {part: tensor for part, tensor in encoder.output.items() if part in read}
    if side == "image":
        return {
            f"{side}_{part}": tensor for part, tensor in finish_encoder(encoder, layers[0], inner[0], parts).items()
        }
    given = {id(encoder.input[name]): mask for name, mask in masks.items()}
    found = {part: given[id(tensor)] for part, tensor in parts.items() if id(tensor) in given}  # inputs as they are
    rest = {part: tensor for part, tensor in parts.items() if part not in found}
    if rest:
        cut = [encoder.get_layer(layer).output for layer in layers] + [encoder.input[name] for name in masks]
        outputs = keras.Model(cut, list(rest.values()))([*inner, *masks.values()])
        found |= dict(zip(rest, keras.tree.flatten(outputs), strict=True))
    return {f"{side}_{part}": tensor for part, tensor in found.items()}
