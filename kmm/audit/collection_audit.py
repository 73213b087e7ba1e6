"""Audit a collection: its summary, and the words, labels, views and copies in it, as numbers."""

from collections.abc import Callable
from typing import Any

from kmm.audit.copies import count_equal_bodies, count_equal_films
from kmm.audit.label_schemes import apply_schemes, choose_scheme, describe_schemes, find_changes
from kmm.audit.report_words import count_report_words
from kmm.audit.view_sources import count_view_sources
from kmm.data.study import Collection
from kmm.data.summary import summarize_collection
from kmm.progress import Progress
from kmm.rules.rule_audit import audit_rules
from kmm.rules.rule_scheme import find_rules, open_scheme


def audit_collection(
    collection: Collection,
    *,
    labels: str | None = None,
    min_count: int | None = None,
    films: bool = False,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Counts what a collection has.

    The result has no text of a report and no name of a patient, study or file.

    Args:
        collection: `kmm.data.study.Collection`.
        labels: str, the name of a label scheme, as in `kmm.rules.rule_scheme.open_scheme`, or None.
        min_count, note: as in `kmm.data.summary.summarize_collection`.
        films: bool. Whether films are read to find copies of them, which takes time.
        progress: `kmm.progress.Progress`.

    Returns:
        dict for JSON: that of `summarize_collection`, and `report_words`: of `count_report_words`; `label_schemes`: of
        `describe_schemes`; `label_changes`: of `find_changes`; `view_sources`: of `count_view_sources`; `copies`:
        `labels`, the scheme by which labels are compared, or None, `reports`: of `count_equal_bodies`, and `films`: of
        `count_equal_films`, None if films are not read. If `labels` are of rules, `labels` has `rules`: of
        `kmm.rules.rule_audit.audit_rules`.

    Raises:
        InputError: if the scheme `labels` is unknown or gives no label.

    Example:
        >>> from pathlib import Path
        >>> from kmm.data.study import Report, Study
        >>> studies = tuple(Study(id, id, report=Report(findings="No mass.")) for id in "ab")
        >>> found = audit_collection(Collection(Path("ward"), "manifest", studies))
        >>> found["copies"]["reports"]["groups"], found["copies"]["films"]
        (1, None)
    """
    studies, chosen = collection.studies, None if labels is None else open_scheme(labels)
    summary = summarize_collection(collection, labels=chosen, min_count=min_count, note=note)
    if labels is not None and (rules := find_rules(labels)):
        summary["labels"]["rules"] = audit_rules(studies, rules)
    found, reasons = apply_schemes(studies, min_count=min_count, other=chosen)
    scheme = chosen.name if chosen else choose_scheme(found)
    return {
        **summary,
        "report_words": count_report_words(studies),
        "label_schemes": describe_schemes(found, reasons, len(studies), other=chosen),
        "label_changes": find_changes(found),
        "view_sources": count_view_sources(studies),
        "copies": {
            "labels": scheme,
            "reports": count_equal_bodies(studies, found.get(scheme or "", {})),
            "films": count_equal_films(studies, progress=progress) if films else None,
        },
    }
