"""Audit of rules: how many studies each label and each entry of it took."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kmm.data.study import Study
from kmm.rules.negation import AFFIRMED, NEGATED, UNCERTAIN
from kmm.rules.rule_file import KINDS, LabelRules, Rule
from kmm.rules.rule_matches import ABSENT, UNKNOWN, Match, apply_rule, split_sources

DECIDES = {AFFIRMED: 1.0, UNCERTAIN: math.nan, UNKNOWN: math.nan, NEGATED: 0.0, ABSENT: 0.0}


def audit_rules(studies: Sequence[Study], rules: LabelRules) -> list[dict[str, Any]]:
    """Counts what each rule took. The result has no text of a report.

    Args:
        studies: sequence of `Study`.
        rules: `LabelRules`.

    Returns:
        list of dicts for JSON, one per label in the order of the file: `label`, `read` (list of sources), the counts of
        studies `positive`, `negative`, `unknown`, `unmentioned` (those that no entry decided, also counted in
        `negative` or `unknown`) and `without_text` (also counted in `unknown`), and `entries`: for each entry `kind`,
        `entry`, `studies` (those that have it), of them `affirmed`, `negated` and `uncertain` (of `mentions`; a study
        may be in several), and `decided`, those that got their label by it, perhaps by others too.

    Example:
        >>> from kmm.data.study import Report
        >>> studies = [Study(text, text, report=Report(findings=text)) for text in ("A mass.", "No mass.", "Clear.")]
        >>> (row,) = audit_rules(studies, LabelRules.from_dict({"labels": {"Mass": ["mass"]}}, "mine.yaml"))
        >>> row["positive"], row["negative"], row["unmentioned"], row["entries"][0]["studies"]
        (1, 2, 1, 2)
    """
    matches: dict[str, list[Match]] = {rule.label: [] for rule in rules.rules}
    for study in studies:
        split = {sources: split_sources(study, sources) for sources in {rule.read for rule in rules.rules}}
        for rule in rules.rules:
            matches[rule.label].append(apply_rule(rule, split[rule.read]))
    return [_count(rule, matches[rule.label]) for rule in rules.rules]


def _count(rule: Rule, matches: Sequence[Match]) -> dict[str, Any]:
    values = Counter("unknown" if math.isnan(match.value) else int(match.value) for match in matches)
    had: Counter[tuple[str, str]] = Counter()
    said: Counter[tuple[str, str, str]] = Counter()
    decided: Counter[tuple[str, str]] = Counter()
    for match in matches:
        had.update({(kind, entry) for kind, entry, _ in match.found})
        said.update(match.found)
        decided.update({(kind, entry) for kind, entry, status in match.found if _decides(status, match.value)})
    return {
        "label": rule.label,
        "read": list(rule.read),
        "positive": values[1],
        "negative": values[0],
        "unknown": values["unknown"],
        "unmentioned": sum(
            match.read and not any(_decides(status, match.value) for _, _, status in match.found) for match in matches
        ),
        "without_text": sum(not match.read for match in matches),
        "entries": [
            {
                "kind": kind,
                "entry": entry,
                "studies": had[kind, entry],
                **{status: said[kind, entry, status] for status in (AFFIRMED, NEGATED, UNCERTAIN)},
                "decided": decided[kind, entry],
            }
            for kind in KINDS
            for entry in rule.entries[kind]
        ],
    }


def _decides(status: str, value: float) -> bool:
    decides = DECIDES.get(status)
    return decides is not None and (decides == value or (math.isnan(decides) and math.isnan(value)))


def describe_rules(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Describes the result of `audit_rules` in one line.

    Example:
        >>> entry = {"entry": "cyst", "studies": 0}
        >>> row = {"label": "Cyst", "positive": 0, "negative": 9, "unknown": 1, "entries": [entry]}
        >>> describe_rules([row], "mine.yaml")
        'Labels by the rules of mine.yaml: Cyst 0 of 1, 9 of 0, 1 unknown. Entries that no study has: cyst'
    """
    counts = "; ".join(
        f"{row['label']} {row['positive']} of 1, {row['negative']} of 0, {row['unknown']} unknown" for row in rows
    )
    idle = [entry["entry"] for row in rows for entry in row["entries"] if not entry["studies"]]
    some = ", ".join(idle[:10]) + (f" and {len(idle) - 10} more" if len(idle) > 10 else "")
    return f"Labels by the rules of {name}: {counts}." + (f" Entries that no study has: {some}" if idle else "")
