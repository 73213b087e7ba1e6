"""Make studies from a table in memory: a DataFrame, records or arrays, with films as files or objects."""

import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import nan
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

from kmm.data.collection import Loaded, add_tags, decide_views
from kmm.data.names import is_path, is_safe_id
from kmm.data.study import SECTIONS, Collection, ImageFile, Problem, Report, Study, own_patient
from kmm.data.tabular.attributes import find_columns, read_attributes
from kmm.data.tabular.columns import Table, is_missing, read_name
from kmm.data.views.terms import VIEW_NAMES, name_view
from kmm.errors import InputError, look_up

OWN_PATIENTS = (
    "No column of patients was named, so every row counts as a patient of its own. If a patient has several studies, "
    "name the column with `patient=`; otherwise they may be split between training and test."
)
FILMS = "paths, arrays, PIL images, pydicom datasets or bytes"


@dataclass(frozen=True)
class Columns:
    """The columns from which studies are made, by name: text, a number, or a tuple of these.

    Attributes:
        image: tuple of names. Columns of films.
        report: name or None. Column of whole reports, which are stored as FINDINGS.
        sections: dict of section (`indication`, `comparison`, `findings`, `impression`) to its column.
        labels: tuple of names. Columns of labels; each label is named as its column, see `name_label`.
        patient, view, id: name or None.
        texts: tuple of names. Columns of text that rules of labels may read as `text:<name>`.
    """

    image: tuple[Hashable, ...] = ()
    report: Hashable | None = None
    sections: Mapping[str, Hashable] | None = None
    labels: tuple[Hashable, ...] = ()
    patient: Hashable | None = None
    view: Hashable | None = None
    id: Hashable | None = None
    texts: tuple[Hashable, ...] = ()

    @classmethod
    def choose(
        cls,
        *,
        image: Hashable | Sequence[Hashable] | None = None,
        report: Hashable | None = None,
        sections: Mapping[str, Hashable] | None = None,
        label: Hashable | None = None,
        labels: Hashable | Sequence[Hashable] | None = None,
        patient: Hashable | None = None,
        view: Hashable | None = None,
        id: Hashable | None = None,
        texts: Hashable | Sequence[Hashable] | None = None,
        known: Sequence[Hashable] = (),
    ) -> Self:
        """Makes `Columns` from the arguments of `kmm.studies`.

        Args:
            image, report, sections, label, labels, patient, view, id, texts: as for `kmm.studies`.
            known: the columns that the table has. A tuple among them names one column, any other several.

        Raises:
            InputError: if two of them contradict each other, neither films nor reports are named, or a name is neither
                text nor a number.

        Example:
            >>> Columns.choose(image=0, report=("note", "en"), labels=["mass", 7]).as_dict()
            {'image': [0], 'report': ('note', 'en'), 'labels': ['mass', 7]}
        """
        if report is not None and sections is not None:
            raise InputError("Name either `report=`, the column of whole reports, or `sections=`. Received: both.")
        if label is not None and labels is not None:
            raise InputError("Name either `label=` or `labels=`. Received: both.")
        for section in sections or ():
            look_up(dict.fromkeys(SECTIONS), section, "section")
        chosen = {} if sections is None else {section: read_name(name) for section, name in sections.items()}
        given = (None if name is None else read_name(name) for name in (report, patient, view, id))
        whole, of_patients, of_views, ids = given
        of_labels = _list_names(labels if label is None else label, known)
        found = cls(
            image=_list_names(image, known),
            report=whole,
            sections=chosen or None,
            labels=of_labels,
            patient=of_patients,
            view=of_views,
            id=ids,
            texts=_list_names(texts, known),
        )
        if not (found.image or report is not None or sections):
            raise InputError("Name the column of films with `image=`, that of reports with `report=`, or both.")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Returns the named columns as a JSON-compatible dict, by the arguments of `choose`."""
        several = {"image": list(self.image), "labels": list(self.labels), "texts": list(self.texts)}
        named = {name: value for name, value in {**asdict(self), **several}.items() if value is not None}
        return {name: value for name, value in named.items() if name not in several or value}

    def within(self, names: Sequence[Hashable]) -> Self:
        """Returns a copy without the labels, patients, views, ids and texts that a table lacks; films and reports
        stay."""
        return replace(
            self,
            labels=tuple(name for name in self.labels if name in names),
            texts=tuple(name for name in self.texts if name in names),
            patient=self.patient if self.patient in names else None,
            view=self.view if self.view in names else None,
            id=self.id if self.id in names else None,
        )


def make_studies(table: Any, columns: Columns, *, own_patients: bool = False) -> Collection:
    """Makes studies from a table in memory. Columns of sex and age are read by their names: see
    `kmm.data.tabular.attributes`.

    Args:
        table: a frame, records or a dict of columns: see `kmm.data.tabular.columns.Table`; or a `Table`.
        columns: `Columns`.
        own_patients: bool. Leaves out the warning that each row counts as another patient if no column of patients is
            named.

    Returns:
        `Collection` in the order of the table, views decided, with `columns`. A file that is missing, or that kmm
        wrote, is left out and listed as a `Problem`.

    Raises:
        InputError: if a column is missing, a cell cannot be used (it names row and column, counting from 0), or two
            rows have the same id.

    Warns:
        UserWarning: if no column of patients is named.

    Example:
        >>> import numpy as np
        >>> ward = {"film": np.full((2, 16, 16), 7, np.uint8), "text": ["Clear.", None], "who": ["a", "b"]}
        >>> studies = make_studies(ward, Columns.choose(image="film", report="text", patient="who"))
        >>> [(study.id, study.patient, study.frontal.path.name, study.report) for study in studies]
        [('0', 'a', '0 (in memory)', Report(findings: 1 words)), ('1', 'b', '1 (in memory)', None)]
    """
    read = table if isinstance(table, Table) else Table(table)
    ids = _read_ids(read, columns.id)
    patients = _read_patients(read, columns.patient)
    views = iter([None] * read.count) if columns.view is None else read.read(columns.view)
    films = zip(*(read.read(name) for name in columns.image)) if columns.image else iter([()] * read.count)
    reports = _read_reports(read, columns)
    labels = _read_labels(read, columns.labels)
    attributes = _read_attributes(read)
    texts = _read_texts(read, columns.texts)
    if columns.patient is None and not own_patients:
        warnings.warn(OWN_PATIENTS, UserWarning, stacklevel=3)
    made = [
        Study(
            id,
            patient or own_patient(id),
            _read_images(row, id, cells, view, columns),
            report,
            labels=values,
            made_up=frozenset(({"id"} if columns.id is None else set()) | (set() if patient else {"patient"})),
            attributes=about,
            texts=named,
        )
        for row, (id, patient, cells, view, report, values, about, named) in enumerate(
            zip(ids, patients, films, views, reports, labels, attributes, texts, strict=True)
        )
    ]
    problems: list[Problem] = []
    studies, lost = add_tags(made, problems)
    layout = f"{read.kind} of {read.count} rows"
    collection = Collection(Path("table"), layout, studies, tuple(problems), columns=columns.as_dict())
    return decide_views([Loaded(collection, {}, lost)], None)[0]


def _list_names(names: Any, known: Sequence[Hashable]) -> tuple[Hashable, ...]:
    """Lists the names of columns that are given as one name or as several."""
    if names is None:
        return ()
    one = isinstance(names, str) or not isinstance(names, Iterable) or (isinstance(names, tuple) and names in known)
    return (read_name(names),) if one else tuple(map(read_name, names))


def name_label(column: Hashable) -> str:
    """Returns the name of the label that a column holds.

    Example:
        >>> name_label("mass"), name_label(7), name_label(("chest", "mass"))
        ('mass', '7', 'chest mass')
    """
    return " ".join(map(str, column)) if isinstance(column, tuple) else str(column)


def _read_ids(table: Table, column: Hashable | None) -> list[str]:
    """Returns the ids of the rows: those of a column, else their numbers."""
    if column is None:
        return [str(row) for row in range(table.count)]
    rows: dict[str, list[int]] = defaultdict(list)
    ids = []
    for row, value in enumerate(table.read(column)):
        text = "" if is_missing(value) else _write_key(value)
        if not is_safe_id(text):
            raise InputError(
                f"Row {row}: the column {column!r} must hold an id of at most 100 letters, digits, '.', '_' and '-'."
            )
        ids.append(text)
        rows[text].append(row)
    if twice := [found for found in rows.values() if len(found) > 1]:
        places = "; ".join(f"rows {', '.join(map(str, found[:4]))}" for found in twice[:3])
        raise InputError(
            f"The ids in the column {column!r} must be unique. {len(twice)} occur more than once: {places}"
            f"{'; ...' if len(twice) > 3 else ''}. Name another column, or none to number the rows."
        )
    return ids


def _read_patients(table: Table, column: Hashable | None) -> list[str]:
    """Returns the patients of the rows; empty for a row without one."""
    if column is None:
        return [""] * table.count
    return [
        "" if is_missing(value) else unicodedata.normalize("NFC", _write_key(value)) for value in table.read(column)
    ]


def _write_key(value: Any) -> str:
    """Writes an id or a patient as text; a whole number loses the decimals that a column with gaps gives it."""
    decimal = isinstance(value, Real) and not isinstance(value, Integral)
    return str(int(value)) if decimal and float(value).is_integer() else str(value).strip()


def _read_reports(table: Table, columns: Columns) -> Iterator[Report | None]:
    names = dict(columns.sections or ({"findings": columns.report} if columns.report is not None else {}))
    cells = {section: table.read(name) for section, name in names.items()}
    for row in range(table.count):
        texts = {section: _read_text(next(values), row, names[section]) for section, values in cells.items()}
        yield Report(**texts) if any(texts.values()) else None


def _read_text(value, row, column):
    if is_missing(value):
        return ""
    if not isinstance(value, str):
        raise InputError(f"Row {row}: the column {column!r} must hold text. Received: {type(value).__name__}.")
    return value.strip()


def _read_labels(table: Table, columns: Sequence[Hashable]) -> Iterator[dict[str, float]]:
    names = [name_label(column) for column in columns]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"Two columns of labels give a label named {twice[0]!r}. Rename one, or name it once.")
    cells = [(name, column, table.read(column)) for name, column in zip(names, columns)]
    for row in range(table.count):
        yield {name: _read_label(next(values), row, column) for name, column, values in cells}


def _read_attributes(table: Table) -> Iterator[dict[str, str | float]]:
    """Reads sex and age from columns of these names, for results by subgroup."""
    cells = {name: table.read(column) for name, column in find_columns(table.names).items()}
    for _ in range(table.count):
        row = {name: next(values) for name, values in cells.items()}
        yield read_attributes({name: value for name, value in row.items() if not is_missing(value)})


def _read_texts(table: Table, columns: Sequence[Hashable]) -> Iterator[dict[str, str]]:
    cells = [(column, table.read(column)) for column in columns]
    for row in range(table.count):
        found = {name_label(column): _read_text(next(values), row, column) for column, values in cells}
        yield {name: text for name, text in found.items() if text}


def _read_label(value: Any, row: int, column: Hashable) -> float:
    """Returns 0.0, 1.0, or NaN for a missing value."""
    if is_missing(value):
        return nan
    text = str(value).strip().lower()
    for known, texts in ((0.0, ("0", "0.0", "false")), (1.0, ("1", "1.0", "true"))):
        if text in texts:
            return known
    hint = " CheXpert's tables write -1 for uncertain: make it missing, or choose 0 or 1." if text[:2] == "-1" else ""
    raise InputError(f"Row {row}: the column {column!r} must hold 0, 1 or a missing value.{hint}")


def _read_images(row: int, study: str, cells: Sequence[Any], view: Any, columns: Columns) -> tuple[ImageFile, ...]:
    """Makes the images of a row. A cell may hold a list of films, and then the view a list of as many terms."""
    films = [film for cell in cells for film in (cell if isinstance(cell, list | tuple) else [cell])]
    terms = list(view) if isinstance(view, list | tuple) else [view] * len(films)
    if len(terms) != len(films):
        raise InputError(f"Row {row}: {len(films)} films and {len(terms)} views. Give one view, or one per film.")
    images = []
    for film, term in zip(films, terms):
        if is_missing(film):
            continue
        tags = {} if is_missing(term) else {"view": str(term)}
        if tags and not name_view(tags["view"]):
            raise InputError(
                f"Row {row}: the column {columns.view!r} must be one of {', '.join(VIEW_NAMES)} or missing."
            )
        if isinstance(film, str | Path):
            if not is_path(film):
                names = ", ".join(map(repr, columns.image))
                raise InputError(f"Row {row}: the column {names} must hold paths. Received: text that is no path.")
            images.append(ImageFile(Path(film), tags=tags))
        elif _is_film(film):
            number = f" film {len(images) + 1}" if images else ""  # no id has a space
            images.append(ImageFile(Path(f"{study}{number} (in memory)"), tags=tags, memory=film))
        else:
            raise InputError(
                f"Row {row}: the column {', '.join(map(repr, columns.image))} must hold {FILMS}. "
                f"Received: {type(film).__name__}."
            )
    return tuple(images)


def _is_film(value: Any) -> bool:
    """Returns whether an object is a film in memory; its shape and pixels are checked when it is read."""
    if isinstance(value, bytes | bytearray | memoryview):
        return True
    kinds = {(base.__module__.partition(".")[0], base.__name__) for base in type(value).__mro__}
    return bool(kinds & {("numpy", "ndarray"), ("PIL", "Image"), ("pydicom", "Dataset")})
