"""Numbers on the page of an audit, as text."""

from collections.abc import Mapping
from typing import Any

from kmm.explain.output.markup import format_percent
from kmm.pages.parts import Table

NOTHING = "–"


def say(number: int, one: str, several: str = "") -> str:
    """Says a number with its noun.

    Example:
        >>> say(1, "patient"), say(1200, "patient"), say(0, "film has", "films have")
        ('1 patient', '1,200 patients', 'No film has')
    """
    return f"{f'{number:,}' if number else 'No'} {one if number < 2 else several or f'{one}s'}"


def show(number: float | None) -> str:
    """Formats a count, or a number of words with at most one decimal; an en dash when there is none.

    Example:
        >>> show(1234), show(118.18), show(4.0), show(None)
        ('1,234', '118.2', '4', '–')
    """
    return NOTHING if number is None else f"{number:,.1f}".removesuffix(".0")


def tabulate_classes(caption: str, counts: Mapping[str, Mapping[str, Any]]) -> Table:
    """Makes the table of the classes of each label.

    Args:
        caption: str.
        counts: mapping of label to `kmm.data.summary.count_values`.

    Example:
        >>> count = {"positive": 1, "negative": 3, "unknown": 0, "prevalence": 0.25}
        >>> tabulate_classes("Classes", {"mass": count}).rows
        [['mass', '1', '3', '0', '25.0 %']]
    """
    kinds = ("positive", "negative", "unknown")
    rows = [
        [name, *(show(count[kind]) for kind in kinds), format_percent(count["prevalence"])]
        for name, count in counts.items()
    ]
    return Table(caption, ("Label", *map(str.capitalize, kinds), "Prevalence"), rows)
