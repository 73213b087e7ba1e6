"""Read a manifest: any CSV or JSONL table of studies."""

import math
import re
import unicodedata
from dataclasses import replace
from pathlib import Path

from kmm.data.names import is_safe_id, resolve_inside, sort_key
from kmm.data.rows import is_null, read_rows, show_columns
from kmm.data.study import SECTIONS, Collection, ImageFile, Problem, Report, Study, merge_images
from kmm.data.views.terms import VIEW_NAMES, name_view
from kmm.errors import InputError

MANIFESTS = ("manifest.csv", "manifest.jsonl")
_LABEL = "label:"
_LABEL_VALUES = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
_SHORTENED = re.compile(r"\d(?:[.,]\d+)?E\+?\d+", re.IGNORECASE)
_DECIMAL_ZERO = re.compile(r"(\d+)[.,]0+")


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
        label:<name>: 1, 0, or empty for unknown; any number of such columns. `1.0`, `1,0` and `true` are 1.

    Separators, encodings, blank rows and missing values are those of `kmm.data.rows.read_rows`. Unicode is composed
    (NFC) in patients, MeSH terms and names of labels, so that two spellings of one name are one.

    Args:
        path: a .csv or .jsonl file, or a folder that holds `manifest.csv` or `manifest.jsonl`.

    Returns:
        `Collection`, views not yet decided, files not yet looked for. A row that cannot be used is a `Problem`.

    Raises:
        InputError: if the file cannot be read, lacks the columns `id` and an image or report column, or writes one id
            or patient both as `7` and as `7.0`.
    """
    path = find_manifest(path) or Path(path)
    columns, rows, problems = read_rows(path, ("id",))
    _check_columns(path, columns)
    for name in ("id", "patient"):
        _check_decimals(path, name, rows)
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


def _check_decimals(path, name, rows):
    """Refuses a column that has one number with and without decimals: whether they mean one patient is not known."""
    lines = {}
    for line, row in rows:
        lines.setdefault(row.get(name, "").strip(), line)
    for value, line in lines.items():
        match = _DECIMAL_ZERO.fullmatch(value)
        if match and match[1] in lines:
            raise InputError(
                f"{path}: the column {name} has the same number with and without decimals (lines {lines[match[1]]} and "
                f"{line}), as pandas writes whole numbers beside missing ones. Write it as text, in one way"
            )


def _read_study(row, folder, source, problems):
    study_id = row["id"].strip()
    if not is_safe_id(study_id):
        raise InputError("expected an id of at most 100 letters, digits, '.', '_' and '-'")
    patient = unicodedata.normalize("NFC", row.get("patient", "").strip())
    if _SHORTENED.fullmatch(patient):
        raise InputError(
            "the patient is a number that a spreadsheet shortened (1.23E+12): several patients may share it"
        )
    texts = {name: row.get(name, "").strip() for name in SECTIONS}
    texts["findings"] = texts["findings"] or row.get("report", "").strip()
    return Study(
        id=study_id,
        patient=patient,
        images=_read_images(row, folder, source, problems),
        report=Report(**texts) if any(texts.values()) else None,
        mesh_major=read_terms(row.get("mesh", "")),
        labels={
            unicodedata.normalize("NFC", name.removeprefix(_LABEL)): _read_label(name, row[name])
            for name in row
            if name.startswith(_LABEL)
        },
    )


def split_terms(text):
    """Returns the parts of a cell that `;` separates, without the empty ones.

    Example:
        >>> split_terms("Opacity/lung; Scoliosis/mild;")
        ('Opacity/lung', 'Scoliosis/mild')
    """
    return tuple(part.strip() for part in text.split(";") if part.strip())


def read_terms(text):
    """Returns the MeSH terms of a cell, composed (NFC), without those that stand for a missing value.

    Example:
        >>> read_terms("Opacity/lung;nan;normal")
        ('Opacity/lung', 'normal')
    """
    return tuple(unicodedata.normalize("NFC", term) for term in split_terms(text) if not is_null(term))


def _read_images(row, folder, source, problems):
    names = ["" if is_null(name) else name.strip() for name in row.get("image", "").split(";")]
    views = ["" if is_null(view) else view.strip() for view in row.get("view", "").split(";")]
    if any(view and not name_view(view) for view in views):
        raise InputError(f"expected in the column view one of {', '.join(VIEW_NAMES)}, or nothing")
    if len(views) == len(names):  # an image that is missing takes its view along
        views = [view for name, view in zip(names, views) if name or len(views) == 1]
    names = [name for name in names if name]
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
    if is_null(text):
        return math.nan
    value = _LABEL_VALUES.get(re.sub(r"[.,]0+$", "", text))
    if value is None:
        uncertain = (
            " (-1, uncertain in CheXpert's tables: leave it empty, or decide for 0 or 1)" if text[:2] == "-1" else ""
        )
        raise InputError(f"expected 0, 1 or nothing in the column {name}{uncertain}")
    return value


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
