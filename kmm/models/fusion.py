"""Fusions: the encodings of image and report become logits. One table entry each.

A fusion is a nested model of its own, so that it can be trained on features that were computed once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import scipy.linalg
from keras import layers

from kmm.models.stand_in import StandIn

SIDES = ("image", "text")
MOMENTUM = 0.9  # Keras's .99 needs hundreds of steps to settle; an epoch over a few thousand studies has some tens.


@dataclass(frozen=True)
class Fusion:
    """A row of the table `FUSIONS`.

    Attributes:
        network: function `(features, present, units, dropout) -> (n, d)`. `features` maps `"image"` and `"text"`, or
            the one that the model has, to a dict of the parts in `needs`; `present` is `(n, 2)`.
        needs: tuple of fields of `Encoding` that it reads: `("vector",)` or `("sequence", "mask")`.
        join: function `(fusion, parts, weights, bias)`. Makes the fusion of both sides start as the weighted sum of the
            fusions of each side alone: see `join_concat`.
        source: str. Link of the publication.
    """

    network: Callable
    needs: tuple[str, ...]
    join: Callable
    source: str


def build_fusion(entry, encoders, *, label_count, units, dropout):
    """Builds the nested model of one fusion.

    Args:
        entry: `Fusion`, a value of `FUSIONS`.
        encoders: dict from `"image"` and `"text"`, or one of them, to the encoder model of that side.
        label_count: int, at least 1.
        units: int. Width of the decoder.
        dropout: float in [0, 1).

    Returns:
        `keras.Model` named `fusion`: `{"image_vector", "text_vector", "present"}` (for each side and each part in
        `entry.needs`: `"<side>_<part>"`) -> logits float32 `(n, label_count)`. The layer `joint` holds the features
        `(n, d)` from which the logits are made.

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
    """Vectors side by side, the image's normalised first, then one dense decoder. With one side: the decoder alone."""
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


def join_concat(fusion, parts, weights, bias):
    """Lets the joint decoder start as both single decoders side by side: its logits are then exactly
    `weights["image"] * image logits + weights["text"] * text logits + bias`.

    Training goes on from there, so that the joint model does not first forget what its parts knew.

    Args:
        fusion: `keras.Model` of both sides, changed in place. Its decoder is as wide as both others together.
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
    # The image is normalised by its own layer first; the shared layer after it then only scales and shifts.
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
