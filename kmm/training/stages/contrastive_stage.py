"""Contrastive terms of the stages that train the joint model: the model with them, and the numbers that they read."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from kmm.models.contrastive import NUMBERS, PAIRS, ContrastiveTerms
from kmm.models.views.feature_view import view_vectors
from kmm.training.stages.recipe import Stage

if TYPE_CHECKING:
    from kmm.data.study import Study


def add_terms(
    model: keras.Model, stage: Stage, encoders: Mapping[str, keras.Model] | None = None, *, seed: int = 0
) -> keras.Model:
    """Makes the model that a stage with contrastive terms trains. It shares its weights with `model`; the projections
    are weights of its own, which the stage leaves behind.

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
        name="contrastive",
    )
    inputs = {tensor.name: tensor for tensor in view.inputs}
    logits = terms({**view(inputs), "present": inputs["present"], NUMBERS: numbers})
    return keras.Model({**inputs, NUMBERS: numbers}, keras.layers.Identity(dtype="float32", name="logits")(logits))


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
