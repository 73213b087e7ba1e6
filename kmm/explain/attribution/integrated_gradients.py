"""Integrated gradients of any score of any number of inputs, with a known error, in bounded memory.

Points of paths are computed in chunks of a fixed size, filled from several studies at a time. When the error of a study
is within its tolerance, another study takes its place in the chunk.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import nan

import keras
import numpy as np
from keras import ops

from kmm.errors import InputError
from kmm.explain.attribution.gradients import Score, Stem, compile_function, differentiate, differentiate_each
from kmm.explain.attribution.path_integral import DEFAULT_TOLERANCE, Path, PathMean, Tolerance, attribute, choose_factor
from kmm.explain.attribution.path_walks import Ends, Walk, count_points, group_studies, list_nodes, pack_nodes
from kmm.explain.attribution.quadrature import Nodes, choose_nodes
from kmm.explain.attribution.result import Attribution

KNOWN = 4  # paths of a study whose ends are kept for its other labels: one for each baseline in the table


def integrated_gradients(
    score: "Score | PathIntegrator",
    inputs: Mapping[str, np.ndarray],
    baselines: Mapping[str, np.ndarray | float],
    *,
    fixed: Mapping[str, np.ndarray] | None = None,
    target: int | Sequence[int] | np.ndarray | None = None,
    rule: str = "midpoint",
    steps: int | None = None,
    tolerance: Tolerance = DEFAULT_TOLERANCE,
    chunk: int = 16,
) -> list[Attribution]:
    """Integrates the gradients of a score along the straight line from a baseline to an input.

    Args:
        score: function `(inputs, fixed) -> (m,)` or `(m, n_labels)` of dicts of tensors of the backend in use, or a
            `PathIntegrator`, which is already compiled.
        inputs: dict of name to float array `(n, ...)`: the inputs to attribute the score to.
        baselines: dict of the same names to arrays that broadcast to those shapes.
        fixed: dict of name to array `(n, ...)`: other inputs of the score.
        target: int, or int array `(n,)`; None: the label of each study's highest score.
        rule: name in `kmm.explain.attribution.quadrature.QUADRATURE_RULES`.
        steps: int or None. None with the midpoint rule: 5, then an odd multiple of 5 until `tolerance` is met.
        tolerance: `Tolerance`.
        chunk: int. Points computed at once.

    Returns:
        list of `n` `Attribution`. If a score or a gradient of a study is not finite, its values are NaN and it carries
        a warning; other studies are not affected.

    Raises:
        InputError: if shapes do not fit, an input or a baseline is not finite, or the target is out of range.

    Example:
        >>> found = integrated_gradients(
        ...     lambda inputs, fixed: inputs["x"] * inputs["y"],
        ...     {"x": np.float32([3]), "y": np.float32([2])}, {"x": 0, "y": 0})[0]
        >>> round(float(found.values["x"]), 4), round(float(found.values["y"]), 4), found.score
        (3.0, 3.0, 6.0)

    Source: https://arxiv.org/abs/1703.01365
    """
    integrator = score if isinstance(score, PathIntegrator) else PathIntegrator(score, chunk=chunk)
    count = len(next(iter(inputs.values())))
    ends = {name: np.asarray(value, np.float32) for name, value in inputs.items()}
    starts = {name: np.broadcast_to(np.asarray(baselines[name], np.float32), ends[name].shape) for name in ends}
    targets = np.broadcast_to(np.array(target, object), count)
    studies = (
        [
            Path(
                start={name: value[row] for name, value in starts.items()},
                end={name: value[row] for name, value in ends.items()},
                fixed={name: np.asarray(value)[row] for name, value in (fixed or {}).items()},
                target=targets[row],
            )
        ]
        for row in range(count)
    )
    means = dict(integrator.walk(studies, rule=rule, steps=steps, tolerance=tolerance))
    return [attribute(means[row], tolerance) for row in range(count)]


class PathIntegrator:
    """Means of gradients along many paths, computed in chunks of one size. Traced once, however many studies follow.

    Args:
        score: function `(inner, fixed) -> (m,)` or `(m, n_labels)`, where `inner` is the output of `stem`.
        stem: function `(inputs, fixed) -> dict of tensors`, affine in the inputs; None: the inputs themselves. It is
            computed only at both ends of a path, not in between.
        chunk: int >= 1. Points computed at once: memory grows with it, not with the number of studies or steps.
        labels: int >= 1. Most labels of a study whose gradients are computed behind one forward pass.
        freeze: bool. See `kmm.explain.attribution.gradients.compile_function`.

    Attributes:
        ends: function `(inputs, fixed) -> (inner, scores)` of `n` studies.
        points: function `(start, delta, fixed, target, slot, alpha, weights) -> dict`: sums of gradients behind the
            stem, `(k, ...)`, over `m` points `start[slot] + alpha * delta[slot]`, weighted by `weights` `(k, m)`.
        points_of_labels: function `(count, targets, start, delta, fixed, slot, alpha, weights) -> dict`: the same sums
            `(count, k, ...)` for the labels `targets[:count, slot]`.
        back: function `(inputs, fixed, inner) -> dict`: two such sums, propagated back through the stem.
    """

    def __init__(
        self, score: Score, *, stem: Stem | None = None, chunk: int = 16, labels: int = 1, freeze: bool = False
    ):
        self.chunk, self.labels = chunk, labels
        first_half = stem or (lambda inputs, fixed: inputs)

        def ends(inputs, fixed):
            inner = first_half(inputs, fixed)
            return inner, _columns(score(inner, fixed))

        def place(start, delta, fixed, slot, alpha):
            here = {name: ops.take(start[name], slot, axis=0) for name in start}
            here = {
                name: value + _like(alpha, value) * ops.take(delta[name], slot, axis=0) for name, value in here.items()
            }
            return here, {name: ops.take(value, slot, axis=0) for name, value in fixed.items()}

        def walk(start, delta, fixed, target, slot, alpha, weights):
            def along(inner, fixed, chosen):
                return ops.sum(_columns(score(inner, fixed)) * chosen, axis=1)

            here, there = place(start, delta, fixed, slot, alpha)
            _, gradients = differentiate(along)(here, there, ops.take(target, slot, axis=0))
            return {name: _weigh(weights, value) for name, value in gradients.items()}

        def walk_labels(count, targets, start, delta, fixed, slot, alpha, weights):
            here, there = place(start, delta, fixed, slot, alpha)
            each = differentiate_each(
                lambda inner, fixed: (_columns(score(inner, fixed)), ()),
                lambda gradients, _: {name: _weigh(weights, value) for name, value in gradients.items()},
            )
            return each(count, ops.take(targets, slot, axis=1), here, there)[1]

        def back(inputs, fixed, inner):
            def dot(inputs, fixed):
                outputs = first_half(inputs, fixed)
                products = [ops.reshape(outputs[name] * inner[name], (2, -1)) for name in outputs]
                return sum(ops.sum(product, axis=1) for product in products)

            return differentiate(dot)(inputs, fixed)[1]

        self.ends = compile_function(ends)
        self.points = compile_function(walk, freeze=freeze)
        self.points_of_labels = compile_function(walk_labels, freeze=freeze)
        self.back = compile_function(back)

    def score(self, inputs: Mapping[str, np.ndarray], fixed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Computes the scores `(n, n_labels)` of `n` studies. Traced once for each `n`; `walk` traces it for 2."""
        return ops.convert_to_numpy(self.ends(inputs, fixed)[1])

    def walk(
        self,
        studies: Iterable[Sequence[Path]],
        *,
        rule: str = "midpoint",
        steps: int | None = None,
        tolerance: Tolerance = DEFAULT_TOLERANCE,
        nodes: Nodes | None = None,
    ) -> Iterator[tuple[int, list[PathMean]]]:
        """Integrates along the paths of studies, several at once.

        Args:
            studies: iterable of lists of `Path`, each list the paths of one study and one target. Read only as fast as
                chunks have room, and one further. Successive lists with the same arrays are labels of one study.
            rule, steps, tolerance: as in `integrated_gradients`. The steps are those of each path; all paths of a study
                are refined together, until their average is within the tolerance.
            nodes: `Nodes` of every path, instead of a rule.

        Yields:
            the number of a study, from 0, and the `PathMean` of each of its paths; in the order in which studies are
            done.
        """
        first = nodes or choose_nodes(rule, steps)
        refined = nodes is None and rule == "midpoint" and steps is None
        slots = min(self.chunk, -(-self.chunk // len(first.alphas)) + 1)
        done: dict[int, list] = {}  # number of a study -> for each of its paths the walk and its mean, or None

        def begin():
            """Yields walks that follow the same path, for up to as many labels as are computed together."""
            for study in group_studies(studies):
                known: dict[int, Ends] = {}
                for start in range(0, len(study), self.labels):
                    labels = study[start : start + self.labels]
                    done.update({number: [None] * len(paths) for number, paths in labels})
                    for place, path in enumerate(labels[0][1]):
                        ends = known.get(place) or self._find_ends(path)
                        if place < KNOWN:
                            known[place] = ends
                        yield [_start(number, place, paths[place], ends, first) for number, paths in labels]

        waiting, walks = begin(), deque[Walk]()
        while True:
            while count_points(walks, self.labels) < self.chunk and len(walks) < slots * self.labels:
                some = next(waiting, None)
                if some is None:
                    break
                walks.extend(some)
            if not walks:
                return
            self._step(walks, slots)
            for walk in [walk for walk in walks if not walk.ahead]:
                walks.remove(walk)
                own = done[walk.study]
                own[walk.place] = (walk, self._finish(walk))
                if not refined:
                    walk.sums = None
                if None in own:
                    continue
                ended, means = zip(*done.pop(walk.study), strict=True)
                if refined and (factor := choose_factor(means, tolerance)):
                    done[walk.study] = [None] * len(ended)
                    for one in reversed(ended):
                        one.refine(factor)
                        walks.appendleft(one)
                else:
                    yield walk.study, list(means)

    def _find_ends(self, path):
        """Returns both ends of a path behind the stem, and their scores."""
        _check_path(path)
        inputs = {name: np.stack([path.start[name], path.end[name]]).astype(np.float32) for name in path.end}
        inner, scores = self.ends(inputs, {name: np.stack([value, value]) for name, value in path.fixed.items()})
        return Ends(
            start={name: value[0] for name, value in inner.items()},
            delta={name: value[1] - value[0] for name, value in inner.items()},
            scores=ops.convert_to_numpy(scores).astype(np.float64),
        )

    def _step(self, walks, slots):
        """Computes one chunk of the nodes ahead."""
        slot, alpha = np.zeros(self.chunk, np.int32), np.zeros(self.chunk, np.float32)
        weights, point = np.zeros((2 * slots, self.chunk), np.float32), 0
        stretches = pack_nodes(walks, points=self.chunk, slots=slots, labels=self.labels)
        for row, stretch in enumerate(stretches):
            for at, weight, odd in stretch.take():
                slot[point], alpha[point], weights[2 * row + odd, point] = row, at, weight
                point += 1
                for walk in stretch.walks:
                    walk.weights[odd] += weight
        filled = [stretch.walks[0] for stretch in stretches]
        filled += filled[:1] * (slots - len(filled))
        given = (
            _stack([walk.ends.start for walk in filled]),
            _stack([walk.ends.delta for walk in filled]),
            {name: np.stack([walk.path.fixed[name] for walk in filled]) for name in filled[0].path.fixed},
        )
        sums = self._sum(stretches, given, slot, alpha, weights)
        for row, stretch in enumerate(stretches):
            for number, walk in enumerate(stretch.walks):
                own = {name: value[number, 2 * row : 2 * row + 2] for name, value in sums.items()}
                known = walk.sums
                walk.sums = own if known is None else {name: known[name] + own[name] for name in own}

    def _sum(self, stretches, given, slot, alpha, weights):
        """Returns the sums of gradients over the points of a chunk, `(labels, 2 * slots, ...)`."""
        slots = len(weights) // 2
        targets = np.full((self.labels, slots), -1, np.int32)
        for row, stretch in enumerate(stretches):
            targets[: len(stretch.walks), row] = [walk.target for walk in stretch.walks]
        if self.labels > 1:
            count = np.array(max(len(stretch.walks) for stretch in stretches), np.int32)
            return self.points_of_labels(count, targets, *given, slot, alpha, weights)
        columns = stretches[0].walks[0].ends.scores.shape[1]
        chosen = (targets[0][:, None] == np.arange(columns)).astype(np.float32)
        return {name: value[None] for name, value in self.points(*given, chosen, slot, alpha, weights).items()}

    def _finish(self, walk):
        """Returns the mean over the nodes so far, propagated back through the stem."""
        inputs = {name: np.stack([value, value]).astype(np.float32) for name, value in walk.path.end.items()}
        fixed = {name: np.stack([value, value]) for name, value in walk.path.fixed.items()}
        sums = {
            name: ops.convert_to_numpy(value).astype(np.float64)
            for name, value in self.back(inputs, fixed, walk.sums).items()
        }
        even, odd = walk.weights
        return PathMean(
            path=walk.path,
            target=walk.target,
            scores=walk.ends.scores,
            gradients={name: (value[0] + value[1]) / (even + odd) for name, value in sums.items()},
            halves={
                name: value[0] / even - value[1] / odd if even and odd else np.full_like(value[0], np.nan)
                for name, value in sums.items()
            },
            steps=walk.steps,
        )


def _start(study, place, path, ends, first):
    """Starts a walk along a path, towards its label or that of the highest score at its end."""
    target = int(ends.scores[1].argmax()) if path.target is None else int(path.target)
    if not 0 <= target < ends.scores.shape[1]:
        raise InputError(f"`target` must be a label from 0 to {ends.scores.shape[1] - 1}. Received: {target}.")
    return Walk(study, place, path, ends, target, deque(list_nodes(first)), len(first.alphas))


def _check_path(path):
    for name, value in path.end.items():
        if np.shape(path.start[name]) != np.shape(value):
            raise InputError(
                f"Expected a baseline of `{name}` of shape {np.shape(value)}. Received: {np.shape(path.start[name])}."
            )
        if not (np.isfinite(value).all() and np.isfinite(path.start[name]).all()):
            raise InputError(f"Expected finite numbers in `{name}` and in its baseline. Received NaN or infinity.")


def _columns(scores):
    """Reshapes scores `(m,)` or `(m, n_labels)` to `(m, n_labels)`."""
    return scores if len(scores.shape) == 2 else ops.expand_dims(scores, -1)


def _like(alpha, value):
    return ops.reshape(alpha, (-1,) + (1,) * (len(value.shape) - 1))


def _weigh(weights, value):
    """Sums rows `(m, ...)` by weights `(k, m)` >= 0. A row that is not finite makes only the sums with it NaN."""
    flat = ops.reshape(value, (value.shape[0], -1))
    broken = ops.logical_not(ops.isfinite(ops.sum(flat, axis=1, keepdims=True)))
    sums = ops.matmul(weights, ops.where(broken, 0.0, flat))  # 0 * NaN would be NaN in the sums of others
    spoilt = ops.matmul(weights, ops.cast(broken, weights.dtype)) > 0
    return ops.reshape(ops.where(spoilt, nan, sums), (weights.shape[0], *value.shape[1:]))


def _stack(dicts):
    return keras.tree.map_structure(lambda *values: ops.stack(values), *dicts)
