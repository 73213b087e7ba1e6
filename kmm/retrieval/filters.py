"""Filters on studies of an index: by label, view, part of the split, or a column.

A filter is `NAME=VALUE`, `NAME!=VALUE`, or several values divided by `|`. The names are `label` (studies with this
label; with `!=` those known to lack it), `view`, `part`, `study` and the further columns of the index. A study must
fulfil every filter.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kmm.errors import InputError, look_up
from kmm.retrieval.columns import IndexColumns

LABEL = "label"
COLUMNS = {"view": "view", "part": "part", "study": "id"}  # columns that every index has, by the name in a filter
_FILTER = re.compile(r"\s*([^=!]+?)\s*(!?=)(.*)", re.DOTALL)


@dataclass(frozen=True)
class Filter:
    """A condition on studies.

    Attributes:
        name: str. `"label"`, or a column.
        values: tuple of str; one of them must be met.
        negated: bool. None of them must be met.
    """

    name: str
    values: tuple[str, ...]
    negated: bool = False


def parse_filter(text: str) -> Filter:
    """Reads a filter.

    Raises:
        InputError: if it is not `NAME=VALUE` or `NAME!=VALUE`.

    Example:
        >>> parse_filter("part=test|validation"), parse_filter("label!=Effusion").negated
        (Filter(name='part', values=('test', 'validation'), negated=False), True)
    """
    match = _FILTER.fullmatch(text)
    if match is None:
        raise InputError(f"A filter is NAME=VALUE, NAME!=VALUE or NAME=VALUE|VALUE. Received: {text!r}.")
    return Filter(match[1], tuple(value.strip() for value in match[3].split("|")), match[2] == "!=")


def apply_filters(index: IndexColumns, filters: Sequence[Filter]) -> np.ndarray:
    """Finds the studies of an index that fulfil every filter.

    Args:
        index: `IndexColumns`.
        filters: sequence of `Filter`.

    Returns:
        bool `(n,)`.

    Raises:
        InputError: if a column or a label is unknown.
    """
    kept = np.ones(len(index), bool)
    for one in filters:
        kept &= _keep_labelled(index, one) if one.name == LABEL else _keep_column(index, one)
    return kept


def _keep_labelled(index, one):
    """Finds studies with one of some labels; negated, those known to have none of them."""
    numbers = {name: number for number, name in enumerate(index.label_names)}
    values = index.labels[:, [look_up(numbers, value, "label") for value in one.values]]
    return (values == 0).all(axis=1) if one.negated else (values == 1).any(axis=1)


def _keep_column(index, one):
    columns = {**COLUMNS, **{name: index.stored(name) for name in index.columns}}
    column = look_up({LABEL: "", **columns}, one.name, "name in a filter")
    wanted = np.array([value.encode("utf-8", "surrogateescape") for value in one.values])
    found = [np.isin(shard.texts(column), wanted) for shard in index.shards]
    kept = np.concatenate(found) if found else np.zeros(0, bool)
    return ~kept if one.negated else kept
