"""Integrated gradients inside the graph: the path functions of `kmm.explain` in loops of TensorFlow."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kmm.classifier import Classifier
from kmm.errors import InputError
from kmm.explain.attribution.baselines import check_baselines, image_baseline
from kmm.explain.attribution.integrated_gradients import PathIntegrator
from kmm.explain.attribution.path_integral import GAP_FLOOR, SIDE_FLOOR
from kmm.explain.attribution.quadrature import choose_nodes
from kmm.explain.attribution.split_model import call_view, choose_chunk, cut_model
from kmm.export.graph.letterbox import mask_letterbox

FIXED_BASELINES = ("black", "mean", "grey")  # the others need a blur of the film, which the graph does not compute


@dataclass(frozen=True)
class ExplainSignature:
    """Settings of explanations in the graph, fixed at export.

    Attributes:
        steps: int in [2, 1000]. Number of points on the path, by the midpoint rule.
        baseline: name in `FIXED_BASELINES`.
        text_baseline: name in `kmm.explain.attribution.baselines.TEXT_BASELINES`.
        memory_gb: float > 0. Memory that the process may use, in units of 10^9 bytes.

    Raises:
        InputError: if `steps` is out of range or `baseline` is unknown.
    """

    steps: int = 25
    baseline: str = "black"
    text_baseline: str = "padding"
    memory_gb: float = 3.0

    def __post_init__(self):
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or not 2 <= self.steps <= 1000:
            raise InputError(f"`steps` must be a whole number from 2 to 1000. Received: {self.steps!r}.")
        if self.baseline not in FIXED_BASELINES:
            raise InputError(
                f"The baseline of an export must be one of {', '.join(FIXED_BASELINES)}. Received: {self.baseline!r}."
            )


class PathExplainer:
    """Explains the studies of a batch one after the other, in a graph.

    Args:
        classifier: `Classifier`, whose main part is explained.
        settings: `ExplainSignature`.
    """

    def __init__(self, classifier: Classifier, settings: ExplainSignature):
        check_baselines((settings.baseline,), settings.text_baseline, classifier.mean_image)
        view = cut_model(classifier)
        stem, score = call_view(view, classifier)
        nodes = choose_nodes("midpoint", settings.steps)
        chunk = choose_chunk(view.rest, settings.memory_gb, view.held)
        self.rounds = -(-settings.steps // chunk)
        self.chunk = -(-settings.steps // self.rounds)
        self.integrator = PathIntegrator(score, stem=stem, chunk=self.chunk)
        self.alphas, self.weights = _cut_rounds(nodes, self.rounds, self.chunk)
        self.films = None
        if classifier.batches.image:
            square = (classifier.batches.image.pixels,) * 2
            film = image_baseline(settings.baseline, np.zeros((*square, 1), np.float32), classifier.mean_image)
            self.films = tf.constant(film)
        self.text_baseline = settings.text_baseline

    def explain(
        self,
        inputs: Mapping[str, tf.Tensor],
        fixed: Mapping[str, tf.Tensor],
        padding_row: tf.Tensor | None,
        target: tf.Tensor,
        absent: Mapping[str, tf.Tensor],
        boxes: tf.Tensor | None = None,
    ) -> dict[str, tf.Tensor]:
        """Explains a batch.

        Args:
            inputs: dict of float32 `"image"` `(n, h, w, 1)` and `"rows"` `(n, t, d)`, as far as the model reads them.
            fixed: dict of `(n, ...)`: the other inputs of the score function.
            padding_row: `(d,)`, or None for a model without text.
            target: int32 `(n,)`. Number of the label to explain.
            absent: dict of input name to bool `(n,)`: whether a study lacks the input.
            boxes: int32 `(n, 4)`: top, left, height and width of each film in its square; pixels outside get no
                attribution. None for a model without films.

        Returns:
            dict of `"image"` and `"rows"` to attributions of the same shapes as the inputs, and `score`,
            `baseline_score`, `completeness_gap` and `map_error`, each `(n,)`.
        """
        starts = {name: self._start(name, value, padding_row, absent[name], boxes) for name, value in inputs.items()}
        numbers = tf.TensorSpec((), tf.float32)
        found = {name: tf.TensorSpec(value.shape[1:], tf.float32) for name, value in inputs.items()}
        found.update({name: numbers for name in ("score", "baseline_score", "completeness_gap", "map_error")})
        return tf.map_fn(
            lambda given: self._explain_one(*given),
            (starts, inputs, fixed, target),
            fn_output_signature=found,
            parallel_iterations=1,
        )

    def _start(self, name, value, padding_row, absent, boxes):
        """Makes the baselines of a batch. Absent inputs and the bars around a film are their own baselines, so that
        they get no attribution."""
        if name == "image":
            start = tf.where(mask_letterbox(boxes, value.shape[1]), self.films, value)
        elif self.text_baseline == "padding":
            start = tf.broadcast_to(padding_row, tf.shape(value))
        else:
            start = tf.zeros_like(value)
        return tf.where(tf.reshape(absent, (-1,) + (1,) * (len(value.shape) - 1)), value, start)

    def _explain_one(self, start, end, fixed, target):
        ends = {name: tf.stack([start[name], end[name]]) for name in end}
        fixed = {name: value[None] for name, value in fixed.items()}
        twice = {name: tf.repeat(value, 2, axis=0) for name, value in fixed.items()}
        inner, scores = self.integrator.ends(ends, twice)
        first = {name: value[:1] for name, value in inner.items()}
        delta = {name: value[1:] - value[:1] for name, value in inner.items()}
        chosen = tf.one_hot(target[None], scores.shape[1])
        slot = tf.zeros(self.chunk, tf.int32)

        def walk(place, sums):
            more = self.integrator.points(first, delta, fixed, chosen, slot, self.alphas[place], self.weights[place])
            return place + 1, {name: sums[name] + more[name] for name in sums}

        zeros = {name: tf.zeros((2, *value.shape[1:])) for name, value in first.items()}
        _, sums = tf.while_loop(
            lambda place, sums: place < self.rounds, walk, (tf.constant(0), zeros), parallel_iterations=1
        )
        gradients = self.integrator.back({name: tf.stack([end[name]] * 2) for name in end}, twice, sums)
        return self._finish(start, end, gradients, tf.gather(scores, target, axis=1))

    def _finish(self, start, end, gradients, scores):
        """Computes attributions and their errors as `kmm.explain.attribution.integrated_gradients.attribute` does."""
        counts = tf.reduce_sum(self.weights, axis=(0, 2))
        values, halves = {}, {}
        for name, (even, odd) in ((name, tf.unstack(value)) for name, value in gradients.items()):
            delta = end[name] - start[name]
            values[name] = delta * (even + odd) / (counts[0] + counts[1])
            halves[name] = delta * (even / counts[0] - odd / counts[1])
        sizes = {name: tf.reduce_sum(tf.abs(value)) for name, value in values.items()}
        total = tf.add_n(list(sizes.values()))
        difference = scores[1] - scores[0]
        missed = tf.abs(tf.add_n([tf.reduce_sum(value) for value in values.values()]) - difference)
        floors = {name: tf.maximum(size, SIDE_FLOOR * total) for name, size in sizes.items()}
        errors = [tf.math.divide_no_nan(tf.reduce_sum(tf.abs(halves[name])), 4 * floors[name]) for name in values]
        return {
            **values,
            "score": scores[1],
            "baseline_score": scores[0],
            "completeness_gap": tf.math.divide_no_nan(missed, tf.maximum(tf.abs(difference), GAP_FLOOR * total)),
            "map_error": tf.reduce_max(tf.stack(errors)),
        }


def _cut_rounds(nodes, rounds, chunk):
    """Returns nodes `(rounds, chunk)` and the weights of even and odd nodes `(rounds, 2, chunk)`, padded with 0."""
    alphas = np.zeros(rounds * chunk, np.float32)
    weights = np.zeros((2, rounds * chunk), np.float32)
    alphas[: len(nodes.alphas)] = nodes.alphas
    weights[nodes.odd.astype(int), np.arange(len(nodes.alphas))] = nodes.weights
    weights = weights.reshape(2, rounds, chunk).transpose(1, 0, 2)
    return tf.constant(alphas.reshape(rounds, chunk)), tf.constant(weights)
