"""Read ChestX-ray14 (NIH Clinical Center): one table of films with their findings, and the official lists of films.

Each film is a study of its own, labelled by program from its report, which is not published. 14 labels, films of one
patient over years, all frontal.

Source: https://arxiv.org/abs/1705.02315
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kmm.data.film_files import list_folders
from kmm.data.names import (
    IMAGE_SUFFIXES,
    describe_some,
    is_inside,
    is_safe_id,
    make_printable,
    sort_key,
    strip_suffixes,
)
from kmm.data.study import Collection, ImageFile, Problem, Study
from kmm.data.tabular.attributes import find_columns, read_attributes
from kmm.data.tabular.rows import read_cells, show_columns
from kmm.data.tabular.text_file import read_text
from kmm.data.views.terms import name_view
from kmm.errors import InputError

TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")  # the corrected table first
LISTS = {"test_list.txt": "test", "train_val_list.txt": "train"}  # official list -> part
FINDINGS = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia"),
    *("Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax"),
)
NO_FINDING = "No_Finding"
MAX_LIST_BYTES = 1 << 26
_FILM, _LABELS, _PATIENT, _VIEW = "Image Index", "Finding Labels", "Patient ID", "View Position"
_Row = Mapping[str, str]


def find_entries(folder: Path | str) -> Path | None:
    """Returns the path of the table of films in a folder, that of 2020 first, or None."""
    return next((path for name in TABLES if (path := Path(folder, name)).is_file()), None)


def read_chestxray14(folder: Path | str) -> Collection:
    """Reads ChestX-ray14: `Data_Entry_2017_v2020.csv` or `Data_Entry_2017.csv`, films, and the official lists.

    Only the columns before `OriginalImage[Width,Height]` are read: the comma in the brackets divides this column and
    the next one in two, so that in some copies of the table the header has more or fewer fields than its rows.

    Args:
        folder: contains the table, and films in any of its subfolders to a depth of two, as `images/` or
            `images_001/images/`. With `test_list.txt` and `train_val_list.txt` the collection has these parts; a fit
            takes validation from the films of `train_val_list.txt`.

    Returns:
        `Collection`, views not yet decided, with one study per film; its id is the name of the film without suffix. All
        14 labels are known: 1 if `Finding Labels` names the finding, else 0. Ages above 130 years, which the table of
        2017 has, are unknown. A row that cannot be used is a `Problem`, and so are films in two folders and
        films on which table and lists disagree. Films whose file is missing are included.

    Raises:
        InputError: if the table lacks a column or cannot be read, or there is only one of the lists.
    """
    folder = Path(folder)
    table = find_entries(folder)
    if table is None:
        raise InputError(f"{folder}: expected the table {TABLES[0]} or {TABLES[1]}")
    problems: list[Problem] = []
    films = _index_films(folder, problems)
    studies: dict[str, Study] = {}
    names: dict[str, str] = {}
    for line, row in _read_entries(table, problems):
        try:
            study = _read_study(row, folder, films)
            if study.id in studies:
                raise InputError("an earlier row has this film")
        except InputError as error:
            problems.append(Problem(f"{table.name} line {line}", str(error)))
            continue
        studies[study.id] = study
        names[row[_FILM]] = study.id
    parts = _read_lists(folder, table.name, names, problems)
    places = sorted({str(path.parent.relative_to(folder)) for path in films.values()}, key=sort_key)
    layout = f"ChestX-ray14 ({table.name}, {_describe_places(places)}{', official lists' if parts else ''})"
    ordered = sorted(studies.values(), key=lambda study: sort_key(study.id))
    return Collection(folder, layout, tuple(ordered), tuple(problems), parts=parts)


def read_findings(text: str) -> dict[str, float]:
    """Reads a cell of the column Finding Labels.

    Args:
        text: str. Findings separated by `|`, with `_` or a space between words, or `No Finding` alone.

    Returns:
        dict of each of the 14 findings to 1.0 or 0.0.

    Raises:
        InputError: if the cell is empty, or has a name that is none of these.

    Example:
        >>> labels = read_findings("Cardiomegaly|Pleural Thickening")
        >>> [name for name, value in labels.items() if value]
        ['Cardiomegaly', 'Pleural_Thickening']
    """
    named = {"_".join(part.split()) for part in text.split("|")}
    if not named <= {*FINDINGS, NO_FINDING}:
        raise InputError(f"the column {_LABELS} must be No Finding, or some of {', '.join(FINDINGS)} separated by |")
    if NO_FINDING in named and len(named) > 1:
        raise InputError(f"the column {_LABELS} has No Finding beside a finding")
    return {name: float(name in named) for name in FINDINGS}


def _read_entries(table: Path, problems: list[Problem]) -> Iterator[tuple[int, _Row]]:
    """Yields the number of each line and its cells by column, stripped; sex and age as `sex` and `age`."""
    rows = read_cells(table)
    header = [name.strip() for name in rows[0][1]] if rows else []
    header = header[: next((place for place, name in enumerate(header) if "[" in name), len(header))]
    missing = [name for name in (_FILM, _LABELS, _PATIENT) if name not in header]
    if missing:
        raise InputError(
            f"{table}: expected the columns {_FILM}, {_LABELS} and {_PATIENT}, before any with brackets. Missing: "
            f"{', '.join(missing)}. Found: {show_columns(header)}"
        )
    wanted = {name: name for name in (_FILM, _LABELS, _PATIENT, _VIEW) if name in header} | find_columns(header)
    places = {name: header.index(column) for name, column in wanted.items()}
    for line, cells in rows[1:]:
        if len(cells) < len(header):
            reason = f"expected at least {len(header)} fields; found {len(cells)}"
            problems.append(Problem(f"{table.name} line {line}", reason))
        else:
            yield line, {name: cells[place].strip() for name, place in places.items()}


def _read_study(row: _Row, folder: Path, films: Mapping[str, Path]) -> Study:
    name, view = row[_FILM], row.get(_VIEW, "")
    study_id = strip_suffixes(name)
    if not is_safe_id(study_id) or study_id == name:
        raise InputError(f"the column {_FILM} must be the name of a file such as 00000001_000.png")
    if not row[_PATIENT]:
        raise InputError(f"the column {_PATIENT} is empty")
    if view and name_view(view) is None:
        raise InputError(f"the column {_VIEW} must be PA, AP or empty")
    patient = row[_PATIENT]
    return Study(
        id=study_id,
        patient=str(int(patient)) if patient.isascii() and patient.isdigit() else patient,  # 00000001 is 1
        images=(ImageFile(films.get(name, folder / "images" / name), tags={"view": view} if view else {}),),
        labels=read_findings(row[_LABELS]),
        attributes=read_attributes(row),
    )


def _index_films(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    """Returns the films in a folder and its subfolders to a depth of two, by name; of two, that in the first folder."""
    inside = sorted(list_folders(folder), key=lambda place: (place.name != "images", sort_key(place.name)))
    places = [folder, *(place for outer in inside for place in (outer, *list_folders(outer)))]
    found: dict[str, Path] = {}
    twice: list[str] = []
    for place in places:
        if not is_inside(folder, place):
            problems.append(Problem(make_printable(place.name), "the folder is a link that leads out of the folder"))
            continue
        with os.scandir(place) as entries:
            for entry in entries:
                path = Path(entry.path)
                if not entry.name.lower().endswith(IMAGE_SUFFIXES) or entry.name.startswith("."):
                    continue
                if entry.is_symlink() and not is_inside(folder, path):
                    reason = "the file is a link that leads out of the folder"
                    problems.append(Problem(make_printable(entry.name), reason))
                elif found.setdefault(entry.name, path) != path:
                    twice.append(entry.name)
    if twice:
        problems.append(Problem(describe_some(twice, "film"), "in two folders, of which the first is read"))
    return found


def _read_lists(folder: Path, table: str, studies: Mapping[str, str], problems: list[Problem]) -> dict[str, str]:
    """Returns the part of each study by the official lists; empty if there are none. Test decides for a film in both.

    Args:
        folder, table: Path of the folder, and name of the table.
        studies: mapping of the name of a film to the id of its study.
        problems: list to which a `Problem` is added for all films of each kind: unknown, in both lists, in neither.
    """
    present = [name for name in LISTS if Path(folder, name).is_file()]
    if not present:
        return {}
    if len(present) < len(LISTS):
        lacking = ", ".join(name for name in LISTS if name not in present)
        raise InputError(f"{folder}: there is {present[0]}, but not {lacking}. Add it, or remove {present[0]}")
    parts: dict[str, str] = {}
    for name in present:
        listed = dict.fromkeys(line.strip() for line in read_text(folder / name, MAX_LIST_BYTES).splitlines())
        films = [film for film in listed if film]
        _note(problems, name, [film for film in films if film not in studies], f"not in {table}")
        known = [film for film in films if film in studies]
        again = [film for film in known if studies[film] in parts]
        _note(problems, name, again, f"in {present[0]} too, and so test films")
        parts = {studies[film]: LISTS[name] for film in known} | parts
    left = [film for film, study in studies.items() if study not in parts]
    _note(problems, table, left, "in neither of the official lists, so a fit does not use them")
    return parts


def _note(problems: list[Problem], source: str, films: Sequence[str], reason: str) -> None:
    if films:
        problems.append(Problem(source, f"{describe_some(films, 'film')}: {reason}"))


def _describe_places(places: Sequence[str]) -> str:
    if not places:
        return "no films"
    return f"films in {places[0]}" + (f" and {len(places) - 1} more folders" if len(places) > 1 else "")
