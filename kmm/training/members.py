"""Members of the image side: encoders that are trained on folds of train and validation, and averaged.

Each member leaves out one fold, by which its training is judged. What it says of that fold, out of its training, takes
the place of the averaged model's answer for the studies of train and validation, which has learnt from them.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from kmm.data.split import Split
from kmm.models.joined.joined_encoder import list_members
from kmm.models.joined.mean_head import average_linear, is_linear, join_members
from kmm.models.views.feature_view import view_features
from kmm.models.views.parts import fusion_of, image_encoder_of
from kmm.models.weights.checkpoints import weights_digest
from kmm.training.auxiliary.targets import make_auxiliary
from kmm.training.averaging import add_views
from kmm.training.features import Features
from kmm.training.run_context import RunContext
from kmm.training.stages.recipe import Stage
from kmm.training.teacher import divide_rows, make_targets

Answer = Callable[..., np.ndarray]
LEARNED_FROM = ("train", "validation")
SEEDS = 2**32 - 1


@dataclass(frozen=True)
class Member:
    """A trained member.

    Attributes:
        context: `RunContext` whose validation part is its fold, and whose training part is the rest.
        model: `keras.Model` of the image side.
        features: `Features` of its context.
    """

    context: RunContext
    model: keras.Model
    features: Features


@dataclass(frozen=True)
class HeldOut:
    """What the members say of the studies that they were not trained on.

    Attributes:
        logits: float32 `(n, n_labels)` of all studies of the run; NaN outside of train and validation.
        seen: bool `(n,)`, the studies of train and validation.
        frozen: bool. Whether all members have the encoder that they started from, which has not seen the studies.
        weights: dict of side to float64 `(n_labels,)`: how much of the logit of the image side the model has.
    """

    logits: np.ndarray
    seen: np.ndarray
    frozen: bool
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def replace_answers(self, answers: Mapping[str, Answer], present: np.ndarray) -> dict[str, Answer]:
        """Replaces the image side's logit in the answers for studies of train and validation by that of the member
        that has not seen the study.

        Args:
            answers: mapping of side to a function of int64 rows, and optionally of `present`, that returns logits.
            present: array `(n, 2)` of all studies.

        Returns:
            dict of the same sides to such functions. The joint model must be a weighted sum of both sides.
        """

        def correct(side: str) -> Answer:
            def answer(rows: np.ndarray, **other: Any) -> np.ndarray:
                logits = np.array(answers[side](rows, **other))
                chosen = np.flatnonzero(self.seen[rows] & (other.get("present", present)[rows, 0] > 0))
                if len(chosen):
                    said = answers["image"](rows[chosen], **other)
                    logits[chosen] += (self.weights[side] * (self.logits[rows[chosen]] - said)).astype(logits.dtype)
                return logits

            return answer

        return {side: correct(side) if side in self.weights else answers[side] for side in answers}


def divide_context(context: RunContext) -> Iterator[RunContext]:
    """Yields the context of each member: another fold of train and validation is its validation part.

    Folds keep together studies of a patient, copies of a report and copies of a film. Each member has a seed of its
    own; the first has that of the run. A teacher of the image side and auxiliary targets are fitted on the training
    part of each.

    Raises:
        InputError: if there are too few groups of studies.
    """
    s, prepared = context.settings, context.prepared
    known = sorted(row for part in LEARNED_FROM for row in context.rows(part))
    for number, fold in enumerate(divide_rows(prepared, known, s.seed, s.members)):
        parts = dict(prepared.split.parts)
        parts |= {prepared.studies[row].id: "train" for row in known}
        parts |= {prepared.studies[row].id: "validation" for row in fold}
        own = replace(prepared, split=Split(parts, prepared.split.patients))
        settings = replace(s, seed=(s.seed + number) % SEEDS)
        targets: dict[str, np.ndarray] = {}
        if "image" in context.targets:
            targets, _ = make_targets(own, replace(settings, text_teacher=0.0), context.progress)
        auxiliary = make_auxiliary(own, settings, context.progress)[0] if context.auxiliary else {}
        yield replace(context, prepared=own, settings=settings, targets=targets, auxiliary=auxiliary)


def train_members(
    context: RunContext, stages: Sequence[Stage], train: Callable[[RunContext, Sequence[Stage], int], Member]
) -> list[Member]:
    """Trains the members of a run one after the other.

    Args:
        context: `RunContext` of the run.
        stages: sequence of `Stage` of all members, in their order.
        train: function of the context of a member, its stages and its number, from 1, that trains it.
    """
    count = context.settings.members
    context.progress.note(
        f"{count} members of the image side, each trained without one fold of train and validation: they cost {count} "
        f"times the training of one and, unless their encoders stay frozen, {count} times the computation and the "
        "memory of each film"
    )
    size = len(stages) // count
    return [
        train(own, stages[size * number : size * (number + 1)], number + 1)
        for number, own in enumerate(divide_context(context))
    ]


def ask_held_out(context: RunContext, members: Sequence[Member]) -> HeldOut:
    """Lets each member say what it thinks of its own fold, with views of the films if the run averages them.

    Args:
        context: `RunContext` of the run, with `members`.
        members: sequence of `Member`.
    """
    frozen = not any(context.members)
    logits = np.full(context.prepared.labels.shape, np.nan, np.float32)
    for member in members:
        model = add_views(member.context, {"image": member.model}, note=False)["image"]
        if frozen:
            member.features.compute(model, ("image",))  # all members share them
        known = member.features.recall(model)
        rows = member.context.rows("validation")
        logits[rows] = member.context.predict(view_features(model, ("image",)) if known else model, rows, known)
    seen = np.zeros(len(logits), bool)
    seen[np.concatenate([context.rows(part) for part in LEARNED_FROM])] = True
    return HeldOut(logits, seen, frozen, {"image": np.ones(len(context.maker.label_names))})


def find_order(members: Sequence[Member]) -> tuple[int, ...]:
    """Numbers the encoders of the members, equal ones alike: `members` of `kmm.models.build.ModelSpec`. It is `(0,)` if
    one encoder with one linear head is the mean of all."""
    head = members[0].context.settings.head
    digests = [weights_digest(_encoder(member.model)) for member in members]
    numbers = {digest: number for number, digest in enumerate(dict.fromkeys(digests))}
    if len(numbers) == 1 and all(is_linear(fusion_of(member.model), head) for member in members):
        return (0,)
    return tuple(numbers[digest] for digest in digests)


def average_members(context: RunContext, members: Sequence[Member]) -> keras.Model:
    """Builds the model of the image side whose logits are the mean of those of its members.

    Args:
        context: `RunContext` whose `members` are those of `find_order`.
        members: sequence of `Member`.

    Returns:
        `keras.Model` without views, as the members are.
    """
    model, order = context.build("image"), context.members
    fusions = [fusion_of(member.model) for member in members]
    for number, encoder in enumerate(list_members(_encoder(model))):
        encoder.set_weights(_encoder(members[order.index(number)].model).get_weights())
    if len(order) == 1:
        average_linear(fusion_of(model), fusions)
    else:
        join_members(fusion_of(model), fusions, context.settings.head)
    return model


def _encoder(model: keras.Model) -> keras.Model:
    encoder = image_encoder_of(model)
    assert encoder is not None
    return encoder
