"""The table of a folder of explained studies: one row per study and label, without any report text."""

import csv
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmm.data.study import Study
from kmm.errors import look_up, require
from kmm.explain.explained_study import ExplainedStudy
from kmm.storage.files import replace_file

# Name of a column to the type of its known values. `docs/explanation.md` explains the columns.
TABLE_COLUMNS: dict[str, type] = {
    "study": str,
    "file": str,
    "image": str,
    "target": str,
    "probability": float,
    "threshold": float,
    "decision": str,
    "score": float,
    "baseline_score": float,
    "completeness_gap": float,
    "map_error": float,
    "steps": int,
    "regions": int,
    "top_x": float,
    "top_y": float,
    "top_radius": float,
    "top_weight": float,
    "image_share": float,
    "text_share": float,
    "words": int,
    "words_read": int,
    "warnings": str,
    "error": str,
}


def describe_explanation(
    explanation: ExplainedStudy, notes: Iterable[str] = (), *, name: str | None = None
) -> dict[str, Any]:
    """Makes the row of one explained study and label.

    Args:
        explanation: `Explanation`.
        notes: sequence of str: warnings besides those of the explanation.
        name: str. Name of its files, without suffixes; None: the id of the study.

    Returns:
        dict with the keys of `TABLE_COLUMNS`; None where a number is unknown.
    """
    found, top = explanation.attribution, next(iter(explanation.regions_in_file), None)
    shares = explanation.modality_share if None not in explanation.modality_sum.values() else {}
    return drop_unknown(
        {
            "study": explanation.study,
            "file": name or explanation.study,
            "image": explanation.image and make_writable(explanation.image),
            "target": explanation.target,
            "probability": explanation.probabilities[explanation.target],
            "threshold": explanation.thresholds.get(explanation.target),
            "decision": {True: "yes", False: "no", None: None}[explanation.decision],
            "score": found.score,
            "baseline_score": found.baseline_score,
            "completeness_gap": found.completeness_gap,
            "map_error": found.map_error,
            "steps": found.steps,
            "regions": len(explanation.regions),
            "top_x": top and top.x,
            "top_y": top and top.y,
            "top_radius": top and top.radius,
            "top_weight": top and top.weight,
            "image_share": shares.get("image"),
            "text_share": shares.get("text"),
            "words": len(explanation.words),
            "words_read": sum(word.read for word in explanation.words),
            "warnings": "; ".join((*explanation.warnings, *notes)),
            "error": "",
        }
    )


def describe_failure(study: Study, error: str | Exception) -> dict[str, Any]:
    """Makes the row of a study that could not be explained.

    Args:
        study: `Study`.
        error: str or exception: the reason. Its text becomes one line.

    Returns:
        dict with the keys of `TABLE_COLUMNS`: None except for the study, its film, and the error.

    Example:
        >>> from kmm.data.study import Study
        >>> row = describe_failure(Study("7", "7"), "expected a film.")
        >>> row["study"], row["score"], row["error"]
        ('7', None, 'expected a film.')
    """
    image = make_writable(str(study.frontal.path)) if study.frontal else None
    reason = make_writable(" ".join(str(error).split()))
    return {**dict.fromkeys(TABLE_COLUMNS), "study": study.id, "image": image, "warnings": "", "error": reason}


def drop_unknown(value: Any) -> Any:
    """Copies a JSON-like value, with NaN and infinities replaced by None.

    Example:
        >>> drop_unknown({"a": [1, float("nan")], "b": "text"})
        {'a': [1, None], 'b': 'text'}
    """
    if isinstance(value, dict):
        return {name: drop_unknown(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [drop_unknown(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_writable(text: str) -> str:
    r"""Makes a text valid UTF-8: bytes of a file name that could not be decoded become escapes.

    Example:
        >>> make_writable("1\udcff.png")
        '1\\udcff.png'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _write_csv(path, rows):
    with replace_file(path) as place, open(place, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, TABLE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path, rows):
    arrow = require("pyarrow", "parquet")
    parquet = require("pyarrow.parquet", "parquet")
    types = {str: arrow.string(), float: arrow.float64(), int: arrow.int64()}
    schema = arrow.schema([(name, types[kind]) for name, kind in TABLE_COLUMNS.items()])
    with replace_file(path) as place:
        parquet.write_table(arrow.Table.from_pylist(rows, schema=schema), place)


@dataclass(frozen=True)
class Table:
    """A row of `TABLES`: one file format.

    Attributes:
        name: str. Name of the file.
        write: function `(path, rows)`.
        check: function that raises `MissingPackageError` if the format needs a package that is not installed.
    """

    name: str
    write: Callable[[Path, Iterable[Mapping[str, Any]]], None]
    check: Callable[[], Any] = lambda: None


TABLES = {
    "csv": Table("explanations.csv", _write_csv),
    "parquet": Table("explanations.parquet", _write_parquet, lambda: require("pyarrow", "parquet")),
}


def choose_table(kind: str) -> Table:
    """Returns the entry of a kind of table.

    Raises:
        InputError: if the kind is unknown.
        MissingPackageError: if a package that it needs is not installed.
    """
    table = look_up(TABLES, kind, "kind of table")
    table.check()
    return table
