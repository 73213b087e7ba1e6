"""View of a model that hands out the weights of its attention, and the way from its inputs to what attention reads."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import keras
from keras import layers

from kmm.errors import InputError
from kmm.models.cross.rows import StandInRows
from kmm.models.joined.joined_encoder import list_members
from kmm.models.networks.vision_layers import PlacesOfTokens, SelfAttention, Tokens
from kmm.models.networks.window_attention import WindowAttention
from kmm.models.transformer.attention import Attention
from kmm.models.transformer.dot_product import FLOAT, count_attention_bytes
from kmm.models.transformer.frame import Frame
from kmm.models.views.parts import core_of, fusion_of, image_encoder_of, text_encoder_of

OPEN = Attention | SelfAttention  # layers that hand out their weights
ELSE = "Choose another method, for example integrated-gradients."
WINDOWS = f"Rollout does not follow attention in shifted windows, as that of this image encoder (Swin). {ELSE}"
SEVERAL = f"Rollout follows one image encoder that reads a film once, and this model averages views or members. {ELSE}"
NOTHING = f"Rollout follows attention, and this model has none, in its encoders or between film and report. {ELSE}"


class OpenAttention(layers.Layer):
    """Runs a layer of attention, with a tensor added to its weights, and returns them. It is part of a view, and is not
    saved.

    Args:
        attention: `Attention` or `SelfAttention`, which is shared.
    """

    def __init__(self, attention: Any, **options: Any):
        super().__init__(dtype=attention.dtype_policy, **options)
        self.attention = attention

    def call(self, nudge: Any, given: list[Any]) -> Any:
        """Takes a nudge `(n, heads, q, k)` and what the layer takes; returns `(n, q, d)` and its weights."""
        return self.attention.read(*given, nudge=nudge)

    def path_point_bytes(self, outputs: float) -> float:
        """Returns the bytes that a gradient keeps for one study, from those of the layer's outputs: also of the weights
        handed out and of their gradient."""
        scores = prod(self.output[1].shape[1:])
        return count_attention_bytes(outputs - FLOAT * scores, scores) + 2 * FLOAT * scores

    def get_config(self) -> dict[str, Any]:
        """Returns what describes the layer; it cannot be made again from this."""
        return {**super().get_config(), "attention": self.attention.name}


@dataclass(frozen=True)
class Trail:
    """The tokens of one side that attention reads, and the places of the film, or words, among them.

    Attributes:
        names: tuple of str. Weights of the encoder `(n, heads, tokens, tokens)` in the order of the network; empty for
            an encoder without attention, whose rows are then the tokens.
        tokens: int. Number of tokens, marks and registers included.
        first: int. The token of the first place, or word.
        shape: `(rows, columns)` of the film's places, `(words,)` of a report; None if the rows are not one per word.
        vector: int or None. The token that the vector of the side is; None: the mean over the places.
        row: int. The token of the first row of the encoder's sequence, which the fusion reads.
    """

    names: tuple[str, ...]
    tokens: int
    first: int
    shape: tuple[int, ...] | None
    vector: int | None
    row: int


@dataclass(frozen=True)
class AttentionView:
    """A model that hands out the weights of its attention. Its layers are shared with the model it was made from.

    Attributes:
        model: `keras.Model` from the inputs of the core, and for each name in `weights` a tensor of that shape named
            `<name>_nudge`, which is added to these weights, to a dict of `logits (n, n_labels)`, of each name to its
            weights `(n, heads, q, k)`, float32, and with a crossing of `image_read` and `text_read (n, m)`: 1 for each
            row of a side that the fusion reads, else 0.
        weights: dict of name to `(heads, q, k)`: `image_<layer>` and `text_<layer>` of the encoders, in the order of
            the network; of the fusion as in `kmm.models.cross.network`.
        trails: dict of `"image"` and `"text"`, the sides whose tokens are known, to `Trail`.
        crossings: int. Layers in which film and report read each other.
    """

    model: keras.Model
    weights: dict[str, tuple[int, int, int]]
    trails: dict[str, Trail]
    crossings: int

    @property
    def explained(self) -> tuple[str, ...]:
        """The sides that attention leads to: those whose encoder has some, or all that the fusion reads."""
        return tuple(
            side for side, trail in self.trails.items() if trail.shape is not None and (trail.names or self.crossings)
        )


def find_obstacle(model: keras.Model) -> str:
    """Returns why the attention of a model cannot be followed from its logits to its inputs; empty if it can.

    Args:
        model: `keras.Model` from `kmm.models.build.build_model`.

    Example:
        >>> from kmm.models.build import ModelSpec, build_model
        >>> find_obstacle(build_model(ModelSpec("small-cnn", pixels=32), label_count=1)).partition(",")[0]
        'Rollout follows attention'
    """
    encoder = image_encoder_of(model)
    if encoder is not None:
        members = list_members(encoder)
        if any(isinstance(layer, WindowAttention) for member in members for layer in member.layers):
            return WINDOWS
        if members != [encoder]:
            return SEVERAL
    trails = _find_trails(model)
    if any(trail.names for trail in trails.values()):
        return ""
    crossed = _count_crossings(fusion_of(model)) and any(trail.shape for trail in trails.values())
    return "" if crossed else NOTHING


def open_attention(model: keras.Model) -> AttentionView:
    """Makes a view of a model that hands out the weights of its attention, all in one pass.

    Args:
        model: `keras.Model` from `kmm.models.build.build_model`. It is not changed.

    Returns:
        `AttentionView`.

    Raises:
        InputError: if `find_obstacle` finds one.

    Example:
        >>> from kmm.models.build import ModelSpec, build_model
        >>> spec = ModelSpec(text_encoder="transformer-small", length=9, embedding_size=4)
        >>> view = open_attention(build_model(spec, label_count=1, vocabulary_size=9))
        >>> view.weights, view.explained
        ({'text_block1_attention': (4, 11, 11), 'text_block2_attention': (4, 11, 11)}, ('text',))
    """
    if obstacle := find_obstacle(model):
        raise InputError(obstacle)
    raw = {tensor.name: keras.Input(tensor.shape[1:], name=tensor.name) for tensor in core_of(model).inputs}
    nudges: dict[str, keras.KerasTensor] = {}
    outputs: dict[str, keras.KerasTensor] = {}
    features = {"present": raw["present"]}
    for side, encoder in (("image", image_encoder_of(model)), ("text", text_encoder_of(model))):
        if encoder is not None:
            given = [raw["image"]] if side == "image" else [raw[tensor.name] for tensor in encoder.inputs]
            found = _run_open(encoder, f"{side}_", given, nudges, outputs)
            features.update({f"{side}_{part}": tensor for part, tensor in found.items()})
    fusion = fusion_of(model)
    logits = _run_open(fusion, "", [features[tensor.name] for tensor in fusion.inputs], nudges, outputs)
    made = {
        name: layers.Identity(dtype="float32", name=name)(value)
        for name, value in {"logits": logits, **outputs}.items()
    }
    inputs = {**raw, **{tensor.name: tensor for tensor in nudges.values()}}
    weights = {name: tuple(tensor.shape[1:]) for name, tensor in nudges.items()}
    return AttentionView(keras.Model(inputs, made), weights, _find_trails(model), _count_crossings(fusion))


def _run_open(model, prefix, given, nudges, outputs):
    """Applies a part of a model with its attention open; returns what the part returns. Adds a nudge for each layer of
    attention to `nudges`, and the weights, and the rows that the fusion reads, to `outputs`."""
    own = {layer.name: keras.Input(_read_shape(layer)) for layer in model.layers if isinstance(layer, OPEN)}
    copies = [keras.Input(tensor.shape[1:], dtype=tensor.dtype) for tensor in model.inputs]
    found: dict[str, Any] = {}

    def call(layer, *arguments, **options):
        if not isinstance(layer, OPEN):
            made = layer(*arguments, **options)
            if isinstance(layer, StandInRows):
                found[f"{layer.name.removesuffix('_rows')}_read"] = made[1]
            return made
        made = OpenAttention(layer, name=f"open_{layer.name}")(own[layer.name], list(arguments))
        found[layer.name] = made[1]
        return made if getattr(layer, "return_weights", False) else made[0]

    whole = keras.Model([*model.inputs, *own.values()], model.output)
    opened = keras.models.clone_model(
        whole, input_tensors=[*copies, *own.values()], clone_function=lambda layer: layer, call_function=call
    )
    both = keras.Model([*copies, *own.values()], {"output": opened.output, "found": found})
    for name, tensor in own.items():
        nudges[prefix + name] = keras.Input(tensor.shape[1:], name=f"{prefix}{name}_nudge")
    made = both([*given, *(nudges[prefix + name] for name in own)])
    outputs.update({prefix + name: tensor for name, tensor in made["found"].items()})
    return made["output"]


def _read_shape(layer):
    """Returns the shape `(heads, q, k)` of the weights of a layer of attention."""
    if isinstance(layer, SelfAttention):
        return (layer.heads, *(layer.output.shape[1],) * 2)
    query, key = keras.tree.flatten(layer.input)[:2]
    return layer.heads, query.shape[1], key.shape[1]


def _find_trails(model):
    """Returns the `Trail` of each side whose tokens are known."""
    found = (("image", _trace_film(image_encoder_of(model))), ("text", _trace_report(text_encoder_of(model))))
    return {side: trail for side, trail in found if trail is not None}


def _trace_film(encoder):
    if encoder is None or list_members(encoder) != [encoder]:
        return None
    shape = tuple(encoder.get_layer("places").input.shape[1:3])
    names = tuple(f"image_{layer.name}" for layer in _find_layers(encoder, SelfAttention))
    tokens, places = (next(_find_layers(encoder, kind), None) for kind in (Tokens, PlacesOfTokens))
    if not names or tokens is None or places is None:
        return Trail((), prod(shape), 0, shape, None, 0)
    prefix = tokens.prefix
    return Trail(names, prefix + prod(shape), prefix, shape, None, prefix)


def _trace_report(encoder):
    if encoder is None:
        return None
    words, rows = encoder.input["rows"].shape[1], encoder.output["sequence"].shape[1]
    names = tuple(f"text_{layer.name}" for layer in _find_layers(encoder, Attention))
    if names and next(_find_layers(encoder, Frame), None) is not None:
        return Trail(names, rows, 1, (words,), 0, 0)
    return Trail((), rows, 0, (words,) if rows == words else None, None, 0)


def _find_layers(model: keras.Model, kind: type) -> Iterator[Any]:
    return (layer for layer in model.layers if isinstance(layer, kind))


def _count_crossings(fusion):
    """Returns the number of layers of a fusion in which film and report read each other."""
    return sum(layer.name.startswith("cross") for layer in _find_layers(fusion, Attention)) // 2
