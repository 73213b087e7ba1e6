"""CSV and JSONL tables: rows read with care, and any manifest of studies."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

from kmm.data.names import VIEW_NAMES, is_safe_id, name_view, resolve_inside, sort_key
from kmm.data.study import SECTIONS, Collection, ImageFile, Problem, Report, Study, merge_images
from kmm.errors import InputError

MANIFESTS = ("manifest.csv", "manifest.jsonl")
MAX_TABLE_BYTES = 1 << 30
MAX_FIELD_CHARACTERS = 1 << 24
_LABEL = "label:"


def read_table(path):
    """Reads a manifest: a CSV with a header, or JSONL with one object a line.

    Columns (JSONL: keys; a list where `;` separates); others are left unread:
        id: required. Letters, digits, `.`, `_`, `-`. Rows with one id are one study: their images are joined, and what
            else they say must agree.
        patient: who was examined; `id` if empty or absent.
        image: path from the manifest's folder, or several, separated by `;`.
        view: `frontal`, `PA`, `AP`, `lateral`, `LL`, ... or empty: one for the row, or one per image, separated by `;`.
        report: the whole text, kept as FINDINGS; or the columns `indication`, `comparison`, `findings`, `impression`.
        mesh: MeSH terms with qualifiers, separated by `;`.
        label:<name>: 1, 0, or empty for unknown; any number of such columns.

    Args:
        path: a .csv or .jsonl file, or a folder that holds `manifest.csv` or `manifest.jsonl`.

    Returns:
        `Collection`, views not yet decided, files not yet looked for. A row that cannot be used is a `Problem`.

    Raises:
        InputError: if the file cannot be read, is not UTF-8, or lacks the columns `id` and an image or report column.
    """
    path = find_manifest(path) or Path(path)
    columns, rows, problems = read_rows(path, ("id",))
    _check_columns(path, columns)
    studies = {}
    for line, row in rows:
        source = f"{path.name} line {line}"
        try:
            study = _read_study(row, path.parent, source, problems)
            studies[study.id] = _join(studies[study.id], study) if study.id in studies else study
        except InputError as error:
            problems.append(Problem(source, str(error)))
    studies = [replace(study, patient=study.patient or study.id) for study in studies.values()]
    studies.sort(key=lambda study: sort_key(study.id))
    return Collection(path.parent, f"manifest ({path.name})", tuple(studies), tuple(problems))


def find_manifest(folder):
    """Returns the path of the manifest in a folder, `manifest.csv` first, or None."""
    return next((path for name in MANIFESTS if (path := Path(folder, name)).is_file()), None)


def read_rows(path, required=()):
    """Reads the rows of a CSV, or of a JSONL file if the suffix is `.jsonl`. All values come as str, empty for null.

    Args:
        path: UTF-8 text of at most 1 GiB, with or without a byte order mark.
        required: columns that must be there.

    Returns:
        columns (tuple of str), rows (list of `(line number, dict)`), problems (list of `Problem`: rows that are not
        whole).

    Raises:
        InputError: if the file cannot be read, is not UTF-8, is no such table, or lacks a required column.
    """
    path = Path(path)
    text = _read_text(path)
    columns, rows, problems = (_read_jsonl if path.suffix.lower() == ".jsonl" else _read_csv)(path, text)
    missing = [name for name in required if name not in columns]
    if missing:
        first = f". Set aside: {problems[0]}" if problems else ""
        raise InputError(
            f"{path}: expected the columns {', '.join(required)}. Missing: {', '.join(missing)}. "
            f"Found: {show_columns(columns)}{first}"
        )
    return columns, rows, problems


def show_columns(columns):
    """Returns the names of columns for an error. Where a file has no header, text of reports stands in its place: so
    what is not one word is only counted.

    Example:
        >>> show_columns(["id", "No mass"])
        'id and 1 other'
    """
    words = [name for name in columns if re.fullmatch(r"[\w:-]{1,40}", name)][:30]
    others = len(columns) - len(words)
    counted = [f"{others} other{'s' * (others > 1)}"] if others else []
    return " and ".join([", ".join(words)] * bool(words) + counted) or "none"


def _read_text(path):
    try:
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise InputError(f"{path}: expected a table of at most {MAX_TABLE_BYTES:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected UTF-8 text. Byte {error.start} is not: {error.reason}") from None


def _read_csv(path, text):
    csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows, problems = [], []
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
        columns = tuple(name for name in header if name)  # spreadsheets write columns without a name
        if len(set(columns)) != len(columns):
            raise InputError(f"{path}: a column stands twice in the header")
        reader.fieldnames = [name or place for place, name in enumerate(header)]
        for row in reader:
            if None in row or None in row.values():
                problems.append(Problem(f"{path.name} line {reader.line_num}", f"expected {len(header)} fields"))
            else:
                rows.append((reader.line_num, {name: row[name] for name in columns}))
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV, near line {reader.line_num}: {error}") from None
    return columns, rows, problems


def _read_jsonl(path, text):
    columns, rows, problems = {}, [], []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = {str(key): _level(value) for key, value in _read_object(line).items()}
        except InputError as error:
            problems.append(Problem(f"{path.name} line {number}", str(error)))
            continue
        columns |= dict.fromkeys(row)
        rows.append((number, row))
    return tuple(columns), [(number, dict.fromkeys(columns, "") | row) for number, row in rows], problems


def _read_object(line):
    if len(line) > MAX_FIELD_CHARACTERS:
        raise InputError(f"expected at most {MAX_FIELD_CHARACTERS:,} characters")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise InputError("expected one JSON object")
    return row


def _level(value):
    """A JSON value as the text that a CSV would hold."""
    if isinstance(value, list) and not any(isinstance(part, list) for part in value):
        return ";".join(map(_level, value))
    if isinstance(value, dict | list):
        raise InputError("expected text, numbers or lists of these as values, not objects or lists of lists")
    text = "" if value is None else str(int(value) if isinstance(value, bool) else value)
    return text.encode("utf-8", "replace").decode("utf-8")  # JSON may hold half a character


def _check_columns(path, columns):
    if not {"image", "report", *SECTIONS} & set(columns):
        raise InputError(
            f"{path}: expected a column `image`, `report` or one of {', '.join(SECTIONS)}. "
            f"Found: {show_columns(columns)}"
        )
    if "report" in columns and "findings" in columns:
        raise InputError(f"{path}: expected either the column `report` or the column `findings`, not both")
    if _LABEL in columns:
        raise InputError(f"{path}: expected a name after `{_LABEL}` in the header")


def _read_study(row, folder, source, problems):
    study_id = row["id"].strip()
    if not is_safe_id(study_id):
        raise InputError("expected an id of at most 100 letters, digits, '.', '_' and '-'")
    texts = {name: row.get(name, "").strip() for name in SECTIONS}
    texts["findings"] = texts["findings"] or row.get("report", "").strip()
    return Study(
        id=study_id,
        patient=row.get("patient", "").strip(),
        images=_read_images(row, folder, source, problems),
        report=Report(**texts) if any(texts.values()) else None,
        mesh_major=split_terms(row.get("mesh", "")),
        labels={name.removeprefix(_LABEL): _read_label(name, row[name]) for name in row if name.startswith(_LABEL)},
    )


def split_terms(text):
    """Returns the parts of a cell that `;` separates, without the empty ones.

    Example:
        >>> split_terms("Opacity/lung; Scoliosis/mild;")
        ('Opacity/lung', 'Scoliosis/mild')
    """
    return tuple(part.strip() for part in text.split(";") if part.strip())


def _read_images(row, folder, source, problems):
    names = split_terms(row.get("image", ""))
    views = [view.strip() for view in row.get("view", "").split(";")]
    if any(view and not name_view(view) for view in views):
        raise InputError(f"expected in the column view one of {', '.join(VIEW_NAMES)}, or nothing")
    views = views * len(names) if len(views) == 1 else views
    if len(views) != len(names):
        raise InputError(f"expected one view, or one per image. Found: {len(names)} images, {len(views)} views")
    images = []
    for name, view in zip(names, views):
        try:
            images.append(ImageFile(resolve_inside(folder, name), tags={"view": view} if view else {}))
        except InputError as error:
            problems.append(Problem(source, str(error)))
    return merge_images(images)


def _read_label(name, text):
    text = text.strip().lower()
    if text in ("", "nan"):
        return math.nan
    if text not in ("0", "1", "0.0", "1.0"):
        raise InputError(f"expected 0, 1 or nothing in the column {name}")
    return float(text)


def _join(first, second):
    """One study out of two rows: what the second leaves empty is the first's, what both say must be equal."""
    labels = dict(first.labels)
    for name, value in second.labels.items():
        labels[name] = value if math.isnan(labels.get(name, math.nan)) else labels[name]
    same_labels = all(math.isnan(value) or labels[name] == value for name, value in second.labels.items())
    agree = all(
        not getattr(first, name) or not getattr(second, name) or getattr(first, name) == getattr(second, name)
        for name in ("patient", "report", "mesh_major")
    )
    if not (agree and same_labels):
        raise InputError("an earlier row with this id says otherwise (patient, report, mesh or labels)")
    return replace(
        first,
        patient=first.patient or second.patient,
        images=merge_images(first.images + second.images),
        report=first.report or second.report,
        mesh_major=first.mesh_major or second.mesh_major,
        labels=labels,
    )
