"""Read any folder of studies; the layout is recognised by the files in the folder."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kmm.data.film_files import describe_skipped, find_films, try_header, walk_files
from kmm.data.layouts.chestxray14 import TABLES, find_entries, read_chestxray14
from kmm.data.layouts.chexpert import find_chexpert, read_chexpert
from kmm.data.layouts.kaggle import KAGGLE_REPORTS, read_kaggle
from kmm.data.layouts.manifest import find_manifest, read_table
from kmm.data.layouts.openi import find_reports, read_openi
from kmm.data.names import IMAGE_SUFFIXES, UniqueNames, is_prose, make_printable, sort_key, strip_suffixes
from kmm.data.study import SECTIONS, Collection, ImageFile, Problem, Study, merge_images, own_patient
from kmm.data.views.dicom_header import Header, read_dataset_header, read_view_header
from kmm.data.views.ranking import assign_views, is_disputed, match_overrides
from kmm.errors import InputError
from kmm.storage.file_kinds import DICOM_SUFFIXES, is_dicom
from kmm.storage.output_mark import OutputMark, read_mark, refuse_output

MISSING_IMAGE = "film missing"
WRITTEN_IMAGE = "kmm wrote this picture; name the original film instead"
DISPUTED = "listed under different views, so it is not used; give its view in a file for --views"
BARE = "images"


@dataclass(frozen=True)
class Layout:
    """A layout of studies in a folder.

    Attributes:
        find: folder -> Path of the file or folder by which the layout is recognised, or None.
        read: folder -> `Collection`.
        description: str, for the error when no layout is recognised.
    """

    find: Callable[[Path], Path | None]
    read: Callable[[Path], Collection]
    description: str


def _find_kaggle(folder: Path) -> Path | None:
    path = Path(folder, KAGGLE_REPORTS)
    return path if path.exists() else None


# If a folder matches several layouts, the first is read.
LAYOUTS = (
    Layout(_find_kaggle, read_kaggle, f"{KAGGLE_REPORTS} with indiana_projections.csv (Kaggle)"),
    Layout(find_reports, read_openi, "NLMCXR_reports.tgz or ecgen-radiology/ (Open-i original)"),
    Layout(find_entries, read_chestxray14, f"{' or '.join(TABLES)} with folders of films (ChestX-ray14)"),
    Layout(find_chexpert, read_chexpert, "train.csv or valid.csv with the columns of CheXpert"),
    Layout(find_manifest, read_table, "manifest.csv or manifest.jsonl"),
)


def read_collection(path: Path | str, *, view_overrides: Mapping[str, str] | None = None) -> Collection:
    """Reads the studies of a folder or of a manifest file.

    Args:
        path: a folder in a layout of `LAYOUTS`, or a .csv or .jsonl manifest under any name.
        view_overrides: mapping of image names to views, from `kmm.data.views.ranking.load_view_overrides`, or None.

    Returns:
        `Collection` with at least one study, ids unique, sorted with numbers as numbers, views decided. Images whose
        file is missing or was written by kmm are left out and listed as `Problem`s. Views are decided before that, so
        that a lateral is not taken for frontal because the frontal film is missing. `layout` also names other layouts
        that were found in the folder and not read.

    Raises:
        InputError: if the file or folder does not exist, has no known layout or no study, a table is not valid, the
            list of views names none of the images, or kmm wrote the folder.
    """
    return decide_views([load_collection(path)], view_overrides)[0]


def bare_images(paths: Sequence[Path | str], *, view_overrides: Mapping[str, str] | None = None) -> list[Study]:
    """Makes studies of images that come without a table: one study per image.

    Args:
        paths: image files (any suffix) and folders, which are searched at any depth for films: files with the suffix
            of an image, and DICOM files by content. Hidden files, files without a film and files that kmm wrote are
            skipped.
        view_overrides: as in `read_collection`.

    Returns:
        list of `Study` in the order given; those of a folder are sorted by name. The id is the file's name without
        suffix, unsafe characters replaced by `_`; a second file with the same name gets `-2`. Laterals are recognised
        only by a DICOM header or by the overrides.

    Raises:
        InputError: if a path does not exist, no film is found, the list of views names none of the images, or kmm wrote
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
        collection: `Collection`, with the tags of DICOM headers read.
        places: mapping of the path of each image to its path relative to the folder, as a list of views names it.
        lost: mapping of a study's id to the images that it cannot use, each with the reason.
    """

    collection: Collection
    places: Mapping[Path, Path]
    lost: Mapping[str, list[tuple[ImageFile, str]]] = field(default_factory=dict)


def load_collection(path: Path | str) -> Loaded:
    """Reads a folder or manifest as `read_collection` does, but leaves the views to `decide_views`.

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
    studies, lost = add_tags(collection.studies, problems)
    collection = replace(collection, studies=studies, problems=tuple(problems))
    paths = (image.path for study in studies for image in study.images)
    return Loaded(collection, {file: _place(file, collection.folder) for file in paths}, lost)


def load_images(paths: Sequence[Path | str]) -> Loaded:
    """Reads images as `bare_images` does, but leaves the views to `decide_views`.

    Returns:
        `Loaded`. A DICOM file that is named in `paths` and holds no film is a `Problem`.

    Raises:
        InputError: as `bare_images`, except for the list of views.
    """
    studies: list[Study] = []
    places: dict[Path, Path] = {}
    problems: list[Problem] = []
    skipped: Counter[str] = Counter()
    names = UniqueNames()
    for path in map(Path, paths):
        refuse_output(path)
        for file, tags in _list_images(path, problems, skipped):
            study_id = names.take(_make_id(file.name))
            studies.append(
                Study(study_id, own_patient(study_id), (ImageFile(file, tags=tags),), made_up=frozenset({"patient"}))
            )
            places[file] = _place(file, path)
    if not studies:
        found = "; ".join(filter(None, [*map(str, problems[:1]), describe_skipped(skipped)]))
        more = f", but {found}" if found else ""
        raise InputError(
            f"Expected image files ({', '.join(IMAGE_SUFFIXES)}), DICOM or folders of them. Found none{more}"
        )
    return Loaded(Collection(Path(paths[0]), BARE, tuple(studies), tuple(problems), skipped), places)


def decide_views(loaded: Sequence[Loaded], view_overrides: Mapping[str, str] | None) -> list[Collection]:
    """Decides the views of studies that were loaded together, and leaves out images whose file is missing.

    Args:
        loaded: sequence of `Loaded`.
        view_overrides: as in `read_collection`.

    Returns:
        list of `Collection`.

    Raises:
        InputError: if there is a list of views and it names none of the images, or a name in it is ambiguous.
    """
    overrides = [match_overrides(view_overrides, one.places) for one in loaded]
    if view_overrides is not None and not any(overrides):
        count = sum(len(one.places) for one in loaded)
        first = f" Its first name is {make_printable(next(iter(view_overrides)))!r}." if view_overrides else ""
        raise InputError(
            f"The list of views names none of the {count} images.{first} Expected paths relative to the folder of "
            "studies, or file names."
        )
    return [_decide(one, override) for one, override in zip(loaded, overrides)]


def _decide(loaded: Loaded, override: Mapping[Path, str]) -> Collection:
    collection = loaded.collection
    problems: list[Problem] = list(collection.problems)
    studies: list[Study] = []
    shared = _name_shared(loaded)
    for study in collection.studies:
        study = assign_views(study, override)
        problems += [lose_image(study, image, DISPUTED, shared) for image in study.images if is_disputed(image)]
        studies.append(_leave_out_missing(study, problems, shared) if collection.layout != BARE else study)
        problems += [lose_image(studies[-1], image, reason, shared) for image, reason in loaded.lost.get(study.id, ())]
    return replace(collection, studies=tuple(studies), problems=tuple(problems))


def _name_shared(loaded: Loaded) -> dict[Path, str]:
    """Returns the names of those images whose file name others have too: their paths relative to the folder."""
    counts = Counter(path.name for path in loaded.places)
    return {path: place.as_posix() for path, place in loaded.places.items() if counts[path.name] > 1}


def _read_file(path: Path) -> Collection:
    for layout in LAYOUTS:
        if layout.find(path.parent) == path:
            return layout.read(path.parent)
    if path.suffix.lower() not in (".csv", ".jsonl"):
        raise InputError(f"{path}: expected a folder of studies, or a manifest with the suffix .csv or .jsonl")
    return read_table(path)


def _read_folder(folder: Path) -> Collection:
    found = [(layout, mark) for layout in LAYOUTS if (mark := layout.find(folder))]
    if not found:
        known = "; ".join(layout.description for layout in LAYOUTS)
        raise InputError(f"{folder}: no studies in it. Expected a folder with one of: {known}")
    collection = found[0][0].read(folder)
    unread = ", ".join(mark.relative_to(folder).as_posix() for _, mark in found[1:])
    return replace(collection, layout=f"{collection.layout}; left unread: {unread}") if unread else collection


def _leave_out_missing(study: Study, problems: list[Problem], shared: Mapping[Path, str]) -> Study:
    missing = [image for image in study.images if image.memory is None and not image.path.is_file()]
    left = replace(study, images=tuple(image for image in study.images if image not in missing))
    problems += [lose_image(left, image, MISSING_IMAGE, shared) for image in missing]
    return left


def lose_image(study: Study, image: ImageFile, reason: str, shared: Mapping[Path, str] | None = None) -> Problem:
    """Returns the `Problem` of an image that a study cannot use, with the input that the study still has.

    Args:
        study, image, reason: the study, its image, and what is wrong with it.
        shared: mapping of the paths of images to the names to give instead of their file names, which others have too.

    Example:
        >>> from kmm.data.study import Report
        >>> study = Study("1", "1", report=Report(findings="Clear."))
        >>> lose_image(study, ImageFile(Path("1.png")), MISSING_IMAGE).kept_on
        'its report'
    """
    report = study.report is not None and bool(study.report.text(SECTIONS).split())
    kept_on = "its other film" if study.frontal else "its report" if report else ""
    prose = image.memory is None and is_prose(image.path)
    source = f"film of study {study.id}" if prose else make_printable((shared or {}).get(image.path, image.path.name))
    return Problem(source, reason, study=study.id if kept_on else "", kept_on=kept_on)


def add_tags(
    studies: Iterable[Study], problems: list[Problem]
) -> tuple[tuple[Study, ...], dict[str, list[tuple[ImageFile, str]]]]:
    """Adds to each image the tags of its DICOM header and of all rows that name the file.

    A study gets the sex and the age in the header of its first film with them, unless a table gave these.

    Args:
        studies: iterable of `Study`, views not yet decided.
        problems: list of `Problem`, to which headers that cannot be read are added.

    Returns:
        the studies; and a dict of study id to the images that were left out, each with the reason: files without a
        film, and pictures that kmm wrote.
    """
    listed: dict[Path, list[ImageFile]] = defaultdict(list)
    marks: dict[Path, OutputMark] = {}
    for study in studies:
        for image in study.images:
            listed[image.path].append(image)
    tags: dict[Path, Mapping[str, str]] = {}
    refused: dict[Path, str] = {}
    about: dict[Path, Mapping[str, str | float]] = {}
    for path, images in listed.items():
        folder = path.parent
        if folder not in marks:
            marks[folder] = read_mark(folder)
        (merged,) = merge_images(images)  # several studies may name one file
        if merged.memory is None and marks[folder].owns(path.name):
            refused[path] = WRITTEN_IMAGE
            continue
        tags[path] = merged.tags
        try:
            header = _read_header(merged)
        except InputError:
            problems.append(Problem(make_printable(path.name), "the DICOM header cannot be read"))
            continue
        tags[path] = {**header.tags, **merged.tags}
        about[path] = header.attributes
        if header.kind:
            refused[path] = _describe_kind(header)

    kept: list[Study] = []
    lost: dict[str, list[tuple[ImageFile, str]]] = defaultdict(list)
    for study in studies:
        left = tuple(replace(image, tags=tags[image.path]) for image in study.images if image.path not in refused)
        known = dict(study.attributes)
        for image in left:
            known = {**about.get(image.path, {}), **known}
        kept.append(replace(study, images=left, attributes=known))
        for image in study.images:
            if image.path in refused:
                lost[study.id].append((image, refused[image.path]))
    return tuple(kept), lost


def _read_header(image: ImageFile) -> Header:
    """Reads the DICOM header of a film in a file or in memory; an empty `Header` for other films."""
    path = image.path
    if image.memory is not None:
        is_dataset = hasattr(image.memory, "file_meta")
        return read_dataset_header(image.memory, path.name) if is_dataset else Header()
    known = is_dicom(path) or (path.suffix.lower() in DICOM_SUFFIXES and path.is_file())
    return read_view_header(path) if known else Header()


def _describe_kind(header: Header) -> str:
    return f"a {header.kind}, which holds no film"


def _list_images(
    path: Path, problems: list[Problem], skipped: Counter[str]
) -> Iterable[tuple[Path, Mapping[str, str]]]:
    """Lists films with their tags: the file at `path`, or all films in that folder, sorted by name."""
    if path.is_file():
        header = try_header(path) if is_dicom(path) else Header()
        if header.kind:
            problems.append(Problem(make_printable(path.name), _describe_kind(header)))
            return []
        return [(path, header.tags)]
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    return find_films(sorted(walk_files(path, skipped), key=lambda file: sort_key(str(file))), skipped)


def _place(file: Path, folder: Path) -> Path:
    """Returns the path of a file relative to the folder, or its name if the path named the file itself."""
    return file.relative_to(folder) if file != folder and file.is_relative_to(folder) else Path(file.name)


def _make_id(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", strip_suffixes(name)).lstrip("._-")[:90] or "image"
