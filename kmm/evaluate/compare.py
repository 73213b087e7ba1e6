"""The joint classifier beside its parts and beside baselines that know less: one table for one set of studies."""

from typing import NamedTuple

import numpy as np

from kmm.errors import InputError, look_up
from kmm.evaluate.arrays import as_columns, as_cuts
from kmm.evaluate.metrics import average_labels, score_labels
from kmm.evaluate.statistics import RESAMPLED, average_draws, compare_accuracy, compare_auc, interval, resample_metrics

FITTED = ("joint", "image", "text", "tfidf")
ROWS = (*FITTED, "majority", "chance")


def compare_models(labels, scores, *, thresholds, groups, label_names, train_prevalence, repeats=1000, seed=0):
    """Measures every classifier and baseline on the same studies and tests the joint one against each other.

    The row "majority" gives every study the prevalence of the training set and calls it positive from 0.5. The row
    "chance" is what scores drawn evenly from [0, 1] give on average in a large set, cut so that positives are called
    as often as they occur; it has no intervals.

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown).
        scores: dict of probabilities of the same shape in [0, 1] by name, of `FITTED`; None or absent: not available.
        thresholds: dict of a float or an array `(n_labels,)` for each name whose scores are given, or of an array
            `(n, n_labels)` where studies differ.
        groups: sequence of `n` patient keys, or None: each study alone.
        label_names: sequence of `n_labels` str.
        train_prevalence: float, array `(n_labels,)` or array `(n, n_labels)` in [0, 1]. Share of positives among the
            training studies.
        repeats: int. Draws for the intervals.
        seed: int.

    Returns:
        dict that JSON can hold: `n` and `n_positive`; for each name in `ROWS` the dict of `score_labels` with
        `intervals`, or None; `tests`: for each of image, text and tfidf the dicts `roc_auc` (DeLong, clustered) and
        `accuracy` (McNemar, clustered) with `difference` (joint minus it), `interval` of the difference over the same
        draws, and `p`, or None. With many labels each entry of `per_label` has its own `intervals` and tests, and the
        difference above them is that of the means, without `p`. Intervals and tests take studies of one group as one
        draw. An interval of a mean comes from draws that define the same labels as the mean itself; it is None where
        fewer than half of the draws do.

    Raises:
        InputError: if the names, shapes or values do not fit each other.

    Example:
        >>> result = compare_models([0, 0, 1, 1], {"joint": [0.1, 0.2, 0.8, 0.9], "text": [0.1, 0.7, 0.6, 0.9]},
        ...     thresholds={"joint": 0.5, "text": 0.5}, groups=None, label_names=["abnormal"], train_prevalence=0.6)
        >>> result["joint"]["accuracy"], result["text"]["accuracy"], result["majority"]["accuracy"], result["image"]
        (1.0, 0.75, 0.5, None)
    """
    scores = {name: values for name, values in scores.items() if values is not None}
    for name in sorted(scores):
        look_up(dict.fromkeys(FITTED), name, "scores")
    if without := set(scores) - set(thresholds):
        raise InputError(f'No threshold was given for the scores "{min(without)}".')
    shape = np.shape(labels)
    columns = (shape[0], shape[1] if len(shape) == 2 else 1)
    scores["majority"] = as_cuts(train_prevalence, columns, "training prevalences").reshape(shape)
    thresholds = {**thresholds, "majority": 0.5}
    rows, draws = {name: None for name in ROWS}, {}
    for name, values in scores.items():
        rows[name] = score_labels(labels, values, thresholds[name], label_names=label_names)
        drawn = resample_metrics(labels, values, thresholds[name], groups, repeats=repeats, seed=seed)
        draws[name] = _add_intervals(rows[name], drawn)
    rows["chance"] = _score_chance(rows["majority"], label_names)
    counts = {key: rows["majority"][key] for key in ("n", "n_positive")}
    for row in filter(None, rows.values()):
        del row["n"], row["n_positive"]
    tests = {name: None for name in FITTED[1:]}
    for name in tests:
        if "joint" in scores and name in scores:
            pairs = {key: (scores[key], thresholds[key]) for key in ("joint", name)}
            singles = _compare_pair(labels, *pairs.values(), groups)
            _add_differences(singles, draws["joint"], draws[name])
            tests[name] = singles[0]
            if len(singles) > 1:
                tests[name] = _compare_means(*(rows[key] for key in pairs), *(draws[key] for key in pairs))
                tests[name]["per_label"] = dict(zip(label_names, singles))
    return counts | rows | {"tests": tests}


class _Draws(NamedTuple):
    """Draws of one metric: of each label `(repeats, n_labels)`, and of the mean over labels `(repeats,)`."""

    single: np.ndarray
    mean: np.ndarray


def _add_intervals(row, drawn):
    """Adds `intervals` to a row of `score_labels`, and to each of its labels; returns `_Draws` of each metric."""
    singles = list(row["per_label"].values()) if "per_label" in row else [row]
    draws = {}
    for metric in RESAMPLED:
        defined = [single[metric] is not None for single in singles]
        draws[metric] = _Draws(drawn[metric], average_draws(drawn[metric], defined))
    for place, single in enumerate(singles):
        single["intervals"] = {metric: interval(draws[metric].single[:, place]) for metric in RESAMPLED}
    row["intervals"] = {metric: interval(draws[metric].mean) for metric in RESAMPLED}
    return draws


def _score_chance(majority, label_names):
    if "per_label" not in majority:
        return _expect_chance(majority)
    singles = [_expect_chance(majority["per_label"][name]) for name in label_names]
    return average_labels(singles, n=majority["n"], label_names=label_names)


def _expect_chance(counts):
    n, n_positive = counts["n"], counts["n_positive"]
    p = n_positive / n if n else None
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
    """The tests of two classifiers, each given as its probabilities and thresholds: a dict per label."""
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
    """Adds the interval of each label's difference, over the same draws, to the tests of `_compare_pair`."""
    for place, single in enumerate(singles):
        for metric, test in single.items():
            test["interval"] = interval(first[metric].single[:, place] - second[metric].single[:, place])


def _compare_means(first, second, first_draws, second_draws):
    """The differences of two rows of means over labels, with intervals; without tests."""
    return {
        metric: {
            "difference": _subtract(first[metric], second[metric]),
            "interval": interval(first_draws[metric].mean - second_draws[metric].mean),
        }
        for metric in ("roc_auc", "accuracy")
    }


def _subtract(first, second):
    return None if first is None or second is None else first - second
