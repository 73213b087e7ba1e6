"""The parts of a built or loaded model: find them, freeze them, start one model from the encoders of another."""

import keras

from kmm.errors import InputError
from kmm.models.encoders_image import IMAGE_ENCODERS


def part(model, name):
    """Finds a nested model by its name.

    Args:
        model: `keras.Model` from `build_model`, or one of its parts.
        name: str. `"embed"`, `"core"`, `"image_encoder"`, `"text_encoder"` or `"fusion"`.

    Returns:
        the nested `keras.Model`, sharing its weights; None when `model` has no such part.
    """
    if model.name == name:
        return model
    for layer in model.layers:
        if isinstance(layer, keras.Model) and (found := part(layer, name)) is not None:
            return found
    return None


def embed_of(model):
    """Returns token_ids `(n, t)` -> rows `(n, t, d)`; None in a model of images alone."""
    return part(model, "embed")


def core_of(model):
    """Returns `{"image", "rows", "padding_mask", "present"}` -> logits `(n, n_labels)`."""
    return part(model, "core")


def image_encoder_of(model):
    """Returns image `(n, h, w, 1)` -> `{"vector", "sequence", "mask"}`; None in a model of reports alone."""
    return part(model, "image_encoder")


def text_encoder_of(model):
    """Returns `{"rows", "padding_mask"}` -> `{"vector", "sequence", "mask"}`; None in a model of images alone."""
    return part(model, "text_encoder")


def fusion_of(model):
    """Returns `{"image_vector", "text_vector", "present"}`, as the model has them, -> logits `(n, n_labels)`."""
    return part(model, "fusion")


def copy_encoder_weights(source, target):
    """Copies the encoders and word rows that both models have, so that `target` starts where `source` ended.

    Args:
        source: `keras.Model`, trained.
        target: `keras.Model`, changed in place.

    Returns:
        tuple of the names of the parts copied; empty when the models share none.

    Raises:
        InputError: if a part of one has other shapes than that of the other.
    """
    copied = []
    for name in ("image_encoder", "embed", "text_encoder"):
        here, there = part(source, name), part(target, name)
        if here is None or there is None:
            continue
        shapes, expected = [[tuple(w.shape) for w in model.weights] for model in (here, there)]
        if shapes != expected:
            raise InputError(f"The {name} of the two models must be of one kind and size to copy its weights.")
        there.set_weights(here.get_weights())
        copied.append(name)
    return tuple(copied)


def set_trainable(model, spec, *, image=True, text=True):
    """Says which encoders further training changes. The fusion is always trained. Compile the model afterwards.

    Args:
        model: `keras.Model` from `build_model`, changed in place.
        spec: `ModelSpec` of the model.
        image: True, False, or `"top"`: only from the layer named in the encoder's table entry to its end, with every
            batch normalisation frozen. A frozen batch normalisation uses its stored statistics, in training too.
        text: True or False. Word rows follow, unless `spec.train_embedding` keeps them frozen.

    Raises:
        InputError: if `image` or `text` is none of these.
    """
    if image not in (True, False, "top") or text not in (True, False):
        raise InputError(f"`image` must be True, False or 'top', `text` True or False. Received: {image!r}, {text!r}.")
    if spec.image_encoder:
        encoder = image_encoder_of(model)
        encoder.trainable = bool(image)
        if image == "top":
            _freeze_below(encoder, IMAGE_ENCODERS[spec.image_encoder].top)
    if spec.text_encoder:
        text_encoder_of(model).trainable = text
        embed_of(model).trainable = text and spec.train_embedding


def _freeze_below(encoder, top):
    above = False
    for layer in encoder.layers:
        above = above or layer.name == top
        layer.trainable = above and not isinstance(layer, keras.layers.BatchNormalization)
