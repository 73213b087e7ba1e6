"""Label schemes: from MeSH terms or manifest columns to labels of 0, 1 or NaN (unknown)."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from kmm.errors import InputError

ABNORMAL = "abnormal"
NORMAL, NOT_INDEXED = "normal", "No Indexing"
POOR_QUALITY = "Technical Quality of Image Unsatisfactory"


@dataclass(frozen=True)
class LabelScheme:
    """A rule that labels studies.

    Attributes:
        function: (studies, min_count, names) -> label names (tuple of str) and `label(study)`, which returns a dict of
            label name to 0.0, 1.0 or NaN, or None to drop the study. `names` are those of an existing classifier.
        description: str, one line.
        least: int. A label needs as many studies of 0 and of 1, or it is left out where other labels have them.
    """

    function: Callable
    description: str
    least: int = 1


def label_studies(studies, scheme="normal-abnormal", *, min_count=50, names=None, note=None):
    """Labels studies by a scheme of `LABEL_SCHEMES`.

    Args:
        studies: sequence of `Study`.
        scheme: str, a name in `LABEL_SCHEMES`.
        min_count: int, 1 or more. Scheme `findings`: how many studies must have a finding for it to become a label.
        names: tuple of str or None. The labels of an existing classifier, to be used as they are: nothing is chosen or
            checked, and a label that no study knows of is unknown in each.
        note: callable or None. It is told, in a line of str, of each label that is left out because it is too rare.

    Returns:
        studies (list of `Study` with `labels` replaced, in their order, without those that the scheme drops) and the
        label names (tuple of str).

    Raises:
        InputError: if the scheme is not known, no label comes out, or all known values of every label are equal.

    Example:
        >>> from kmm.data.study import Study
        >>> studies = [Study("1", "1", mesh_major=("normal",)), Study("2", "2", mesh_major=("Opacity/lung",))]
        >>> labelled, names = label_studies(studies)
        >>> names, [study.labels for study in labelled]
        (('abnormal',), [{'abnormal': 0.0}, {'abnormal': 1.0}])
    """
    if scheme not in LABEL_SCHEMES:
        raise InputError(f"Unknown label scheme '{scheme}'. Known: {', '.join(LABEL_SCHEMES)}.")
    found, label = LABEL_SCHEMES[scheme].function(studies, min_count, names)
    labels = [(study, values) for study in studies if (values := label(study)) is not None]
    chosen = tuple(names) if names is not None else _choose_trainable(labels, found, scheme, note)
    labelled = [
        replace(study, labels={name: values.get(name, math.nan) for name in chosen}) for study, values in labels
    ]
    return labelled, chosen


def find_heads(study):
    """Returns the set of MeSH heads of a study that are findings: without `normal` and `No Indexing`.

    Example:
        >>> from kmm.data.study import Study
        >>> sorted(find_heads(Study("1", "1", mesh_major=("Opacity/lung/base", "Opacity/lung", "Scoliosis/mild"))))
        ['Opacity', 'Scoliosis']
    """
    return {term.split("/")[0].strip() for term in study.mesh_major} - {NORMAL, NOT_INDEXED}


def _label_abnormal(study):
    if not study.mesh_major and not study.mesh_automatic:
        return {ABNORMAL: math.nan}
    return {ABNORMAL: float(study.mesh_major != (NORMAL,))}


def _label_paper(studies, min_count, names):
    return (ABNORMAL,), _label_abnormal


def _drop_unindexed(studies, min_count, names):
    return (ABNORMAL,), lambda study: None if NOT_INDEXED in study.mesh_major else _label_abnormal(study)


def _hide(term):
    """Makes a scheme in which the studies with one MeSH term are unknown."""

    def function(studies, min_count, names):
        return (ABNORMAL,), lambda study: {ABNORMAL: math.nan} if term in study.mesh_major else _label_abnormal(study)

    return function


def _label_findings(studies, min_count, names):
    """Studies without MeSH, or with No Indexing, are unknown and do not count."""
    chosen = _choose_findings(studies, min_count) if names is None else tuple(names)

    def label(study):
        if not _is_indexed(study):
            return dict.fromkeys(chosen, math.nan)
        heads = find_heads(study)
        return {name: float(name in heads) for name in chosen}

    return chosen, label


def _is_indexed(study):
    return bool(study.mesh_major) and NOT_INDEXED not in study.mesh_major


def _choose_findings(studies, min_count):
    counts = Counter(head for study in studies if _is_indexed(study) for head in find_heads(study))
    ranked = sorted(counts, key=lambda head: (-counts[head], head))
    names = tuple(head for head in ranked if counts[head] >= min_count)
    if not names:
        best = f"The most frequent has {counts[ranked[0]]}" if ranked else "No study has MeSH findings"
        raise InputError(f"Label scheme 'findings': expected a finding with at least {min_count} studies. {best}.")
    return names


def _take_columns(studies, min_count, names):
    found = tuple({name: None for study in studies for name in study.labels})
    if not found and names is None:
        raise InputError("Label scheme 'columns': expected a manifest with columns named label:<name>. Found none.")
    return found, lambda study: study.labels


LABEL_SCHEMES = {
    "normal-abnormal": LabelScheme(
        _label_paper, "the paper's: MeSH major is exactly `normal` -> 0, all else 1; no MeSH at all is unknown"
    ),
    "normal-abnormal-indexed-only": LabelScheme(_drop_unindexed, "the same, studies with `No Indexing` dropped"),
    "normal-abnormal-unindexed-unknown": LabelScheme(_hide(NOT_INDEXED), "the same, `No Indexing` unknown"),
    "normal-abnormal-poor-quality-unknown": LabelScheme(_hide(POOR_QUALITY), f"the same, `{POOR_QUALITY}` unknown"),
    "findings": LabelScheme(
        _label_findings, "one label per MeSH head with a minimum count; `normal` is 0 in all, `No Indexing` unknown"
    ),
    "columns": LabelScheme(  # one study of each class for each part of a split
        _take_columns, "the label:<name> columns of the manifest; one too rare to train is left out", least=3
    ),
}


def _choose_trainable(labels, names, scheme, note):
    """The labels with enough studies of both classes; of those that are left out `note` is told."""
    counts = {name: count_classes(values.get(name, math.nan) for _, values in labels) for name in names}
    least = LABEL_SCHEMES[scheme].least
    if not any(min(count) >= least for count in counts.values()):
        least = 1
    chosen = tuple(name for name in names if min(counts[name]) >= least)
    if not chosen:
        name = next(iter(names))
        raise InputError(
            f"Label scheme '{scheme}': expected studies of 0 and of 1 for the label '{name}'. "
            f"Found: {describe_classes(counts[name])}."
        )
    for name in names:
        if name not in chosen and note:
            note(
                f"Label '{name}' is left out: {describe_classes(counts[name])}. "
                f"Expected at least {least} of 0 and {least} of 1."
            )
    return chosen


def count_classes(values):
    """Counts the known values of a label: the number of 0 and the number of 1.

    Example:
        >>> count_classes([0.0, 1.0, math.nan, 0.0])
        (2, 1)
    """
    counts = Counter(values)
    return counts[0.0], counts[1.0]


def describe_classes(counts):
    """Says how many studies a label has of each class.

    Example:
        >>> describe_classes((2, 0)), describe_classes((2, 1)), describe_classes((0, 0))
        ('2 of 0', '2 of 0, 1 of 1', 'no known value')
    """
    return ", ".join(f"{count} of {value}" for value, count in enumerate(counts) if count) or "no known value"
