"""Set the head of a side to a linear probe of its features."""

import hashlib

import keras
import numpy as np

from kmm.evaluate.linear_probe import fit_probe
from kmm.models.heads import write_linear
from kmm.models.linear_probe import LinearProbe
from kmm.models.views.parts import fusion_of, vector_groups
from kmm.training.features import Features, digest_encoder
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
    probe = fit_side_probe(context, side, model, features, context.targets_of(side), class_weights)
    write_linear(fusion_of(model), side, mean=probe.mean, scale=probe.scale, coef=probe.coef, intercept=probe.intercept)
    return probe.strengths


def fit_side_probe(
    context: RunContext,
    side: str,
    model: keras.Model,
    features: Features,
    targets: np.ndarray,
    class_weights: np.ndarray | None = None,
) -> LinearProbe:
    """Fits the linear probe of the features of a side on the training studies that have it, once for the same data.

    The head's start and the linear baseline are often the same probe; `features` keeps those fitted so far.

    Args:
        context, side, model, features, class_weights: see `write_probe`.
        targets: array `(n, n_labels)` in [0, 1] of all studies, NaN for unknown.

    Returns:
        `LinearProbe`.
    """
    train, validation = (choose_present(context, side, part) for part in ("train", "validation"))
    rows = np.concatenate([train, validation])
    labels = np.asarray(targets[rows], np.float64)
    weights = None if class_weights is None else np.asarray(class_weights, np.float64)
    digest = hashlib.sha256(digest_encoder(model, side).encode())
    for values in (train, validation, labels, weights):
        digest.update(b"|" if values is None else b"|" + values.tobytes())
    key = digest.hexdigest()
    if key not in features.probes:
        columns = features.compute(model, (side,))
        features.probes[key] = fit_probe(
            np.asarray(columns[f"{side}_vector"][rows], np.float32),
            labels,
            train=np.arange(len(train)),
            validation=np.arange(len(train), len(rows)),
            class_weights=weights,
            groups=vector_groups(model, side),
        )
    return features.probes[key]


def choose_present(context: RunContext, side: str, part: str) -> np.ndarray:
    """Returns the int64 rows of the studies of a part that have a side; of the joint model, all."""
    rows = context.rows(part)
    return rows if side == "joint" else rows[context.prepared.present[rows, COLUMNS[side]] > 0]
