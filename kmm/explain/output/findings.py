"""Findings of two studies: those that both have, and those that only one has."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite

_KINDS: dict[tuple[bool | None, bool | None], str] = {
    (True, True): "common",
    (True, False): "only_one",
    (False, True): "only_other",
}


@dataclass(frozen=True)
class Findings:
    """What is known of a study, and what a classifier predicts.

    Attributes:
        known: mapping of label to 1.0, 0.0 or NaN (unknown).
        probabilities: mapping of label to calibrated probability.
        thresholds: mapping of label to the smallest probability of a positive decision.
    """

    known: Mapping[str, float] = field(default_factory=dict)
    probabilities: Mapping[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)

    def decide(self, label: str) -> tuple[bool | None, bool]:
        """Returns whether the study has a finding, None if nothing tells, and whether that is only predicted.

        Example:
            >>> findings = Findings({"mass": 1.0, "cyst": float("nan")}, {"cyst": 0.2}, {"cyst": 0.5})
            >>> findings.decide("mass"), findings.decide("cyst"), findings.decide("edema")
            ((True, False), (False, True), (None, False))
        """
        value = self.known.get(label)
        if value is not None and isfinite(value):
            return bool(value > 0.5), False
        probability, threshold = self.probabilities.get(label), self.thresholds.get(label)
        if probability is None or threshold is None or not (isfinite(probability) and isfinite(threshold)):
            return None, False
        return bool(probability >= threshold), True


@dataclass(frozen=True)
class SharedFindings:
    """Findings of two studies, sorted by who has them; a name ends with ` (predicted)` if a label was not known.

    Attributes:
        common: tuple of str. Findings of both.
        only_one, only_other: tuple of str. Findings of one that the other one does not have.
        unsure: tuple of str. Findings of one of which nothing is known in the other one.
    """

    common: tuple[str, ...] = ()
    only_one: tuple[str, ...] = ()
    only_other: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()


def compare_findings(one: Findings, other: Findings) -> SharedFindings:
    """Compares the findings of two studies: known labels, and predictions where a label is not known.

    Example:
        >>> compare_findings(Findings({"mass": 1.0, "cyst": 1.0, "edema": 1.0}), Findings({"mass": 1.0, "cyst": 0.0}))
        SharedFindings(common=('mass',), only_one=('cyst',), only_other=(), unsure=('edema',))
    """
    sorted_labels: dict[str, list[str]] = {"common": [], "only_one": [], "only_other": [], "unsure": []}
    for label in list_labels([one, other]):
        (first, guessed), (second, guessed_too) = one.decide(label), other.decide(label)
        if first or second:
            name = f"{label} (predicted)" if guessed or guessed_too else label
            sorted_labels[_KINDS.get((first, second), "unsure")].append(name)
    return SharedFindings(**{kind: tuple(names) for kind, names in sorted_labels.items()})


def list_labels(findings: Iterable[Findings]) -> Sequence[str]:
    """Lists the labels of which something is known or predicted, each once, in the order in which they first occur."""
    return list(dict.fromkeys(label for one in findings for label in (*one.known, *one.probabilities)))
