"""Measure how far a wrong report misleads a classifier: films with the report of another study."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from kmm.data.study import SECTIONS, Study
from kmm.errors import InputError
from kmm.evaluate.arrays import as_columns, as_cuts, number_groups
from kmm.evaluate.metrics import score_labels
from kmm.evaluate.statistics.bootstrap import draw_groups, interval
from kmm.evaluate.statistics.proportions import clustered_interval

BLOCK = 1000  # studies among which reports are exchanged at a time: the time grows with the cube of their number
_FORBIDDEN = 1e6
Predict = Callable[[Sequence[Study]], np.ndarray]


def exchange_reports(studies: Sequence[Study], labels: ArrayLike, *, seed: int = 0) -> np.ndarray:
    """Chooses for each film the report of another study, and uses each report once.

    Of all exchanges in which no film gets a report of its own patient, or one with the same findings and impression,
    one with the most pairs of different labels is chosen; which one depends on the seed.

    Source: https://doi.org/10.1109/TAES.2016.140952 (assignment, as SciPy solves it).

    Args:
        studies: sequence of `n` `Study`, each with a report.
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown). Two studies differ if any known label does.
        seed: int.

    Returns:
        int64 array `(n,)`: the place of the study whose report each film gets; -1 if no report can be given to it.

    Raises:
        InputError: if the lengths differ.

    Example:
        >>> from kmm.data.study import Report
        >>> studies = [Study(name, name, report=Report(findings=name)) for name in "abcd"]
        >>> donors = exchange_reports(studies, [0, 0, 1, 1])
        >>> sorted(donors.tolist()), [bool(donor > 1) for donor in donors]
        ([0, 1, 2, 3], [True, True, False, False])
    """
    table = np.asarray(labels, np.float64).reshape(len(studies), -1)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(studies))
    donors = np.full(len(studies), -1, np.int64)
    blocks = max(1, -(-len(studies) // BLOCK))
    for rows in np.array_split(order, blocks):
        costs = _price_exchange([studies[row] for row in rows], table[rows])
        costs += rng.random(costs.shape) / (2 * max(1, len(rows)))  # decides among equals
        films, reports = linear_sum_assignment(costs)
        allowed = costs[films, reports] < _FORBIDDEN
        donors[rows[films[allowed]]] = rows[reports[allowed]]
    return donors


def _price_exchange(studies, labels):
    """Returns what it costs to give the film of a row the report of a column: 0 for other labels, 1 for equal ones."""
    patients, _ = number_groups([study.patient for study in studies], len(studies))
    bodies, _ = number_groups([study.report.body or study.report.text(SECTIONS) for study in studies], len(studies))
    differ = np.zeros((len(studies), len(studies)), bool)
    for column in labels.T:
        differ |= (column[:, None] != column) & ~np.isnan(column[:, None]) & ~np.isnan(column)
    same = (patients[:, None] == patients) | (bodies[:, None] == bodies)
    return np.where(same, _FORBIDDEN, np.where(differ, 0.0, 1.0))


def measure_wrong_report(
    predict: Predict,
    studies: Sequence[Study],
    labels: ArrayLike,
    *,
    thresholds: ArrayLike,
    film_thresholds: ArrayLike | None = None,
    label_names: Sequence[str],
    seed: int = 0,
    repeats: int = 1000,
) -> dict[str, Any]:
    """Measures how a classifier changes when films come with the report of another study.

    Args:
        predict: function of `n` `Study` that returns probabilities `(n, n_labels)` in their order.
        studies: sequence of `Study`; those without a frontal film or without words in the report are left out.
        labels: array `(n,)` or `(n, n_labels)` of 0, 1 and NaN (unknown).
        thresholds: float, or array `(n_labels,)`, of studies with film and report.
        film_thresholds: the same of studies with a film alone; None for equal ones.
        label_names: sequence of `n_labels` str.
        seed: int. Seed of the exchange and of the draws.
        repeats: int. Number of bootstrap draws of patients for the interval of `moved`.

    Returns:
        dict for JSON: `studies` (number of those exchanged), and `per_label`: for each label a dict of `n` (known
        labels of film and report), `n_conflicting` (pairs whose labels differ), `moved` (mean distance between the
        probabilities with the right and with the wrong report), `flipped` (share of changed decisions); among
        conflicting pairs, `toward_report` (share whose probability moves to the label of the report) and
        `follows_report` (share decided as the report's label says); `accuracy`, against the label of the film, with
        the `right_report`, the `wrong_report` and the `film_alone`; `intervals` of all of these (95 %, over patients of
        the films); and `roc_auc`, against the label of the film, of the same three. None where there is nothing to
        measure.

    Raises:
        InputError: if fewer than two studies have film and report, no reports can be exchanged, or shapes do not match.
    """
    table, _ = as_columns(labels, np.zeros(np.shape(labels)))
    rows = [row for row, study in enumerate(studies) if study.frontal is not None and _has_words(study)]
    if len(rows) < 2:
        raise InputError(f"A wrong report needs studies with a film and a report. Received: {len(rows)}.")
    donors = exchange_reports([studies[row] for row in rows], table[rows], seed=seed)
    kept = donors >= 0
    if not kept.any():
        raise InputError("No reports can be exchanged: all are of one patient, or the same.")
    truth, said = table[rows][kept], table[rows][donors[kept]]
    films = [studies[row] for row, keep in zip(rows, kept, strict=True) if keep]
    reports = [studies[rows[donor]].report for donor in donors[kept]]
    answers = {
        "right_report": predict(films),
        "wrong_report": predict([replace(film, report=report) for film, report in zip(films, reports, strict=True)]),
        "film_alone": predict([replace(film, report=None) for film in films]),
    }
    shaped = {name: as_columns(truth, np.reshape(values, truth.shape))[1] for name, values in answers.items()}
    cuts = as_cuts(thresholds, truth.shape, "thresholds")
    alone = cuts if film_thresholds is None else as_cuts(film_thresholds, truth.shape, "thresholds")
    groups, draws = _draw_patients(films, repeats, seed)
    found = {
        name: _measure_label(
            truth[:, place],
            said[:, place],
            {key: values[:, place] for key, values in shaped.items()},
            {"right_report": cuts[:, place], "wrong_report": cuts[:, place], "film_alone": alone[:, place]},
            groups,
            draws,
        )
        for place, name in enumerate(label_names)
    }
    return {"studies": len(films), "per_label": found}


def _has_words(study: Study) -> bool:
    return study.report is not None and bool(study.report.text(SECTIONS).split())


def _draw_patients(films, repeats, seed):
    """Returns the number of each film's patient, and how often each patient is in each bootstrap draw."""
    groups, n_groups = number_groups([film.patient for film in films], len(films))
    return groups, draw_groups(np.random.default_rng(seed), repeats, n_groups)


def _measure_label(truth, said, answers, cuts, groups, draws):
    known = ~np.isnan(truth) & ~np.isnan(said)
    truth, said, groups = truth[known], said[known], groups[known]
    answers = {name: values[known] for name, values in answers.items()}
    called = {name: values >= cuts[name][known] for name, values in answers.items()}
    right, wrong = answers["right_report"], answers["wrong_report"]
    conflicting = truth != said
    shares = {
        "flipped": (called["right_report"] != called["wrong_report"], np.ones(len(truth), bool)),
        "toward_report": (np.where(said == 1, wrong > right, wrong < right), conflicting),
        "follows_report": (called["wrong_report"] == said, conflicting),
        **{f"accuracy {name}": (decided == truth, np.ones(len(truth), bool)) for name, decided in called.items()},
    }
    values = {name: float(hits[among].mean()) if among.any() else None for name, (hits, among) in shares.items()}
    between = {name: clustered_interval(hits[among], groups[among]) for name, (hits, among) in shares.items()}
    distance = np.abs(wrong - right)
    return {
        "n": len(truth),
        "n_conflicting": int(conflicting.sum()),
        "moved": float(distance.mean()) if len(truth) else None,
        **{name: values[name] for name in ("flipped", "toward_report", "follows_report")},
        "accuracy": {name: values[f"accuracy {name}"] for name in answers},
        "roc_auc": {name: score_labels(truth, found, 0.5)["roc_auc"] for name, found in answers.items()},
        "intervals": {
            "moved": _find_interval(distance, groups, draws),
            **{name: between[name] for name in ("flipped", "toward_report", "follows_report")},
            "accuracy": {name: between[f"accuracy {name}"] for name in answers},
        },
    }


def _find_interval(values, groups, draws):
    """Returns the bootstrap interval of a mean over draws of patients."""
    sums, counts = (np.bincount(groups, weights, draws.shape[1]) for weights in (values, np.ones(len(values))))
    numbers = draws @ counts
    return interval(np.divide(draws @ sums, numbers, out=np.full(len(draws), np.nan), where=numbers > 0))
