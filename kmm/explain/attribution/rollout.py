"""Attention rollout: what a model reads, followed back through its layers of attention to pixels and words.

Rollout multiplies the weights of the layers, each averaged with the identity, and says nothing of labels. Its
gradient-weighted form counts each weight by what it adds to the score. Neither adds up to the score.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from kmm.explain.attribution.attention_rules import (
    RULES,
    Relevance,
    attend_to_each_other,
    attend_to_itself,
    start_relevance,
)
from kmm.explain.attribution.cam import NO_FILM, enlarge
from kmm.explain.attribution.gradients import compile_function, differentiate_each
from kmm.explain.attribution.result import Attribution
from kmm.explain.attribution.study_batches import BATCH, attribute_batches
from kmm.models.views.attention_view import AttentionView, Trail

if TYPE_CHECKING:
    from kmm.explain.attribution.methods import Case
    from kmm.explain.attribution.split_model import OpenModel

INPUTS = {"image": "image", "text": "rows"}
SIDES = ("image", "text")  # in the order of the columns of `present`
NO_REPORT = "this method explains only reports, and the study has none: nothing was explained"
NOT_FOLLOWED = {
    "image": "the film was not explained: its encoder has no attention that this method can follow",
    "text": "the report was not explained: its encoder has no attention that this method can follow",
}


class Rollout:
    """Relevance of pixels and words by the attention of a model. Traced once for any number of studies.

    Args:
        opened: `kmm.explain.attribution.split_model.OpenModel`.
        rules: str. Key of `kmm.explain.attribution.attention_rules.RULES`.
        labels: int. Most labels of a study in one pass.
        freeze: bool. See `kmm.explain.attribution.gradients.compile_function`.
    """

    def __init__(self, opened: "OpenModel", rules: str, *, labels: int = 1, freeze: bool = False):
        self.view, self.batch, self.labels = opened.view, min(opened.chunk, BATCH), labels
        chosen = RULES[rules]

        def make(inputs, fixed, targets, count):
            studies = ops.shape(fixed["present"])[0]
            nudges = {name: ops.zeros((studies, *shape)) for name, shape in self.view.weights.items()}

            def look(nudges):
                return opened.look(inputs, fixed, nudges)

            def follow(gradients, found):
                weights = {name: chosen.average(found[name], gradients[name]) for name in nudges}
                read = {side: found[f"{side}_read"] for side in SIDES if self.view.crossings}
                relevance = follow_attention(self.view, rules, weights, fixed["present"], read)
                return _place(self.view, relevance, inputs, fixed)

            if chosen.by_gradient:
                scores, placed = differentiate_each(look, follow)(count, targets, nudges)
                return placed, scores
            scores, found = look(nudges)
            return {name: value[None] for name, value in follow(dict.fromkeys(nudges), found).items()}, scores

        self._make = compile_function(make, freeze=freeze)

    def attribute(self, cases: "Iterable[Case]") -> Iterator[tuple[int, Attribution]]:
        """Explains many studies, in batches.

        Args:
            cases: iterable of `kmm.explain.attribution.methods.Case`, each with a target.

        Returns:
            iterator over the number of a case, from 0, and its `Attribution`.
        """
        return attribute_batches(cases, self._make, self._settle, size=self.batch, labels=self.labels)

    def _settle(self, case, placed, scores):
        values = {name: value.astype(np.float32) for name, value in placed.items()}
        if "rows" in values:  # of the shape of the input: the relevance of a row is the sum of its numbers
            width = case.inputs["rows"].shape[1]
            values["rows"] = np.repeat(values["rows"][:, None] / width, width, axis=1)
        return Attribution(
            values=values,
            target=case.target,
            score=float(scores[case.target]),
            scores=scores,
            steps=1,
            warnings=tuple(self._list_warnings(case)),
        )

    def _list_warnings(self, case):
        explained = self.view.explained
        there = [side for side in SIDES if INPUTS[side] in case.inputs and INPUTS[side] not in case.absent]
        if not set(there) & set(explained):
            yield NO_FILM if explained == ("image",) else NO_REPORT
        else:
            yield from (NOT_FOLLOWED[side] for side in there if side not in explained)


def follow_attention(
    view: AttentionView, rules: str, weights: Mapping[str, Any], present: Any, read: Mapping[str, Any]
) -> dict[str, Any]:
    """Computes the relevance of each token of the sides for the vectors that the head of a model reads.

    These are the vector of each side whose encoder has attention, if the side is there; and with a crossing the mean of
    the rows of each side behind it. The result is the mean over these vectors.

    Args:
        view: `AttentionView`.
        rules: str. Key of `RULES`.
        weights: dict of each name in `view.weights` to float `(n, q, k)`, averaged over the heads.
        present: float `(n, 2)`, 1 = film or report is there.
        read: with a crossing, dict of `"image"` and `"text"` to `(n, m)`: 1 for each row that the fusion reads.

    Returns:
        dict of side to float `(n, tokens)`, never negative. By `rollout` all sides together sum to 1.
    """
    chosen, trails = RULES[rules], view.trails
    relevance: Relevance = {}
    for side, trail in trails.items():
        own = start_relevance(side, trail.tokens)
        for name in trail.names:
            own = attend_to_itself(chosen, own, side, weights[name])
        relevance.update(own)
    parts: list[tuple[Any, dict[str, Any]]] = []  # weight (n, 1) of a vector, and its relevance (n, tokens) by side
    for side, trail in trails.items():
        if trail.names:
            there = ops.cast(present[:, SIDES.index(side)] > 0.5, "float32")[:, None]
            parts.append((there, _read_rows(chosen, relevance, side, _weigh_vector(trail))))
    if view.crossings:
        for side, trail in trails.items():
            own = _pad(weights[f"{side}_self_attention"], trail, trail)
            relevance = attend_to_itself(chosen, relevance, side, own)
        for number in range(1, view.crossings + 1):
            crossed = {
                side: _pad(weights[f"cross{number}_{side}_attention"], trails[side], trails[other])
                for side, other in zip(SIDES, reversed(SIDES), strict=True)
            }
            relevance = attend_to_each_other(chosen, relevance, crossed)
        for side in SIDES:
            shares = read[side] / ops.maximum(ops.sum(read[side], axis=1, keepdims=True), 1)
            shares = _pad_axis(shares, trails[side], 1)[:, None]
            parts.append((ops.ones_like(present[:, :1]), _read_rows(chosen, relevance, side, shares)))
    total = ops.maximum(sum(weight for weight, _ in parts), 1)
    return {side: sum(weight * found[side] for weight, found in parts if side in found) / total for side in trails}


def _read_rows(rules, relevance, side, shares):
    """Returns the relevance `(n, tokens)` by side for a mean over the tokens of one side, with shares `(n, 1, t)`."""
    made = {}
    for (rows, columns), value in relevance.items():
        if rows == side:
            if rules.by_gradient and columns == side:
                value = value - ops.eye(value.shape[-1])
            made[columns] = ops.matmul(shares, value)[:, 0]
    return made


def _weigh_vector(trail: Trail):
    """Returns the shares `(1, 1, tokens)` of the tokens in the vector of a side."""
    shares = np.zeros((1, 1, trail.tokens), np.float32)
    if trail.vector is None:
        shares[..., trail.first :] = 1 / (trail.tokens - trail.first)
    else:
        shares[..., trail.vector] = 1
    return ops.convert_to_tensor(shares)


def _pad(weights, queries: Trail, keys: Trail):
    """Pads weights `(n, q, k)` between rows of the fusion with zeros for the tokens that it does not read."""
    return _pad_axis(_pad_axis(weights, queries, 1), keys, 2)


def _pad_axis(value, trail, axis):
    before = trail.row
    after = trail.tokens - before - value.shape[axis]
    return ops.pad(value, [(before, after) if place == axis else (0, 0) for place in range(len(value.shape))])


def _place(view, relevance, inputs, fixed):
    """Brings the relevance of tokens to pixels `(n, h, w, 1)` and words `(n, t)`; 0 for padding and absent sides."""
    made = {}
    for side in view.explained:
        trail = view.trails[side]
        length = int(np.prod(trail.shape))
        there = ops.cast(fixed["present"][:, SIDES.index(side)] > 0.5, "float32")
        found = relevance[side][:, trail.first : trail.first + length] * there[:, None]
        if side == "image":
            made["image"] = enlarge(ops.reshape(found, (-1, *trail.shape)), inputs["image"].shape[1:3])
        else:
            made["rows"] = found * fixed["padding_mask"]
    return made
