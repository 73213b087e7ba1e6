"""Which image of a study is frontal, by ranked evidence.

The first line of evidence that fires decides, and is kept with the image:

    1. the override file (`--views`)
    2. the `view` column of a manifest
    3. the projections table
    4. View Code Sequence or View Position that states another view than frontal
    5. Patient Orientation of a sagittal plane (lateral) or a transverse one (neither)
    6. View Code Sequence or View Position that states frontal, for the only image of a study
    7. where no image of the study is frontal yet: the first by id of which nothing else is stated, or the only one; one
       that is tagged frontal comes before one that is not, except in Open-i

A view that is stated and is neither frontal nor lateral (oblique, decubitus, a term that is not known) is `"other"`;
such an image never passes for frontal. A tag of PA or AP decides nothing in a study of several images: in Open-i a
third of such tags sit on laterals. A table that lists a file as frontal and as lateral decides nothing for it. Evidence
that says otherwise than the decision is kept in `conflicts`; an image that stays unknown keeps there the tags that did
not count. No rule looks at the pixels.
"""

from collections import defaultdict
from dataclasses import replace
from pathlib import PureWindowsPath

from kmm.data.names import find_image_id, is_openi_id, make_printable
from kmm.data.rows import read_rows, show_columns
from kmm.data.study import FRONTAL, LATERAL, OTHER
from kmm.data.views.terms import VIEW_NAMES, judge_code, judge_orientation, judge_term, name_view
from kmm.errors import InputError

_OVERRIDE_COLUMNS = (("file", "view"), ("imageid", "tsne-view"))


def assign_views(study, override=None):
    """Decides for each image of a study whether it is frontal, and keeps the reason.

    Args:
        study: `Study`, its images with the tags that the reader found.
        override: mapping of paths of images to views, from `match_overrides`, or None. It wins over all other evidence.

    Returns:
        `Study` with `view`, `evidence` and `conflicts` set on each image; the same study when it has none.

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


def load_view_overrides(path):
    """Reads views by image from a CSV.

    Args:
        path: file with the columns `file,view`, or `imageid,tsne-view` as in torchxrayvision's list for Open-i.

    Returns:
        dict of name to `"frontal"`, `"lateral"` or `"other"`, for `match_overrides`; empty for a table without rows. A
        name is a path without suffixes of images, `p1/film` of `p1/film.png`; of an Open-i image it is the id alone.

    Raises:
        InputError: if the columns are absent, a view is not known, or an image has two views.
    """
    columns, rows, problems = read_rows(path)
    if problems:
        raise InputError(str(problems[0]))
    names = next((pair for pair in _OVERRIDE_COLUMNS if set(pair) <= set(columns)), None)
    if names is None:
        raise InputError(f"{path}: expected the columns file,view. Found: {show_columns(columns)}")
    views = {}
    for line, row in rows:
        name, view = _name_image(PureWindowsPath(row[names[0]])), name_view(row[names[1]])
        if view is None:
            raise InputError(f"{path}: line {line}: expected a view of {', '.join(VIEW_NAMES)}")
        if views.setdefault(name, view) != view:
            raise InputError(f"{path}: line {line}: an image has two views")
    return views


def match_overrides(overrides, images):
    """Finds the images that a list of views means.

    A name means the image with this path from the folder; where there is none, the one whose path ends so, as a file
    name alone does. Names of Open-i images are told apart without folders.

    Args:
        overrides: mapping of name to view, from `load_view_overrides`, or None.
        images: mapping of the paths of all images to their paths from the folder of studies.

    Returns:
        dict of the paths of images to views. Names of no image are passed over.

    Raises:
        InputError: if a name may mean several images, or an image has two views by two names.

    Example:
        >>> from pathlib import Path
        >>> images = {Path("d/p1/film.png"): Path("p1/film.png"), Path("d/p2/film.png"): Path("p2/film.png")}
        >>> [path.as_posix() for path in match_overrides({"p1/film": "lateral"}, images)]
        ['d/p1/film.png']
    """
    exact, tails = _index_images(overrides or {}, images)
    found = {}
    for name, view in (overrides or {}).items():
        meant = exact.get(name) or tails.get(name, ())
        if len(meant) > 1 and not is_openi_id(name):
            raise InputError(f"The list of views: {len(meant)} images are called {name!r}. Expected their folders too.")
        for path in meant:
            if found.setdefault(path, view) != view:
                said = make_printable(images[path].as_posix())
                raise InputError(f"The list of views: {said} is listed as {found[path]} and as {view}. Keep one row.")
    return found


def _index_images(overrides, images):
    """The images of each listed name: those whose path from the folder it is, and those whose whole path ends so."""
    exact, tails = defaultdict(list), defaultdict(list)
    depths = sorted({name.count("/") + 1 for name in overrides})
    for path, place in images.items() if overrides else ():
        if (name := _name_image(place)) in overrides:
            exact[name].append(path)
        parts = _name_image(path.absolute()).split("/")
        for depth in depths:
            if depth <= len(parts) and (tail := "/".join(parts[-depth:])) in overrides:
                tails[tail].append(path)
    return exact, tails


def _name_image(path):
    """A path with `/` and its file name as `find_image_id` has it; that alone where it is of Open-i."""
    image_id = find_image_id(path.name)
    return image_id if is_openi_id(image_id) or not image_id else path.with_name(image_id).as_posix()


def _gather_evidence(image, override, alone):
    """Lists `(view, reason, whether it may decide)`, best first."""
    tags = image.tags
    position, plane = tags.get("view_position", ""), tags.get("patient_orientation", "")
    stated = [*_judge_codes(tags), (judge_term(position), f"View Position {position}")]
    lines = [
        (override.get(image.path), "view override file", True),
        *_judge_listed(tags.get("view", ""), "view column {}"),
        *_judge_listed(tags.get("projection", ""), "projections table"),
        *((view, reason, True) for view, reason in stated if view != FRONTAL),
        (judge_orientation(plane), f"Patient Orientation {plane[:1] if plane[:1] in ('A', 'P') else plane}", True),
        *((view, reason, alone) for view, reason in stated if view == FRONTAL),
    ]
    return [line for line in lines if line[0]]


def _judge_listed(listed, reason):
    """What a table says of a file, one line for each of its views; two that differ decide nothing."""
    views = {text: name_view(text) for text in listed.split(";")}
    agreed = len(set(views.values())) == 1
    reason = reason if agreed or "{}" in reason else f"{reason} {{}}"
    return [(view, reason.format(text), agreed) for text, view in views.items()]


def _judge_codes(tags):
    """What View Code Sequence says, one line for each of its items."""
    values = tags.get("view_code", "").split("\\")
    meanings = tags.get("view_meaning", "").split("\\")
    meanings += [""] * (len(values) - len(meanings))
    pairs = [*zip(values, meanings), *(("", meaning) for meaning in meanings[len(values) :])]
    return [(judge_code(*pair), f"View Code {pair[1] or pair[0]}") for pair in pairs]


def _judge(image, evidence):
    view, reason = next(((view, reason) for view, reason, decides in evidence if decides), (None, ""))
    conflicts = tuple(reason for other, reason, _ in evidence if other != view)
    return replace(image, view=view, evidence=reason, conflicts=conflicts)


def is_disputed(image):
    """True if tables list the file under different views and nothing else decided which it is."""
    listed = [image.tags.get(name, "").split(";") for name in ("view", "projection")]
    return image.view is None and any(len(set(map(name_view, texts))) > 1 for texts in listed)


def _rank_guess(image):
    """Sorts images of which no view is known: of Open-i by id alone, of others those that are tagged frontal first."""
    image_id = find_image_id(image.path.name)
    return (not is_openi_id(image_id) and not image.conflicts, image_id)


def _name_guess(image, alone, images):
    if alone:
        return "only image of the study"
    if image.conflicts and not is_openi_id(find_image_id(image.path.name)):
        return f"first image by id with {image.conflicts[0]}"
    if any(other.view in (LATERAL, OTHER) for other in images):
        return "first image by id that is not lateral"
    return "first image of the study by id"
