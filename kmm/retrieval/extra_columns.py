"""Further columns of an index, from a table of studies, by which results can be filtered."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from kmm.data.layouts.manifest import find_manifest
from kmm.data.tabular.rows import read_rows, show_columns
from kmm.errors import InputError


def read_columns(place: Path | str, names: Sequence[str]) -> dict[str, Mapping[str, str]]:
    """Reads columns of a table of studies.

    Args:
        place: path of a CSV or JSONL file with the column `id`, or of a folder with a manifest.
        names: sequence of the columns to read.

    Returns:
        dict of column to a dict of study id to text; rows of one study that differ are joined by `;`.

    Raises:
        InputError: if there is no such table, or it lacks a column.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "manifest.csv")
        ...     _ = path.write_text("id,site,report\\n1,north,Clear.\\n2,south,Mass.\\n")
        ...     read_columns(folder, ["site"])
        {'site': {'1': 'north', '2': 'south'}}
    """
    path = Path(place)
    if path.is_dir():
        found = find_manifest(path)
        if found is None:
            raise InputError(f"{path} has no manifest from which columns can be read. Give a table by --table.")
        path = found
    columns, rows, _ = read_rows(path, ("id",))
    missing = [name for name in names if name not in columns]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}. Found: {show_columns(columns)}.")
    values: dict[str, dict[str, list[str]]] = {name: {} for name in names}
    for _, row in rows:
        for name in names:
            known = values[name].setdefault(row["id"].strip(), [])
            if (text := row[name].strip()) and text not in known:
                known.append(text)
    return {name: {study: ";".join(texts) for study, texts in by_study.items()} for name, by_study in values.items()}
