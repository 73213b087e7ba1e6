"""Which image of a study is frontal, by ranked evidence.

The first line of evidence that fires decides, and is kept with the image:

    1. the `view` column of a manifest
    2. the projections table
    3. View Position that says lateral
    4. Patient Orientation A or P: lateral
    5. the override file
    6. View Position PA or AP, for the only image of a study
    7. where no image of the study is frontal yet: the first by id that is not lateral, or the only one

View Position PA or AP decides nothing in a study of several images: in Open-i a third of such tags sit on laterals.
Evidence that says otherwise than the decision is kept in `conflicts`; an image that stays unknown keeps there the tags
that did not count. No rule looks at the pixels.
"""

import warnings
from collections import defaultdict
from dataclasses import replace
from pathlib import PureWindowsPath

from kmm.data.names import VIEW_NAMES, find_image_id, is_openi_id, name_view
from kmm.data.study import FRONTAL, LATERAL
from kmm.data.table import read_rows, show_columns
from kmm.errors import InputError

_VIEW_TAGS = ["ViewPosition", "PatientOrientation"]
_DEFLATED = "1.2.840.10008.1.2.1.99"
_OVERRIDE_COLUMNS = (("file", "view"), ("imageid", "tsne-view"))


def assign_views(study, override=None):
    """Decides for each image of a study whether it is frontal, and keeps the reason.

    Args:
        study: `Study`, its images with the tags that the reader found.
        override: mapping of paths of images to views, from `match_overrides`, or None. It ranks below a lateral tag.

    Returns:
        `Study` with `view`, `evidence` and `conflicts` set on each image; the same study when it has none.

    Example:
        >>> from pathlib import Path
        >>> from kmm.data.study import ImageFile, Study
        >>> study = Study("7", "7", (ImageFile(Path("7-1.png")), ImageFile(Path("7-2.png"), tags={"view": "PA"})))
        >>> [(image.view, image.evidence) for image in assign_views(study).images]
        [(None, ''), ('frontal', 'view column PA')]
    """
    alone = len(study.images) == 1
    images = [_judge(image, _gather_evidence(image, override or {}, alone)) for image in study.images]
    if all(image.view != FRONTAL for image in images):
        unknown = [index for index, image in enumerate(images) if image.view is None]
        if unknown:
            first = min(unknown, key=lambda index: find_image_id(images[index].path.name))
            images[first] = replace(images[first], view=FRONTAL, evidence=_name_guess(alone, images), conflicts=())
    return replace(study, images=tuple(images))


def load_view_overrides(path):
    """Reads views by image from a CSV.

    Args:
        path: file with the columns `file,view`, or `imageid,tsne-view` as in torchxrayvision's list for Open-i.

    Returns:
        dict of name to `"frontal"` or `"lateral"`, for `match_overrides`; empty for a table without rows. A name is a
        path without suffixes of images, `p1/film` of `p1/film.png`; of an Open-i image it is the id alone.

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
        InputError: if a name may mean several images.

    Example:
        >>> from pathlib import Path
        >>> images = {Path("d/p1/film.png"): Path("p1/film.png"), Path("d/p2/film.png"): Path("p2/film.png")}
        >>> [path.as_posix() for path in match_overrides({"p1/film": "lateral"}, images)]
        ['d/p1/film.png']
    """
    alike, found = defaultdict(list), {}
    for path in images if overrides else ():
        alike[find_image_id(path.name)].append(path)
    for name, view in (overrides or {}).items():
        candidates = alike.get(name.rpartition("/")[2], [])
        exact = [path for path in candidates if _name_image(images[path]) == name]
        meant = exact or [path for path in candidates if f"/{_name_image(path.absolute())}".endswith(f"/{name}")]
        if len(meant) > 1 and not is_openi_id(name):
            raise InputError(f"The list of views: {len(meant)} images are called {name!r}. Expected their folders too.")
        found |= {path: view for path in meant}
    return found


def _name_image(path):
    """A path with `/` and its file name as `find_image_id` has it; that alone where it is of Open-i."""
    image_id = find_image_id(path.name)
    return image_id if is_openi_id(image_id) or not image_id else path.with_name(image_id).as_posix()


def read_view_tags(path):
    """Reads from the header of a DICOM file what the view rules need; pixels are not read.

    Returns:
        dict with `view_position` and `patient_orientation`, each only where it is not empty.

    Raises:
        InputError: if the header cannot be read.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values in other tags are no concern of the view
            if pydicom.filereader.read_file_meta_info(path).get("TransferSyntaxUID") == _DEFLATED:
                raise InputError("the file is deflated as a whole, and may unpack without end")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_VIEW_TAGS)
            position = str(header.get("ViewPosition") or "").strip().upper()
            orientation = header.get("PatientOrientation") or ""
    except Exception as error:  # a damaged header makes pydicom raise nearly anything
        raise InputError(f"{path}: the DICOM header cannot be read") from error
    orientation = orientation if isinstance(orientation, str) else "\\".join(map(str, orientation))
    tags = {"view_position": position, "patient_orientation": orientation.strip().upper()}
    return {name: value for name, value in tags.items() if value}


def _gather_evidence(image, override, alone):
    """Lists `(view, reason, whether it may decide)`, best first."""
    tags = image.tags
    position, orientation = tags.get("view_position", ""), tags.get("patient_orientation", "")
    tagged = name_view(position)
    lines = [
        (name_view(tags.get("view", "")), f"view column {tags.get('view', '')}", True),
        (name_view(tags.get("projection", "")), "projections table", True),
        (LATERAL if tagged == LATERAL else None, f"View Position {position}", True),
        (LATERAL if orientation[:1] in ("A", "P") else None, f"Patient Orientation {orientation[:1]}", True),
        (override.get(image.path), "view override file", True),
        (FRONTAL if tagged == FRONTAL else None, f"View Position {position}", alone),
    ]
    return [line for line in lines if line[0]]


def _judge(image, evidence):
    view, reason = next(((view, reason) for view, reason, decides in evidence if decides), (None, ""))
    conflicts = tuple(reason for other, reason, _ in evidence if other != view)
    return replace(image, view=view, evidence=reason, conflicts=conflicts)


def _name_guess(alone, images):
    if alone:
        return "only image of the study"
    if any(image.view == LATERAL for image in images):
        return "first image by id that is not lateral"
    return "first image of the study by id"
