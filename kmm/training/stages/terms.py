"""Terms of the loss of a stage beside that of the labels: the model with them, and the columns that they read.

The model shares its weights with the one that is trained; what the terms add to it is left behind when the stage ends.
"""

from collections.abc import Callable, Mapping

import keras
import numpy as np

from kmm.models.contrastive import NUMBERS
from kmm.models.views.feature_view import view_features, view_vectors
from kmm.training.auxiliary.terms import AUXILIARY, AuxiliaryTerms
from kmm.training.run_context import RunContext
from kmm.training.stages import contrastive_stage
from kmm.training.stages.recipe import Stage

Encoders = Mapping[str, keras.Model]
View = tuple[keras.Model, dict[str, np.ndarray]]


def view_stage(context: RunContext, stage: Stage, model: keras.Model, encoders: Encoders | None = None) -> View:
    """Makes the model that a stage trains.

    Args:
        context: `RunContext`.
        stage: `Stage`, with one of the terms at most.
        model: `keras.Model` from `kmm.models.build.build_model`.
        encoders: see `kmm.models.views.feature_view.view_features`.

    Returns:
        `keras.Model` from features where the stage reads them, with the inputs of its term more; and the columns of
        these, one row per study.
    """
    for name, add in TERMS.items():
        if getattr(stage, name):
            return add(context, stage, model, encoders)
    return _view_plain(stage, model, encoders), {}


def _view_plain(stage, model, encoders):
    return view_features(model, stage.features, encoders) if stage.features or encoders else model


def _add_contrast(context, stage, model, encoders):
    numbers = contrastive_stage.number_studies(context.prepared.studies)
    return contrastive_stage.add_terms(model, stage, encoders, seed=context.settings.seed), {NUMBERS: numbers}


def _add_auxiliary(context, stage, model, encoders):
    """Adds the auxiliary targets that the data have; they are predicted from the features of the last layer."""
    found = [context.auxiliary[name] for name in stage.auxiliary if name in context.auxiliary]
    if not found:
        return _view_plain(stage, model, encoders), {}
    view = view_vectors(model, stage.features, encoders)
    targets = np.concatenate([target.values for target in found], axis=1)
    inputs = {tensor.name: tensor for tensor in view.inputs}
    values = {**view(inputs), "present": inputs["present"]}
    inputs[AUXILIARY] = keras.Input(targets.shape[1:], name=AUXILIARY)
    terms = AuxiliaryTerms(
        [(target.kind, target.values.shape[1]) for target in found],
        np.concatenate([target.start for target in found]),
        stage.auxiliary_weight,
        name="auxiliary",
    )
    logits = terms({**values, AUXILIARY: inputs[AUXILIARY]})
    made = keras.Model(inputs, keras.layers.Identity(dtype="float32", name="logits")(logits))
    return made, {AUXILIARY: targets}


Add = Callable[[RunContext, Stage, keras.Model, Encoders | None], View]
TERMS: dict[str, Add] = {"contrastive": _add_contrast, "auxiliary": _add_auxiliary}  # by the field of `Stage`
