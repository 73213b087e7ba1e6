"""Compare the joint classifier with its parts and with baselines, on one set of studies."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError, look_up
from kmm.evaluate.arrays import as_columns, as_cuts
from kmm.evaluate.decisions.operating_points import measure_operating_point, sum_operating_points
from kmm.evaluate.label_averages import average_micro, average_weighted
from kmm.evaluate.metrics import average_labels, score_labels
from kmm.evaluate.statistics.bootstrap import RESAMPLED, average_draws, interval, resample_metrics
from kmm.evaluate.statistics.paired_tests import compare_accuracy, compare_auc

FITTED = ("joint", "image", "text", "tfidf", "image-linear", "linear-sum")
ROWS = (*FITTED, "majority", "chance")


def compare_models(
    labels: ArrayLike,
    scores: Mapping[str, ArrayLike | None],
    *,
    thresholds: Mapping[str, ArrayLike],
    groups: Sequence | None,
    label_names: Sequence[str],
    train_prevalence: ArrayLike,
    repeats: int = 1000,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures every classifier and baseline on the same studies and tests the joint classifier against each other one.

    The row "majority" gives every study the prevalence of the training set and calls it positive at 0.5 or more. The
    row "chance" is the average result in a large set of scores drawn uniformly from [0, 1], with a threshold at which
    positives are called as often as they occur; it has no intervals.

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown).
        scores: dict of a name in `FITTED` to probabilities of the same shape in [0, 1]; None or absent if there are
            none.
        thresholds: dict of each name with scores to a float, an array `(n_labels,)`, or an array `(n, n_labels)` if
            they differ between studies.
        groups: sequence of `n` patient keys, or None: each study is a group.
        label_names: sequence of `n_labels` str.
        train_prevalence: float, array `(n_labels,)` or array `(n, n_labels)` in [0, 1]. Fraction of positives among the
            training studies.
        repeats: int. Number of bootstrap draws for the intervals.
        seed: int. Seed of the draws.

    Returns:
        dict for JSON: `n` and `n_positive`; for each name in `ROWS` the dict of `score_labels` with `intervals` and
        `operating_point` (of `measure_operating_point`; with many labels the sum of the counts), or None; `tests`: for
        each other name in `FITTED`, or None, the dicts `roc_auc` (DeLong, clustered) and `accuracy` (McNemar,
        clustered) with `difference` (joint minus it), the `interval` of the difference over the same draws, and `p`.
        With many labels, the row of each name in `FITTED` also has `micro` and `weighted`, of
        `kmm.evaluate.label_averages`; each entry of `per_label` has its own `intervals`, `operating_point` and tests,
        and the overall difference is that of the means, without `p`. Intervals and tests treat the studies of a group
        as one observation. The interval of a mean uses the draws for which the metrics of the same labels are defined;
        it is None if these are fewer than half of the draws.

    Raises:
        InputError: if the names, shapes or values do not match.

    Example:
        >>> result = compare_models([0, 0, 1, 1], {"joint": [0.1, 0.2, 0.8, 0.9], "text": [0.1, 0.7, 0.6, 0.9]},
        ...     thresholds={"joint": 0.5, "text": 0.5}, groups=None, label_names=["abnormal"], train_prevalence=0.6)
        >>> result["joint"]["accuracy"], result["text"]["accuracy"], result["majority"]["accuracy"], result["image"]
        (1.0, 0.75, 0.5, None)
    """
    given: dict[str, ArrayLike] = {name: values for name, values in scores.items() if values is not None}
    for name in sorted(given):
        look_up(dict.fromkeys(FITTED), name, "scores")
    if without := set(given) - set(thresholds):
        raise InputError(f'No threshold was given for the scores "{min(without)}".')
    shape = np.shape(labels)
    columns = (shape[0], shape[1] if len(shape) == 2 else 1)
    given["majority"] = as_cuts(train_prevalence, columns, "training prevalences").reshape(shape)
    thresholds = {**thresholds, "majority": 0.5}
    rows: dict[str, Any] = {name: None for name in ROWS}
    draws: dict[str, dict[str, _Draws]] = {}
    for name, values in given.items():
        rows[name] = score_labels(labels, values, thresholds[name], label_names=label_names)
        drawn = resample_metrics(labels, values, thresholds[name], groups, repeats=repeats, seed=seed)
        draws[name] = _add_intervals(rows[name], drawn)
        if "per_label" in rows[name] and name in FITTED:
            pooled = average_micro(labels, values, thresholds[name], groups, repeats=repeats, seed=seed)
            rows[name]["micro"] = pooled
            rows[name]["weighted"] = average_weighted(list(rows[name]["per_label"].values()), drawn)
        _add_operating_points(rows[name], labels, values, thresholds[name], groups)
    rows["chance"] = _score_chance(rows["majority"], label_names)
    counts = {key: rows["majority"][key] for key in ("n", "n_positive")}
    for row in filter(None, rows.values()):
        del row["n"], row["n_positive"]
    tests: dict[str, Any] = {name: None for name in FITTED[1:]}
    for name in tests:
        if "joint" in given and name in given:
            joint, other = ((given[key], thresholds[key]) for key in ("joint", name))
            singles = _compare_pair(labels, joint, other, groups)
            _add_differences(singles, draws["joint"], draws[name])
            tests[name] = singles[0]
            if len(singles) > 1:
                tests[name] = _compare_means(rows["joint"], rows[name], draws["joint"], draws[name])
                tests[name]["per_label"] = dict(zip(label_names, singles))
    return counts | rows | {"tests": tests}


class _Draws(NamedTuple):
    """Bootstrap draws of one metric: for each label `(repeats, n_labels)`, and for their mean `(repeats,)`."""

    single: np.ndarray
    mean: np.ndarray


def _add_intervals(row, drawn):
    """Adds `intervals` to a row of `score_labels` and to each of its labels; returns the `_Draws` of each metric."""
    singles = list(row["per_label"].values()) if "per_label" in row else [row]
    draws = {}
    for metric in RESAMPLED:
        defined = [single[metric] is not None for single in singles]
        draws[metric] = _Draws(drawn[metric], average_draws(drawn[metric], defined))
    for place, single in enumerate(singles):
        single["intervals"] = {metric: interval(draws[metric].single[:, place]) for metric in RESAMPLED}
    row["intervals"] = {metric: interval(draws[metric].mean) for metric in RESAMPLED}
    return draws


def _add_operating_points(row, labels, probabilities, thresholds, groups):
    """Adds `operating_point` to a row of `score_labels` and to each of its labels."""
    known, values = as_columns(labels, probabilities)
    cuts = as_cuts(thresholds, (len(known), known.shape[1]), "thresholds")
    points = [measure_operating_point(y, p, cut, groups) for y, p, cut in zip(known.T, values.T, cuts.T, strict=True)]
    for single, point in zip(row.get("per_label", {"": row}).values(), points, strict=True):
        single["operating_point"] = point
    row["operating_point"] = points[0] if len(points) == 1 else sum_operating_points(points)


def _score_chance(majority, label_names):
    if "per_label" not in majority:
        return expect_chance(majority)
    singles = [expect_chance(majority["per_label"][name]) for name in label_names]
    return average_labels(singles, n=majority["n"], label_names=label_names)


def expect_chance(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the average result of scores drawn uniformly from [0, 1]; see `compare_models`.

    Args:
        counts: mapping with `n` and `n_positive`.

    Returns:
        dict of both counts and each metric, None where it is undefined.
    """
    n, n_positive = counts["n"], counts["n_positive"]
    p = n_positive / n if n else 0.0
    known, has_positive, has_negative = n > 0, n_positive > 0, n_positive < n
    both = has_positive and has_negative
    return {
        "n": n,
        "n_positive": n_positive,
        "accuracy": p * p + (1 - p) * (1 - p) if known else None,
        "balanced_accuracy": 0.5 if both else None,
        "roc_auc": 0.5 if both else None,
        "average_precision": p if both else None,
        "sensitivity": p if has_positive else None,
        "specificity": 1 - p if has_negative else None,
        "f1": p if has_positive else None,
        "mcc": 0.0 if both else None,
        "brier": 1 / 3 if known else None,
        "log_loss": 1.0 if known else None,
        "ece": (p * p + (1 - p) * (1 - p)) / 2 if known else None,
    }


def _compare_pair(labels, first, second, groups):
    """Tests two classifiers, each given as probabilities and thresholds; returns a list of dicts, one per label."""
    tables = [as_columns(labels, probabilities) for probabilities, _ in (first, second)]
    n_labels = tables[0][0].shape[1]
    cuts = [as_cuts(threshold, tables[0][0].shape, "thresholds") for _, threshold in (first, second)]
    singles = []
    for i in range(n_labels):
        column, values = tables[0][0][:, i], [probabilities[:, i] for _, probabilities in tables]
        decisions = [value >= cut[:, i] for value, cut in zip(values, cuts)]
        singles.append(
            {
                "roc_auc": compare_auc(column, *values, groups),
                "accuracy": compare_accuracy(column, *decisions, groups),
            }
        )
    return singles


def _add_differences(singles, first, second):
    """Adds to the tests of `_compare_pair` the interval of each label's difference over the same draws."""
    for place, single in enumerate(singles):
        for metric, test in single.items():
            test["interval"] = interval(first[metric].single[:, place] - second[metric].single[:, place])


def _compare_means(first, second, first_draws, second_draws):
    """Returns the differences of two rows of means over labels, with intervals and without tests."""
    return {
        metric: {
            "difference": _subtract(first[metric], second[metric]),
            "interval": interval(first_draws[metric].mean - second_draws[metric].mean),
        }
        for metric in ("roc_auc", "accuracy")
    }


def _subtract(first, second):
    return None if first is None or second is None else first - second
