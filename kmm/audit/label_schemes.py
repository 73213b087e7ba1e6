"""Compare label schemes on the same studies: what each says, and where two disagree."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from kmm.data.labels import LABEL_SCHEMES, LabelScheme, label_studies
from kmm.data.study import Study
from kmm.data.summary import count_values
from kmm.errors import InputError
from kmm.settings import FitSettings

Labels = Mapping[str, Mapping[str, float]]  # by study id, the labels of each study


def apply_schemes(
    studies: Sequence[Study], *, min_count: int | None = None, other: LabelScheme | None = None
) -> tuple[dict[str, Labels], dict[str, str]]:
    """Labels studies by each scheme of `kmm.data.labels.LABEL_SCHEMES`.

    Args:
        studies: sequence of `Study`.
        min_count: int or None. Scheme `findings`: minimum number of studies for a finding to become a label; None takes
            the default of a fit.
        other: `LabelScheme` that is not in the table, to apply too; or None.

    Returns:
        dict of scheme to the labels of the studies that it keeps; and dict of scheme to the reason why it gives none.

    Example:
        >>> studies = [Study("1", "1", mesh_major=("normal",)), Study("2", "2", mesh_major=("Opacity",))]
        >>> labelled, reasons = apply_schemes(studies)
        >>> labelled["normal-abnormal"]["2"], "columns" in reasons
        ({'abnormal': 1.0}, True)
    """
    settings = FitSettings()
    least = settings.label_min_count if min_count is None else min_count
    found: dict[str, Labels] = {}
    reasons: dict[str, str] = {}
    for scheme, rule in list_schemes(other).items():
        try:
            labelled, _ = label_studies(studies, rule, min_count=least, not_findings=settings.not_findings)
        except InputError as error:
            reasons[scheme] = str(error)
        else:
            found[scheme] = {study.id: dict(study.labels) for study in labelled}
    return found, reasons


def list_schemes(other: LabelScheme | None = None) -> dict[str, LabelScheme]:
    """Lists the label schemes by name: those of the table, and one more, if it is not in it."""
    return LABEL_SCHEMES | ({} if other is None else {other.name: other})


def describe_schemes(
    found: Mapping[str, Labels], reasons: Mapping[str, str], studies: int, *, other: LabelScheme | None = None
) -> list[dict[str, Any]]:
    """Counts the labels of each scheme.

    Args:
        found, reasons, other: of `apply_schemes`.
        studies: int. Number of all studies.

    Returns:
        list of dicts for JSON, in the order of `LABEL_SCHEMES`: `scheme`, `description`, and either `reason`, why it
        gives no label, or `studies` (those that it keeps), `left_out`, `positive`, `negative` and `unknown` (sums over
        labels), and `counts`: for each label `positive`, `negative`, `unknown` and `prevalence`.
    """
    rows = []
    for scheme, entry in list_schemes(other).items():
        row: dict[str, Any] = {"scheme": scheme, "description": entry.description}
        if scheme in found:
            labels = list(found[scheme].values())
            names = list(labels[0]) if labels else []
            counts = {name: count_values([values[name] for values in labels]) for name in names}
            sums = {key: sum(count[key] or 0 for count in counts.values()) for key in _KINDS}
            row |= {"studies": len(labels), "left_out": studies - len(labels), **sums, "counts": counts}
        else:
            row["reason"] = reasons[scheme]
        rows.append(row)
    return rows


def find_changes(found: Mapping[str, Labels]) -> list[dict[str, Any]]:
    """Counts the studies whose labels change between two schemes.

    Args:
        found: of `apply_schemes`.

    Returns:
        list of dicts for JSON, one per pair of schemes that have a label in common: `scheme`, `other`, `labels` (those
        in common), `changed`: studies with another value of one of them, of which `flipped` go from 0 to 1 or back in
        a label; in the others a label is known to one scheme alone. A study that a scheme leaves out is unknown to it.

    Example:
        >>> one = {"1": {"mass": 0.0}, "2": {"mass": 1.0}, "3": {"mass": 1.0}}
        >>> find_changes({"a": one, "b": {"1": {"mass": 1.0}, "2": {"mass": math.nan}, "3": {"mass": 1.0}}})
        [{'scheme': 'a', 'other': 'b', 'labels': 1, 'changed': 2, 'flipped': 1}]
    """
    rows = []
    for (scheme, one), (other, two) in itertools.combinations(found.items(), 2):
        shared = sorted(_name_labels(one) & _name_labels(two))
        if shared:
            pairs = [(_take(one, id, shared), _take(two, id, shared)) for id in one.keys() | two.keys()]
            flipped = sum(any(a + b == 1 for a, b in zip(*pair)) for pair in pairs)
            changed = sum(any(not _equal(a, b) for a, b in zip(*pair)) for pair in pairs)
            rows.append(
                {"scheme": scheme, "other": other, "labels": len(shared), "changed": changed, "flipped": flipped}
            )
    return rows


def choose_scheme(found: Mapping[str, Labels]) -> str | None:
    """Chooses the scheme whose classes to show if none is asked for: the default of a fit, or the first that exists."""
    default = FitSettings().labels
    return default if default in found else next(iter(found), None)


_KINDS = ("positive", "negative", "unknown")


def _name_labels(labels: Labels) -> set[str]:
    return {name for values in itertools.islice(labels.values(), 1) for name in values}


def _take(labels: Labels, id: str, names: Sequence[str]) -> list[float]:
    values = labels.get(id, {})
    return [values.get(name, math.nan) for name in names]


def _equal(one: float, other: float) -> bool:
    return one == other or (math.isnan(one) and math.isnan(other))
