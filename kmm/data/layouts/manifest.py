"""Read a manifest: any CSV or JSONL table of studies."""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from kmm.data.names import is_safe_id, resolve_inside, sort_key
from kmm.data.study import SECTIONS, Collection, ImageFile, Problem, Report, Study, merge_images, own_patient
from kmm.data.tabular.attributes import find_columns, join_attributes, read_attributes
from kmm.data.tabular.rows import is_null, read_rows, show_columns
from kmm.data.views.terms import VIEW_NAMES, name_view
from kmm.errors import InputError

MANIFESTS = ("manifest.csv", "manifest.jsonl")
_LABEL, _TEXT = "label:", "text:"
_LABEL_VALUES = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}
_SHORTENED = re.compile(r"\d(?:[.,]\d+)?E\+?\d+", re.IGNORECASE)
_DECIMAL_ZERO = re.compile(r"(\d+)[.,]0+")


def read_table(path: Path | str) -> Collection:
    """Reads a manifest: a CSV with a header, or JSONL with one object per line.

    Columns (in JSONL: keys, with lists instead of values separated by `;`); others are ignored:
        id: required. Letters, digits, `.`, `_`, `-`. Rows with the same id are one study: their images are joined, and
            their other columns must agree, except sex and age, which are then unknown.
        patient: id of the patient; if empty or absent, the study counts as a patient of its own.
        image: path relative to the manifest's folder, or several, separated by `;`.
        view: `frontal`, `PA`, `AP`, `lateral`, `LL`, ... or empty: one for the row, or one per image, separated by `;`.
        report: the whole text, stored as FINDINGS; or the columns `indication`, `comparison`, `findings`, `impression`.
        mesh: MeSH terms with qualifiers, separated by `;`.
        label:<name>: 1, 0, or empty for unknown; any number of such columns. `1.0`, `1,0` and `true` are 1.
        text:<name>: text that rules of labels may read (`kmm.rules`), and no model; any number of such columns.
        sex, age: of the patient, in one of the columns of `kmm.data.tabular.attributes.COLUMNS`, for results by
            subgroup.

    Separators, encodings, blank rows and missing values are those of `kmm.data.tabular.rows.read_rows`. Patients, MeSH
    terms and names of labels are normalized to Unicode NFC, so that different encodings of a name are equal.

    Args:
        path: a .csv or .jsonl file, or a folder with a `manifest.csv` or `manifest.jsonl`.

    Returns:
        `Collection`, views not yet decided; whether the image files exist is not checked. A row that cannot be used is
        a `Problem`.

    Raises:
        InputError: if the file cannot be read, has no column `id`, has no image or report column, or writes an id or
            patient both as `7` and as `7.0`.
    """
    path = find_manifest(path) or Path(path)
    columns, rows, problems = read_rows(path, ("id",))
    _check_columns(path, columns)
    for name in ("id", "patient"):
        _check_decimals(path, name, rows)
    studies: dict[str, Study] = {}
    attributes: dict[str, list[Mapping[str, str | float]]] = {}
    for line, row in rows:
        source = f"{path.name} line {line}"
        try:
            study = _read_study(row, path.parent, source, problems)
            studies[study.id] = _join(studies[study.id], study) if study.id in studies else study
            attributes.setdefault(study.id, []).append(study.attributes)
        except InputError as error:
            problems.append(Problem(source, str(error)))
    ordered = sorted(studies.values(), key=lambda study: sort_key(study.id))
    ordered = [replace(study, attributes=join_attributes(attributes[study.id])) for study in ordered]
    complete = tuple(study if study.patient else _make_patient(study) for study in ordered)
    return Collection(path.parent, f"manifest ({path.name})", complete, tuple(problems))


def _make_patient(study: Study) -> Study:
    return replace(study, patient=own_patient(study.id), made_up=frozenset({"patient"}))


def find_manifest(folder: Path | str) -> Path | None:
    """Returns the path of the manifest in a folder, `manifest.csv` first, or None."""
    return next((path for name in MANIFESTS if (path := Path(folder, name)).is_file()), None)


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    if not {"image", "report", *SECTIONS} & set(columns):
        raise InputError(
            f"{path}: expected a column `image`, `report` or one of {', '.join(SECTIONS)}. "
            f"Found: {show_columns(columns)}"
        )
    if "report" in columns and "findings" in columns:
        raise InputError(f"{path}: expected either the column `report` or the column `findings`, not both")
    for prefix in (_LABEL, _TEXT):
        if prefix in columns:
            raise InputError(f"{path}: expected a name after `{prefix}` in the header")


def _check_decimals(path: Path, name: str, rows: Iterable[tuple[int, Mapping[str, str]]]) -> None:
    """Rejects a column with the same number with and without decimals, which may or may not mean one patient."""
    lines: dict[str, int] = {}
    for line, row in rows:
        lines.setdefault(row.get(name, "").strip(), line)
    for value, line in lines.items():
        match = _DECIMAL_ZERO.fullmatch(value)
        if match and match[1] in lines:
            raise InputError(
                f"{path}: the column {name} has the same number with and without decimals (lines {lines[match[1]]} and "
                f"{line}), as pandas writes integer columns with missing values. Write the column as text"
            )


def _read_study(row: Mapping[str, str], folder: Path, source: str, problems: list[Problem]) -> Study:
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
        attributes=read_attributes({name: row[column] for name, column in find_columns(row).items()}),
        texts=_read_texts(row),
    )


def _read_texts(row: Mapping[str, str]) -> dict[str, str]:
    """Returns the columns of text that are not empty, by name."""
    columns = {name: row[name].strip() for name in row if name.startswith(_TEXT)}
    named = {unicodedata.normalize("NFC", name.removeprefix(_TEXT)): text for name, text in columns.items()}
    return {name: text for name, text in named.items() if not is_null(text)}


def split_terms(text: str) -> tuple[str, ...]:
    """Splits a cell at `;` and returns the parts that are not empty.

    Example:
        >>> split_terms("Opacity/lung; Scoliosis/mild;")
        ('Opacity/lung', 'Scoliosis/mild')
    """
    return tuple(part.strip() for part in text.split(";") if part.strip())


def read_terms(text: str) -> tuple[str, ...]:
    """Returns the MeSH terms of a cell, normalized to Unicode NFC, without missing values.

    Example:
        >>> read_terms("Opacity/lung;nan;normal")
        ('Opacity/lung', 'normal')
    """
    return tuple(unicodedata.normalize("NFC", term) for term in split_terms(text) if not is_null(term))


def _read_images(row: Mapping[str, str], folder: Path, source: str, problems: list[Problem]) -> tuple[ImageFile, ...]:
    names = ["" if is_null(name) else name.strip() for name in row.get("image", "").split(";")]
    views = ["" if is_null(view) else view.strip() for view in row.get("view", "").split(";")]
    if any(view and not name_view(view) for view in views):
        raise InputError(f"the column view must be empty or one of {', '.join(VIEW_NAMES)}")
    if len(views) == len(names):  # drop the view of an image that is missing
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


def _read_label(name: str, text: str) -> float:
    text = text.strip().lower()
    if is_null(text):
        return math.nan
    value = _LABEL_VALUES.get(re.sub(r"[.,]0+$", "", text))
    if value is None:
        uncertain = (
            " (CheXpert's tables write -1 for uncertain: leave it empty, or choose 0 or 1)" if text[:2] == "-1" else ""
        )
        raise InputError(f"the column {name} must be 0, 1 or empty{uncertain}")
    return value


def _join(first: Study, second: Study) -> Study:
    """Joins two rows of one study, apart from its attributes. Columns that are not empty in both must be equal."""
    labels = dict(first.labels)
    for name, value in second.labels.items():
        labels[name] = value if math.isnan(labels.get(name, math.nan)) else labels[name]
    same_labels = all(math.isnan(value) or labels[name] == value for name, value in second.labels.items())
    agree = all(
        not getattr(first, name) or not getattr(second, name) or getattr(first, name) == getattr(second, name)
        for name in ("patient", "report", "mesh_major", "texts")
    )
    if not (agree and same_labels):
        raise InputError("an earlier row with this id has another patient, report, mesh, text or label")
    return replace(
        first,
        patient=first.patient or second.patient,
        images=merge_images(first.images + second.images),
        report=first.report or second.report,
        mesh_major=first.mesh_major or second.mesh_major,
        texts=first.texts or second.texts,
        labels=labels,
    )
