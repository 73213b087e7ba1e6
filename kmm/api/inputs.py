"""Turn what a notebook passes, paths, films, texts and tables, into studies."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kmm.data.inputs import place_report, read_inputs
from kmm.data.names import choose_file_names, is_prose, strip_suffixes
from kmm.data.study import Collection, Study
from kmm.data.tabular.columns import Table, is_missing, is_table
from kmm.data.tabular.tables import Columns, make_studies
from kmm.data.views.ranking import load_view_overrides
from kmm.errors import InputError, ReportError, check_path, look_up
from kmm.image.source import name_kind

ONE = Columns(image=("image",), report="report")  # of a table that is made from `image=` and `report=`
FILMS = "a path, array, PIL image, pydicom dataset or bytes"
ARGUMENTS = ("image", "report", "sections", "label", "labels", "patient", "view", "id", "texts")  # of `studies`
REPLACED = {"sections": "report", "report": "sections", "label": "labels"}  # by what is named instead
MANY = "Films of many studies are given as `images=[...]`, and tables by their columns."


def read(path: Path | str | Sequence[Path | str], *, views: Path | str | Mapping[str, str] | None = None) -> Collection:
    """Reads the studies of a folder in any layout that `kmm fit` knows, of a manifest, or of images.

    Args:
        path: of a folder, a manifest, an image or DICOM file; or a sequence of these.
        views: path of a CSV with the columns `file` and `view`, or a mapping of name to `"frontal"`, `"lateral"` or
            `"other"`, which decides before tables and DICOM tags: see `kmm.data.views.ranking`.

    Returns:
        `kmm.data.study.Collection`, sorted by id; `problems` lists what was left out.

    Raises:
        InputError: if there is no path, a path does not exist, nothing is found in it, or kmm wrote it.

    Example:
        >>> read("no-such-folder")
        Traceback (most recent call last):
        kmm.errors.InputError: no-such-folder: no such file or folder
    """
    paths = list(path) if isinstance(path, Iterable) and not isinstance(path, str | bytes) else [path]
    for one in paths:
        check_path("path", one)
    overrides = load_view_overrides(views) if isinstance(views, str | Path) else views
    return read_inputs(paths, view_overrides=overrides)


def studies(
    table: Any,
    *,
    image: Hashable | Sequence[Hashable] | None = None,
    report: Hashable | None = None,
    sections: Mapping[str, Hashable] | None = None,
    label: Hashable | None = None,
    labels: Sequence[Hashable] | None = None,
    patient: Hashable | None = None,
    view: Hashable | None = None,
    id: Hashable | None = None,
    texts: Hashable | Sequence[Hashable] | None = None,
) -> Collection:
    """Makes studies from a table in memory, in its order.

    Columns are named as in the table: by text, a number, or a tuple of these, as in a MultiIndex of pandas. Missing
    values (None, NaN, NA, empty text) are allowed in every column but that of ids.

    Args:
        table: a pandas or polars frame, a list of records (dicts), or a dict of columns (lists or arrays).
        image: name of the column of films, or a list of several. A cell holds a path, an array (`(h, w)` or `(h, w, 1)`
            of uint8, uint16 or float 0..255, or `(h, w, 3)` of uint8 RGB), a PIL image, a `pydicom.Dataset`, the bytes
            of a file, or a list of these.
        report: name of the column of whole reports, which become the section FINDINGS.
        sections: instead of `report`, dict of section (`indication`, `comparison`, `findings`, `impression`) to column.
        label, labels: names of the columns of labels: 0, 1 or missing. A label has its column's name, as text.
        patient: name of the column of patients. All studies of a patient are in the same part of a split.
        view: name of the column of views, as `"PA"` or `"lateral"`; without it DICOM tags decide, and an only film is
            frontal.
        id: name of the column of ids; without it the rows are numbered from 0.
        texts: names of columns of text that no model reads, but rules of labels may, as `text:<name>`.

    Returns:
        `kmm.data.study.Collection`. It keeps the names of the columns, and so does a classifier that is trained on it.

    Raises:
        InputError: if a column is missing or its name is neither text nor a number, a cell has the wrong type, or an id
            occurs twice; it names the rows, from 0.

    Warns:
        UserWarning: if no column of patients is named, so that each row counts as a patient of its own.

    Example:
        >>> ward = [{"text": "Clear lungs.", "sick": 0, "mrn": "a"}, {"text": "A mass.", "sick": 1, "mrn": "b"}]
        >>> studies(ward, report="text", label="sick", patient="mrn")
        <Collection of 2 studies: records of 2 rows>
    """
    read = Table(table)
    columns = Columns.choose(
        image=image,
        report=report,
        sections=sections,
        label=label,
        labels=labels,
        patient=patient,
        view=view,
        id=id,
        texts=texts,
        known=read.names,
    )
    return make_studies(read, columns)


def is_many(value: Any) -> bool:
    """Returns whether an argument is a collection of studies or a table, and not one film."""
    if isinstance(value, list | tuple) and all(isinstance(study, Study) for study in value):
        return True
    return isinstance(value, Collection) or is_table(value)


def gather_studies(
    value: Any, kept: Mapping[str, Any], columns: Mapping[str, Any] | None, sections: Sequence[str]
) -> Collection:
    """Makes a collection of what is given for many studies.

    Args:
        value: `Collection`, `Study`, sequence of `Study`, table, or path that `read` reads.
        kept: mapping of the columns that the classifier was trained on, as `Columns.as_dict` returns it; may be empty.
        columns: mapping of arguments of `studies` to columns, which are laid over `kept`; or None. None instead of a
            column says that the table has none.
        sections: sections that the classifier reads. A whole report goes to the first if FINDINGS is none of them.

    Returns:
        `Collection`.

    Raises:
        InputError: if it is none of these, or the names of the columns are not known.
    """
    _check_columns(columns)
    if isinstance(value, Collection):
        return value
    if isinstance(value, Study):
        value = (value,)
    if isinstance(value, list | tuple) and all(isinstance(study, Study) for study in value):
        return Collection(Path("studies"), f"{len(value)} studies", tuple(value))
    if isinstance(value, str | Path):
        return read(value)
    if not is_table(value):
        raise InputError(
            f"Expected studies: a Collection, a table, or a list of Study. Received: {type(value).__name__}."
        )
    if not (columns or kept):
        raise InputError(
            "This classifier was not trained on a table, so the columns of this one are not known. Pass "
            "`columns={'image': ..., 'report': ...}`, or `kmm.studies(table, image=..., report=...)`."
        )
    table = Table(value)
    chosen = _choose_columns(kept, columns or {}, table.names)
    found = make_studies(table, chosen, own_patients=True)
    if chosen.report is None or not sections or "findings" in sections:
        return found
    return replace(found, studies=tuple(_place(study, sections) for study in found))


def _choose_columns(kept: Mapping[str, Any], columns: Mapping[str, Any], names: Sequence[Hashable]) -> Columns:
    """Lays the columns that are named over those of the training, of which a table may lack labels and the like."""
    rest = Columns.choose(**kept).within(names).as_dict() if kept else {}
    for given, replaced in REPLACED.items():
        if columns.get(given) is not None:
            rest.pop(replaced, None)
    return Columns.choose(**{**rest, **columns}, known=names)


def _check_columns(columns):
    if not isinstance(columns, Mapping | None):
        raise InputError(
            f"`columns` must be a dict, as {{'image': ..., 'report': ...}}. Received: {type(columns).__name__}."
        )
    for name in columns or ():
        look_up(dict.fromkeys(ARGUMENTS), name, "argument in `columns`")


def make_study(image: Any, report: str | None, sections: Sequence[str], *, reads_films: bool) -> Study:
    """Makes the study of one film, one report, or both.

    Args:
        image: path, array, PIL image, `pydicom.Dataset` or bytes; a `Study`, if there is no report; or None.
        report: str, its text; or None.
        sections: sections that the classifier reads, as for `gather_studies`.
        reads_films: bool. Whether the classifier reads films.

    Returns:
        `Study`.

    Raises:
        InputError: if there is neither, an argument has the wrong type, or the classifier does not read it.
    """
    if isinstance(image, Study):
        if report is not None:
            raise InputError("A `Study` already contains its own report. Do not pass another one.")
        return image
    if is_missing(image):
        image = None
    if image is None and report is None:
        raise InputError("Expected a film, a report, or both. Received neither.")
    if report is not None and not isinstance(report, str):
        raise ReportError(f"`report` must be the text of a report. Received: {type(report).__name__}.")
    if isinstance(image, list | tuple | set | frozenset):
        raise InputError(f"Expected one film. Received: a {type(image).__name__} of {len(image)}. {MANY}")
    if not (image is None or isinstance(image, str | Path) or name_kind(image)):
        raise InputError(f"`image` must be {FILMS}. Received: {type(image).__name__}. {MANY}")
    if image is not None and not reads_films:
        raise InputError("This model reads reports only, so it cannot use a film. Leave the film out.")
    made = make_studies({"image": [image], "report": [report]}, ONE, own_patients=True)
    if made.problems:
        shown = "The film" if isinstance(image, str | Path) and is_prose(Path(image)) else image
        raise InputError(f"{shown}: {made.problems[0].reason}")
    name = strip_suffixes(Path(image).name) if isinstance(image, str | Path) else "study"
    study = replace(made[0], id=choose_file_names([name])[name])
    return study if report is None else _place(study, sections)


def make_many(
    images: Sequence[Any] | None, reports: Sequence[str | None] | None, sections: Sequence[str]
) -> Collection:
    """Makes the studies of equally many films and reports, None for a missing one; their ids are numbers from 0.

    Raises:
        InputError: if their numbers differ, or one has the wrong type.
    """
    for name, given in (("images", images), ("reports", reports)):
        _check_sequence(name, given)
    count = len(images) if images is not None else len(reports or ())
    table = {
        "image": list(images) if images is not None else [None] * count,
        "report": list(reports) if reports is not None else [None] * count,
    }
    if len(table["report"]) != count:
        raise InputError(
            f"Expected equal numbers of images and reports. Received: {count} images, {len(table['report'])} reports."
        )
    found = make_studies(table, ONE, own_patients=True)
    return replace(found, studies=tuple(_place(study, sections) if study.report else study for study in found))


def _check_sequence(name, values):
    """Refuses one film or one text, whose pixels or letters would be taken for many."""
    one = isinstance(values, str | Path | Mapping) or name_kind(values) in ("bytes", "picture", "dicom")
    if values is None or not (one or getattr(values, "ndim", 1) == 2 or not hasattr(values, "__len__")):
        return
    raise InputError(
        f"`{name}` must be a list with one {'film' if name == 'images' else 'text'} per study, None for a missing one. "
        f"Received: {type(values).__name__}."
    )


def _place(study, sections):
    """Moves a whole report to a section that the model reads."""
    return study if study.report is None else place_report(study, sections)
