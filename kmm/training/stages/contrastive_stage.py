"""Contrastive terms of the stages that train the joint model: the model with them, and the numbers that they read."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from kmm.models.contrastive import NUMBERS, PAIRS, ContrastiveTerms
from kmm.models.views.feature_view import view_vectors
from kmm.models.views.projection import NAMES, Projection, read_projection
from kmm.training.stages.recipe import Stage

if TYPE_CHECKING:
    from kmm.data.study import Study

TERMS = "contrastive"  # name of the layer


def add_terms(
    model: keras.Model, stage: Stage, encoders: Mapping[str, keras.Model] | None = None, *, seed: int = 0
) -> keras.Model:
    """Makes the model that a stage with contrastive terms trains. It shares its weights with `model`; the projections
    are weights of its own, see `read_terms`.

    Args:
        model: `keras.Model` from `kmm.models.build.build_model` that reads films and reports.
        stage: `Stage` with the name of a contrast.
        encoders: see `kmm.models.views.feature_view.view_features`.
        seed: int, which determines the projections at the start.

    Returns:
        `keras.Model` as `kmm.models.views.feature_view.view_features` makes it, with the input `pair_numbers` more.
    """
    keras.utils.set_random_seed(seed)
    view = view_vectors(model, stage.features, encoders)
    numbers = keras.Input((len(KINDS),), name=NUMBERS)
    terms = ContrastiveTerms(
        stage.contrastive,
        {name: PAIRS[name] for name in stage.contrastive_pairs},
        stage.contrastive_weight,
        stage.contrastive_temperature,
        name=TERMS,
    )
    inputs = {tensor.name: tensor for tensor in view.inputs}
    logits = terms({**view(inputs), "present": inputs["present"], NUMBERS: numbers})
    return keras.Model({**inputs, NUMBERS: numbers}, keras.layers.Identity(dtype="float32", name="logits")(logits))


def read_terms(trained: keras.Model) -> Projection:
    """Reads the projections of a model of `add_terms`."""
    return read_projection(trained.get_layer(TERMS))


def choose_projection(learnt: Mapping[str, Projection], stages: Sequence[Stage], kept: str | None) -> Projection | None:
    """Chooses the projections that fit the vectors of a joint model as it was kept.

    Args:
        learnt: mapping of the stage to its projections, without stages whose best epoch is their start: theirs are
            random.
        stages: sequence of `Stage` of the joint model.
        kept: str, the name of the stage whose state is kept, or of the start of the joint model; None for the last.

    Returns:
        `Projection` of the stage that is kept. Of the start, whose encoders are those of the first stage as long as
        that reads both as features, it has no map of the joint features. None if there is none, or it maps one vector
        alone.
    """
    if not stages:
        return None
    names = [stage.name for stage in stages if stage.epochs]
    if kept is None and names:
        kept = names[-1]
    if kept in names:
        return learnt[kept].keep(*NAMES) if kept in learnt else None
    first = next((stage for stage in stages if stage.epochs), None)
    if first is None or first.name not in learnt or len(first.features) < len(first.sides):
        return None
    return learnt[first.name].keep("image", "text")


KINDS = ("body", "patient")


def number_studies(studies: "Sequence[Study]") -> np.ndarray:
    """Numbers what makes studies no negatives of each other: the body of the report, and the patient.

    Args:
        studies: sequence of n `Study`.

    Returns:
        float32 `(n, 2)`: equal numbers for equal bodies and for equal patients; NaN for an empty body.

    Example:
        >>> from kmm.data.study import Report, Study
        >>> one, other = (Study(id, "a", report=Report(findings="Clear.")) for id in "12")
        >>> number_studies([one, other, Study("3", "b")]).tolist()
        [[0.0, 0.0], [0.0, 0.0], [nan, 1.0]]
    """
    bodies = [study.report.body if study.report is not None else "" for study in studies]
    return np.stack([number_texts(bodies), number_texts([study.patient for study in studies])], axis=1)


def number_texts(texts: Sequence[str]) -> np.ndarray:
    """Numbers the distinct texts: float32 `(n,)`, NaN for an empty one."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) if text else np.nan for text in texts], np.float32)
