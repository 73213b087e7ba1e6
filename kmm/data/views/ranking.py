"""Decide which image of a study is frontal, by ranked evidence.

The first evidence that applies decides, and is stored with the image:

    1. the override file (`--views`)
    2. the `view` column of a manifest
    3. the projections table
    4. View Code Sequence or View Position, if it states a view other than frontal
    5. Patient Orientation, if it gives a sagittal plane (lateral) or a transverse plane (other)
    6. View Code Sequence or View Position, if it states frontal and the study has only one image
    7. if no image of the study is frontal yet: the only image, or the first by id among those without a stated view;
       images that are tagged frontal come before others, except in Open-i

A stated view that is neither frontal nor lateral (oblique, decubitus, an unknown term) is `"other"`; such an image is
never taken for frontal. A tag of PA or AP does not decide in a study of several images, because in Open-i a third of
such tags are on laterals. A table that lists a file both as frontal and as lateral does not decide for it. Evidence
against the decision is stored in `conflicts`; an image whose view stays unknown lists there the tags that did not
count. No rule looks at the pixels.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath, PureWindowsPath

from kmm.data.names import find_image_id, is_openi_id, make_printable
from kmm.data.study import FRONTAL, LATERAL, OTHER, ImageFile, Study
from kmm.data.tabular.rows import read_rows, show_columns
from kmm.data.views.terms import VIEW_NAMES, judge_code, judge_orientation, judge_term, name_view
from kmm.errors import InputError

_OVERRIDE_COLUMNS = (("file", "view"), ("imageid", "tsne-view"))
Evidence = tuple[str | None, str, bool]  # view, reason, whether it may decide


def assign_views(study: Study, override: Mapping[Path, str] | None = None) -> Study:
    """Decides the view of each image of a study, and stores the evidence.

    Args:
        study: `Study`, its images with the tags that the reader found.
        override: mapping of paths of images to views, from `match_overrides`, or None. It takes precedence over all
            other evidence.

    Returns:
        `Study` with `view`, `evidence` and `conflicts` set on each image; unchanged if it has no images.

    Example:
        >>> from pathlib import Path
        >>> from kmm.data.study import ImageFile, Study
        >>> study = Study("7", "7", (ImageFile(Path("7-1.png")), ImageFile(Path("7-2.png"), tags={"view": "PA"})))
        >>> [(image.view, image.evidence) for image in assign_views(study).images]
        [(None, ''), ('frontal', 'view column PA')]
    """
    alone, override = len(study.images) == 1, override or {}
    images = [_judge(image, _gather_evidence(image, override, alone)) for image in study.images]
    if all(image.view != FRONTAL for image in images):
        unknown = [index for index, image in enumerate(images) if image.view is None and not is_disputed(image)]
        if unknown:
            first = min(unknown, key=lambda index: _rank_guess(images[index]))
            evidence = _name_guess(images[first], alone, images)
            images[first] = replace(images[first], view=FRONTAL, evidence=evidence, conflicts=())
    return replace(study, images=tuple(images))


def load_view_overrides(path: Path | str) -> dict[str, str]:
    """Reads the views of images from a CSV.

    Args:
        path: file with the columns `file,view`, or `imageid,tsne-view` as in torchxrayvision's list for Open-i.

    Returns:
        dict of name to `"frontal"`, `"lateral"` or `"other"`, for `match_overrides`; empty for a table without rows. A
        name is a path without image suffixes, as `p1/film` for `p1/film.png`; for an Open-i image it is the id alone.

    Raises:
        InputError: if the columns are absent, a view is not known, or an image has two views.
    """
    columns, rows, problems = read_rows(path)
    if problems:
        raise InputError(str(problems[0]))
    names = next((pair for pair in _OVERRIDE_COLUMNS if set(pair) <= set(columns)), None)
    if names is None:
        raise InputError(f"{path}: expected the columns file,view. Found: {show_columns(columns)}")
    views: dict[str, str] = {}
    for line, row in rows:
        name, view = _name_image(PureWindowsPath(row[names[0]])), name_view(row[names[1]])
        if view is None:
            raise InputError(f"{path}: line {line}: the view must be one of {', '.join(VIEW_NAMES)}")
        if views.setdefault(name, view) != view:
            raise InputError(f"{path}: line {line}: the image has another view on an earlier line. Keep one row.")
    return views


def match_overrides(overrides: Mapping[str, str] | None, images: Mapping[Path, Path]) -> dict[Path, str]:
    """Finds the images that a list of views names.

    A name matches the image with this path relative to the folder. If there is none, it matches the image whose path
    ends with the name, so a file name alone is enough. Open-i images are matched by id, without folders.

    Args:
        overrides: mapping of name to view, from `load_view_overrides`, or None.
        images: mapping of the paths of all images to their paths relative to the folder of studies.

    Returns:
        dict of the paths of images to views. Names without an image are ignored.

    Raises:
        InputError: if a name matches several images, or two names give an image two views.

    Example:
        >>> from pathlib import Path
        >>> images = {Path("d/p1/film.png"): Path("p1/film.png"), Path("d/p2/film.png"): Path("p2/film.png")}
        >>> [path.as_posix() for path in match_overrides({"p1/film": "lateral"}, images)]
        ['d/p1/film.png']
    """
    exact, tails = _index_images(overrides or {}, images)
    found: dict[Path, str] = {}
    for name, view in (overrides or {}).items():
        matches = exact.get(name) or tails.get(name, [])
        if len(matches) > 1 and not is_openi_id(name):
            raise InputError(f"The list of views: {len(matches)} images are called {name!r}. Give their folders too.")
        for path in matches:
            if found.setdefault(path, view) != view:
                shown = make_printable(images[path].as_posix())
                raise InputError(f"The list of views: {shown} is listed as {found[path]} and as {view}. Keep one row.")
    return found


def _index_images(
    overrides: Mapping[str, str], images: Mapping[Path, Path]
) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """Returns by name the images whose path from the folder equals it, and those whose whole path ends with it."""
    exact: dict[str, list[Path]] = defaultdict(list)
    tails: dict[str, list[Path]] = defaultdict(list)
    depths = sorted({name.count("/") + 1 for name in overrides})
    for path, place in images.items() if overrides else ():
        if (name := _name_image(place)) in overrides:
            exact[name].append(path)
        parts = _name_image(path.absolute()).split("/")
        for depth in depths:
            if depth <= len(parts) and (tail := "/".join(parts[-depth:])) in overrides:
                tails[tail].append(path)
    return exact, tails


def _name_image(path: PurePath) -> str:
    """Returns a path with `/` and its file name replaced by the image id; for an Open-i image, the id alone."""
    image_id = find_image_id(path.name)
    return image_id if is_openi_id(image_id) or not image_id else path.with_name(image_id).as_posix()


def _gather_evidence(image: ImageFile, override: Mapping[Path, str], alone: bool) -> list[Evidence]:
    """Lists `(view, reason, whether it may decide)`, best first."""
    tags = image.tags
    position, plane = tags.get("view_position", ""), tags.get("patient_orientation", "")
    stated = [*_judge_codes(tags), (judge_term(position), f"View Position {position}")]
    lines: list[Evidence] = [
        (override.get(image.path), "view override file", True),
        *_judge_listed(tags.get("view", ""), "view column {}"),
        *_judge_listed(tags.get("projection", ""), "projections table"),
        *((view, reason, True) for view, reason in stated if view != FRONTAL),
        (judge_orientation(plane), f"Patient Orientation {plane[:1] if plane[:1] in ('A', 'P') else plane}", True),
        *((view, reason, alone) for view, reason in stated if view == FRONTAL),
    ]
    return [line for line in lines if line[0]]


def _judge_listed(listed: str, reason: str) -> list[Evidence]:
    """Lists the views that a table gives for a file; views that differ do not decide."""
    views = {text: name_view(text) for text in listed.split(";")}
    agreed = len(set(views.values())) == 1
    reason = reason if agreed or "{}" in reason else f"{reason} {{}}"
    return [(view, reason.format(text), agreed) for text, view in views.items()]


def _judge_codes(tags: Mapping[str, str]) -> list[tuple[str | None, str]]:
    """Lists the view of each item of View Code Sequence, with the reason."""
    values = tags.get("view_code", "").split("\\")
    meanings = tags.get("view_meaning", "").split("\\")
    meanings += [""] * (len(values) - len(meanings))
    pairs = [*zip(values, meanings), *(("", meaning) for meaning in meanings[len(values) :])]
    return [(judge_code(*pair), f"View Code {pair[1] or pair[0]}") for pair in pairs]


def _judge(image: ImageFile, evidence: Sequence[Evidence]) -> ImageFile:
    view, reason = next(((view, reason) for view, reason, decides in evidence if decides), (None, ""))
    conflicts = tuple(reason for other, reason, _ in evidence if other != view)
    return replace(image, view=view, evidence=reason, conflicts=conflicts)


def is_disputed(image: ImageFile) -> bool:
    """Returns True if tables list the file under different views and no other evidence decided."""
    listed = [image.tags.get(name, "").split(";") for name in ("view", "projection")]
    return image.view is None and any(len(set(map(name_view, texts))) > 1 for texts in listed)


def _rank_guess(image: ImageFile) -> tuple[bool, str]:
    """Returns the sort key of an image with unknown view: tagged frontal first (except in Open-i), then by id."""
    image_id = find_image_id(image.path.name)
    return (not is_openi_id(image_id) and not image.conflicts, image_id)


def _name_guess(image: ImageFile, alone: bool, images: Sequence[ImageFile]) -> str:
    if alone:
        return "only image of the study"
    if image.conflicts and not is_openi_id(find_image_id(image.path.name)):
        return f"first image by id with {image.conflicts[0]}"
    if any(other.view in (LATERAL, OTHER) for other in images):
        return "first image by id that is not lateral"
    return "first image of the study by id"
