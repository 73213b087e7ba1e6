"""Read studies from the paths on a command line: images, DICOM files, manifests, folders in any layout."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from kmm.data.collection import LAYOUTS, Loaded, decide_views, load_collection, load_images
from kmm.data.names import UniqueNames
from kmm.data.study import Collection, Report, Study
from kmm.errors import InputError, ReportError

MAX_REPORT_BYTES = 4_000_000
MAX_REPORT_WORDS = 20_000
TABLES = (".csv", ".jsonl")


def read_inputs(
    paths: Sequence[Path | str],
    *,
    report: Path | str | None = None,
    view_overrides: Mapping[str, str] | None = None,
) -> Collection:
    """Reads studies from files and folders of any kind.

    Args:
        paths: sequence of paths: image and DICOM files, folders of them, manifests, folders in a layout that
            `read_collection` knows.
        report: path of a UTF-8 text file with the report of the only image, or None. It becomes the FINDINGS section.
        view_overrides: as in `read_collection`.

    Returns:
        `Collection`, its studies in the order given. Repeated study ids get `-2`, `-3`, ...

    Raises:
        InputError: if there is no path, a path does not exist, no study is found or kmm wrote a path; if the list of
            views names none of the images; if a report is given and there is not exactly one study.
        ReportError: if the report cannot be read.
    """
    if not paths:
        raise InputError("Give at least one file or folder to read. Received: none.")
    loaded: list[Loaded] = []
    names = UniqueNames()
    for known, group in groupby(map(Path, paths), _has_layout):
        members = list(group)
        loaded += map(load_collection, members) if known else [load_images(members)]
    collections = decide_views(loaded, view_overrides)
    studies = [_rename(study, names.take(study.id)) for one in collections for study in one.studies]
    problems = [problem for one in collections for problem in one.problems]
    layouts = [one.layout for one in collections]
    skipped: Counter[str] = sum((Counter(one.skipped) for one in collections), Counter())
    if report is not None:
        if len(studies) != 1:
            raise InputError(f"A report file belongs to one image. Received: {len(studies)} studies.")
        studies = [replace(studies[0], report=Report(findings=read_report(report)))]
    layout = ", ".join(dict.fromkeys(layouts))
    return Collection(Path(paths[0]), layout, tuple(studies), tuple(problems), skipped)


def place_report(study: Study, sections: Sequence[str]) -> Study:
    """Moves a report that was read as one text to a section that the model reads.

    Args:
        study: `Study` whose report has the section FINDINGS only.
        sections: tuple of the sections that the model reads.

    Returns:
        `Study`.

    Raises:
        InputError: if the model reads no report.

    Example:
        >>> from kmm.data.study import Study
        >>> study = Study("1", "1", report=Report(findings="Cough."))
        >>> place_report(study, ("indication", "comparison")).report.indication
        'Cough.'
    """
    if not sections:
        raise InputError("This model reads films only, so it cannot use a report. Leave the report out.")
    section = "findings" if "findings" in sections else sections[0]
    text = study.report.findings if study.report is not None else ""
    return replace(study, report=Report(**{section: text}))


def _rename(study: Study, id: str) -> Study:
    return study if study.id == id else study.with_id(id)


def _has_layout(path: Path) -> bool:
    return path.suffix.lower() in TABLES or (path.is_dir() and any(layout.find(path) for layout in LAYOUTS))


def read_report(path: Path | str) -> str:
    """Reads the text of one report.

    Args:
        path: of a UTF-8 text file of at most 20,000 words and 4 MB.

    Returns:
        str.

    Raises:
        ReportError: if the file is missing, empty, too long or not UTF-8.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_REPORT_BYTES:
            raise ReportError(f"{path}: the report is larger than {MAX_REPORT_BYTES:,} bytes.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ReportError(f"{path}: the report cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        raise ReportError(
            f"{path}: expected a report in UTF-8. Byte {error.start} is not valid; save the file as UTF-8."
        ) from None
    count = len(text.split())
    if not 0 < count <= MAX_REPORT_WORDS:
        raise ReportError(f"{path}: the report must have 1 to {MAX_REPORT_WORDS} words. Received: {count}.")
    return text
