"""Averages over labels beside the plain mean: of all decisions together (micro), and by the positives of each label."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kmm.evaluate.arrays import as_columns, as_cuts
from kmm.evaluate.metrics import score_labels
from kmm.evaluate.statistics.bootstrap import interval, resample_metrics

AVERAGED = ("roc_auc", "average_precision", "f1", "sensitivity", "specificity")  # what label-wise tables show


def average_micro(
    labels: ArrayLike,
    probabilities: ArrayLike,
    thresholds: ArrayLike,
    groups: Sequence | None,
    *,
    repeats: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures all known labels of all studies together, as if they were those of one label.

    Frequent labels dominate. An area under the ROC curve of all labels together also rewards a model for knowing which
    labels are frequent.

    Args:
        labels, probabilities, thresholds, groups, repeats, seed: as for `kmm.evaluate.compare.compare_models`, of many
            labels.

    Returns:
        dict for JSON of the metrics in `AVERAGED`, each a float or None, and their `intervals` over groups.

    Example:
        >>> found = average_micro([[1, 0], [0, 1]], [[0.9, 0.2], [0.3, 0.4]], 0.5, None, repeats=9)
        >>> found["sensitivity"], found["roc_auc"]
        (0.5, 1.0)
    """
    known, values = as_columns(labels, probabilities)
    cuts = as_cuts(thresholds, (len(known), known.shape[1]), "thresholds")
    keys = np.arange(len(known)) if groups is None else np.asarray(groups)
    table = (known.ravel(), values.ravel(), cuts.reshape(-1, 1))
    scores = score_labels(*table)
    owners = np.repeat(keys, known.shape[1]).tolist()
    draws = resample_metrics(*table, owners, repeats=repeats, seed=seed)
    found = {metric: scores[metric] for metric in AVERAGED}
    return found | {"intervals": {metric: interval(draws[metric]) for metric in AVERAGED}}


def average_weighted(singles: Sequence[Mapping[str, Any]], draws: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Averages the metrics of labels, each weighted by its positive studies.

    Args:
        singles: sequence of dicts, one per label, with `n_positive` and a float or None for each metric.
        draws: dict of metric to float array `(repeats, n_labels)`, NaN where undefined, as `resample_metrics` returns.

    Returns:
        dict for JSON of the metrics in `AVERAGED`, each a float, or None if it is defined for no label with a positive
        study, and their `intervals`, over draws in which the metrics of the same labels are defined.

    Example:
        >>> one, other = ({"n_positive": n, **dict.fromkeys(AVERAGED, value)} for n, value in ((3, 0.8), (1, 0.4)))
        >>> round(average_weighted([one, other], {metric: np.full((4, 2), 0.5) for metric in AVERAGED})["f1"], 6)
        0.7
    """
    counts = np.array([single["n_positive"] for single in singles], np.float64)
    found: dict[str, Any] = {"intervals": {}}
    for metric in AVERAGED:
        values = np.array([np.nan if single[metric] is None else single[metric] for single in singles], np.float64)
        chosen = np.isfinite(values) & (counts > 0)
        weights = counts[chosen] / max(counts[chosen].sum(), 1.0)
        found[metric] = float(values[chosen] @ weights) if chosen.any() else None
        found["intervals"][metric] = interval(draws[metric][:, chosen] @ weights) if chosen.any() else None
    return found
