"""The table of a folder of explained studies: one row per study and label, numbers alone, no text of a report."""

import csv
import math
from dataclasses import dataclass

from kmm.errors import look_up, require
from kmm.storage.files import replace_file

# Column of the table: the type of what stands in it, where it is known. Their meaning: `docs/explanation.md`.
COLUMNS = {
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


def describe_explanation(explanation, notes=(), *, name=None):
    """One explained study as a row of the table.

    Args:
        explanation: `Explanation`.
        notes: sequence of str: warnings besides those of the explanation.
        name: str. What its files are called, without their suffixes; None: the id of the study.

    Returns:
        dict with the keys of `COLUMNS`; None where a number is not known.
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


def describe_failure(study, error):
    """The row of a study that could not be explained.

    Args:
        study: `Study`.
        error: str or exception: why. Its text becomes one line.

    Returns:
        dict with the keys of `COLUMNS`: None but for the study, its film, and the error.

    Example:
        >>> from kmm.data.study import Study
        >>> row = describe_failure(Study("7", "7"), "expected a film.")
        >>> row["study"], row["score"], row["error"]
        ('7', None, 'expected a film.')
    """
    image = make_writable(str(study.frontal.path)) if study.frontal else None
    said = make_writable(" ".join(str(error).split()))
    return {**dict.fromkeys(COLUMNS), "study": study.id, "image": image, "warnings": "", "error": said}


def drop_unknown(value):
    """A copy of what JSON can hold, in which NaN and infinities are None.

    Example:
        >>> drop_unknown({"a": [1, float("nan")], "b": "text"})
        {'a': [1, None], 'b': 'text'}
    """
    if isinstance(value, dict):
        return {name: drop_unknown(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [drop_unknown(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_writable(text):
    r"""Text that UTF-8 can hold: bytes of a file name that are no text are written as escapes.

    Example:
        >>> make_writable("1\udcff.png")
        '1\\udcff.png'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _write_csv(path, rows):
    with replace_file(path) as place, open(place, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path, rows):
    arrow = require("pyarrow", "parquet")
    parquet = require("pyarrow.parquet", "parquet")
    types = {str: arrow.string(), float: arrow.float64(), int: arrow.int64()}
    schema = arrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    with replace_file(path) as place:
        parquet.write_table(arrow.Table.from_pylist(rows, schema=schema), place)


@dataclass(frozen=True)
class Table:
    """A row of `TABLES`.

    Attributes:
        name: str. Its file.
        write: function `(path, rows)`.
        check: function that raises `MissingPackageError` where it cannot be written.
    """

    name: str
    write: object
    check: object = lambda: None


TABLES = {
    "csv": Table("explanations.csv", _write_csv),
    "parquet": Table("explanations.parquet", _write_parquet, lambda: require("pyarrow", "parquet")),
}


def choose_table(kind):
    """The entry of a kind of table.

    Raises:
        InputError: if the kind is unknown.
        MissingPackageError: if what it needs is not installed.
    """
    table = look_up(TABLES, kind, "kind of table")
    table.check()
    return table
