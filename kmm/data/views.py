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
from dataclasses import replace

from kmm.data.names import VIEW_NAMES, find_image_id, name_view
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
        override: mapping of image id to view, from `load_view_overrides`, or None. It ranks below a lateral tag.

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
        path: file with the columns `file,view`, or `imageid,tsne-view` as in torchxrayvision's list for Open-i. Images
            are matched by `find_image_id`: folder, suffixes and `CXR` do not matter.

    Returns:
        dict of image id to `"frontal"` or `"lateral"`; empty for a table without rows.

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
        image_id, view = find_image_id(row[names[0]].replace("\\", "/").rpartition("/")[2]), name_view(row[names[1]])
        if view is None:
            raise InputError(f"{path}: line {line}: expected a view of {', '.join(VIEW_NAMES)}")
        if views.setdefault(image_id, view) != view:
            raise InputError(f"{path}: line {line}: an image has two views")
    return views


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
        (override.get(find_image_id(image.path.name)), "view override file", True),
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
