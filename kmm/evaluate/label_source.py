"""Source of the labels of a classifier: whether its text side reads the words that they were made from."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kmm.rules.rule_scheme import find_mined, saved_scheme

if TYPE_CHECKING:
    from kmm.classifier import Classifier

MINED = "mined"  # key of a result


def find_mined_sections(classifier: "Classifier") -> list[str]:
    """Finds the sections of the report that the classifier reads and that the rules of its labels read too; empty for
    labels that are not made from words, and for a classifier of films alone."""
    text = classifier.batches.text
    scheme = saved_scheme(classifier.settings.labels, classifier.provenance)
    return list(find_mined(scheme, () if text is None else text.sections, classifier.label_names))


def state_mined(result: Mapping[str, Any]) -> str:
    """States for the title of a table that the text side reads what the labels were made from; empty if it does not.

    Args:
        result: mapping that has `MINED`, a list of sections, or lacks it.

    Example:
        >>> state_mined({"mined": ["findings"]})
        'labels made from the words of FINDINGS, which the text model reads'
        >>> state_mined({})
        ''
    """
    return say_mined(result.get(MINED) or ())


def say_mined(sections: Sequence[str]) -> str:
    """States the same of sections; empty for none."""
    named = " and ".join(section.upper() for section in sections)
    return f"labels made from the words of {named}, which the text model reads" if sections else ""


def say_mined_variants(found: Mapping[str, Sequence[str]]) -> str:
    """States the same of the variants of a comparison, by name; empty if there are none.

    Example:
        >>> say_mined_variants({"": ["findings"]})
        'labels made from the words of FINDINGS, which the text model reads'
        >>> say_mined_variants({"sections=report": ["findings"], "sections=pre-read": []})
        'sections=report: labels made from the words of FINDINGS, which the text model reads'
    """
    lines = [(name, say_mined(sections)) for name, sections in found.items()]
    return "; ".join(f"{name}: {line}" if name else line for name, line in lines if line)
