"""Tables of a comparison: columns in memory, CSV and Parquet in files."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmm.errors import InputError, look_up, require
from kmm.storage.files import replace_file

Columns = Mapping[str, np.ndarray]
TEXT, NUMBER, COUNT, FLAG = "text", "number", "count", "flag"
EMPTY: dict[str, Any] = {TEXT: "<U1", NUMBER: np.float64, COUNT: np.int64, FLAG: np.int8}
# The columns of each table with their kinds. A number that is NaN is an empty cell.
ROWS = {
    **{"split": TEXT, "variant": TEXT, "size": COUNT},
    **dict.fromkeys(("model", "part", "label", "metric"), TEXT),
    **{"value": NUMBER, "n": COUNT, "n_positive": COUNT},
}
PREDICTIONS = {
    **{"split": TEXT, "variant": TEXT, "size": COUNT},
    **dict.fromkeys(("part", "study", "patient", "model", "label"), TEXT),
    **{"truth": NUMBER, "probability": NUMBER, "threshold": NUMBER, "has_image": FLAG, "has_report": FLAG},
    **{"image_share": NUMBER, "report_share": NUMBER},  # of the probability, in rows of the joint model
}
HISTORY = {
    **{"split": TEXT, "variant": TEXT, "size": COUNT, "model": TEXT, "stage": TEXT},
    **{"epoch": COUNT, "metric": TEXT, "value": NUMBER},
}


def make_columns(kinds: Mapping[str, str], columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Makes the columns of a table of one kind per column; a single value is repeated, a number left out is NaN, and a
    count left out is 0.

    Example:
        >>> table = make_columns({"model": TEXT, "value": NUMBER}, {"model": "joint", "value": [0.5, 0.7]})
        >>> table["model"].tolist(), table["value"].tolist()
        (['joint', 'joint'], [0.5, 0.7])
    """
    length = max((len(value) for value in columns.values() if not isinstance(value, str | int | float)), default=1)
    empty = {NUMBER: np.nan, COUNT: 0}
    known = {**{name: empty[kind] for name, kind in kinds.items() if kind in empty}, **columns}
    return {name: _as_column(known[name], kind, length) for name, kind in kinds.items()}


def _as_column(value, kind, length):
    column = np.asarray(value, None if kind == TEXT else EMPTY[kind])
    column = column.astype(str) if kind == TEXT and (column.size or column.ndim) else column
    return np.full(length, column) if column.ndim == 0 else column


def join_columns(kinds: Mapping[str, str], tables: Sequence[Columns]) -> dict[str, np.ndarray]:
    """Joins tables of the same columns, one below the other; without tables they are empty.

    Example:
        >>> one = {"model": np.array(["joint"]), "value": np.array([0.5])}
        >>> join_columns({"model": TEXT, "value": NUMBER}, [one, one])["value"].tolist()
        [0.5, 0.5]
    """
    empty = {name: np.empty(0, EMPTY[kind]) for name, kind in kinds.items()}
    return {name: np.concatenate([table[name] for table in tables] or [empty[name]]) for name in kinds}


def find_rows(columns: Columns, **values: Any) -> np.ndarray:
    """Finds the rows in which columns have some values: bool `(n,)`.

    Example:
        >>> find_rows({"model": np.array(["joint", "text"])}, model="text").tolist()
        [False, True]
    """
    found = np.ones(len(next(iter(columns.values()), ())), bool)
    for name, value in values.items():
        found &= columns[name] == value
    return found


def select(columns: Columns, **values: str) -> dict[str, np.ndarray]:
    """Selects the rows of a table that have the given values.

    Args:
        columns: dict of column name to array.
        **values: value of each column to match.

    Returns:
        dict of column name to array.

    Example:
        >>> select({"split": np.array(["1", "2"]), "value": np.array([0.5, 0.7])}, split="2")["value"].tolist()
        [0.7]
    """
    kept = find_rows(columns, **values)
    return {name: np.asarray(column)[kept] for name, column in columns.items()}


def list_values(column: Iterable[Any]) -> list[str]:
    """Lists the different values of a column in order of their first appearance.

    Example:
        >>> list_values(np.array(["b", "a", "b"]))
        ['b', 'a']
    """
    return list(dict.fromkeys(map(str, column)))


def write_csv(path: Path, columns: Columns, kinds: Mapping[str, str]) -> None:
    """Writes a table as CSV, completely or not at all; NaN is an empty cell."""
    with replace_file(path) as place, open(place, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(_show_column(columns[name], kinds[name]) for name in columns), strict=True))


def read_csv(path: Path, kinds: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Reads a table that `write_csv` wrote.

    Raises:
        InputError: if the columns are others, or a cell is not a number where one is needed.
    """
    with open(path, encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    _check_header(path, header, kinds)
    cells = list(zip(*rows, strict=True)) or [()] * len(kinds)
    try:
        return {name: _read_column(values, kinds[name]) for name, values in zip(kinds, cells, strict=True)}
    except ValueError:
        raise InputError(f"{path}: a cell of a column of numbers is no number.") from None


def _check_header(path, header, kinds):
    if missing := [name for name in kinds if name not in header]:
        raise InputError(
            f"{path} lacks the columns {', '.join(missing)}: another version of kmm wrote it. Run the same "
            "`kmm compare` again."
        )
    if list(header) != list(kinds):
        raise InputError(f"{path}: expected the columns {', '.join(kinds)}. Found: {', '.join(header)}.")


def _show_column(column: np.ndarray, kind: str) -> Iterable[Any]:
    values = column.tolist()
    return values if kind != NUMBER else ["" if value != value else repr(value) for value in values]


def _read_column(values, kind):
    if kind == TEXT:
        return np.array(values, str) if values else np.empty(0, EMPTY[TEXT])
    return np.array([value or "nan" for value in values], np.float64).astype(EMPTY[kind])


def _write_parquet(path, columns, kinds):
    """Writes a table as Parquet, completely or not at all."""
    arrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    with replace_file(path) as place:
        parquet.write_table(arrow.table({name: columns[name] for name in kinds}), place)


def _read_parquet(path, kinds):
    parquet = require("pyarrow.parquet", "parquet")
    table = parquet.read_table(path)
    _check_header(path, table.column_names, kinds)
    return {
        name: np.array(table[name].to_pylist(), str) if kind == TEXT else table[name].to_numpy().astype(EMPTY[kind])
        for name, kind in kinds.items()
    }


@dataclass(frozen=True)
class TableFormat:
    """A row of the table `FORMATS`.

    Attributes:
        write: function `(path, columns, kinds)`.
        read: function `(path, kinds)` that returns columns.
        packages: tuple of the packages that it needs, and the extra that installs them.
    """

    write: Callable[[Path, Columns, Mapping[str, str]], None]
    read: Callable[[Path, Mapping[str, str]], dict[str, np.ndarray]]
    packages: tuple[str, ...] = ()


FORMATS = {
    "csv": TableFormat(write_csv, read_csv),
    "parquet": TableFormat(_write_parquet, _read_parquet, ("pyarrow", "parquet")),
}


def check_format(name: str) -> None:
    """Checks that a table can be written in a format, before there is anything to write.

    Args:
        name: str, a key of `FORMATS`.

    Raises:
        InputError: for an unknown name.
        MissingPackageError: if a package that it needs is not installed.

    Example:
        >>> check_format("csv")
        >>> check_format("cvs")
        Traceback (most recent call last):
        kmm.errors.InputError: Unknown format of the predictions 'cvs'. Known: csv, parquet.
    """
    packages = look_up(FORMATS, name, "format of the predictions").packages
    if packages:
        require(*packages)
