"""Access to the nested parts of a model: find them, freeze them, copy encoders from one model to another."""

from typing import Literal

import keras

from kmm.errors import InputError
from kmm.models.build import ModelSpec
from kmm.models.encoders_image import IMAGE_ENCODERS, list_starts
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.image_vector import DEPTHS

Trained = bool | float | Literal["top", "lora"]


def part(model: keras.Model, name: str) -> keras.Model | None:
    """Finds a nested model by its name.

    Args:
        model: `keras.Model` from `build_model`, or one of its parts.
        name: str. `"embed"`, `"core"`, `"image_encoder"`, `"text_encoder"` or `"fusion"`.

    Returns:
        the nested `keras.Model`, which shares its weights with `model`; None if `model` has no such part.
    """
    if model.name == name:
        return model
    for layer in model.layers:
        if isinstance(layer, keras.Model) and (found := part(layer, name)) is not None:
            return found
    return None


def embed_of(model: keras.Model) -> keras.Model | None:
    """Returns the model from token_ids `(n, t)` to rows `(n, t, d)`; None in a model of images alone."""
    return part(model, "embed")


def core_of(model: keras.Model) -> keras.Model:
    """Returns the model from `{"image", "rows", "padding_mask", "present"}` to logits `(n, n_labels)`."""
    return part(model, "core")


def image_encoder_of(model: keras.Model) -> keras.Model | None:
    """Returns the model from image `(n, h, w, 1)` to `{"vector", "sequence", "mask"}`; None in a model of reports."""
    return part(model, "image_encoder")


def text_encoder_of(model: keras.Model) -> keras.Model | None:
    """Returns the model from `{"rows", "padding_mask"}` to `{"vector", "sequence", "mask"}`; None in one of images."""
    return part(model, "text_encoder")


def fusion_of(model: keras.Model) -> keras.Model:
    """Returns the model from `{"image_vector", "text_vector", "present"}`, or fewer, to logits `(n, n_labels)`."""
    return part(model, "fusion")


def encoders_of(model: keras.Model, side: str) -> list[keras.Model]:
    """Returns the nested models of a side, `"image"` or `"text"`, in the order of the data: of reports, the embedding
    and the text encoder. Empty if the model does not read that side."""
    found = [image_encoder_of(model)] if side == "image" else [embed_of(model), text_encoder_of(model)]
    return [encoder for encoder in found if encoder is not None]


def vector_groups(model: keras.Model, side: str) -> tuple[int, ...]:
    """Returns the numbers of consecutive features that the vector of a side consists of: of an image encoder that
    reads several depths one number per depth, otherwise one for all.

    Example:
        >>> from kmm.models.build import ModelSpec, build_model
        >>> spec = ModelSpec(image_encoder="small-cnn", pixels=32, image_depths=3)
        >>> vector_groups(build_model(spec, label_count=1), "image")
        (32, 96, 256)
    """
    encoder = encoders_of(model, side)[-1]
    size = encoder.output["vector"].shape[-1]
    joined = _find_layer(encoder, DEPTHS)
    groups = (size,) if joined is None else tuple(tensor.shape[-1] for tensor in joined.input)
    return groups * (size // sum(groups))


def _find_layer(model, name):
    for layer in model.layers:
        if layer.name == name:
            return layer
        if isinstance(layer, keras.Model) and (found := _find_layer(layer, name)) is not None:
            return found
    return None


def parts_read(model: keras.Model, side: str) -> tuple[str, ...]:
    """Returns the parts of a side's `Encoding` that the fusion of a model reads; empty if it does not read the side.

    Example:
        >>> from kmm.models.build import ModelSpec, build_model
        >>> model = build_model(ModelSpec(image_encoder="small-cnn", pixels=32), label_count=1)
        >>> parts_read(model, "image"), parts_read(model, "text")
        (('vector',), ())
    """
    names = [name.partition("_") for name in fusion_of(model).input]
    return tuple(part for found, _, part in names if found == side and part)


def copy_encoder_weights(source: keras.Model, target: keras.Model) -> tuple[str, ...]:
    """Copies the encoders and embedding rows that both models have, so that `target` starts where `source` ended.

    Args:
        source: `keras.Model`, trained.
        target: `keras.Model`, changed in place.

    Returns:
        tuple of the names of the copied parts; empty when the models share none.

    Raises:
        InputError: if a part has different shapes in the two models.
    """
    copied = []
    for name in ("image_encoder", "embed", "text_encoder"):
        here, there = part(source, name), part(target, name)
        if here is None or there is None:
            continue
        shapes, expected = [[tuple(w.shape) for w in model.weights] for model in (here, there)]
        if shapes != expected:
            raise InputError(f"The {name} differs in shape between the two models, so its weights cannot be copied.")
        there.set_weights(here.get_weights())
        copied.append(name)
    return tuple(copied)


def set_trainable(
    model: keras.Model,
    spec: ModelSpec,
    *,
    image: Trained = True,
    text: Trained = True,
    batch_norm: str = "train",
) -> None:
    """Selects the encoders that further training changes. The fusion is always trained. Compile the model afterwards.

    Args:
        model: `keras.Model` from `build_model`, changed in place.
        spec: `ModelSpec` of the model.
        image, text: True, False, or `"top"`, which trains the encoder from the layer `top` of its table entry on; or a
            float in (0, 1): the fraction of its blocks that is trained, from the top, at least one of them; see
            `kmm.models.encoders_image.list_starts` and `kmm.models.encoders_text.TextEncoder.starts`; or `"lora"`: no
            layer is trained, see `kmm.models.views.low_rank.add_factors`. Rows of words are trained with the whole text
            encoder only, unless `spec.train_embedding` keeps them frozen.
        batch_norm: str. `"train"`, or `"inference"` to freeze all batch normalisation of the image encoder: it uses its
            stored statistics then, also in training. That of a text encoder whose top is trained is always frozen.

    Raises:
        InputError: if `image`, `text` or `batch_norm` has another value.
    """
    for name, value in (("image", image), ("text", text)):
        if not (_is_fraction(value) or value in (True, False, "top", "lora")):
            raise InputError(f"`{name}` must be True, False, 'top', 'lora' or a fraction. Received: {value!r}.")
    if batch_norm not in ("train", "inference"):
        raise InputError(f"`batch_norm` must be 'train' or 'inference'. Received: {batch_norm!r}.")
    encoder, text_encoder, embed = image_encoder_of(model), text_encoder_of(model), embed_of(model)
    if spec.image_encoder and encoder is not None:
        _train_all(encoder, bool(image) and image != "lora")
        entry = IMAGE_ENCODERS[spec.image_encoder]
        if image == "top":
            _freeze_below(encoder, entry.top)
        elif _is_fraction(image):
            _freeze_below(encoder, _choose_start(list_starts(entry, encoder), image))
        if batch_norm == "inference":
            _freeze_norms(encoder)
    if spec.text_encoder and text_encoder is not None and embed is not None:
        _train_all(text_encoder, bool(text) and text != "lora")
        found = TEXT_ENCODERS[spec.text_encoder]
        if text == "top":
            _freeze_below(text_encoder, found.top)
        elif _is_fraction(text):
            _freeze_below(text_encoder, _choose_start(found.starts(text_encoder), text) if found.starts else "")
        if text is not True:
            _freeze_norms(text_encoder)
        embed.trainable = text is True and spec.train_embedding


def _is_fraction(value):
    return isinstance(value, float) and 0 < value < 1


def _choose_start(starts, fraction):
    """Returns the layer from which a fraction of the blocks follows, at least one of them."""
    return starts[max(1, int(fraction * len(starts))) - 1]


def _train_all(model, trained):
    """Marks a model and all of its layers. On TensorFlow, Keras passes on only a mark that changes the model's own."""
    model.trainable = not trained
    model.trainable = trained


def _freeze_below(encoder, top):
    """Freezes the layers before the one named `top`, none if it is empty."""
    above = not top
    for layer in encoder.layers:
        above = above or layer.name == top
        layer.trainable = above


def _freeze_norms(model):
    """Freezes all batch normalisation."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            _freeze_norms(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
