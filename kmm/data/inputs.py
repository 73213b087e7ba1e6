"""What a user names on the command line -> studies: images, DICOM files, manifests, folders in any layout."""

from collections import Counter
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from kmm.data.collection import LAYOUTS, decide_views, load_collection, load_images
from kmm.data.names import UniqueNames
from kmm.data.study import Collection, Report
from kmm.errors import InputError, ReportError

MAX_REPORT_BYTES = 4_000_000
MAX_REPORT_WORDS = 20_000
TABLES = (".csv", ".jsonl")


def read_inputs(paths, *, report=None, view_overrides=None):
    """Reads studies from files and folders of any kind.

    Args:
        paths: sequence of paths: image and DICOM files, folders of them, manifests, folders in a layout that
            `read_collection` knows.
        report: path of a UTF-8 text file, the report of the one image, or None. It is taken as FINDINGS.
        view_overrides: as in `read_collection`.

    Returns:
        `Collection`, its studies in the order given. A study id that comes twice gets `-2`, `-3`, ...

    Raises:
        InputError: if a path does not exist, nothing is found or kmm wrote a path; if the list of views names none of
            the images; if a report is given and the studies are not one.
        ReportError: if the report cannot be read.
    """
    loaded, names = [], UniqueNames()
    for known, group in groupby(map(Path, paths), _has_layout):
        group = list(group)
        loaded += map(load_collection, group) if known else [load_images(group)]
    collections = decide_views(loaded, view_overrides)
    studies = [replace(study, id=names.take(study.id)) for one in collections for study in one.studies]
    problems = [problem for one in collections for problem in one.problems]
    layouts = [one.layout for one in collections]
    passed_over = sum((Counter(one.passed_over) for one in collections), Counter())
    if report is not None:
        if len(studies) != 1:
            raise InputError(f"A report file belongs to one image. Received: {len(studies)} studies.")
        studies = [replace(studies[0], report=Report(findings=read_report(report)))]
    layout = ", ".join(dict.fromkeys(layouts))
    return Collection(Path(paths[0]), layout, tuple(studies), tuple(problems), passed_over)


def place_report(study, sections):
    """Moves a report that came as one text to a section that a model reads.

    Args:
        study: `Study` whose report stands in FINDINGS alone.
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
        raise InputError("A report was given to a model that reads films alone.")
    section = "findings" if "findings" in sections else sections[0]
    return replace(study, report=Report(**{section: study.report.findings}))


def _has_layout(path):
    return path.suffix.lower() in TABLES or (path.is_dir() and any(layout.find(path) for layout in LAYOUTS))


def read_report(path):
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
            raise ReportError(f"{path}: expected a report of at most {MAX_REPORT_BYTES} bytes.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ReportError(f"{path}: expected a readable report. Received: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise ReportError(f"{path}: expected a report in UTF-8. Received: another byte at {error.start}.") from None
    count = len(text.split())
    if not 0 < count <= MAX_REPORT_WORDS:
        raise ReportError(f"{path}: expected a report of 1 to {MAX_REPORT_WORDS} words. Received: {count}.")
    return text
