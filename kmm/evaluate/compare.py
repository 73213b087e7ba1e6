"""The joint classifier beside its parts and beside baselines that know less: one table for one set of studies."""

import numpy as np

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, as_cuts
from kmm.evaluate.metrics import average_labels, score_labels
from kmm.evaluate.statistics import compare_accuracy, compare_auc, interval, resample_metrics

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
        `intervals`, or None; `tests`: for each of image, text and tfidf the dicts `roc_auc` (DeLong) and `accuracy`
        (McNemar) with `difference` (joint minus it), `interval` of the difference over the same draws, and `p`, or
        None. With many labels the difference is that of the means and the tests stand in `per_label`.

    Raises:
        InputError: if the names, shapes or values do not fit each other.

    Example:
        >>> result = compare_models([0, 0, 1, 1], {"joint": [0.1, 0.2, 0.8, 0.9], "text": [0.1, 0.7, 0.6, 0.9]},
        ...     thresholds={"joint": 0.5, "text": 0.5}, groups=None, label_names=["abnormal"], train_prevalence=0.6)
        >>> result["joint"]["accuracy"], result["text"]["accuracy"], result["majority"]["accuracy"], result["image"]
        (1.0, 0.75, 0.5, None)
    """
    scores = {name: values for name, values in scores.items() if values is not None}
    if unknown := set(scores) - set(FITTED):
        raise InputError(f'Unknown scores "{min(unknown)}". Known: {", ".join(FITTED)}.')
    if without := set(scores) - set(thresholds):
        raise InputError(f'No threshold was given for the scores "{min(without)}".')
    shape = np.shape(labels)
    columns = (shape[0], shape[1] if len(shape) == 2 else 1)
    scores["majority"] = as_cuts(train_prevalence, columns, "training prevalences").reshape(shape)
    thresholds = {**thresholds, "majority": 0.5}
    rows, draws = {name: None for name in ROWS}, {}
    for name, values in scores.items():
        rows[name] = score_labels(labels, values, thresholds[name], label_names=label_names)
        draws[name] = resample_metrics(labels, values, thresholds[name], groups, repeats=repeats, seed=seed)
        rows[name]["intervals"] = {metric: interval(drawn) for metric, drawn in draws[name].items()}
    rows["chance"] = _score_chance(rows["majority"], label_names)
    counts = {key: rows["majority"][key] for key in ("n", "n_positive")}
    for row in filter(None, rows.values()):
        del row["n"], row["n_positive"]
    tests = {name: None for name in FITTED[1:]}
    for name in tests:
        if "joint" in scores and name in scores:
            pairs = {key: (scores[key], thresholds[key]) for key in ("joint", name)}
            tests[name] = _compare_pair(labels, *pairs.values(), label_names)
            for metric, test in tests[name].items():
                if metric != "per_label":
                    test["difference"] = _subtract(rows["joint"][metric], rows[name][metric])
                    test["interval"] = interval(draws["joint"][metric] - draws[name][metric])
    return counts | rows | {"tests": tests}


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


def _compare_pair(labels, first, second, label_names):
    singles = []
    tables = [as_columns(labels, probabilities) for probabilities, _ in (first, second)]
    n_labels = tables[0][0].shape[1]
    cuts = [as_cuts(threshold, tables[0][0].shape, "thresholds") for _, threshold in (first, second)]
    for i in range(n_labels):
        column, values = tables[0][0][:, i], [probabilities[:, i] for _, probabilities in tables]
        decisions = [value >= cut[:, i] for value, cut in zip(values, cuts)]
        singles.append({"roc_auc": compare_auc(column, *values), "accuracy": compare_accuracy(column, *decisions)})
    if n_labels == 1:
        return singles[0]
    return {"roc_auc": {}, "accuracy": {}, "per_label": dict(zip(label_names, singles))}


def _subtract(first, second):
    return None if first is None or second is None else first - second
