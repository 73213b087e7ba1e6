"""Means over splits of what was measured within each split, whatever its shape."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from kmm.evaluate.statistics.resampled_tests import summarize_splits
from kmm.experiments.statistics import Sizes, as_list


def average_nested(found: Sequence[Any], sizes: Sizes) -> Any:
    """Averages results of several splits that are nested dicts of numbers.

    Args:
        found: sequence of what each split has: a mapping, a number, text, or None.
        sizes: of the training and the test part, as counts or shares.

    Returns:
        the same nesting. A number becomes `mean`, `sd`, `interval`, `n`, `left_out` and `values`; a text that all
        splits share stays, lists and intervals within a split are left out. None if no split has anything.

    Example:
        >>> found = average_nested([{"auc": 0.8, "note": "few"}, {"auc": None, "note": "few"}, None], (0.8, 0.2))
        >>> found["auc"]["mean"], found["auc"]["values"], found["note"]
        (0.8, [0.8, None, None], 'few')
    """
    known = [one for one in found if one is not None]
    if not known:
        return None
    if isinstance(known[0], Mapping):
        names = dict.fromkeys(name for one in known for name in one if name not in ("intervals", "interval", "tests"))
        nested = {name: average_nested([(one or {}).get(name) for one in found], sizes) for name in names}
        return {name: value for name, value in nested.items() if value is not None}
    if isinstance(known[0], str):
        return known[0] if len(set(known)) == 1 else None
    if isinstance(known[0], list):
        return None
    values = np.array([np.nan if one is None else one for one in found], np.float64)
    return {**summarize_splits(values, n_train=sizes[0], n_test=sizes[1]), "values": as_list(values)}


def average_rows(
    found: Sequence[Sequence[Mapping[str, Any]] | None], names: Sequence[str], sizes: Sizes
) -> list[dict[str, Any]]:
    """Averages lists of rows; rows of several splits belong together if they have the same names.

    Args:
        found: sequence of a list of mappings per split, or None.
        names: sequence of the keys that name a row.
        sizes: as for `average_nested`.

    Returns:
        list of dict: the names and what `average_nested` returns of the rest, in the order in which they first occur.

    Example:
        >>> rows = average_rows([[{"value": "PA", "auc": 0.8}], [{"value": "PA", "auc": 0.6}]], ["value"], (0.8, 0.2))
        >>> rows[0]["value"], round(rows[0]["auc"]["mean"], 2)
        ('PA', 0.7)
    """
    tables = [{tuple(row[name] for name in names): row for row in rows or ()} for rows in found]
    keys = dict.fromkeys(key for table in tables for key in table)
    rest: Callable[[Any], Any] = lambda row: row and {name: row[name] for name in row if name not in names}  # noqa: E731
    return [
        {**dict(zip(names, key)), **(average_nested([rest(table.get(key)) for table in tables], sizes) or {})}
        for key in keys
    ]
