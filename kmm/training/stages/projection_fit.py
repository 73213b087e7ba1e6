"""Fit of projections behind a joint model with contrastive terms: they alone are trained, on its vectors.

In a stage the epoch is chosen by the loss of the labels, often before projections have learned much, and the state that
is kept may be another one. Here the model stays as it is, so its vectors are computed once and a fit takes seconds.
"""

from collections.abc import Mapping

import keras
import numpy as np

from kmm.models.contrastive import NUMBERS, PAIRS, ContrastiveTerms
from kmm.models.views.feature_view import view_vectors
from kmm.models.views.projection import Projection, read_projection
from kmm.training.features import Features
from kmm.training.run_context import RunContext
from kmm.training.stages.contrastive_stage import number_studies
from kmm.training.stages.recipe import Stage

EPOCHS, PATIENCE, RATE = 100, 10, 1e-3
MOST_VALIDATED = 1024  # studies of a validation batch

Columns = Mapping[str, np.ndarray]


def project_model(context: RunContext, stage: Stage, model: keras.Model, features: Features) -> Projection | None:
    """Fits the projections of the vectors of a joint model, with the terms of a stage.

    Args:
        context: `RunContext`.
        stage: `Stage` with the name of a contrast.
        model: `keras.Model` of films and reports, as it is kept.
        features: `Features` of the run.

    Returns:
        `Projection`; None if training or validation has fewer than two studies with a film and a report.
    """
    columns = features.compute(model, ("image", "text"))
    view = view_vectors(model, ("image", "text"))
    names = list(dict.fromkeys(name for pair in stage.contrastive_pairs for name in pair.split("-")))
    outputs = [view.output[name] for name in names]
    joined = keras.Model(view.inputs, keras.layers.Concatenate(dtype="float32")(outputs))
    stops = np.cumsum([output.shape[-1] for output in outputs])[:-1]
    numbers = number_studies(context.prepared.studies)
    complete = np.asarray(np.all(context.prepared.present > 0.5, axis=1))
    parts = []
    for part in ("train", "validation"):
        rows = context.rows(part)
        rows = rows[complete[rows] & np.isfinite(numbers[rows]).any(axis=1)]
        if len(rows) < 2:
            return None
        vectors = np.split(context.predict(joined, rows, columns), stops, axis=1)
        parts.append({**dict(zip(names, vectors, strict=True)), NUMBERS: numbers[rows]})
    with context.progress.step("Projections", 1) as advance:
        found = fit_projection(stage, *parts, seed=context.settings.seed)
        advance()
    return found


def fit_projection(stage: Stage, train: Columns, validation: Columns, *, seed: int = 0) -> Projection:
    """Fits projections of vectors by the terms of a stage, until those of validation no longer improve.

    Args:
        stage: `Stage` with the name of a contrast.
        train, validation: mappings of the names of vectors to float32 `(n, d)`, and of `pair_numbers` to `(n, k)`.
        seed: int, which determines the result.
    """
    keras.utils.set_random_seed(seed)
    pairs = {name: PAIRS[name] for name in stage.contrastive_pairs}
    terms = ContrastiveTerms(stage.contrastive, pairs, 1.0, stage.contrastive_temperature)
    columns = [{**part, "present": np.ones((len(part[NUMBERS]), 2), np.float32)} for part in (train, validation)]
    inputs = {name: keras.Input(column.shape[1:], name=name) for name, column in columns[0].items()}
    model = keras.Model(inputs, terms({**inputs, "logits": inputs["present"]}))
    model.compile(optimizer=keras.optimizers.Adam(RATE), jit_compile=False)
    size = min(stage.batch_size, len(train[NUMBERS]))
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=PATIENCE, restore_best_weights=True)
    model.fit(
        columns[0],
        epochs=EPOCHS,
        batch_size=size,
        validation_data=(columns[1],),
        validation_batch_size=MOST_VALIDATED,
        callbacks=[stop],
        verbose=0,
    )
    return read_projection(terms)
