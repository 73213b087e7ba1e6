"""Read the Kaggle CSV layout of Open-i, which the phantom set uses too."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from kmm.data.film_files import list_folders
from kmm.data.layouts.manifest import read_terms
from kmm.data.names import find_image_id, is_safe_id, make_printable, resolve_inside, sort_key
from kmm.data.study import SECTIONS, Collection, ImageFile, Problem, Report, Study, merge_images
from kmm.data.tabular.rows import read_rows
from kmm.data.views.terms import name_view
from kmm.errors import InputError
from kmm.storage.output_mark import read_mark

KAGGLE_REPORTS, KAGGLE_PROJECTIONS = "indiana_reports.csv", "indiana_projections.csv"


def read_kaggle(folder: Path | str) -> Collection:
    """Reads the Kaggle layout: `indiana_reports.csv`, `indiana_projections.csv` and a folder of films.

    The folder of films is the one that holds most of the named files, among `folder` itself and its subfolders to a
    depth of two. MeSH becomes `mesh_major`. The column Problems is not read: in Open-i it repeats the heads of the MeSH
    column (in all of 2,701 studies) instead of giving the automatic terms, so `mesh_automatic` stays empty.

    Args:
        folder: contains the two tables.

    Returns:
        `Collection`, views not yet decided. Images are sorted by id, tagged with their `projection`, and included even
        if their file is missing. A study's id and patient are its uid. A report with four empty sections is None. A
        file name that leads out of the folder, or a row of an unknown study, is a `Problem`.

    Raises:
        InputError: if a table or a column is missing, or a table is not UTF-8.
    """
    folder = Path(folder)
    _, reports, problems = read_rows(folder / KAGGLE_REPORTS, ("uid", "MeSH", *SECTIONS))
    _, projections, more = read_rows(folder / KAGGLE_PROJECTIONS, ("uid", "filename", "projection"))
    problems += more
    films = _find_film_folder(folder, [row["filename"].strip() for _, row in projections])
    images: dict[str, list[ImageFile]] = {}
    for line, row in projections:
        try:
            image = _read_projection(row, films)
            images.setdefault(row["uid"].strip(), []).append(image)
        except InputError as error:
            problems.append(Problem(f"{KAGGLE_PROJECTIONS} line {line}", str(error)))
    studies: dict[str, Study] = {}
    for line, row in reports:
        uid = row["uid"].strip()
        if is_safe_id(uid) and uid not in studies:
            named = sorted(merge_images(images.pop(uid, ())), key=lambda image: find_image_id(image.path.name))
            studies[uid] = _read_kaggle_row(uid, row, tuple(named))
        else:
            reason = (
                "an earlier row has this uid" if uid in studies else "expected a uid of letters, digits, '.', '_', '-'"
            )
            problems.append(Problem(f"{KAGGLE_REPORTS} line {line}", reason))
    for strays in images.values():
        for image in merge_images(strays):
            problems.append(Problem(make_printable(image.path.name), f"no usable row of {KAGGLE_REPORTS} has its uid"))
    ordered = sorted(studies.values(), key=lambda study: sort_key(study.id))
    layout = f"Kaggle csv ({KAGGLE_REPORTS}, films in {films.name})"
    return Collection(folder, layout, tuple(ordered), tuple(problems))


def _find_film_folder(folder: Path, names: Iterable[str]) -> Path:
    """Returns the folder that holds most of the named files; `images/` or the folder itself if no folder holds any."""
    plain = {name for name in names if name and "/" not in name and "\\" not in name}
    inside = list_folders(folder)
    deeper = [place for outer in inside for place in list_folders(outer)]
    places = [place for place in (folder / "images", folder, *inside, *deeper) if place.is_dir()]
    return max(places, key=lambda place: _count_named(place, plain))


def _count_named(place: Path, names: set[str]) -> int:
    listed = set(os.listdir(place))
    mark = read_mark(place, listed)
    return sum(not mark.owns(name) for name in names & listed)


def _read_projection(row: Mapping[str, str], films: Path) -> ImageFile:
    path, projection = resolve_inside(films, row["filename"].strip()), row["projection"].strip()
    if projection and name_view(projection) is None:
        raise InputError("expected the projection Frontal or Lateral")
    return ImageFile(path, tags={"projection": projection} if projection else {})


def _read_kaggle_row(uid: str, row: Mapping[str, str], images: tuple[ImageFile, ...]) -> Study:
    texts = {name: row[name].strip() for name in SECTIONS}
    report = Report(**texts) if any(texts.values()) else None
    terms, made_up = read_terms(row["MeSH"]), frozenset({"patient"})  # the collection has one study per patient
    return Study(id=uid, patient=uid, images=images, report=report, mesh_major=terms, made_up=made_up)
