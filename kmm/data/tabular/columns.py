"""Read columns of a table in memory by name: a DataFrame, a list of records, or a dict of arrays.

No library of frames is imported. A frame is any object with `columns` whose columns are found by `frame[name]`, as
those of pandas and polars.
"""

import difflib
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from kmm.data.names import make_printable
from kmm.errors import InputError

MOST_NAMED = 20  # columns named in an error


def is_table(value: Any) -> bool:
    """Returns whether an object is a table that `Table` reads.

    Example:
        >>> is_table([{"image": "1.png"}]), is_table({"image": ["1.png"]}), is_table("1.png"), is_table(["1.png"])
        (True, True, False, False)
    """
    if isinstance(value, Mapping):
        return True
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(row, Mapping) for row in value)
    return _is_frame(value)


class Table:
    """A table in memory, read column by column.

    Args:
        source: a frame; a sequence of mappings of column to value, in which a key that is absent is a missing value; or
            a mapping of column to a sequence of values.

    Attributes:
        kind: str. The kind of the table, for messages.
        names: tuple of hashable, as a rule str. The names of its columns.
        count: int. Its rows.

    Raises:
        InputError: if it is none of these, or its columns differ in length.

    Example:
        >>> table = Table([{"text": "Clear."}, {"text": "A mass.", "age": 61}])
        >>> table.names, table.count, list(table.read("age"))
        (('text', 'age'), 2, [None, 61])
        >>> table.read("Text")
        Traceback (most recent call last):
        kmm.errors.InputError: The table has no column 'Text'. Did you mean text? It has: text, age.
    """

    def __init__(self, source: Any) -> None:
        self._columns: Mapping[Any, Any] | None = None
        self._records: Sequence[Mapping[Any, Any]] = ()
        self._frame: Any = None
        self.names: tuple[Hashable, ...]
        if isinstance(source, Mapping):
            self.kind, self._columns = "dict", source
            self.names, self.count = tuple(source), _count_rows(source)
        elif _is_frame(source):
            self.kind, self._frame = type(source).__name__, source
            self.names, self.count = tuple(source.columns), len(source)
        elif isinstance(source, Iterable) and not isinstance(source, str | bytes):
            self.kind, self._records = "records", _list_records(source)
            self.names = tuple({name: None for record in self._records for name in record})
            self.count = len(self._records)
        else:
            raise InputError(
                f"Studies are made from a DataFrame, a list of records or a dict of columns. "
                f"Received: {type(source).__name__}."
            )
        if twice := [name for name in self.names if self.names.count(name) > 1]:
            raise InputError(f"The table has two columns named {twice[0]!r}. Rename one.")

    def read(self, name: Hashable) -> Iterator[Any]:
        """Iterates over the values of a column.

        Raises:
            InputError: if there is no such column; it names those that there are.
        """
        if name not in self.names:
            raise InputError(f"The table has no column {name!r}.{self._suggest(name)}")
        if self._frame is not None:
            return iter(self._frame[name])
        if self._columns is not None:
            return iter(self._columns[name])
        return iter([record.get(name) for record in self._records])

    def _suggest(self, name):
        names = [make_printable(str(known)) for known in self.names]
        near = difflib.get_close_matches(str(name).lower(), [known.lower() for known in names], n=1)
        meant = next((known for known in names if near and known.lower() == near[0]), "")
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        return f"{f' Did you mean {meant}?' if meant else ''} It has: {', '.join(names[:MOST_NAMED]) or 'none'}{more}."


def read_name(name: Any) -> Hashable:
    """Returns the name of a column in the form in which it is kept with a classifier, as JSON.

    Args:
        name: str, a number, or a tuple of these, as pandas names the columns of a MultiIndex. A list, which JSON makes
            of a tuple, is read as a tuple, and a scalar of NumPy as a number.

    Raises:
        InputError: if it is none of these.

    Example:
        >>> read_name(0), read_name(["report", "text"])
        (0, ('report', 'text'))
        >>> read_name(None)
        Traceback (most recent call last):
        kmm.errors.InputError: A column is named by text, a number, or a tuple of these. Received: NoneType. Rename it.
    """
    if isinstance(name, list | tuple):
        return tuple(map(read_name, name))
    if isinstance(name, np.generic):
        name = name.item()
    if isinstance(name, str | int) or (isinstance(name, float) and isfinite(name)):
        return name
    raise InputError(
        f"A column is named by text, a number, or a tuple of these. Received: {type(name).__name__}. Rename it."
    )


def is_missing(value: Any) -> bool:
    """Returns whether a cell is missing: None, NaN, pandas' NA or NaT, or text of white space alone.

    Example:
        >>> is_missing(None), is_missing(float("nan")), is_missing("  "), is_missing(0.0)
        (True, True, True, False)
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, Real) and bool(value != value)


def _is_frame(value):
    names = getattr(value, "columns", None)
    return names is not None and hasattr(value, "__getitem__") and hasattr(value, "__len__") and not callable(names)


def _count_rows(columns):
    counts = {}
    for name, values in columns.items():
        if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
            raise InputError(
                f"The column {name!r} must be a sequence with one value per row. Received: {type(values).__name__}."
            )
        counts[name] = len(values)
    if len(set(counts.values())) > 1:
        (first, count), *_ = counts.items()
        other = next(name for name in counts if counts[name] != count)
        raise InputError(
            f"The columns differ in length: {first!r} has {count} rows and {other!r} has {counts[other]}. Give every "
            "column one value per row."
        )
    return next(iter(counts.values()), 0)


def _list_records(source):
    records = list(source)
    for row, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise InputError(f"Row {row} of the records is not a dict of column to value: {type(record).__name__}.")
    return records
