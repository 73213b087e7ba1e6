"""Statistics across the splits of a comparison: means, differences and their tests, computed from its tables."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from kmm.evaluate.statistics.multiplicity import adjust_holm
from kmm.evaluate.statistics.resampled_tests import compare_splits, summarize_splits
from kmm.experiments.common_studies import CommonStudies
from kmm.experiments.schema import MACRO
from kmm.experiments.tables import Columns, find_rows, list_values
from kmm.experiments.titles import BEST, SIMPLE

MAIN_METRICS = ("roc_auc", "accuracy")
SIMPLE_MODELS = SIMPLE  # of which the best one is chosen on validation
AGAINST = ("text", "image", BEST)  # what the joint model is compared with
BESIDE = ("text", "image", *SIMPLE_MODELS, "majority", "chance")  # what stands beside the joint model
TESTED = ("t", "p", "naive_p", "family")
CLAIMS, LABELS, VARIANTS = "claims", "labels", "variants"  # families of tests
NO_COMMON_LABEL = "the variants have no label in common, so their means over labels are not compared"
Sizes = tuple[float, float]
Key = tuple[str, str, str, str, str]


class SplitValues:
    """Values of the metrics, one per split.

    Args:
        rows: columns of `comparison.csv`.
    """

    def __init__(self, rows: Columns) -> None:
        self.splits = list_values(rows["split"])
        place = {name: number for number, name in enumerate(self.splits)}
        self._values: dict[Key, np.ndarray] = {}
        names = ("variant", "model", "part", "label", "metric")
        keys = zip(*(rows[name].tolist() for name in names), strict=True)
        for key, split, value in zip(keys, rows["split"].tolist(), rows["value"].tolist(), strict=True):
            self._values.setdefault(key, np.full(len(self.splits), np.nan))[place[split]] = value

    def get(self, variant: str, model: str, metric: str, *, part: str = "test", label: str = MACRO) -> np.ndarray:
        """Returns the values of the splits, float64 `(K,)`; NaN where the metric is undefined or the task failed."""
        if model == BEST:
            return self._find_best(variant, metric, part, label)[0]
        return self._values.get((variant, model, part, label, metric), np.full(len(self.splits), np.nan))

    def has(self, variant: str, model: str) -> bool:
        """Returns whether a model of a variant has any value."""
        return any(key[:2] == (variant, model) for key in self._values) or (
            model == BEST and any(self.has(variant, name) for name in SIMPLE_MODELS)
        )

    def has_label(self, variant: str, label: str) -> bool:
        """Returns whether any model of a variant has a value for a label."""
        return any(key[0] == variant and key[3] == label for key in self._values)

    def best_names(self, variant: str, metric: str, label: str = MACRO) -> list[str]:
        """Returns the name of the best baseline of each split; see `_find_best`."""
        return self._find_best(variant, metric, "test", label)[1]

    def _find_best(self, variant, metric, part, label):
        """Chooses in each split the simple baseline that is best on validation by the same metric."""
        names = [name for name in SIMPLE_MODELS if self.has(variant, name)]
        if not names:
            return np.full(len(self.splits), np.nan), []
        chosen = np.stack([self.get(variant, name, metric, part="validation", label=label) for name in names])
        measured = np.stack([self.get(variant, name, metric, part=part, label=label) for name in names])
        best = np.where(np.isnan(chosen), -np.inf, chosen).argmax(axis=0)
        return measured[best, np.arange(len(self.splits))], [names[place] for place in best]


def average_models(values: SplitValues, rows: Columns, sizes: Sizes, *, part: str = "test") -> dict[str, Any]:
    """Averages every metric of every model over the splits.

    Args:
        values: `SplitValues` of the rows.
        rows: columns of `comparison.csv`.
        sizes: of the part that is not tested and of the test part, as counts or shares.
        part: str, the part that is averaged.

    Returns:
        dict of variant to dict of model to dict of metric to `mean`, `sd`, `interval`, `n`, `left_out` and `values`
        (None where a split has none), of the mean over labels.
    """
    kept = find_rows(rows, part=part, label=MACRO)
    names = {name: rows[name][kept].tolist() for name in ("variant", "model", "metric")}
    found: dict[str, Any] = {}
    for variant, model, metric in dict.fromkeys(zip(*names.values(), strict=True)):
        each = values.get(variant, model, metric, part=part)
        summary = summarize_splits(each, n_train=sizes[0], n_test=sizes[1])
        found.setdefault(variant, {}).setdefault(model, {})[metric] = {**summary, "values": as_list(each)}
    return found


def as_list(values: Iterable[float]) -> list[float | None]:
    """Returns numbers for JSON, None for NaN.

    Example:
        >>> as_list(np.array([0.5, np.nan]))
        [0.5, None]
    """
    return [None if np.isnan(value) else float(value) for value in values]


def compare_claims(
    values: SplitValues,
    labels: Iterable[str],
    variants: Iterable[str],
    sizes: Sizes,
    common: CommonStudies | None = None,
) -> list[dict]:
    """Compares the joint model with each side and with the best simple baseline, and variants with the first one.

    Two models are compared on the studies on which both were measured and, by the mean over labels, on the labels that
    both have, so their difference need not be that of their means.

    Args:
        values: `SplitValues`.
        labels: names of the labels.
        variants: names of the variants.
        sizes: of the part that is not tested and of the test part, as counts or shares.
        common: `CommonStudies` of the predictions; without it all models must be measured on the same studies and
            labels.

    Returns:
        list of dict: `variant`, `first`, `second`, `against` (the variant of `second`, or None if it is the same),
        `metric`, `label`, the results of `compare_splits`, `restricted` (splits in which studies that only one of the
        two was measured on are left out), `labels` (those that the means are over, if only some are common; else None),
        `family` and `p_holm`, which is adjusted within the family.
    """
    variants, labels, found = list(variants), list(labels), []
    subtract = _Subtraction(values, common)
    for variant in variants:
        others = [name for name in AGAINST if values.has(variant, "joint") and values.has(variant, name)]
        own = [label for label in labels if values.has_label(variant, label)]
        for label in [MACRO, *(own if len(own) > 1 else [])]:
            family = CLAIMS if label == MACRO else LABELS
            found += [
                _compare(subtract, (variant, "joint"), (variant, other), metric, label, family, sizes)
                for metric in MAIN_METRICS
                for other in others
            ]
    for variant in variants[1:]:
        found += [
            _compare(subtract, (variant, model), (variants[0], model), metric, MACRO, VARIANTS, sizes)
            for model in ("joint", "image", "text")
            if values.has(variant, model) and values.has(variants[0], model)
            for metric in MAIN_METRICS
        ]
    return _adjust(found)


def subtract_models(
    values: SplitValues, variants: Iterable[str], sizes: Sizes, common: CommonStudies | None = None
) -> list[dict[str, Any]]:
    """Subtracts every other model and baseline from the joint model, on the studies of both, without tests.

    What a sentence says of two models must follow from these, and not from their means, which may be over different
    studies. These differences were not asked for before the data were seen, so they have no p.

    Args:
        values, variants, sizes, common: as for `compare_claims`.

    Returns:
        list of dict as of `compare_claims`, by the mean over labels, without `t`, `p`, `p_holm`, `naive_p` and
        `family`.
    """
    subtract, found = _Subtraction(values, common), []
    for variant in variants:
        for other in BESIDE if values.has(variant, "joint") else ():
            for metric in MAIN_METRICS if values.has(variant, other) else ():
                row = _compare(subtract, (variant, "joint"), (variant, other), metric, MACRO, "", sizes)
                found.append({name: value for name, value in row.items() if name not in TESTED})
    return found


class _Subtraction:
    """Subtracts the values of two models, split by split, on the studies and labels of both."""

    def __init__(self, values, common):
        self.values, self.common = values, common

    def __call__(self, first, second, metric, label):
        """Returns the differences of the splits `(K,)`, in how many studies are left out, and labels if some are."""
        pairs = np.stack([self.values.get(*model, metric, label=label) for model in (first, second)], axis=1)
        names = self.values.best_names(second[0], metric, label) if second[1] == BEST else []
        restricted, shared = 0, None
        for place, split in enumerate(self.values.splits):
            other = (second[0], names[place]) if names else second
            differ = self.common is not None and self.common.differ(split, first, other)
            labels = self.common.share_labels(split, first, other) if self.common and label == MACRO else None
            if differ or labels is not None:
                pairs[place] = self.common.measure(split, first, other, metric, label)
                restricted += differ
                shared = shared if labels is None else [*(shared or []), *labels]
        return pairs[:, 0] - pairs[:, 1], restricted, shared if shared is None else list(dict.fromkeys(shared))


def _compare(subtract, first, second, metric, label, family, sizes):
    differences, restricted, shared = subtract(first, second, metric, label)
    tested = compare_splits(differences, n_train=sizes[0], n_test=sizes[1])
    if shared == []:
        tested["reason"] = NO_COMMON_LABEL
    place = {
        "variant": first[0],
        "first": first[1],
        "second": second[1],
        "against": None if first[0] == second[0] else second[0],
    }
    more = {"restricted": restricted, "labels": shared, "family": family, "values": as_list(differences)}
    return {**place, "metric": metric, "label": label, **tested, **more}


def _adjust(found):
    """Adds the p adjusted by Holm within each family."""
    adjusted: dict[int, float | None] = {}
    for family in dict.fromkeys(row["family"] for row in found):
        members = {str(place): row["p"] for place, row in enumerate(found) if row["family"] == family}
        adjusted |= {int(place): p for place, p in adjust_holm(members).items()}
    return [{**row, "p_holm": adjusted[place]} for place, row in enumerate(found)]


def describe_families(differences: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Describes each family of tests: its number of tests and what they are."""
    meaning = {
        CLAIMS: "joint model against each side and the best simple baseline, on the main metrics, for every variant",
        LABELS: "the same for each label",
        VARIANTS: "each variant against the first one, on the main metrics",
    }
    families = [row["family"] for row in differences if row["p"] is not None]
    return {name: {"tests": families.count(name), "what": meaning[name]} for name in dict.fromkeys(families)}
