"""Results of cohorts of studies, with intervals, and a note on those that are too small."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, as_cuts, number_groups
from kmm.evaluate.metrics import score_labels
from kmm.evaluate.output.result_rows import show_number
from kmm.evaluate.statistics.bootstrap import interval, resample_metrics
from kmm.evaluate.statistics.proportions import clustered_interval

# With 10 studies of each class, an area of 0.8 has a standard error of 0.10 (https://doi.org/10.1148/radiology.143.1.7063747):
# its interval holds nearly everything from chance to perfect.
LEAST_OF_A_CLASS = 10
SHARES = ("accuracy", "sensitivity", "specificity")
MEASURES = ("roc_auc", *SHARES)
SHOWN = ("roc_auc", "sensitivity", "specificity")
ALL = "all"


def measure_subgroups(
    labels: ArrayLike,
    probabilities: ArrayLike,
    thresholds: ArrayLike,
    cohorts: Mapping[str, Mapping[str, np.ndarray]],
    groups: Sequence | None = None,
    *,
    label_names: Sequence[str],
    repeats: int = 1000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measures a classifier on each cohort.

    Differences between cohorts are not tested: many are compared, and some differ by chance.

    Args:
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown).
        probabilities: array of the same shape in [0, 1].
        thresholds: float, array `(n_labels,)`, or array `(n, n_labels)` if they differ between studies.
        cohorts: dict of grouping to a dict of value to a bool array `(n,)`, as `kmm.data.cohorts.find_cohorts` returns.
        groups: sequence of `n` patient keys, or None: each study is a group.
        label_names: sequence of `n_labels` str.
        repeats: int. Number of bootstrap draws of whole patients for the interval of the area under the ROC curve.
        seed: int. Seed of the draws.

    Returns:
        list of dicts for JSON, those of all studies first, then one per cohort and label: `grouping`, `value`, `label`,
        `n`, `n_positive`, `roc_auc`, `accuracy`, `sensitivity`, `specificity` (None if not defined), `intervals` of
        these (95 %; Wilson's, clustered by patient, but of the area from the draws), and `note` (str): why a number is
        missing or uncertain, if it is. A cohort with fewer than `LEAST_OF_A_CLASS` positives or negatives has no area.

    Raises:
        InputError: if the arguments do not match.

    Example:
        >>> labels, p, first = [0, 1] * 12, [0.2, 0.8] * 12, np.arange(24) < 22
        >>> sites = {"site": {"a": first, "b": ~first}}
        >>> rows = measure_subgroups(labels, p, 0.5, sites, label_names=["mass"], repeats=20)
        >>> [(row["value"], row["n"], row["roc_auc"], row["note"]) for row in rows[1:]]
        [('a', 22, 1.0, ''), ('b', 2, None, '1 positive, 1 negative: fewer than 10, too few for a ROC AUC')]
    """
    known, values = as_columns(labels, probabilities)
    cuts = as_cuts(thresholds, (len(known), known.shape[1]), "thresholds")
    group, _ = number_groups(groups, len(known))
    if len(label_names) != known.shape[1]:
        raise InputError(f"Expected {known.shape[1]} label names. Received: {len(label_names)}.")
    rows = []
    for grouping, value, mask in _list_cohorts(cohorts, len(known)):
        for column, label in enumerate(label_names):
            chosen = mask & ~np.isnan(known[:, column])
            table = (known[chosen, column], values[chosen, column], cuts[chosen, column], group[chosen])
            measured = _measure(*table, repeats=repeats, seed=seed)
            rows.append({"grouping": grouping, "value": value, "label": label, **measured})
    return rows


def _list_cohorts(cohorts, n) -> Iterator[tuple[str, str, np.ndarray]]:
    yield ALL, ALL, np.ones(n, bool)
    for grouping, values in cohorts.items():
        for value, mask in values.items():
            chosen = np.asarray(mask)
            if chosen.shape != (n,) or chosen.dtype != bool:
                raise InputError(f"The cohort {grouping} {value} must be a bool array ({n},).")
            yield grouping, value, chosen


def _measure(
    labels: np.ndarray, probabilities: np.ndarray, cuts: np.ndarray, group: np.ndarray, *, repeats: int, seed: int
) -> dict[str, Any]:
    """Measures the studies of a cohort, all with a known label."""
    found = score_labels(labels[:, None], probabilities[:, None], cuts[:, None])
    n, n_positive = found["n"], found["n_positive"]
    correct, positive = (probabilities >= cuts) == labels, labels == 1
    parts = {"accuracy": np.ones(n, bool), "sensitivity": positive, "specificity": ~positive}
    intervals: dict[str, list[float] | None] = {"roc_auc": None}
    intervals |= {name: clustered_interval(correct[part], group[part].tolist()) for name, part in parts.items()}
    enough = min(n_positive, n - n_positive) >= LEAST_OF_A_CLASS
    if enough:
        draws = resample_metrics(labels, probabilities, cuts[:, None], group.tolist(), repeats=repeats, seed=seed)
        intervals["roc_auc"] = interval(draws["roc_auc"][:, 0])
    measured = {name: found[name] for name in MEASURES} | ({} if enough else {"roc_auc": None})
    note = "" if enough else _note_size(n_positive, n - n_positive)
    return {"n": n, "n_positive": n_positive, **measured, "intervals": intervals, "note": note}


def _note_size(positives, negatives):
    counts = [(positives, "positive"), (negatives, "negative")]
    few = [f"{count or 'no'} {name}{'s' * (count != 1)}" for count, name in counts if count < LEAST_OF_A_CLASS]
    if max(positives, negatives) >= LEAST_OF_A_CLASS and 0 in (positives, negatives):
        return f"{few[0]}: no ROC AUC"
    return f"{', '.join(few)}: fewer than {LEAST_OF_A_CLASS}, too few for a ROC AUC"


def subgroup_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Formats the result of `measure_subgroups` as a table.

    Args:
        rows: list of dicts.

    Returns:
        list of rows, each a list of str: a header, then one row per cohort and label; labels are shown if there are
        several. Accuracy, which depends on the prevalence of a cohort, is left out.

    Example:
        >>> rows = measure_subgroups([0, 1], [0.2, 0.8], 0.5, {}, label_names=["mass"], repeats=0)
        >>> subgroup_rows(rows)[1][:4]
        ['all', '', '2 (1)', '–']
    """
    several = len({row["label"] for row in rows}) > 1
    header = ["Group", "", *(["Label"] if several else []), "n (positive)"]
    table = [[*header, "ROC AUC", "Sensitivity", "Specificity", "Note"]]
    for row in rows:
        cells = [row["grouping"], "" if row["grouping"] == ALL else row["value"], *([row["label"]] if several else [])]
        numbers = [show_number(row[name], row["intervals"][name]) for name in SHOWN]
        table.append([*cells, f"{row['n']} ({row['n_positive']})", *numbers, row["note"]])
    return table
