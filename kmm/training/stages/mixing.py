"""Soft targets of a batch: label smoothing, and mixtures of two studies."""

from collections.abc import Mapping

import numpy as np

from kmm.image.augment import MIXTURE
from kmm.training.stages.film_changes import CHANGES, IMAGE

MARKS = ("_mask", "present")  # ends of the names of columns of 0 and 1: which rows of a sequence, which sides count
WORDS = "token_ids"


def smooth_labels(labels: np.ndarray, smoothing: float) -> np.ndarray:
    """Moves labels towards 0.5: a label `y` becomes `(1 - smoothing) * y + smoothing / 2`.

    Args:
        labels: float `(n, n_labels)` in [0, 1], NaN where unknown, which stays unknown.
        smoothing: float in [0, 1).

    Returns:
        float32 `(n, n_labels)`.

    Source: https://arxiv.org/abs/1512.00567

    Example:
        >>> smooth_labels(np.float32([[1, 0, np.nan]]), 0.5).tolist()
        [[0.75, 0.25, nan]]
    """
    return (labels * (1 - smoothing) + smoothing / 2).astype(np.float32)


def mix_studies(
    inputs: Mapping[str, np.ndarray], labels: np.ndarray, known: int, alpha: float, generator: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Mixes each study of a batch with another one: `share * own + (1 - share) * other`, of inputs and labels.

    The share of each study is drawn from the beta distribution `Beta(alpha, alpha)`. Both studies have the same sides,
    film and report, so that no side is mixed with the empty place of one that is missing; a study whose sides no other
    one has stays as it is. A label that either study lacks is unknown. Rows of a sequence count if they count in one of
    both. Token ids have no mean, so a batch of words stays as it is. If the batch says how the model changes its films,
    it says how they are mixed afterwards too, and they stay as they are.

    Args:
        inputs: mapping of column to array `(n, ...)`. `present`, if it is there, is `(n, 2)`: which sides a study has.
        labels: float32 `(n, n_labels)`, NaN where unknown.
        known: int. Studies that count; those after them fill up the batch and stay as they are.
        alpha: float, above 0.
        generator: `numpy.random.Generator`.

    Returns:
        dict of new arrays, and float32 labels.

    Source: https://arxiv.org/abs/1710.09412

    Example:
        >>> films = np.float32([[0.0], [8.0]])
        >>> inputs, labels = mix_studies({"film": films}, films / 8, 2, 1.0, np.random.default_rng(0))
        >>> bool(np.allclose(inputs["film"] / 8, labels))
        True
    """
    if WORDS in inputs:
        return dict(inputs), labels
    others = _choose_others(inputs.get("present"), known, len(labels), generator)
    shares = np.where(others == np.arange(len(labels)), 1, generator.beta(alpha, alpha, len(labels))).astype(np.float32)
    later = {}
    if CHANGES in inputs:
        later = {IMAGE: inputs[IMAGE], CHANGES: inputs[CHANGES].copy()}
        later[CHANGES][:, MIXTURE] = np.stack([others, shares], axis=1)
    mixed = {
        name: np.maximum(column, column[others]) if name.endswith(MARKS) else _mix(column, others, shares)
        for name, column in inputs.items()
        if name not in later
    }
    return {**mixed, **later}, _mix(labels, others, shares)


def _mix(column, others, shares):
    shares = shares.reshape(-1, *[1] * (column.ndim - 1))
    return (shares * column + (1 - shares) * column[others]).astype(np.float32)


def _choose_others(present, known, count, generator):
    """Returns for each study the number of another one with the same sides, each of them once; its own if there is
    none."""
    others = np.arange(count)
    sides = np.zeros((count, 1)) if present is None else present
    for pattern in np.unique(sides[:known], axis=0):
        order = generator.permutation(np.flatnonzero((sides[:known] == pattern).all(axis=1)))
        others[order] = np.roll(order, 1)
    return others
