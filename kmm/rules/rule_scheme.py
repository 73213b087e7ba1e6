"""Label schemes from rules: by the name `rules:FILE`, or as a saved classifier keeps them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kmm.data.labels import LABEL_SCHEMES, LabelScheme
from kmm.data.study import SECTIONS, Study
from kmm.errors import look_up
from kmm.rules.rule_file import LabelRules, read_rules
from kmm.rules.rule_matches import apply_rule, split_sources

PREFIX = "rules:"
KEPT, AUDIT = "label_rules", "label_audit"  # in the provenance of a classifier: the rules, and what they took


def open_scheme(name: str) -> LabelScheme:
    """Returns a label scheme by its name.

    Args:
        name: str, a key of `kmm.data.labels.LABEL_SCHEMES`, or `rules:` and the path of a file of rules or the name of
            one of kmm's own.

    Returns:
        `LabelScheme`.

    Raises:
        InputError: if the name is unknown, or the file cannot be used.

    Example:
        >>> open_scheme("rules:chestxray14").sources["Effusion"]
        ('findings', 'impression')
        >>> open_scheme("columns").name
        'columns'
    """
    rules = find_rules(name)
    if rules is not None:
        return make_scheme(rules)
    return look_up({**LABEL_SCHEMES, f"{PREFIX}FILE": LABEL_SCHEMES["columns"]}, name, "label scheme")


def find_rules(name: str) -> LabelRules | None:
    """Reads the rules that the name of a label scheme names; None if it names none.

    Raises:
        InputError: if the file cannot be used.
    """
    return read_rules(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None


def drop_folder(name: str) -> str:
    """Returns the name of a label scheme without the folder of its file, for what is shared.

    Example:
        >>> drop_folder("rules:/data/mine.yaml"), drop_folder("columns")
        ('rules:mine.yaml', 'columns')
    """
    return PREFIX + Path(name.removeprefix(PREFIX)).name if name.startswith(PREFIX) else name


def saved_scheme(name: str, provenance: Mapping[str, Any]) -> LabelScheme:
    """Returns the label scheme of a saved classifier, which keeps its rules: their file is not needed again.

    Args:
        name: str, the setting `labels` of its fit.
        provenance: mapping, of the classifier.
    """
    kept = provenance.get(KEPT)
    return open_scheme(name) if kept is None else make_scheme(LabelRules.from_dict(kept))


def make_scheme(rules: LabelRules) -> LabelScheme:
    """Makes the label scheme of rules. Labels too rare to train are left out, as of columns.

    Example:
        >>> from kmm.data.labels import label_studies
        >>> from kmm.data.study import Report
        >>> scheme = make_scheme(LabelRules.from_dict({"labels": {"Mass": ["mass"]}}, "mine.yaml"))
        >>> studies = [Study(text, text, report=Report(findings=text)) for text in ("A mass.", "No mass.")]
        >>> [study.labels for study in label_studies(studies, scheme)[0]]
        [{'Mass': 1.0}, {'Mass': 0.0}]
    """

    def function(
        studies: Sequence[Study], min_count: int, names: Sequence[str] | None, not_findings: Sequence[str]
    ) -> Any:
        return tuple(rule.label for rule in rules.rules), label

    def label(study: Study) -> dict[str, float]:
        split = {sources: split_sources(study, sources) for sources in {rule.read for rule in rules.rules}}
        return {rule.label: apply_rule(rule, split[rule.read]).value for rule in rules.rules}

    return replace(
        LABEL_SCHEMES["columns"],
        function=function,
        description=f"the rules of {rules.name}, applied to {_say_sources(rules)}",
        reads_columns=False,
        name=f"{PREFIX}{rules.name}",
        sources={rule.label: rule.read for rule in rules.rules},
    )


def _say_sources(rules: LabelRules) -> str:
    found = dict.fromkeys(source for rule in rules.rules for source in rule.read)
    return ", ".join(source.upper() if source in SECTIONS else source for source in found)


def find_mined(scheme: LabelScheme, read: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Finds the sections of the report that a model reads and that its labels were made from.

    Args:
        scheme: `LabelScheme`.
        read: sequence of the sections that the model reads; empty for one of films alone.
        names: sequence of the labels.

    Returns:
        tuple of sections, in the order of `SECTIONS`; empty if there are none.

    Example:
        >>> find_mined(open_scheme("rules:chestxray14"), ("indication", "findings"), ["Mass"])
        ('findings',)
    """
    mined = {source for name in names for source in scheme.sources.get(name, ())}
    return tuple(section for section in SECTIONS if section in mined and section in read)
