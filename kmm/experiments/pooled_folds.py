"""Tests on predictions in which each study is tested once: those of a cross-validation, or of a single split."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kmm.evaluate.statistics.fold_tests import compare_folds
from kmm.evaluate.statistics.multiplicity import adjust_holm
from kmm.experiments.statistics import SIMPLE_MODELS
from kmm.experiments.tables import Columns, find_rows, list_values

OTHERS = ("text", "image", *SIMPLE_MODELS)  # what the joint model is compared with
MODELS = ("joint", "image", "text")  # of which variants are compared with the first one
POOLED = "pooled"  # the family of these tests
MEANING = (
    "the tests over the folds of the first cross-validation, or on the only split: each model, label and variant, and "
    "each measure"
)


def pool_folds(predictions: Columns, folds: int) -> list[dict[str, Any]]:
    """Compares the joint model with the others, and variants with the first one, where each study is tested once.

    Args:
        predictions: columns of `predictions.csv`.
        folds: int. Number of folds, of which those of the first cross-validation count; 1 for a single split; 0 for
            repeated splits, whose test parts overlap and are never pooled.

    Returns:
        list of dict, one per variant, label and pair of models that both have predictions: `variant`, `label`, `first`,
        `second`, `against` (the variant of `second`, or None if it is the same), `family`, and the result of
        `compare_folds`, in which each of the three tests has `p_holm`: its p adjusted by Holm over all tests of the
        list.
    """
    tested = np.isin(predictions["split"], [str(number + 1) for number in range(folds)])
    variants, rows = list_values(predictions["variant"]), []
    for variant in variants:
        pairs: list[tuple[str, str, str | None]] = [("joint", other, None) for other in OTHERS]
        pairs += [(name, name, variants[0]) for name in MODELS if variant != variants[0]]
        for label in list_values(predictions["label"]):
            for first, second, against in pairs:
                models = ((first, variant), (second, variant if against is None else against))
                pair = [
                    tested & find_rows(predictions, variant=place, label=label, part="test", model=model)
                    for model, place in models
                ]
                if all(chosen.any() for chosen in pair):
                    names = {"variant": variant, "label": label, "first": first, "second": second, "against": against}
                    rows.append({**names, "family": POOLED, **_compare(predictions, *pair)})
    return adjust_pooled(rows)


def adjust_pooled(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Adds `p_holm` to each test of rows with the results of `compare_folds`; all tests are one family.

    Example:
        >>> pooled = {"roc_auc": {"p": 0.01}, "accuracy": {"p": None}}
        >>> (row,) = adjust_pooled([{"mean_auc": {"p": 0.04}, "pooled": pooled}])
        >>> row["mean_auc"]["p_holm"], row["pooled"]["roc_auc"]["p_holm"], row["pooled"]["accuracy"]["p_holm"]
        (0.04, 0.02, None)
    """
    adjusted = adjust_holm({f"{place}/{name}": p for place, row in enumerate(rows) for name, p in _list_p(row).items()})
    found = []
    for place, row in enumerate(rows):
        tests = {name: {"p_holm": adjusted[f"{place}/{name}"]} for name in _list_p(row)}
        pooled = {name: {**test, **tests.get(name, {})} for name, test in _list_tests(row["pooled"]).items()}
        mean = {**row["mean_auc"], **tests["mean_auc"]}
        found.append({**row, "mean_auc": mean, "pooled": {**row["pooled"], **pooled}})
    return found


def count_pooled(rows: Sequence[Mapping[str, Any]]) -> int:
    """Counts the tests of the family, without those that could not be done."""
    return sum(p is not None for row in rows for p in _list_p(row).values())


def _list_tests(pooled):
    return {name: test for name, test in pooled.items() if isinstance(test, Mapping)}


def _list_p(row):
    tests = {"mean_auc": row["mean_auc"], **_list_tests(row["pooled"])}
    return {name: test["p"] for name, test in tests.items()}


def _compare(predictions, first, second):
    """Compares two models on the studies on which both were measured."""
    places = {study: row for row, study in zip(np.flatnonzero(second), predictions["study"][second].tolist())}
    own = [row for row in np.flatnonzero(first) if predictions["study"][row] in places]
    other = [places[predictions["study"][row]] for row in own]
    return compare_folds(
        predictions["truth"][own],
        predictions["probability"][own],
        predictions["probability"][other],
        predictions["split"][own].tolist(),
        studies=predictions["study"][own].tolist(),
        thresholds=(predictions["threshold"][own], predictions["threshold"][other]),
        groups=predictions["patient"][own].tolist(),
    )
