"""Any folder of studies -> `Collection`: the layout is recognised by what the folder holds."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kmm.data.film_files import describe_passed_over, find_films, try_header, walk_files
from kmm.data.layouts.kaggle import KAGGLE_REPORTS, read_kaggle
from kmm.data.layouts.manifest import find_manifest, read_table
from kmm.data.layouts.openi import find_reports, read_openi
from kmm.data.names import IMAGE_SUFFIXES, UniqueNames, make_printable, sort_key, strip_suffixes
from kmm.data.study import SECTIONS, Collection, ImageFile, Problem, Study, merge_images
from kmm.data.views.dicom_header import Header, read_view_header
from kmm.data.views.ranking import assign_views, is_disputed, match_overrides
from kmm.errors import InputError
from kmm.storage.files import is_dicom
from kmm.storage.output_mark import read_mark, refuse_output

MISSING_IMAGE = "film missing"
WRITTEN_IMAGE = "kmm wrote this picture; name the film itself"
DISPUTED = "listed under different views, so it is not used; say which in a file for --views"
BARE = "images"
DICOM_SUFFIXES = (".dcm", ".dicom")


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
        view_overrides: mapping of image names to views, from `kmm.data.views.ranking.load_view_overrides`, or None.

    Returns:
        `Collection` with at least one study, ids unique, sorted with numbers as numbers, views decided. Images whose
        file is missing or was written by kmm are left out and listed as `Problem`s; views are decided before, so that a
        lateral does not pass for frontal because its frontal is missing. `layout` also names what else is there,
        unread.

    Raises:
        InputError: if there is no such file or folder, no known layout, no study, a table is not what it should be, the
            list of views names none of the images, or kmm wrote the folder.
    """
    return decide_views([load_collection(path)], view_overrides)[0]


def bare_images(paths, *, view_overrides=None):
    """Makes studies of images that come without a table: one study an image.

    Args:
        paths: image files (any suffix) and folders, in which films are found to any depth: by the suffix of an image,
            and DICOM by content. What is hidden, holds no film or was written by kmm is passed over.
        view_overrides: as in `read_collection`.

    Returns:
        list of `Study` in the order given, a folder's sorted by name. The id is the file's name without suffix, what is
        not safe in it replaced by `_`; a second one of that name gets `-2`. Laterals are known only from a DICOM
        header or from the overrides.

    Raises:
        InputError: if a path does not exist, nothing is found, the list of views names none of the images, or kmm wrote
            a path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "film 1.png").write_bytes(b"")
        ...     [(study.id, study.frontal.evidence) for study in bare_images([folder])]
        [('film_1', 'only image of the study')]
    """
    return list(decide_views([load_images(paths)], view_overrides)[0].studies)


@dataclass(frozen=True)
class Loaded:
    """Studies whose views are not yet decided.

    Attributes:
        collection: `Collection`, header tags read.
        places: mapping of the path of each image to its path from the folder, by which a list of views names it.
        lost: mapping of a study's id to the images that it cannot use, each with the reason.
    """

    collection: Collection
    places: Mapping[Path, Path]
    lost: Mapping[str, list[tuple[ImageFile, str]]] = field(default_factory=dict)


def load_collection(path):
    """Reads what `read_collection` reads, and leaves the views to `decide_views`.

    Returns:
        `Loaded`.

    Raises:
        InputError: as `read_collection`, except for the list of views.
    """
    path = Path(path)
    refuse_output(path)
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
    studies, lost = _add_tags(collection.studies, problems)
    collection = replace(collection, studies=studies, problems=tuple(problems))
    paths = (image.path for study in studies for image in study.images)
    return Loaded(collection, {file: _place(file, collection.folder) for file in paths}, lost)


def load_images(paths):
    """Reads what `bare_images` reads, and leaves the views to `decide_views`.

    Returns:
        `Loaded`. A DICOM file that was named itself and holds no film is a `Problem`.

    Raises:
        InputError: as `bare_images`, except for the list of views.
    """
    studies, places, problems, passed_over, names = [], {}, [], Counter(), UniqueNames()
    paths = [Path(path) for path in paths]
    for path in paths:
        refuse_output(path)
        for file, tags in _list_images(path, problems, passed_over):
            study_id = names.take(_make_id(file.name))
            studies.append(Study(study_id, study_id, (ImageFile(file, tags=tags),)))
            places[file] = _place(file, path)
    if not studies:
        said = [*map(str, problems[:1]), describe_passed_over(passed_over)]
        said = "; ".join(filter(None, said))
        more = f", but {said}" if said else ""
        raise InputError(
            f"Expected image files ({', '.join(IMAGE_SUFFIXES)}), DICOM or folders of them. Found none{more}"
        )
    return Loaded(Collection(paths[0], BARE, tuple(studies), tuple(problems), passed_over), places)


def decide_views(loaded, view_overrides):
    """Decides the views of what was loaded together, and leaves out images whose file is missing.

    Args:
        loaded: sequence of `Loaded`.
        view_overrides: as in `read_collection`.

    Returns:
        list of `Collection`.

    Raises:
        InputError: if there is a list of views and it names none of the images, or names one ambiguously.
    """
    overrides = [match_overrides(view_overrides, one.places) for one in loaded]
    if view_overrides is not None and not any(overrides):
        count = sum(len(one.places) for one in loaded)
        first = f" Its first name is {make_printable(next(iter(view_overrides)))!r}." if view_overrides else ""
        raise InputError(
            f"The list of views names none of the {count} images.{first} Expected paths from the folder of studies, or "
            "file names."
        )
    return [_decide(one, override) for one, override in zip(loaded, overrides)]


def _decide(loaded, override):
    collection = loaded.collection
    problems, studies = list(collection.problems), []
    for study in collection.studies:
        study = assign_views(study, override)
        problems += [lose_image(study, image, DISPUTED) for image in study.images if is_disputed(image)]
        studies.append(_leave_out_missing(study, problems) if collection.layout != BARE else study)
        problems += [lose_image(studies[-1], image, reason) for image, reason in loaded.lost.get(study.id, ())]
    return replace(collection, studies=tuple(studies), problems=tuple(problems))


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


def _add_tags(studies, problems):
    """Studies of a table, their images with what headers and other rows say of the view; and dict of study id to the
    images that were left out, each with the reason: what holds no film, and pictures that kmm wrote."""
    listed, marks = defaultdict(list), {}
    for study in studies:
        for image in study.images:
            listed[image.path].append(image)
    tags, refused = {}, {}
    for path, images in listed.items():
        folder = path.parent
        if folder not in marks:
            marks[folder] = read_mark(folder)
        if marks[folder].owns(path.name):
            refused[path] = WRITTEN_IMAGE
            continue
        (merged,) = merge_images(images)  # also of several studies
        tags[path] = merged.tags
        if is_dicom(path) or (path.suffix.lower() in DICOM_SUFFIXES and path.is_file()):
            try:
                header = read_view_header(path)
            except InputError:
                problems.append(Problem(make_printable(path.name), "the DICOM header cannot be read"))
                continue
            tags[path] = {**header.tags, **merged.tags}
            if header.kind:
                refused[path] = _describe_kind(header)

    kept, lost = [], defaultdict(list)
    for study in studies:
        images = tuple(replace(image, tags=tags[image.path]) for image in study.images if image.path not in refused)
        kept.append(replace(study, images=images))
        for image in study.images:
            if image.path in refused:
                lost[study.id].append((image, refused[image.path]))
    return tuple(kept), lost


def _describe_kind(header):
    return f"a {header.kind}, which holds no film"


def _list_images(path, problems, passed_over):
    """Films and their tags: a file that is named itself, or those of a folder, by name."""
    if path.is_file():
        header = try_header(path) if is_dicom(path) else Header()
        if header.kind:
            problems.append(Problem(make_printable(path.name), _describe_kind(header)))
            return []
        return [(path, header.tags)]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    return find_films(sorted(walk_files(path, passed_over), key=lambda file: sort_key(str(file))), passed_over)


def _place(file, folder):
    """A file's path from the folder; of a file that is named itself, its name."""
    return file.relative_to(folder) if file != folder and file.is_relative_to(folder) else Path(file.name)


def _make_id(name):
    return re.sub(r"[^A-Za-z0-9._-]", "_", strip_suffixes(name)).lstrip("._-")[:90] or "image"
