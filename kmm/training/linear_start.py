"""Set the head of a side to a linear probe of its features."""

import keras
import numpy as np

from kmm.evaluate.linear_probe import fit_probe
from kmm.models.heads import write_linear
from kmm.models.views.parts import fusion_of, vector_groups
from kmm.training.features import Features
from kmm.training.run_context import RunContext

COLUMNS = {"image": 0, "text": 1}  # of `present`


def write_probe(
    context: RunContext,
    side: str,
    model: keras.Model,
    features: Features,
    class_weights: np.ndarray | None = None,
) -> tuple[float | None, ...]:
    """Sets the head of a side to the linear probe of its features, fitted on the training studies that have the side.

    Args:
        context: `RunContext`.
        side: str. `"image"` or `"text"`.
        model: `keras.Model` of the side, changed in place.
        features: `Features` of the run.
        class_weights: see `kmm.evaluate.linear_probe.fit_probe`.

    Returns:
        tuple of float, one per label: the inverse strengths of the penalty, chosen on validation.
    """
    columns = features.compute(model, (side,))
    parts = {part: choose_present(context, side, part) for part in ("train", "validation")}
    rows = np.concatenate(list(parts.values()))
    vectors = np.asarray(columns[f"{side}_vector"][rows], np.float32)
    count = len(parts["train"])
    probe = fit_probe(
        vectors,
        context.targets_of(side)[rows],
        train=np.arange(count),
        validation=np.arange(count, len(rows)),
        class_weights=class_weights,
        groups=vector_groups(model, side),
    )
    write_linear(fusion_of(model), side, mean=probe.mean, scale=probe.scale, coef=probe.coef, intercept=probe.intercept)
    return probe.strengths


def choose_present(context: RunContext, side: str, part: str) -> np.ndarray:
    """Returns the int64 rows of the studies of a part that have a side; of the joint model, all."""
    rows = context.rows(part)
    return rows if side == "joint" else rows[context.prepared.present[rows, COLUMNS[side]] > 0]
