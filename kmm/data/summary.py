"""Summarize a folder of studies: films by view, reports by section, words, and the prevalence of each label."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np

from kmm.data.label_pairs import count_pairs
from kmm.data.labels import LabelScheme, find_scheme, label_studies
from kmm.data.split import PARTS
from kmm.data.study import FRONTAL, LATERAL, OTHER, SECTIONS, Collection, Study, part_problems
from kmm.settings import FitSettings

UNKNOWN = "unknown"


def summarize_collection(
    collection: Collection,
    *,
    labels: str | LabelScheme | None = None,
    min_count: int | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Counts the studies, films, words and labels of a collection.

    The result has no text of a report and no name of a patient, study or file.

    Args:
        collection: `kmm.data.study.Collection`.
        labels: name in `kmm.data.labels.LABEL_SCHEMES`, `LabelScheme`, or None to leave labels out.
        min_count: int, 1 or more. Scheme `findings`: minimum number of studies for a finding to become a label; None
            takes the default of a fit.
        note: callable or None. Called with one line of text for each label that is left out because it is too rare.

    Returns:
        dict for JSON: `layout` (str); counts `studies`, `patients`, `most_studies_of_a_patient`, `set_aside`;
        `studies_with`: studies by modality (`film_and_report`, `film`, `report`, `neither`; a film is frontal);
        `films`: images by view (`frontal`, `lateral`, `other`, `unknown`); `sections`: for each section the number of
        `reports` that have it, their total `words`, and `median_words`, `p99_words` and `most_words` of one report
        (words are separated by white space); `studies_of_a_patient`: for each number of studies, as str, the patients
        who have as many; `patients_known`: studies whose patient is known; `parts`: studies by the part with which
        they were published, `none` for no part, if the collection has such parts; and, with `labels`, `labels`:
        `scheme`, `studies`, `sources` (what each label was made from), `counts` of each label: `positive`,
        `negative`, `unknown` and `prevalence`, the share of 1 among known values; and with several labels `pairs`, of
        `kmm.data.label_pairs.count_pairs`.

    Raises:
        InputError: if the scheme is unknown or gives no label.

    Example:
        >>> from pathlib import Path
        >>> from kmm.data.study import Collection, Report, Study
        >>> studies = (Study("1", "a", report=Report(findings="No mass.")), Study("2", "a"))
        >>> summary = summarize_collection(Collection(Path("ward"), "manifest", studies))
        >>> summary["patients"], summary["sections"]["findings"]["words"], summary["studies_with"]["neither"]
        (1, 2, 1)
    """
    studies = collection.studies
    patients = Counter(study.patient for study in studies)
    summary: dict[str, Any] = {
        "layout": collection.layout,
        "studies": len(studies),
        "patients": len(patients),
        "most_studies_of_a_patient": max(patients.values(), default=0),
        "studies_of_a_patient": {str(n): count for n, count in sorted(Counter(patients.values()).items())},
        "patients_known": sum(study.knows_patient for study in studies),
        "set_aside": len(part_problems(collection.problems)[0]),
        "studies_with": _count_sides(studies),
        "films": _count_views(studies),
        "sections": {name: _count_words(studies, name) for name in SECTIONS},
    }
    if collection.parts:
        found = Counter(collection.parts.get(study.id, "none") for study in studies)
        summary["parts"] = {part: found[part] for part in (*PARTS, "none")}
    if labels is not None:
        summary["labels"] = _count_labels(studies, labels, min_count, note)
    return summary


def _count_sides(studies: Sequence[Study]) -> dict[str, int]:
    names = {(True, True): "film_and_report", (True, False): "film", (False, True): "report", (False, False): "neither"}
    found = Counter(names[study.frontal is not None, _has_report(study)] for study in studies)
    return {name: found[name] for name in names.values()}


def _has_report(study: Study) -> bool:
    return study.report is not None and bool(study.report.text(SECTIONS).split())


def _count_views(studies: Sequence[Study]) -> dict[str, int]:
    found = Counter(image.view or UNKNOWN for study in studies for image in study.images)
    return {view: found[view] for view in (FRONTAL, LATERAL, OTHER, UNKNOWN)}


def _count_words(studies: Sequence[Study], section: str) -> dict[str, float]:
    counts = [len(getattr(study.report, section).split()) for study in studies if study.report is not None]
    counts = [count for count in counts if count]
    return {
        "reports": len(counts),
        "words": sum(counts),
        "median_words": float(median(counts)) if counts else 0.0,
        "p99_words": float(np.percentile(counts, 99)) if counts else 0.0,
        "most_words": max(counts, default=0),
    }


def _count_labels(
    studies: Sequence[Study],
    labels: str | LabelScheme,
    min_count: int | None,
    note: Callable[[str], None] | None,
) -> dict[str, Any]:
    defaults, scheme = FitSettings(), find_scheme(labels)
    labelled, names = label_studies(
        studies,
        scheme,
        min_count=defaults.label_min_count if min_count is None else min_count,
        not_findings=defaults.not_findings,
        note=note,
    )
    return {
        "scheme": scheme.name,
        "studies": len(labelled),
        "sources": {name: list(scheme.list_sources(name)) for name in names},
        "counts": {name: count_values([study.labels[name] for study in labelled]) for name in names},
        **({"pairs": count_pairs(labelled, names)} if len(names) > 1 else {}),
    }


def count_values(values: Sequence[float]) -> dict[str, Any]:
    """Counts the values of a label.

    Returns:
        dict for JSON: `positive`, `negative`, `unknown`, and `prevalence`, the share of 1 among known values, or None.

    Example:
        >>> count_values([1.0, 0.0, 0.0, math.nan])["prevalence"]
        0.3333333333333333
    """
    positive, known = sum(value == 1 for value in values), sum(not math.isnan(value) for value in values)
    return {
        "positive": positive,
        "negative": known - positive,
        "unknown": len(values) - known,
        "prevalence": positive / known if known else None,
    }
