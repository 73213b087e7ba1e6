"""Heads, one table entry each: from the vectors of a fusion to the features of its last layer, `logits`.

Of three networks, two have a linear part: a function of the vectors, standardised with stored means and variances. It
can be set to a linear model that was fitted elsewhere, so that training starts from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np
import scipy.linalg
from keras import layers
from numpy.typing import ArrayLike

MOMENTUM = 0.9  # Keras's 0.99 needs hundreds of steps to settle; an epoch of a few thousand studies has only dozens
EPSILON = 1e-5  # added to stored variances; features of pretrained networks may have variances of 1e-4
STANDARD = "standard"  # name of the layer that standardises the vectors

Vectors = Mapping[str, keras.KerasTensor]
Parts = Mapping[str, keras.Model]


@dataclass(frozen=True)
class Head:
    """A row of the table `HEADS`.

    Attributes:
        network: function `(vectors, units, dropout) -> (n, d)`. `vectors` maps `"image"` and `"text"`, or the only side
            of the model, to `(n, d_side)`. The layer `joint` returns the result, from which the layer `logits` follows;
            a fusion may add features behind it.
        start: function of the fusion as built, which changes the weights of its layer `logits` in place.
        join: function `(fusion, parts, weights, bias)` that initialises a head as the weighted sum of the heads of
            each side alone, or of several members of one side: see `kmm.models.fusion.join_concat` and
            `kmm.models.joined.mean_head.join_members`.
        linear: bool. Whether `write_linear` can set the head to a linear model.
        hidden: bool. Whether layers before the logits are trained.
        source: str. Link of the publication.
    """

    network: Callable[[Vectors, int, float], keras.KerasTensor]
    start: Callable[[keras.Model], None]
    join: Callable[[keras.Model, Parts, Mapping[str, np.ndarray], np.ndarray], None]
    linear: bool
    hidden: bool
    source: str


def write_linear(
    fusion: keras.Model, side: str, *, mean: ArrayLike, scale: ArrayLike, coef: ArrayLike, intercept: ArrayLike
) -> None:
    """Sets the head of a fusion of one side to a linear model, so that its logits are exactly
    `(vector - mean) / scale @ coef + intercept`.

    A study that lacks the side gets the mean vector, so that its logit is the intercept. The stored means and variances
    stay as they are in further training.

    Args:
        fusion: `keras.Model` from `kmm.models.fusion.build_fusion`, of one side, with a head that has a linear part;
            changed in place.
        side: str. `"image"` or `"text"`.
        mean, scale: float arrays `(d,)`; `scale` above 0.
        coef: float array `(d, n_labels)`.
        intercept: float array `(n_labels,)`.

    Example:
        >>> from kmm.models.fusion import FUSIONS, build_fusion
        >>> encoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
        >>> encoder = keras.Model(encoder.inputs, {"vector": encoder.outputs[0]})
        >>> sizes = {"label_count": 1, "units": 4, "dropout": 0.0, "head": "mlp"}
        >>> fusion = build_fusion(FUSIONS["concat"], {"image": encoder}, **sizes)
        >>> write_linear(fusion, "image", mean=[1, 2], scale=[2, 1], coef=[[4], [1]], intercept=[0.5])
        >>> features = {"image_vector": np.array([[3.0, 2.0], [9.0, 9.0]]), "present": np.array([[1, 0], [0, 0]])}
        >>> keras.ops.convert_to_numpy(fusion(features)).round(4).tolist()
        [[4.5], [0.5]]
    """
    mean, scale, coef = (np.asarray(value, np.float64) for value in (mean, scale, coef))
    standard, logits = fusion.get_layer(STANDARD), fusion.get_layer("logits")
    variance = np.square(scale).astype(np.float32)
    standard.set_weights([mean, variance])
    standard.trainable = False
    kernel = np.zeros(logits.kernel.shape)
    kernel[: len(mean)] = coef * (np.sqrt(variance.astype(np.float64) + EPSILON) / scale)[:, None]
    logits.set_weights([kernel, np.asarray(intercept)])
    fusion.get_layer(f"{side}_stand_in").set_weights([mean])


def _concatenate(vectors):
    """Puts the vectors of both sides side by side, text first."""
    if len(vectors) > 1:
        return layers.Concatenate(name="side_by_side")([vectors["text"], vectors["image"]])
    (x,) = vectors.values()
    return x


def _standardise(vectors):
    """Subtracts the mean of each feature and divides by its standard deviation."""
    return layers.BatchNormalization(
        momentum=MOMENTUM, epsilon=EPSILON, center=False, scale=False, dtype="float32", name=STANDARD
    )(_concatenate(vectors))


def _stay_linear(vectors, units, dropout):
    """Returns the standardised vectors, of which the logits are then a linear function."""
    return layers.Identity(dtype="float32", name="joint")(_standardise(vectors))


def _add_decoder(vectors, units, dropout):
    """Returns the standardised vectors and, beside them, the features of a dense decoder that reads them."""
    standard = _standardise(vectors)
    x = layers.Dense(units, activation="relu", name="decoder")(standard)
    x = layers.Dropout(dropout, name="decoder_dropout")(x)
    x = layers.BatchNormalization(momentum=MOMENTUM, name="decoder_bn")(x)
    return layers.Concatenate(dtype="float32", name="joint")([standard, x])


def _decode(vectors, units, dropout):
    """Applies one dense decoder to the vectors, of which the image's is normalised first if there are two."""
    if len(vectors) > 1:
        image = layers.BatchNormalization(momentum=MOMENTUM, name="image_bn")(vectors["image"])
        vectors = {"text": vectors["text"], "image": image}
    x = layers.BatchNormalization(momentum=MOMENTUM, name="decoder_bn")(_concatenate(vectors))
    x = layers.Dense(units, activation="relu", name="decoder")(x)
    x = layers.Dropout(dropout, name="decoder_dropout")(x)
    return layers.BatchNormalization(momentum=MOMENTUM, name="joint")(x)


def _keep(fusion):
    """Leaves the weights as they were built."""


def _silence_decoder(fusion):
    """Sets what the decoder adds to the logits to 0."""
    kernel, bias = fusion.get_layer("logits").get_weights()
    end = fusion.get_layer("joint").output.shape[-1]
    kernel[end - fusion.get_layer("decoder").units : end] = 0
    fusion.get_layer("logits").set_weights([kernel, bias])


def _read(parts, side, layer):
    return [np.asarray(value) for value in parts[side].get_layer(layer).get_weights()]


def _order(parts):
    """Returns the names of parts in the order of their vectors: of both sides text first; of members as they come."""
    return sorted(parts, reverse=True) if set(parts) == {"text", "image"} else list(parts)


def _pair(parts, layer):
    """Returns the weights of a layer of all parts, joined along the last axis."""
    return [np.concatenate(found, axis=-1) for found in zip(*(_read(parts, part, layer) for part in _order(parts)))]


def _scale_logits(parts, weights):
    """Returns the kernel and the bias of each side's logits, times its weight."""
    return {side: [value * weights[side] for value in _read(parts, side, "logits")] for side in parts}


def _join_linear(fusion, parts, weights, bias):
    fusion.get_layer(STANDARD).set_weights(_pair(parts, STANDARD))
    fusion.get_layer(STANDARD).trainable = False
    scaled = _scale_logits(parts, weights)
    sizes = {side: len(_read(parts, side, STANDARD)[0]) for side in parts}
    linear = [scaled[part][0][: sizes[part]] for part in _order(parts)]
    decoded = [scaled[part][0][sizes[part] :] for part in _order(parts)]
    _set_logits(fusion, [*linear, *decoded], _sum_biases(scaled) + bias)


def _sum_biases(scaled):
    return np.sum([found[1] for found in scaled.values()], axis=0)


def _set_logits(fusion, kernels, bias):
    """Sets what the logits make of the features of the head; what they make of others, behind these, stays."""
    kernel = fusion.get_layer("logits").get_weights()[0]
    own = np.concatenate(kernels)
    fusion.get_layer("logits").set_weights([np.concatenate([own, kernel[len(own) :]]), bias])


def _join_mlp(fusion, parts, weights, bias):
    _join_linear(fusion, parts, weights, bias)
    _join_dense(fusion, parts)
    fusion.get_layer("decoder_bn").set_weights(_pair(parts, "decoder_bn"))


def _join_dense(fusion, parts):
    """Initialises the joint decoder with the single ones, each of which reads its own part alone."""
    kernels, biases = zip(*(_read(parts, part, "decoder") for part in _order(parts)))
    fusion.get_layer("decoder").set_weights([scipy.linalg.block_diag(*kernels), np.concatenate(biases)])


def _join_decoder(fusion, parts, weights, bias):
    gamma, beta, mean, variance = _pair(parts, "decoder_bn")
    shared = fusion.get_layer("decoder_bn")
    if "text" in parts:
        # A separate layer normalises the image first; the shared layer after it then only scales and shifts it.
        split = _read(parts, "text", "decoder_bn")[0].size
        ones, zeros = np.ones_like(mean[split:]), np.zeros_like(mean[split:])
        fusion.get_layer("image_bn").set_weights([ones, zeros, mean[split:], variance[split:]])
        mean[split:], variance[split:] = 0, 1 - shared.epsilon
    shared.set_weights([gamma, beta, mean, variance])
    _join_dense(fusion, parts)
    fusion.get_layer("joint").set_weights(_pair(parts, "joint"))
    scaled = _scale_logits(parts, weights)
    _set_logits(fusion, [scaled[part][0] for part in _order(parts)], _sum_biases(scaled) + bias)


HEADS = {
    "linear": Head(
        network=_stay_linear,
        start=_keep,
        join=_join_linear,
        linear=True,
        hidden=False,
        source="https://arxiv.org/abs/1610.01644",
    ),
    "mlp": Head(
        network=_add_decoder,
        start=_silence_decoder,
        join=_join_mlp,
        linear=True,
        hidden=True,
        source="https://arxiv.org/abs/2202.10054",
    ),
    "decoder": Head(
        network=_decode,
        start=_keep,
        join=_join_decoder,
        linear=False,
        hidden=True,
        source="https://arxiv.org/abs/1902.08888",
    ),
}
