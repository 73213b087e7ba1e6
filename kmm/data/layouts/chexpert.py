"""Read CheXpert (Stanford): tables of films by part, with 14 labels that are positive, negative, uncertain or blank.

The labels of train.csv were read by program from the reports, which are not published; those of valid.csv are of three
radiologists. All films of one study have the same labels.

Source: https://arxiv.org/abs/1901.07031
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kmm.data.names import resolve_inside, sort_key
from kmm.data.study import Collection, ImageFile, Problem, Study, merge_images
from kmm.data.tabular.attributes import join_attributes, read_attributes
from kmm.data.tabular.rows import read_rows
from kmm.data.views.terms import name_view
from kmm.errors import InputError

# Table -> part. A study of two tables belongs to the first, so that no test study is trained on.
TABLES = {"test.csv": "test", "valid.csv": "validation", "train.csv": "train"}
OBSERVATIONS = (
    *("No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema"),
    *("Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture"),
    "Support Devices",
)
HEADER_BYTES = 2000
_PATH, _SIDE, _DIRECTION = "Path", "Frontal/Lateral", "AP/PA"
# Blank means that the report does not mention the observation; the publication counts it as negative (its table 1).
_VALUES = {"1.0": 1.0, "1": 1.0, "0.0": 0.0, "0": 0.0, "": 0.0, "-1.0": math.nan, "-1": math.nan}
_PLACE = re.compile(r"(?:.*/)?([^/]+)/(patient\d{1,12})/(study\d{1,12})/([^/]+)")


@dataclass(frozen=True)
class _Film:
    """One row of a table."""

    study: str
    patient: str
    image: ImageFile
    labels: Mapping[str, float]
    uncertain: frozenset[str]
    attributes: Mapping[str, str | float]


def find_chexpert(folder: Path | str) -> Path | None:
    """Returns the path of CheXpert's first table in a folder, `train.csv` first, or None.

    Other data sets have files of these names, so the header must have the columns Path and at least one observation.
    """
    return next((path for name in reversed(TABLES) if _is_table(path := Path(folder, name))), None)


def read_chexpert(folder: Path | str) -> Collection:
    """Reads CheXpert: `train.csv`, `valid.csv` and `test.csv`, or some of them, and their films.

    Args:
        folder: contains the tables, and the films in the folders `train/`, `valid/` and `test/`. Folders before these
            in the column Path (`CheXpert-v1.0-small/`) are the name of the data set and are not read.

    Returns:
        `Collection`, views not yet decided, with one study per patient and number of study (id `patient00001-study1`)
        and all of its films. Labels are 1, 0, or NaN where the table has -1; `uncertain` names the latter. Blank is 0,
        as in the publication. Labels of which a table has no column are NaN. With several tables the collection has
        their parts: those of `valid.csv` are validation. A row that cannot be used is a `Problem`.

    Raises:
        InputError: if there is no such table, or one cannot be read.
    """
    folder = Path(folder)
    tables = [name for name in TABLES if _is_table(folder / name)]
    if not tables:
        raise InputError(f"{folder}: expected {', '.join(reversed(TABLES))} with the columns of CheXpert")
    problems: list[Problem] = []
    owner: dict[str, str] = {}
    films: dict[str, list[_Film]] = {}
    for name in tables:
        columns, rows, unread = read_rows(folder / name, (_PATH,))
        problems += unread
        labels = tuple(label for label in OBSERVATIONS if label in columns)
        for line, row in rows:
            try:
                film = _read_film(row, labels, folder)
                _check_film(film, films.get(film.study, ()), owner.setdefault(film.study, name), name)
                films.setdefault(film.study, []).append(film)
            except InputError as error:
                problems.append(Problem(f"{name} line {line}", str(error)))
    studies = [_join_films(films[study]) for study in sorted(films, key=sort_key)]
    parts = {study.id: TABLES[owner[study.id]] for study in studies} if len(tables) > 1 else {}
    layout = f"CheXpert ({', '.join(reversed(tables))})"
    return Collection(folder, layout, tuple(studies), tuple(problems), parts=parts)


def _is_table(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            header = file.read(HEADER_BYTES).splitlines()[:1]
    except OSError:
        return False
    text = header[0].decode("utf-8-sig", "replace") if header else ""
    names = {name.strip().strip('"') for name in re.split("[,;\t]", text)}
    return _PATH in names and any(label in names for label in OBSERVATIONS)


def _read_film(row: Mapping[str, str], labels: Sequence[str], folder: Path) -> _Film:
    name = row[_PATH].strip().replace("\\", "/")
    place = _PLACE.fullmatch(name)
    if place is None:
        raise InputError("expected a Path such as CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg")
    if name.startswith("/") or ":" in name or ".." in name.split("/"):
        raise InputError("the file name leads out of the folder; expected a relative path inside it")
    part, patient, study, file = place.groups()
    values = {label: row[label].strip() for label in labels}
    wrong = [label for label, value in values.items() if value not in _VALUES]
    if wrong:
        raise InputError(f"the column {wrong[0]} must be 1, 0, -1 (uncertain) or empty")
    view = _read_view(row, file)
    known = {label: _VALUES[value] for label, value in values.items()}
    return _Film(
        study=f"{patient}-{study}",
        patient=patient,
        image=ImageFile(
            resolve_inside(folder, f"{part}/{patient}/{study}/{file}"), tags={"view": view} if view else {}
        ),
        labels=known,
        uncertain=frozenset(label for label, value in known.items() if math.isnan(value)),
        attributes=read_attributes({"sex": row.get("Sex", ""), "age": row.get("Age", "")}),
    )


def _read_view(row: Mapping[str, str], file: str) -> str:
    """Returns the term that names a film's view: AP or PA where it agrees with the view, else the view itself."""
    view = row.get(_SIDE, "").strip() or Path(file).stem.partition("_")[2]
    direction = row.get(_DIRECTION, "").strip()
    if view and name_view(view) is None:
        raise InputError(f"the column {_SIDE} must be Frontal, Lateral or empty")
    return direction if name_view(direction) and name_view(direction) == name_view(view or direction) else view


def _check_film(film: _Film, others: Sequence[_Film], owner: str, table: str) -> None:
    """Checks a row against the earlier rows of its study; `owner` is the table of the first."""
    if owner != table:
        raise InputError(f"the study is in {owner} too, and belongs to that part")
    if any(film.image.path == other.image.path for other in others):
        raise InputError("an earlier row has this film")
    if others and (others[0].labels.keys() != film.labels.keys() or others[0].uncertain != film.uncertain):
        raise InputError("an earlier film of this study has other labels")
    if others and any(value != others[0].labels[label] for label, value in film.labels.items() if value == value):
        raise InputError("an earlier film of this study has other labels")


def _join_films(films: Sequence[_Film]) -> Study:
    first, images = films[0], [film.image for film in films]
    return Study(
        id=first.study,
        patient=first.patient,
        images=merge_images(sorted(images, key=lambda image: sort_key(image.path.name))),
        labels={label: first.labels.get(label, math.nan) for label in OBSERVATIONS},
        uncertain=first.uncertain,
        attributes=join_attributes(film.attributes for film in films),
    )
