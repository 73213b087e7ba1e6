"""Divide a result between film and report: Shapley values of two players."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError, look_up
from kmm.evaluate.metrics import score_labels
from kmm.evaluate.statistics.bootstrap import RESAMPLED, average_draws, interval, resample_metrics

COALITIONS = ("none", "image", "text", "both")  # the sides that the model sees
SHARES = ("image", "text", "interaction")


def share_value(none: ArrayLike, image: ArrayLike, text: ArrayLike, both: ArrayLike) -> dict[str, np.ndarray]:
    """Divides what a model gains from seeing film and report between the two, by Shapley's value.

    A side's share is the mean of what it adds to nothing and what it adds to the other side. The two shares sum to
    `both - none`. The interaction is what the sides give together beyond the sum of what each gives alone: it is
    negative where they say the same.

    Source: https://doi.org/10.1515/9781400881970-018

    Args:
        none, image, text, both: float arrays of one shape, or floats: the value (logit, probability or metric) when the
            model sees neither side, the film alone, the report alone, and both. For `none`, a joint model that always
            needs a side is given its output at the prevalence.

    Returns:
        dict: `image`, `text` and `interaction`, each a float64 array of that shape, in the unit of the values.

    Raises:
        InputError: if the shapes differ.

    Example:
        >>> shares = share_value(none=0.0, image=1.0, text=3.0, both=3.0)
        >>> float(shares["image"]), float(shares["text"]), float(shares["interaction"])
        (0.5, 2.5, -1.0)
    """
    values = [np.asarray(value, np.float64) for value in (none, image, text, both)]
    if len({value.shape for value in values}) > 1:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in zip(COALITIONS, values))
        raise InputError(f"The values of the coalitions must have the same shape. Received: {shapes}.")
    return _share(*values)


def share_metric(
    labels: ArrayLike,
    probabilities: Mapping[str, ArrayLike],
    thresholds: Mapping[str, ArrayLike],
    groups: Sequence | None = None,
    *,
    metric: str = "roc_auc",
    label_names: Sequence[str] | None = None,
    repeats: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Divides a metric of the model on a set of studies between film and report.

    The shares are in the unit of the metric and keep its sign: a side that helps has a positive share of the AUC, and a
    negative share of the log loss.

    Source: https://doi.org/10.1515/9781400881970-018; intervals over patients as in `resample_metrics`.

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown, left out).
        probabilities: dict of each of `COALITIONS` to an array of the same shape in [0, 1]: the calibrated probability
            when the model sees neither side, the film alone, the report alone, and both.
        thresholds: dict of each of `COALITIONS` to a float, array `(n_labels,)` or array `(n, n_labels)`.
        groups: sequence of `n` patient keys, or None: each study is a group.
        metric: str, a name in `kmm.evaluate.statistics.bootstrap.RESAMPLED`.
        label_names: sequence of `n_labels` str; required for more than one label.
        repeats: int. Number of bootstrap draws for the intervals.
        seed: int. Seed of the draws.

    Returns:
        dict for JSON: `values` (dict of each of `COALITIONS` to the metric), and `image`, `text` and `interaction`,
        each a dict of `value` and its 95 % `interval`. The shares of the sides sum to
        `values["both"] - values["none"]`. What is undefined is None. With many labels these are of the mean over
        labels, and `per_label` has the same dict for each name.

    Raises:
        InputError: if a coalition is missing, the metric is unknown, or the arrays do not match.

    Example:
        >>> labels = [0, 0, 1, 1] * 5
        >>> seen = {"none": [0.5] * 20, "image": [0.4, 0.6, 0.5, 0.7] * 5, "text": [0.1, 0.2, 0.8, 0.9] * 5}
        >>> found = share_metric(labels, {**seen, "both": seen["text"]}, dict.fromkeys(COALITIONS, 0.5))
        >>> found["values"], found["image"]["value"], found["text"]["value"]
        ({'none': 0.5, 'image': 0.75, 'text': 1.0, 'both': 1.0}, 0.125, 0.375)
    """
    look_up(dict.fromkeys(RESAMPLED), metric, "metric")
    for given, name in ((probabilities, "probabilities"), (thresholds, "thresholds")):
        if set(given) != set(COALITIONS):
            raise InputError(f"The {name} must be given for {', '.join(COALITIONS)}. Received: {', '.join(given)}.")
    scores, draws = [], []
    for name in COALITIONS:
        arguments = labels, probabilities[name], thresholds[name]
        scores.append(score_labels(*arguments, label_names=label_names))
        draws.append(resample_metrics(*arguments, groups, repeats=repeats, seed=seed)[metric])
    if "per_label" not in scores[0]:
        return _describe([score[metric] for score in scores], [drawn[:, 0] for drawn in draws])
    singles = [[score["per_label"][name][metric] for score in scores] for name in label_names or ()]
    defined = [None not in single for single in singles]
    means = _describe([score[metric] for score in scores], [average_draws(drawn, defined) for drawn in draws])
    each = [_describe(single, [drawn[:, place] for drawn in draws]) for place, single in enumerate(singles)]
    return means | {"per_label": dict(zip(label_names or (), each, strict=True))}


def _share(none, image, text, both):
    return {
        "image": (image - none + both - text) / 2,
        "text": (text - none + both - image) / 2,
        "interaction": both - image - text + none,
    }


def _describe(values, draws):
    """Returns the shares of four values with intervals; each of `draws` is `(repeats,)`."""
    shares = dict.fromkeys(SHARES) if None in values else _share(*values)
    drawn = _share(*draws)
    found = {
        name: {"value": value, "interval": None if value is None else interval(drawn[name])}
        for name, value in shares.items()
    }
    return {"values": dict(zip(COALITIONS, values, strict=True)), **found}
