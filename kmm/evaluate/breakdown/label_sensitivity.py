"""The same predictions under other label schemes: how much of a result is the rule that labels the studies."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kmm.data.headings import NOT_FINDINGS
from kmm.data.labels import LABEL_SCHEMES, LabelScheme, find_scheme, label_studies
from kmm.data.study import Study
from kmm.errors import InputError
from kmm.evaluate.compare import compare_models

MEASURES = ("roc_auc", "accuracy")


def relabel_studies(
    studies: Sequence[Study],
    label_names: Sequence[str],
    *,
    own: str | LabelScheme | None = None,
    min_count: int = 1,
    not_findings: Sequence[str] = tuple(NOT_FINDINGS),
) -> dict[str, np.ndarray]:
    """Labels studies by every scheme that knows the labels of a classifier.

    Args:
        studies: sequence of `n` `Study`, with the label columns of their manifest, if any, as read.
        label_names: sequence of `n_labels` str.
        own: name of a scheme, `LabelScheme` or None. The scheme that gave the labels; it is never left out.
        min_count, not_findings: as for `kmm.data.labels.label_studies`, scheme `findings`.

    Returns:
        dict of scheme to float64 array `(n, n_labels)`; NaN where the label is unknown, or the scheme drops the study.
        Schemes with other labels, or for which the studies lack headings or columns, are left out.

    Example:
        >>> studies = [Study(name, name, mesh_major=(name,)) for name in ("normal", "Opacity", "No Indexing")]
        >>> found = relabel_studies(studies, ["abnormal"])
        >>> found["normal-abnormal"][:, 0].tolist(), found["normal-abnormal-indexed-only"][:, 0].tolist()
        ([0.0, 1.0, 1.0], [0.0, 1.0, nan])
    """
    places = {study.id: row for row, study in enumerate(studies)}
    found = {}
    given = None if own is None else find_scheme(own)
    for scheme, rule in _list_schemes(given).items():
        if rule is not given and not set(label_names) <= set(_find_names(rule, studies, min_count, not_findings)):
            continue
        labelled, _ = label_studies(studies, rule, names=label_names, not_findings=not_findings)
        table = np.full((len(studies), len(label_names)), np.nan)
        for study in labelled:
            table[places[study.id]] = [study.labels[name] for name in label_names]
        if rule is given or np.isfinite(table).any():
            found[scheme] = table
    return found


def _list_schemes(own: LabelScheme | None) -> dict[str, LabelScheme]:
    """Lists the schemes by name, that of the labels too, if it is not in the table."""
    return LABEL_SCHEMES | ({} if own is None else {own.name: own})


def _find_names(rule, studies, min_count, not_findings):
    try:
        return rule.function(studies, min_count, None, not_findings)[0]
    except InputError:  # the studies have no such headings or columns
        return ()


def measure_label_schemes(
    studies: Sequence[Study],
    scores: Mapping[str, ArrayLike],
    *,
    thresholds: Mapping[str, ArrayLike],
    label_names: Sequence[str],
    scheme: str | LabelScheme,
    train_prevalence: ArrayLike,
    repeats: int = 1000,
    seed: int = 0,
    min_count: int = 1,
    not_findings: Sequence[str] = tuple(NOT_FINDINGS),
) -> dict[str, dict[str, Any]]:
    """Measures the same predictions against the labels of each scheme.

    The classifier, its thresholds and its predictions stay those of its own scheme.

    Args:
        studies: sequence of `n` `Study`, as for `relabel_studies`.
        scores: dict of `"joint"`, `"image"`, `"text"` and `"tfidf"` to probabilities `(n, n_labels)`; some may lack.
        thresholds, train_prevalence, repeats, seed: as for `kmm.evaluate.compare.compare_models`.
        label_names: sequence of `n_labels` str.
        scheme: name of a scheme, or `LabelScheme`: the classifier's own; it comes first.
        min_count, not_findings: as for `relabel_studies`.

    Returns:
        dict of scheme to a dict for JSON: `description` (str), `n`, `n_positive`, `changed` (labels that differ from
        those of the own scheme, or that only one of the two knows), `rows` (dict of row to `roc_auc`, `accuracy` and
        their `intervals`), `tests` (as of `compare_models`). Schemes with the same labels for these studies as an
        earlier one are listed with `same_as` (str) and its numbers.

    Raises:
        InputError: if the scheme is unknown, or the arguments do not match.
    """
    given = find_scheme(scheme)
    schemes, own_name = _list_schemes(given), given.name
    tables = relabel_studies(studies, label_names, own=given, min_count=min_count, not_findings=not_findings)
    if own_name != "columns" and np.array_equal(tables[own_name], tables.get("columns", np.zeros(0)), equal_nan=True):
        del tables["columns"]  # labels that the own scheme gave these studies
    found: dict[str, dict[str, Any]] = {}
    own = tables[own_name]
    for name in [own_name, *(other for other in tables if other != own_name)]:
        changed = int((~((tables[name] == own) | (np.isnan(tables[name]) & np.isnan(own)))).sum())
        earlier = next((one for one in found if np.array_equal(tables[one], tables[name], equal_nan=True)), "")
        if earlier:
            numbers = {key: value for key, value in found[earlier].items() if key != "same_as"}
            found[name] = {**numbers, "same_as": earlier}
        else:
            found[name] = _measure(
                tables[name],
                scores,
                thresholds=thresholds,
                groups=[study.patient for study in studies],
                label_names=label_names,
                train_prevalence=train_prevalence,
                repeats=repeats,
                seed=seed,
            )
        found[name] |= {"description": schemes[name].description, "changed": changed}
    return found


def _measure(labels, scores, **settings):
    result = compare_models(labels, scores, **settings)
    rows = {
        name: {**{key: row[key] for key in MEASURES}, "intervals": {key: row["intervals"][key] for key in MEASURES}}
        for name, row in result.items()
        if isinstance(row, dict) and "intervals" in row
    }
    return {"n": result["n"], "n_positive": result["n_positive"], "rows": rows, "tests": result["tests"]}
