"""Fusions, one table entry each: from the encodings of image and report to logits.

A fusion is a nested model, so that it can be trained on features computed once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np
import scipy.linalg
from keras import layers

from kmm.models.stand_in import StandIn

SIDES = ("image", "text")
MOMENTUM = 0.9  # Keras's 0.99 needs hundreds of steps to settle; an epoch of a few thousand studies has only dozens


@dataclass(frozen=True)
class Fusion:
    """A row of the table `FUSIONS`.

    Attributes:
        network: function `(features, present, units, dropout) -> (n, d)`. `features` maps `"image"` and `"text"`, or
            the only side of the model, to a dict of the parts in `needs`; `present` is `(n, 2)`.
        needs: tuple of the fields of `Encoding` that it reads: `("vector",)` or `("sequence", "mask")`.
        join: function `(fusion, parts, weights, bias)` that initialises the fusion of both sides as the weighted sum of
            the fusions of each side alone: see `join_concat`.
        source: str. Link of the publication.
    """

    network: Callable[[dict[str, dict[str, keras.KerasTensor]], keras.KerasTensor, int, float], keras.KerasTensor]
    needs: tuple[str, ...]
    join: Callable[[keras.Model, Mapping[str, keras.Model], Mapping[str, np.ndarray], np.ndarray], None]
    source: str


def build_fusion(
    entry: Fusion, encoders: Mapping[str, keras.Model], *, label_count: int, units: int, dropout: float
) -> keras.Model:
    """Builds the nested model of one fusion.

    Args:
        entry: `Fusion`, a value of `FUSIONS`.
        encoders: dict from `"image"` and `"text"`, or one of them, to the encoder model of that side.
        label_count: int, at least 1.
        units: int. Width of the decoder.
        dropout: float in [0, 1). Fraction of the decoder's outputs dropped in training.

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
    joint = entry.network(features, present, units, dropout)
    logits = layers.Dense(label_count, dtype="float32", name="logits")(joint)
    inputs = {tensor.name: tensor for parts in features.values() for tensor in parts.values()}
    return keras.Model({**inputs, "present": present}, logits, name="fusion")


def _concat(features, present, units, dropout):
    """Concatenates the vectors, normalising the image's first, and applies one dense decoder; with one side, only the
    decoder."""
    vectors = {
        side: StandIn(SIDES.index(side), name=f"{side}_stand_in")(parts["vector"], present)
        for side, parts in features.items()
    }
    if len(vectors) > 1:
        image = layers.BatchNormalization(momentum=MOMENTUM, name="image_bn")(vectors["image"])
        x = layers.Concatenate(name="side_by_side")([vectors["text"], image])
    else:
        (x,) = vectors.values()
    x = layers.BatchNormalization(momentum=MOMENTUM, name="decoder_bn")(x)
    x = layers.Dense(units, activation="relu", name="decoder")(x)
    x = layers.Dropout(dropout, name="decoder_dropout")(x)
    return layers.BatchNormalization(momentum=MOMENTUM, name="joint")(x)


def join_concat(
    fusion: keras.Model,
    parts: Mapping[str, keras.Model],
    weights: Mapping[str, np.ndarray],
    bias: np.ndarray,
) -> None:
    """Initialises the joint decoder with the two single decoders, so that its logits are exactly
    `weights["image"] * image logits + weights["text"] * text logits + bias`.

    Training starts from there, so that the joint model does not have to learn again from random weights.

    Args:
        fusion: `keras.Model` of both sides, changed in place. Its decoder is as wide as the two single ones together.
        parts: dict of `"image"` and `"text"` to the trained fusion of that side alone.
        weights: dict of the same to float array `(n_labels,)`.
        bias: float array `(n_labels,)`.
    """

    def read(side, layer):
        return [np.asarray(value) for value in parts[side].get_layer(layer).get_weights()]

    def join(layer):
        return [np.concatenate(pair, axis=-1) for pair in zip(read("text", layer), read("image", layer))]

    for side in parts:
        fusion.get_layer(f"{side}_stand_in").set_weights(read(side, f"{side}_stand_in"))
    # A separate layer normalises the image first; the shared layer after it then only scales and shifts it.
    gamma, beta, mean, variance = join("decoder_bn")
    split = read("text", "decoder_bn")[0].size
    ones, zeros = np.ones_like(mean[split:]), np.zeros_like(mean[split:])
    fusion.get_layer("image_bn").set_weights([ones, zeros, mean[split:], variance[split:]])
    shared = fusion.get_layer("decoder_bn")
    mean[split:], variance[split:] = 0, 1 - shared.epsilon
    shared.set_weights([gamma, beta, mean, variance])
    (text_kernel, text_bias), (image_kernel, image_bias) = read("text", "decoder"), read("image", "decoder")
    kernel = scipy.linalg.block_diag(text_kernel, image_kernel)
    fusion.get_layer("decoder").set_weights([kernel, np.concatenate([text_bias, image_bias])])
    fusion.get_layer("joint").set_weights(join("joint"))
    scaled = {side: [value * weights[side] for value in read(side, "logits")] for side in parts}
    kernel = np.concatenate([scaled["text"][0], scaled["image"][0]])
    fusion.get_layer("logits").set_weights([kernel, scaled["text"][1] + scaled["image"][1] + bias])


FUSIONS = {
    "concat": Fusion(network=_concat, needs=("vector",), join=join_concat, source="https://arxiv.org/abs/1902.08888")
}
