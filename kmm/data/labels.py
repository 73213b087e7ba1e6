"""Label schemes: turn MeSH terms or manifest columns into labels of 0, 1 or NaN (unknown). `kmm.rules` makes schemes
that read the words of reports."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kmm.data.headings import NORMAL, NOT_FINDINGS, NOT_INDEXED, POOR_QUALITY, expand_rules, level_heading
from kmm.data.study import Study
from kmm.errors import InputError, look_up

ABNORMAL = "abnormal"
Names = Sequence[str]
Labeller = Callable[[Study], Mapping[str, float] | None]


@dataclass(frozen=True)
class LabelScheme:
    """A rule that labels studies.

    Attributes:
        function: (studies, min_count, names, not_findings) -> label names (tuple of str) and `label(study)`, which
            returns a dict of label name to 0.0, 1.0 or NaN, or None to drop the study. `names` are the labels of an
            existing classifier, or None.
        description: str, one line.
        least: int. Minimum number of studies of 0 and of 1 for each label. Labels with fewer are left out, unless no
            label has enough.
        reads_columns: bool. Whether the labels are those that the studies came with.
        name: str, for messages; of an entry of `LABEL_SCHEMES` its key.
        sources: mapping of a label to what its rule reads: sections of the report, `"mesh"`, or `"text:<name>"`. Empty
            for labels from MeSH terms or columns.
    """

    function: Callable[[Sequence[Study], int, Names | None, Names], tuple[tuple[str, ...], Labeller]]
    description: str
    least: int = 1
    reads_columns: bool = False
    name: str = ""
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def list_sources(self, label: str) -> tuple[str, ...]:
        """Lists what a label was made from: sections of the report, `"mesh"`, `"text:<name>"`, or `"columns"`."""
        return self.sources.get(label) or ("columns" if self.reads_columns else "mesh",)


def label_studies(
    studies: Sequence[Study],
    scheme: str | LabelScheme = "normal-abnormal",
    *,
    min_count: int = 50,
    names: Sequence[str] | None = None,
    not_findings: Sequence[str] = tuple(NOT_FINDINGS),
    note: Callable[[str], None] | None = None,
) -> tuple[list[Study], tuple[str, ...]]:
    """Labels studies by a scheme.

    Args:
        studies: sequence of `Study`.
        scheme: str, a name in `LABEL_SCHEMES`, or a `LabelScheme`, as `kmm.rules.rule_scheme.open_scheme` returns it.
        min_count: int, 1 or more. Scheme `findings`: minimum number of studies for a finding to become a label.
        names: tuple of str or None. The labels of an existing classifier. They are used without choosing or checking
            labels, and a label that no study has is unknown in every study.
        not_findings: sequence of str. Scheme `findings`: rules or headings that do not become labels, as in
            `kmm.data.headings`; `audit_headings` counts what each of them left out.
        note: callable or None. Called with one line of text for each label that is left out because it is too rare.

    Returns:
        studies (list of `Study` with `labels` replaced, in their order, without those that the scheme drops) and the
        label names (tuple of str).

    Raises:
        InputError: if the scheme is not known, it gives no label, or all known values of every label are equal.

    Example:
        >>> from kmm.data.study import Study
        >>> studies = [Study("1", "1", mesh_major=("normal",)), Study("2", "2", mesh_major=("Opacity/lung",))]
        >>> labelled, names = label_studies(studies)
        >>> names, [study.labels for study in labelled]
        (('abnormal',), [{'abnormal': 0.0}, {'abnormal': 1.0}])
    """
    entry = find_scheme(scheme)
    try:
        return _apply_scheme(studies, entry, min_count, names, not_findings, note)
    except InputError as error:
        unread = name_unread_columns(studies, entry)
        raise InputError(f"{error} {unread}." if unread else str(error)) from None


def find_scheme(scheme: str | LabelScheme) -> LabelScheme:
    """Returns the scheme of a name in `LABEL_SCHEMES`; a scheme is returned as it is.

    Raises:
        InputError: if the name is unknown.
    """
    return scheme if isinstance(scheme, LabelScheme) else look_up(LABEL_SCHEMES, scheme, "label scheme")


def name_unread_columns(studies: Iterable[Study], scheme: str | LabelScheme) -> str:
    """Names the label columns of a manifest that a scheme does not read; empty if there are none.

    Example:
        >>> from kmm.data.study import Study
        >>> name_unread_columns([Study("1", "1", labels={"mass": 1.0})], "findings")
        "Label columns that the scheme 'findings' does not read: label:mass. --labels columns reads them"
    """
    entry = find_scheme(scheme)
    names = [] if entry.reads_columns else list({name: None for study in studies for name in study.labels})
    if not names:
        return ""
    some = ", ".join(f"label:{name}" for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"Label columns that the scheme '{entry.name}' does not read: {some}. --labels columns reads them"


def _apply_scheme(
    studies: Sequence[Study],
    scheme: LabelScheme,
    min_count: int,
    names: Names | None,
    not_findings: Names,
    note: Callable[[str], None] | None,
) -> tuple[list[Study], tuple[str, ...]]:
    found, label = scheme.function(studies, min_count, names, not_findings)
    labels = [(study, values) for study in studies if (values := label(study)) is not None]
    chosen = tuple(names) if names is not None else _choose_trainable(labels, found, scheme, note)
    labelled = [
        replace(study, labels={name: values.get(name, math.nan) for name in chosen}) for study, values in labels
    ]
    return labelled, chosen


def find_heads(study: Study) -> set[str]:
    """Returns the set of MeSH heads of a study, without `normal` and `No Indexing` in any letter case.

    Example:
        >>> from kmm.data.study import Study
        >>> sorted(find_heads(Study("1", "1", mesh_major=("Opacity/lung/base", "Opacity/lung", "Scoliosis/mild"))))
        ['Opacity', 'Scoliosis']
    """
    heads = {" ".join(term.split("/")[0].split()) for term in study.mesh_major}
    return {head for head in heads if level_heading(head) not in _NO_HEADS}


def audit_headings(
    studies: Sequence[Study], *, min_count: int = 50, not_findings: Sequence[str] = tuple(NOT_FINDINGS)
) -> list[dict[str, Any]]:
    """Counts the headings that the rules of the scheme `findings` leave out.

    Args:
        studies, min_count, not_findings: as in `label_studies`.

    Returns:
        list of dicts, most studies first: `rule`, `heading` (in its most frequent spelling), `studies` (int, number of
        indexed studies that have it), `label` (bool, whether it would have become a label). A rule that matched no
        heading has one row with the heading None.

    Example:
        >>> from kmm.data.study import Study
        >>> audit_headings([Study("1", "1", mesh_major=("Lung/hypoinflation", "Opacity"))], min_count=1)[0]
        {'rule': 'bare organs', 'heading': 'Lung', 'studies': 1, 'label': True}
    """
    rules = expand_rules(not_findings)
    rows: list[dict[str, Any]] = [
        {"rule": rules[level_heading(head)], "heading": head, "studies": count, "label": count >= min_count}
        for head, count in _count_heads(studies)
        if level_heading(head) in rules
    ]
    met = {row["rule"] for row in rows}
    return rows + [
        {"rule": rule, "heading": None, "studies": 0, "label": False} for rule in not_findings if rule not in met
    ]


def describe_audit(rows: Sequence[Mapping[str, Any]]) -> str:
    """Describes the result of `audit_headings` in one line.

    Example:
        >>> describe_audit([
        ...     {"rule": "bare organs", "heading": "Lung", "studies": 391, "label": True},
        ...     {"rule": "bare organs", "heading": "Heart", "studies": 7, "label": False},
        ...     {"rule": "Cyst", "heading": None, "studies": 0, "label": False}])
        "Headings left out as non-findings: by 'bare organs' 2 (as labels: Lung 391); by 'Cyst' none"
    """
    parts = []
    for rule in dict.fromkeys(row["rule"] for row in rows):
        met = [row for row in rows if row["rule"] == rule and row["heading"]]
        labels = ", ".join(f"{row['heading']} {row['studies']}" for row in met if row["label"])
        parts.append(f"by {rule!r} {len(met) or 'none'}" + (f" (as labels: {labels})" if labels else ""))
    return f"Headings left out as non-findings: {'; '.join(parts) or 'none, as no rule is set'}"


def _has_term(study: Study, term: str) -> bool:
    return level_heading(term) in map(level_heading, study.mesh_major)


def _label_abnormal(study: Study) -> dict[str, float]:
    if not study.mesh_major and not study.mesh_automatic:
        return {ABNORMAL: math.nan}
    return {ABNORMAL: float({level_heading(term) for term in study.mesh_major} != {NORMAL})}


def _label_paper(studies, min_count, names, not_findings):
    return (ABNORMAL,), _label_abnormal


def _drop_unindexed(studies, min_count, names, not_findings):
    return (ABNORMAL,), lambda study: None if _has_term(study, NOT_INDEXED) else _label_abnormal(study)


def _hide(term: str):
    """Makes a scheme in which the label of studies with one MeSH term is unknown."""

    def function(studies, min_count, names, not_findings):
        return (ABNORMAL,), lambda study: {ABNORMAL: math.nan} if _has_term(study, term) else _label_abnormal(study)

    return function


def _label_findings(studies, min_count, names, not_findings):
    """Labels studies by finding. Studies without MeSH, or with No Indexing, are unknown and not counted."""
    chosen = _choose_findings(studies, min_count, not_findings) if names is None else tuple(names)

    def label(study):
        if not _is_indexed(study):
            return dict.fromkeys(chosen, math.nan)
        heads = set(map(level_heading, find_heads(study)))
        return {name: float(level_heading(name) in heads) for name in chosen}

    return chosen, label


def _is_indexed(study: Study) -> bool:
    return bool(study.mesh_major) and not _has_term(study, NOT_INDEXED)


def _count_heads(studies: Iterable[Study]) -> list[tuple[str, int]]:
    """Lists `(head, number of studies)` for indexed studies, most frequent first.

    Different spellings of a head are counted together, under the most frequent spelling.
    """
    spellings: dict[str, Counter[str]] = {}
    counts: Counter[str] = Counter()
    for study in studies:
        if _is_indexed(study):
            heads = {level_heading(head): head for head in sorted(find_heads(study))}
            counts.update(heads.keys())
            for key, head in heads.items():
                spellings.setdefault(key, Counter())[head] += 1
    named = [
        (min(spellings[key], key=lambda head: (-spellings[key][head], head)), count) for key, count in counts.items()
    ]
    return sorted(named, key=lambda pair: (-pair[1], pair[0]))


def _choose_findings(studies: Iterable[Study], min_count: int, not_findings: Names) -> tuple[str, ...]:
    rules = expand_rules(not_findings)
    counts = [(head, count) for head, count in _count_heads(studies) if level_heading(head) not in rules]
    names = tuple(head for head, count in counts if count >= min_count)
    if not names:
        best = f"The most frequent has {counts[0][1]}" if counts else "No study has MeSH findings"
        raise InputError(f"Label scheme 'findings': expected a finding with at least {min_count} studies. {best}.")
    return names


def _take_columns(uncertain: float):
    """Makes a scheme of the labels that the studies came with, in which uncertain ones get a value."""

    def function(studies, min_count, names, not_findings):
        found = tuple({name: None for study in studies for name in study.labels})
        if not found and names is None:
            raise InputError("Label scheme 'columns': expected a manifest with columns named label:<name>. Found none.")
        if names is None and not math.isnan(uncertain) and not any(study.uncertain for study in studies):
            raise InputError("No study has a label that is uncertain. Use the label scheme 'columns'.")
        return found, label

    def label(study):
        return {**study.labels, **dict.fromkeys(study.uncertain & study.labels.keys(), uncertain)}

    return function


_NO_HEADS = {level_heading(NORMAL), level_heading(NOT_INDEXED)}
LABEL_SCHEMES = {
    "normal-abnormal": LabelScheme(
        _label_paper, "the paper's: MeSH major is exactly `normal` -> 0, all else 1; no MeSH at all is unknown"
    ),
    "normal-abnormal-indexed-only": LabelScheme(_drop_unindexed, "the same, studies with `No Indexing` dropped"),
    "normal-abnormal-unindexed-unknown": LabelScheme(_hide(NOT_INDEXED), "the same, `No Indexing` unknown"),
    "normal-abnormal-poor-quality-unknown": LabelScheme(_hide(POOR_QUALITY), f"the same, `{POOR_QUALITY}` unknown"),
    "findings": LabelScheme(
        _label_findings,
        "one label per MeSH head with a minimum count, organs and technical remarks left out; `normal` is 0 in all, "
        "`No Indexing` unknown",
    ),
    # `least` allows one study of each class in each part of a split
    "columns": LabelScheme(
        _take_columns(math.nan),
        "the label columns of the data (label:<name> in a manifest); labels too rare to train are left out",
        least=3,
        reads_columns=True,
    ),
    "columns-uncertain-ones": LabelScheme(
        _take_columns(1.0), "the same, uncertain labels (-1 in CheXpert) are 1", least=3, reads_columns=True
    ),
    "columns-uncertain-zeros": LabelScheme(
        _take_columns(0.0), "the same, uncertain labels are 0", least=3, reads_columns=True
    ),
}
LABEL_SCHEMES = {name: replace(scheme, name=name) for name, scheme in LABEL_SCHEMES.items()}


def _choose_trainable(
    labels: Sequence[tuple[Study, Mapping[str, float]]],
    names: Names,
    scheme: LabelScheme,
    note: Callable[[str], None] | None,
) -> tuple[str, ...]:
    """Returns the labels with enough studies of both classes, and passes a line on each other label to `note`."""
    counts = {name: count_classes(values.get(name, math.nan) for _, values in labels) for name in names}
    least = scheme.least
    if not any(min(count) >= least for count in counts.values()):
        least = 1
    chosen = tuple(name for name in names if min(counts[name]) >= least)
    if not chosen:
        name = next(iter(names))
        raise InputError(
            f"Label scheme '{scheme.name}': expected studies of 0 and of 1 for the label '{name}'. "
            f"Found: {describe_classes(counts[name])}."
        )
    for name in names:
        if name not in chosen and note:
            note(
                f"Label '{name}' is left out: {describe_classes(counts[name])}. "
                f"Expected at least {least} of 0 and {least} of 1."
            )
    return chosen


def count_classes(values: Iterable[float]) -> tuple[int, int]:
    """Counts the known values of a label: the number of 0s and the number of 1s.

    Example:
        >>> count_classes([0.0, 1.0, math.nan, 0.0])
        (2, 1)
    """
    counts = Counter(values)
    return counts[0.0], counts[1.0]


def describe_classes(counts: Sequence[int]) -> str:
    """Describes how many studies of each class a label has.

    Example:
        >>> describe_classes((2, 0)), describe_classes((2, 1)), describe_classes((0, 0))
        ('2 of 0', '2 of 0, 1 of 1', 'no known value')
    """
    return ", ".join(f"{count} of {value}" for value, count in enumerate(counts) if count) or "no known value"
