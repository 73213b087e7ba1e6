"""Contrastive terms: what belongs to one study is more alike than what belongs to different ones.

Pairs that fit each other anyway are no negatives: studies with the same report, or of the same patient. Numbers, such
as that of the body of the report and that of the patient, say which they are.

Sources: ConVIRT, https://arxiv.org/abs/2010.00747; CLIP, https://arxiv.org/abs/2103.00020; SigLIP,
https://arxiv.org/abs/2303.15343
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers, ops

TEMPERATURE, LARGEST_SCALE = 0.07, 100.0  # at the start, and of its inverse at most, as CLIP
SIGMOID_BIAS = -10.0  # at the start, as SigLIP: nearly all pairs are negatives
EXCLUDED = -1e9  # logit of a pair that is no negative
UNITS = 128  # dimensions in which vectors are compared
PAIRS = {"image-text": 1.0, "image-joint": 0.5, "text-joint": 0.5}  # the terms, and what each weighs
MOMENTUM = 0.9  # of the statistics by which vectors are scaled first
NUMBERS = "pair_numbers"  # input of a model with contrastive terms


def mark_pairs(numbers: Any) -> tuple[Any, Any]:
    """Marks the pairs of a batch that belong together, and those that are negatives of each other.

    Args:
        numbers: tensor `(n, k)`, numbers of each study, NaN for none. Studies that share one are no negatives, and a
            study without any is no negative of others.

    Returns:
        two bool tensors `(n, n)`: the diagonal, and the negatives of each row.

    Example:
        >>> own, negative = mark_pairs(np.array([[0.0, 7.0], [1.0, 7.0], [2.0, np.nan], [np.nan, np.nan]]))
        >>> ops.convert_to_numpy(negative).astype(int).tolist()
        [[0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 0, 0], [1, 1, 1, 0]]
    """
    numbers = ops.cast(numbers, "float32")
    places = ops.cumsum(ops.ones_like(numbers[:, :1]), axis=0)
    own = ops.equal(places, ops.transpose(places))
    same = ops.any(ops.equal(numbers[:, None, :], numbers[None, :, :]), axis=-1)  # NaN is equal to nothing
    paired = ops.any(ops.equal(numbers, numbers), axis=-1)[None, :]
    negative = ops.logical_and(ops.logical_not(own), ops.logical_and(ops.logical_not(same), paired))
    return own, negative


def compute_infonce(logits: Any, own: Any, negative: Any, bias: Any = 0.0) -> Any:
    """Computes InfoNCE of each pair, the mean of both directions.

    For pair `i` with logits `s_ij` it is `(log sum_j exp(s_ij) + log sum_j exp(s_ji)) / 2 - s_ii`, where `j` runs over
    the negatives of `i`, and `i` itself.

    Args:
        logits: tensor `(n, n)`.
        own, negative: of `mark_pairs`.
        bias: not used; it would change nothing.

    Returns:
        tensor `(n,)`.
    """
    counted = ops.logical_or(own, negative)
    there = ops.logsumexp(ops.where(counted, logits, EXCLUDED), axis=-1)
    back = ops.logsumexp(ops.where(counted, ops.transpose(logits), EXCLUDED), axis=-1)
    return (there + back) / 2 - ops.sum(ops.where(own, logits, 0.0), axis=-1)


def compute_siglip(logits: Any, own: Any, negative: Any, bias: Any = 0.0) -> Any:
    """Computes the sigmoid loss of each pair: every pair is judged by itself, as its own or another's.

    For pair `i` it is `softplus(-(s_ii + b)) + sum_j softplus(s_ij + b)` over its negatives `j`. Its mean over the
    batch is the loss as published.

    Args:
        logits: tensor `(n, n)`.
        own, negative: of `mark_pairs`.
        bias: scalar `b`, added to every logit.

    Returns:
        tensor `(n,)`.
    """
    shifted = logits + bias
    positive = ops.where(own, ops.softplus(-shifted), 0.0)
    others = ops.where(negative, ops.softplus(shifted), 0.0)
    return ops.sum(positive + others, axis=-1)


Contrast = Callable[[Any, Any, Any, Any], Any]
CONTRASTS: dict[str, Contrast] = {"infonce": compute_infonce, "siglip": compute_siglip}


@keras.saving.register_keras_serializable(package="kmm")
class LogitScale(layers.Layer):
    """Multiplies by a trained number, the inverse temperature, which is at most 100.

    Args:
        temperature: float above 0. Its value at the start.
    """

    def __init__(self, temperature: float = TEMPERATURE, **options: Any) -> None:
        super().__init__(**options)
        self.temperature = temperature

    def build(self, input_shape: Any) -> None:
        start = keras.initializers.Constant(math.log(1 / self.temperature))
        self.logarithm = self.add_weight(shape=(), initializer=start, name="logarithm")

    def call(self, inputs: Any) -> Any:
        """Takes and returns a tensor of any shape."""
        return inputs * ops.exp(ops.minimum(self.logarithm, math.log(LARGEST_SCALE)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="kmm")
class ContrastiveTerms(layers.Layer):
    """Adds contrastive terms between projections of a study's vectors to the loss of a model, and returns its logits.

    A study takes part in a term if it has both a film and a report (`present`) and a number. The sum of the terms over
    those studies, divided by their number, is added to the loss.

    Args:
        contrast: str, a key of `CONTRASTS`.
        pairs: mapping of `"image-text"`, `"image-joint"` or `"text-joint"` to the weight of the term.
        weight: float, of all terms together.
        temperature: float above 0, at the start.
        units: int. Dimensions of the projections.
    """

    def __init__(
        self,
        contrast: str,
        pairs: Mapping[str, float],
        weight: float,
        temperature: float = TEMPERATURE,
        units: int = UNITS,
        **options: Any,
    ) -> None:
        super().__init__(dtype="float32", **{name: value for name, value in options.items() if name != "dtype"})
        self.contrast, self.pairs, self.weight = contrast, dict(pairs), weight
        self.temperature, self.units = temperature, units
        names = dict.fromkeys(name for pair in self.pairs for name in pair.split("-"))
        own = {"dtype": "float32"}  # whatever the precision of the model
        self.scalings = {
            name: layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_scaling", **own) for name in names
        }
        self.projections = {
            name: layers.Dense(units, use_bias=False, name=f"{name}_projection", **own) for name in names
        }
        self.scale = LogitScale(temperature, name="scale", dtype="float32")

    def build(self, input_shape: Mapping[str, Any]) -> None:
        for name, projection in self.projections.items():
            self.scalings[name].build(input_shape[name])
            projection.build(input_shape[name])
        self.scale.build(())
        start = keras.initializers.Constant(SIGMOID_BIAS)
        self.bias = self.add_weight(shape=(), initializer=start, trainable=self.contrast == "siglip", name="bias")

    def call(self, inputs: Mapping[str, Any], training: bool | None = None) -> Any:
        """Takes `logits`, vectors `(n, d)` by name, `present (n, 2)` and `pair_numbers (n, k)`; returns `logits`."""
        complete = ops.all(inputs["present"] > 0.5, axis=-1, keepdims=True)
        numbers = ops.where(complete, inputs[NUMBERS], np.nan)
        self.add_loss(self.weight * self.measure(inputs, numbers, training=training))
        return inputs["logits"]

    def measure(self, vectors: Mapping[str, Any], numbers: Any, *, training: bool | None = None) -> Any:
        """Returns the weighted sum of the terms, a scalar: each is the mean over the studies that have a number."""
        own, negative = mark_pairs(numbers)
        known = ops.cast(ops.any(ops.equal(numbers, numbers), axis=-1), "float32")
        points = {
            name: ops.normalize(
                projection(self.scalings[name](ops.cast(vectors[name], "float32"), training=training)), axis=-1
            )
            for name, projection in self.projections.items()
        }
        total = 0.0
        for pair, share in self.pairs.items():
            one, other = (points[name] for name in pair.split("-"))
            logits = self.scale(ops.matmul(one, ops.transpose(other)))
            cost = CONTRASTS[self.contrast](logits, own, negative, self.bias)
            total = total + share * ops.sum(cost * known) / ops.maximum(ops.sum(known), 1.0)
        return total

    def compute_output_shape(self, input_shape: Mapping[str, Any]) -> Any:
        return input_shape["logits"]

    def get_config(self) -> dict[str, Any]:
        own = ("contrast", "pairs", "weight", "temperature", "units")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}
