"""Any folder of studies -> `Collection`: the layout is recognised by what the folder holds."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from kmm.data.kaggle import KAGGLE_REPORTS, read_kaggle
from kmm.data.names import IMAGE_SUFFIXES, choose_free, make_printable, sort_key, strip_suffixes
from kmm.data.openi import find_reports, read_openi
from kmm.data.study import SECTIONS, ImageFile, Problem, Study
from kmm.data.table import find_manifest, read_table
from kmm.data.views import assign_views, match_overrides, read_view_tags
from kmm.errors import InputError

MISSING_IMAGE = "film missing"


@dataclass(frozen=True)
class Layout:
    """A way to lay out studies in a folder.

    Attributes:
        find: folder -> Path of what tells the layout, or None.
        read: folder -> `Collection`.
        description: str, for the error when nothing is recognised.
    """

    find: Callable
    read: Callable
    description: str


def _find_kaggle(folder):
    path = Path(folder, KAGGLE_REPORTS)
    return path if path.exists() else None


# The first that is found is read.
LAYOUTS = (
    Layout(_find_kaggle, read_kaggle, f"{KAGGLE_REPORTS} with indiana_projections.csv (Kaggle)"),
    Layout(find_reports, read_openi, "NLMCXR_reports.tgz or ecgen-radiology/ (Open-i original)"),
    Layout(find_manifest, read_table, "manifest.csv or manifest.jsonl"),
)


def read_collection(path, *, view_overrides=None):
    """Reads the studies of a folder or of a manifest file.

    Args:
        path: a folder in a layout of `LAYOUTS`, or a .csv or .jsonl manifest under any name.
        view_overrides: mapping of image names to views, from `kmm.data.views.load_view_overrides`, or None.

    Returns:
        `Collection` with at least one study, ids unique, sorted with numbers as numbers, views decided. Images whose
        file is missing are left out and listed as `Problem`s with the reason `MISSING_IMAGE`; views are decided before,
        so that a lateral does not pass for frontal because its frontal is missing. `layout` also names what else is
        there, unread.

    Raises:
        InputError: if there is no such file or folder, no known layout, no study, or a table is not what it should be.
    """
    path = Path(path)
    if path.is_file():
        collection = _read_file(path)
    elif path.is_dir():
        collection = _read_folder(path)
    else:
        raise InputError(f"{path}: no such file or folder")
    if not collection.studies:
        count = len(collection.problems)
        reason = f" The first of {count} set aside: {collection.problems[0]}" if count else ""
        raise InputError(f"{path}: no studies in it, read as {collection.layout}.{reason}")
    problems = list(collection.problems)
    paths = (image.path for study in collection.studies for image in study.images)
    override = match_overrides(view_overrides, {file: _place(file, collection.folder) for file in paths})
    studies = tuple(_leave_out_missing(assign_views(study, override), problems) for study in collection.studies)
    return replace(collection, studies=studies, problems=tuple(problems))


def bare_images(paths, *, view_overrides=None):
    """Makes studies of images that come without a table: one study an image.

    Args:
        paths: image files (any suffix) and folders, in which files with the suffix of an image, and DICOM files without
            suffix, are found to any depth.
        view_overrides: as in `read_collection`.

    Returns:
        list of `Study` in the order given, a folder's sorted by name. The id is the file's name without suffix, what is
        not safe in it replaced by `_`; a second one of that name gets `-2`. Laterals are known only from a DICOM
        header or from the overrides.

    Raises:
        InputError: if a path does not exist or nothing is found.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "film 1.png").write_bytes(b"")
        ...     [(study.id, study.frontal.evidence) for study in bare_images([folder])]
        [('film_1', 'only image of the study')]
    """
    files = [(file, _place(file, path)) for path in map(Path, paths) for file in _list_images(path)]
    override = match_overrides(view_overrides, dict(files))
    if not files:
        raise InputError(f"Expected image files ({', '.join(IMAGE_SUFFIXES)}) or folders of them. Found none")
    studies = {}
    for file, _ in files:
        study_id = _choose_id(file.name, studies)
        image = ImageFile(file, tags=_read_tags(file))
        studies[study_id] = assign_views(Study(study_id, study_id, (image,)), override)
    return list(studies.values())


def _read_file(path):
    if path.name == KAGGLE_REPORTS:
        return read_kaggle(path.parent)
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise InputError(f"{path}: expected a folder of studies, or a manifest that ends in .csv or .jsonl")
    return read_table(path)


def _read_folder(folder):
    found = [(layout, mark) for layout in LAYOUTS if (mark := layout.find(folder))]
    if not found:
        known = "; ".join(layout.description for layout in LAYOUTS)
        raise InputError(f"{folder}: no studies in it. Expected a folder with one of: {known}")
    collection = found[0][0].read(folder)
    unread = ", ".join(mark.relative_to(folder).as_posix() for _, mark in found[1:])
    return replace(collection, layout=f"{collection.layout}; left unread: {unread}") if unread else collection


def _leave_out_missing(study, problems):
    missing = [image for image in study.images if not image.path.is_file()]
    left = replace(study, images=tuple(image for image in study.images if image not in missing))
    problems += [lose_image(left, image, MISSING_IMAGE) for image in missing]
    return left


def lose_image(study, image, reason):
    """The `Problem` of an image that a study cannot use: it tells what the study, without it, is kept on.

    Example:
        >>> from kmm.data.study import Report
        >>> study = Study("1", "1", report=Report(findings="Clear."))
        >>> lose_image(study, ImageFile(Path("1.png")), MISSING_IMAGE).kept_on
        'its report'
    """
    report = study.report is not None and bool(study.report.text(SECTIONS).split())
    kept_on = "its other film" if study.frontal else "its report" if report else ""
    return Problem(make_printable(image.path.name), reason, study=study.id if kept_on else "", kept_on=kept_on)


def _list_images(path):
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    files = sorted((file for file in path.rglob("*") if file.is_file()), key=lambda file: sort_key(str(file)))
    return [
        file for file in files if file.suffix.lower() in IMAGE_SUFFIXES or (not file.suffix and _may_be_dicom(file))
    ]


def _may_be_dicom(path):
    try:
        return _is_dicom(path)
    except OSError:
        return True  # who reads the pixels will say that it cannot be read


def _place(file, folder):
    """A file's path from the folder; of a file that is named itself, its name."""
    return file.relative_to(folder) if file != folder and file.is_relative_to(folder) else Path(file.name)


def _read_tags(path):
    try:
        return read_view_tags(path) if _is_dicom(path) else {}
    except (InputError, OSError):
        return {}  # who reads the pixels will say what is wrong with the file


def _is_dicom(path):
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM"


def _choose_id(name, taken):
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", strip_suffixes(name)).lstrip("._-")[:90] or "image"
    return choose_free(stem, taken)
