"""Fusions, one table entry each: from the encodings of image and report to vectors, which a head turns into logits.

A fusion with its head is a nested model, so that it can be trained on features computed once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from kmm.errors import look_up
from kmm.models.heads import HEADS, Head
from kmm.models.stand_in import StandIn

SIDES = ("image", "text")


@dataclass(frozen=True)
class Fusion:
    """A row of the table `FUSIONS`.

    Attributes:
        network: function `(features, present) -> vectors`. `features` maps `"image"` and `"text"`, or the only side of
            the model, to a dict of the parts in `needs`; `present` is `(n, 2)`; `vectors` maps the same sides, or one
            name of what the fusion made of both, to `(n, d)`.
        needs: tuple of the fields of `Encoding` that it reads: `("vector",)` or `("sequence", "mask")`.
        join: function `(fusion, parts, weights, bias, head)` that initialises the fusion of both sides as the weighted
            sum of the fusions of each side alone: see `join_concat`.
        source: str. Link of the publication.
    """

    network: Callable[[dict[str, dict[str, keras.KerasTensor]], keras.KerasTensor], dict[str, keras.KerasTensor]]
    needs: tuple[str, ...]
    join: Callable[[keras.Model, Mapping[str, keras.Model], Mapping[str, np.ndarray], np.ndarray, Head], None]
    source: str


def build_fusion(
    entry: Fusion,
    encoders: Mapping[str, keras.Model],
    *,
    label_count: int,
    units: int,
    dropout: float,
    head: str = "decoder",
) -> keras.Model:
    """Builds the nested model of one fusion with its head.

    Args:
        entry: `Fusion`, a value of `FUSIONS`.
        encoders: dict from `"image"` and `"text"`, or one of them, to the encoder model of that side.
        label_count: int, at least 1.
        units: int. Width of the decoder.
        dropout: float in [0, 1). Fraction of the decoder's outputs dropped in training.
        head: str, a key of `kmm.models.heads.HEADS`.

    Returns:
        `keras.Model` named `fusion`, from `{"image_vector", "text_vector", "present"}` (for each side and each part in
        `entry.needs`: `"<side>_<part>"`) to logits float32 `(n, label_count)`. The layer `joint` returns the features
        `(n, d)` from which the logits are computed.

    Example:
        >>> image_encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> image_encoder = keras.Model(image_encoder.inputs, {"vector": image_encoder.outputs[0]})
        >>> fusion = build_fusion(FUSIONS["concat"], {"image": image_encoder}, label_count=1, units=16, dropout=0.3)
        >>> sorted(fusion.input)
        ['image_vector', 'present']
    """
    present = keras.Input((2,), name="present")
    features = {
        side: {part: keras.Input(encoder.output[part].shape[1:], name=f"{side}_{part}") for part in entry.needs}
        for side, encoder in encoders.items()
    }
    chosen = look_up(HEADS, head, "head")
    joint = chosen.network(entry.network(features, present), units, dropout)
    logits = layers.Dense(label_count, dtype="float32", name="logits")(joint)
    inputs = {tensor.name: tensor for parts in features.values() for tensor in parts.values()}
    fusion = keras.Model({**inputs, "present": present}, logits, name="fusion")
    chosen.start(fusion)
    return fusion


def _concat(features, present):
    """Returns the vector of each side, with a learned one in place of those that a study lacks."""
    return {
        side: StandIn(SIDES.index(side), name=f"{side}_stand_in")(parts["vector"], present)
        for side, parts in features.items()
    }


def join_concat(
    fusion: keras.Model,
    parts: Mapping[str, keras.Model],
    weights: Mapping[str, np.ndarray],
    bias: np.ndarray,
    head: Head,
) -> None:
    """Initialises the joint head with the two single heads, so that its logits are exactly
    `weights["image"] * image logits + weights["text"] * text logits + bias`.

    Training starts from there, so that the joint model does not have to learn again from random weights.

    Args:
        fusion: `keras.Model` of both sides, changed in place. Its decoder is as wide as the two single ones together.
        parts: dict of `"image"` and `"text"` to the trained fusion of that side alone.
        weights: dict of the same to float array `(n_labels,)`.
        bias: float array `(n_labels,)`.
        head: `kmm.models.heads.Head` of all three.
    """
    for side, part in parts.items():
        fusion.get_layer(f"{side}_stand_in").set_weights(part.get_layer(f"{side}_stand_in").get_weights())
    head.join(fusion, parts, weights, bias)


FUSIONS = {
    "concat": Fusion(network=_concat, needs=("vector",), join=join_concat, source="https://arxiv.org/abs/1902.08888")
}
