"""Fusions, one table entry each: from the encodings of image and report to vectors, which a head turns into logits.

A fusion with its head is a nested model, so that it can be trained on features computed once.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from kmm.errors import look_up
from kmm.models.cross.network import GATE, add_cross_attention
from kmm.models.cross.shape import CrossShape
from kmm.models.heads import HEADS, Head
from kmm.models.stand_in import StandIn

SIDES = ("image", "text")
Features = Mapping[str, Mapping[str, keras.KerasTensor]]


@dataclass(frozen=True)
class Fusion:
    """A row of the table `FUSIONS`.

    Attributes:
        network: function `(features, present) -> vectors`. `features` maps `"image"` and `"text"`, or the only side of
            the model, to a dict of the parts in `needs`; `present` is `(n, 2)`; `vectors` maps the same sides, or one
            name of what the fusion made of both, to `(n, d)`.
        needs: tuple of the fields of `Encoding` that it reads, such as `("vector",)` or `("sequence", "mask")`.
        join: function `(fusion, parts, weights, bias, head)` that initialises the fusion of both sides as the weighted
            sum of the fusions of each side alone: see `join_concat`.
        source: str. Link of the publication.
        alone: tuple, the fields that it reads of the only side of a model; None for those of `needs`.
        beside: function `(features, present, shape) -> (n, d)` of what it adds, in a model of both sides, to the
            features from which the logits are computed; it is 0 as built and after `join`. None for nothing.
        shape: `CrossShape`, the default of `beside`; None for fusions without it.
    """

    network: Callable[[Features, keras.KerasTensor], dict[str, keras.KerasTensor]]
    needs: tuple[str, ...]
    join: Callable[[keras.Model, Mapping[str, keras.Model], Mapping[str, np.ndarray], np.ndarray, Head], None]
    source: str
    alone: tuple[str, ...] | None = None
    beside: Callable[[Features, keras.KerasTensor, CrossShape], keras.KerasTensor] | None = None
    shape: CrossShape | None = None

    def parts(self, sides: Collection[str]) -> tuple[str, ...]:
        """Returns the fields of `Encoding` that it reads in a model of some sides.

        Example:
            >>> FUSIONS["cross-attention"].parts(["image"]), FUSIONS["cross-attention"].parts(["image", "text"])
            (('vector',), ('vector', 'sequence', 'mask'))
        """
        return self.alone if self.alone and len(sides) == 1 else self.needs


def build_fusion(
    entry: Fusion,
    encoders: Mapping[str, keras.Model],
    *,
    label_count: int,
    units: int,
    dropout: float,
    head: str = "decoder",
    shape: CrossShape | None = None,
) -> keras.Model:
    """Builds the nested model of one fusion with its head.

    Args:
        entry: `Fusion`, a value of `FUSIONS`.
        encoders: dict from `"image"` and `"text"`, or one of them, to the encoder model of that side.
        label_count: int, at least 1.
        units: int. Width of the decoder.
        dropout: float in [0, 1). Fraction of the decoder's outputs dropped in training.
        head: str, a key of `kmm.models.heads.HEADS`.
        shape: `CrossShape` of a fusion that has one; None for that of the entry.

    Returns:
        `keras.Model` named `fusion`, from `{"image_vector", "text_vector", "present"}` (for each side and each of
        `entry.parts`: `"<side>_<part>"`) to logits float32 `(n, label_count)`. The layer `joint` returns the features
        of the head; see `find_features`.

    Example:
        >>> image_encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> image_encoder = keras.Model(image_encoder.inputs, {"vector": image_encoder.outputs[0]})
        >>> fusion = build_fusion(FUSIONS["concat"], {"image": image_encoder}, label_count=1, units=16, dropout=0.3)
        >>> sorted(fusion.input)
        ['image_vector', 'present']
    """
    present = keras.Input((2,), name="present")
    features = {
        side: {
            part: keras.Input(encoder.output[part].shape[1:], name=f"{side}_{part}") for part in entry.parts(encoders)
        }
        for side, encoder in encoders.items()
    }
    chosen = look_up(HEADS, head, "head")
    joint = chosen.network(entry.network(features, present), units, dropout)
    if entry.beside and len(encoders) > 1:
        added = entry.beside(features, present, shape or entry.shape or CrossShape())
        joint = layers.Concatenate(dtype="float32", name="joint_and_beside")([joint, added])
    logits = layers.Dense(label_count, dtype="float32", name="logits")(joint)
    inputs = {tensor.name: tensor for parts in features.values() for tensor in parts.values()}
    fusion = keras.Model({**inputs, "present": present}, logits, name="fusion")
    chosen.start(fusion)
    return fusion


def find_features(fusion: keras.Model) -> keras.KerasTensor:
    """Returns the features `(n, d)` of a fusion from which its logits are computed: those of its head, and behind them
    what the fusion adds.

    Example:
        >>> encoder = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> encoder = keras.Model(encoder.inputs, {"vector": encoder.outputs[0]})
        >>> sizes = {"label_count": 1, "units": 16, "dropout": 0.3}
        >>> find_features(build_fusion(FUSIONS["concat"], {"image": encoder}, **sizes)).shape
        (None, 16)
    """
    return fusion.get_layer("logits").input


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


def join_cross(
    fusion: keras.Model,
    parts: Mapping[str, keras.Model],
    weights: Mapping[str, np.ndarray],
    bias: np.ndarray,
    head: Head,
) -> None:
    """Initialises the joint head as `join_concat` does, and closes the gate of attention.

    Args: as for `join_concat`.
    """
    join_concat(fusion, parts, weights, bias, head)
    gate = fusion.get_layer(GATE)
    gate.set_weights([np.zeros_like(values) for values in gate.get_weights()])


FUSIONS = {
    "concat": Fusion(network=_concat, needs=("vector",), join=join_concat, source="https://arxiv.org/abs/1902.08888"),
    "cross-attention": Fusion(
        network=_concat,
        needs=("vector", "sequence", "mask"),
        join=join_cross,
        source="https://arxiv.org/abs/1908.07490",
        alone=("vector",),
        beside=add_cross_attention,
        shape=CrossShape(),
    ),
}
