"""Explanations as DICOM objects in the film's study: a structured report, a presentation state, a picture.

In kmm's coordinates the centre of the film's top left pixel is 0, 0. In DICOM it is 0.5\\0.5, because columns and rows
start at the pixel's outer corner, in the report (SCOORD) and in the presentation state (units PIXEL). So 0.5 is added.
DICOM stores a circle as its centre and a point on it, and both must lie on the film. kmm's circles are drawn on square
pixels; if the film's pixels are not square, the circles are ellipses in pixels of the film.

No text of the report is written, and from the film's header only the elements that identify its patient, its study and
itself. UIDs are derived from the content: explaining the same film again gives the same UIDs, and only dates differ.

Source: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.18.6.html (report),
https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.10.5.html (presentation state)
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from kmm import __version__
from kmm.errors import ImageError, InputError, require
from kmm.explain.decision import DISCLAIMER
from kmm.explain.dicom.header import NAMES, UIDS, read_reference, require_reference
from kmm.explain.dicom.report import SCHEME, build_report, name_circle, say_decision
from kmm.explain.explained_study import ExplainedStudy
from kmm.explain.regions.find import Region
from kmm.image.pixel_aspect import find_pixel_scale
from kmm.storage.files import replace_file

DESCRIPTION = "kmm explanation, not for diagnosis"
YELLOW = (89.1, -13.3, 75.5)  # `kmm.explain.output.draw.CIRCLE` as CIELab
CORNERS = 64  # of the polygon that approximates an ellipse cut by the edge of the film
SERIES = {"SR": 9001, "PR": 9002, "OT": 9003}  # modality of an object to the number of its series in the study


def locate_circle(region: Region, rows: int, columns: int) -> np.ndarray:
    """Converts a region to the two points by which DICOM stores a circle.

    Args:
        region: `Region` whose centre lies on the film.
        rows, columns: int. Size of the film.

    Returns:
        float array `(2, 2)`: the centre and a point on the circle, each as column and row, within 0..columns and
        0..rows. The point lies left or right of the centre if that is on the film, else above or below it, else
        towards the farthest corner; for a circle around the whole film it is that corner.

    Example:
        >>> from kmm.explain.regions.find import Region
        >>> locate_circle(Region(x=4, y=9, radius=3, weight=1), rows=20, columns=10).tolist()
        [[4.5, 9.5], [7.5, 9.5]]
    """
    center = np.array([region.x, region.y]) + 0.5
    size = np.array([columns, rows])
    room = np.where(center <= size / 2, size, 0) - center
    for direction in ((1, 0), (0, 1), (1, 1)):
        way = room * direction
        length = np.hypot(*way)
        if region.radius <= length:
            break
    return np.array([center, center + way * min(1, region.radius / length)])


def outline_region(
    region: Region, rows: int, columns: int, scale: tuple[float, float] = (1.0, 1.0)
) -> tuple[str, np.ndarray]:
    """Converts a region to the outline that DICOM stores: a circle or, on pixels that are not square, an ellipse.

    Args:
        region: `Region` in square pixels, whose centre lies on the film.
        rows, columns: int. Size of the film in its own pixels.
        scale: `(across, down)`, square pixels per pixel of the film, from `kmm.image.pixel_aspect.find_pixel_scale`.

    Returns:
        `(graphic type, float array (n, 2))`, columns and rows within 0..columns and 0..rows: `"CIRCLE"`, the points of
        `locate_circle`; `"ELLIPSE"`, the ends of its major and of its minor axis; or, for an ellipse that crosses the
        edge of the film, `"POLYLINE"`, the closed outline of its part on the film.

    Example:
        >>> from kmm.explain.regions.find import Region
        >>> kind, points = outline_region(Region(x=4, y=19, radius=3, weight=1), rows=20, columns=10, scale=(1, 2))
        >>> kind, points.tolist()
        ('ELLIPSE', [[1.5, 9.75], [7.5, 9.75], [4.5, 8.25], [4.5, 11.25]])
    """
    if tuple(scale) == (1.0, 1.0):
        return "CIRCLE", locate_circle(region, rows, columns)
    center, radii = (np.array([region.x, region.y]) + 0.5) / scale, region.radius / np.array(scale)
    size = np.array([columns, rows])
    if (center >= radii).all() and (center + radii <= size).all():
        major = int(radii[1] > radii[0])
        axes = [np.eye(2)[axis] * radii[axis] for axis in (major, 1 - major)]
        return "ELLIPSE", np.array([center + sign * axis for axis in axes for sign in (-1, 1)])
    angles = np.linspace(0, 2 * np.pi, CORNERS + 1)
    points = center + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points[-1] = points[0]
    return "POLYLINE", np.clip(points, 0, size)


def write_structured_report(explanation: ExplainedStudy, source: Path | str, path: Path | str) -> None:
    """Writes the regions and the label's probability as a Comprehensive SR (TID 1500), partial and unverified.

    It holds a measurement group for the film with the label's probability, its threshold and the decision, and one for
    each region with its outline on the film (`outline_region`) and its weight as the measurement "Saliency". An outline
    is named attribution, and a label below its threshold is marked as such. Each group states that it is not for
    diagnosis, and names the algorithm: kmm, its version, the classifier's digest and the settings.

    Args:
        explanation: `Explanation` of a film. Without regions only the group of the film is written.
        source: path of the DICOM film that was explained.
        path: str or Path of the file to write, whole or not at all.

    Raises:
        ImageError: one line, if the source is not a single gray DICOM film, is not the explained one, or lacks the
            valid UIDs that a reference needs.
        MissingPackageError: if highdicom is not installed.

    Source: https://dicom.nema.org/medical/dicom/current/output/chtml/part16/chapter_A.html#sect_TID_1500
    """
    highdicom = require("highdicom", "dicom")
    film, _ = read_reference(source)
    require_reference(film, source)
    scale = _check_size(film, explanation, source)
    report = highdicom.sr.ComprehensiveSR(
        evidence=[film],
        content=build_report(
            highdicom.sr,
            film,
            explanation,
            device_uid=_make_uid("device", explanation.model),
            label_uid=_make_uid("label", film.SOPClassUID, film.SOPInstanceUID, _summarise(explanation)),
            outlines=_list_outlines(film, explanation, scale),
        ),
        coding_schemes=[highdicom.coding_schemes.CodingSchemeIdentificationItem(SCHEME, name="Labels of kmm")],
        **_describe("SR", film, _summarise(explanation), explanation.model),
    )
    _save(report, path)


def write_presentation_state(explanation: ExplainedStudy, source: Path | str, path: Path | str) -> None:
    """Writes the circles as a Grayscale Softcopy Presentation State, for a viewer to draw on the film itself.

    The film is shown as its header says: modality and VOI tables or the first window, inverted if MONOCHROME1. A line
    at the top states that it is not for diagnosis, the label's probability, its threshold and the decision. If this
    raises `ImageError`, `write_secondary_capture` may still work.

    Args:
        explanation, source, path: as for `write_structured_report`. Without regions only the line is drawn.

    Raises:
        ImageError, MissingPackageError: as `write_structured_report`.
    """
    highdicom = require("highdicom", "dicom")
    film, grays = read_reference(source)
    require_reference(film, source)
    scale = _check_size(film, explanation, source)
    pr = highdicom.pr
    color = highdicom.color.CIELabColor(*YELLOW)
    layer = pr.GraphicLayer("KMM", order=1, description=f"{DESCRIPTION}: regions", display_color=color)
    circles = [
        pr.GraphicObject(kind, points, "PIXEL", tracking_id=name, tracking_uid=uid)
        for uid, name, kind, points in _list_outlines(film, explanation, scale)
    ]
    line = pr.TextObject(
        say_decision(explanation), "DISPLAY", bounding_box=(0.0, 0.0, 1.0, 0.05), text_justification="LEFT"
    )
    inverse = film.PhotometricInterpretation == "MONOCHROME1" or film.PresentationLUTShape == "INVERSE"
    state = pr.GrayscaleSoftcopyPresentationState(
        referenced_images=[film],
        content_label="KMM REGIONS",
        content_description=name_circle(explanation),
        graphic_layers=[layer],
        graphic_annotations=[pr.GraphicAnnotation([film], layer, graphic_objects=circles or None, text_objects=[line])],
        presentation_lut_transformation=highdicom.PresentationLUTTransformation("INVERSE" if inverse else "IDENTITY"),
        **_describe("PR", film, _summarise(explanation), explanation.model),
    )
    state.update(grays)
    state.Laterality = None  # type 2C, which an unpaired part may leave empty but not out
    if scale != (1.0, 1.0):
        aspect = [round(scale[1] * film.Rows) * film.Columns, round(scale[0] * film.Columns) * film.Rows]
        factor = math.gcd(*aspect)
        state.DisplayedAreaSelectionSequence[0].PresentationPixelAspectRatio = [part // factor for part in aspect]
    _save(state, path)


def write_secondary_capture(
    picture: np.ndarray, source: Path | str, path: Path | str, *, said: str = DISCLAIMER
) -> None:
    """Writes a drawn picture as a Secondary Capture in the film's study.

    Args:
        picture: uint8 array `(h, w, 3)`, RGB.
        source: path of the DICOM film that was drawn on. It may lack valid UIDs: the picture then becomes a study of
            its own, of the same patient.
        path: str or Path of the file to write, whole or not at all.
        said: str. The comment of the picture.

    Raises:
        InputError: if `picture` is not such an array.
        ImageError: one line, if the source is not a single gray DICOM film.
        MissingPackageError: if highdicom is not installed.
    """
    picture = np.asarray(picture)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise InputError(f"`picture` must be uint8 (h, w, 3). Received: {picture.dtype} {picture.shape}.")
    highdicom = require("highdicom", "dicom")
    film, _ = read_reference(source)
    digest = hashlib.sha256(picture.tobytes() + repr(picture.shape).encode("utf-8")).hexdigest()
    referable = all(uid in film for uid in UIDS)
    if "StudyInstanceUID" not in film:
        film.StudyInstanceUID = _make_uid("study", film.PatientID, digest)
    capture = highdicom.sc.SCImage.from_ref_dataset(
        ref_dataset=film,
        pixel_array=np.ascontiguousarray(picture),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **_describe("OT", film, digest),
    )
    capture.Laterality = None  # type 2C, as in the presentation state
    capture.PatientOrientation = None  # unknown: the picture may show more than the film
    capture.BurnedInAnnotation = "YES"
    capture.ImageComments = said
    if referable:
        capture.SourceImageSequence = highdicom.ReferencedImageSequence([film])
    if film.LossyImageCompression == "01":  # the standard requires derived images to keep this mark
        capture.LossyImageCompression = "01"
    _save(capture, path)


def _list_outlines(film, explanation, scale):
    """Lists `(UID, name, graphic type, points)` of each region, equal in the report and in the presentation state."""
    summary = _summarise(explanation)
    return [
        (
            _make_uid("region", film.SOPInstanceUID, summary, number),
            f"kmm region {number}",
            *outline_region(region, film.Rows, film.Columns, scale),
        )
        for number, region in enumerate(explanation.regions, 1)
    ]


def _summarise(explanation):
    """Returns the content of an explanation's objects as text, from which their UIDs are derived."""
    regions = [[region.x, region.y, region.radius, region.weight] for region in explanation.regions]
    target, settings = explanation.target, explanation.settings.as_dict()
    limits = [explanation.probabilities[target], explanation.thresholds.get(target)]
    return json.dumps([target, limits, regions, settings, explanation.model], default=float)


def _describe(modality, film, content, model=""):
    """Returns the arguments of highdicom's classes that identify the object, its series and its manufacturer."""
    return {
        "series_instance_uid": _make_uid("series", modality, film.StudyInstanceUID, model),
        "series_number": SERIES[modality],
        "series_description": DESCRIPTION,
        "sop_instance_uid": _make_uid("object", modality, film.get("SOPInstanceUID"), content),
        "instance_number": 1,
        "manufacturer": "kmm",
        "manufacturer_model_name": "kmm",
        "software_versions": __version__,
        "device_serial_number": model or None,
    }


def _make_uid(*parts):
    return generate_uid(entropy_srcs=[json.dumps([__version__, *parts])])


def _check_size(film, explanation, source):
    """Returns the pixel scale of the film; raises `ImageError` if its size differs from the explained film's."""
    scale = find_pixel_scale(source)
    columns, rows = round(film.Columns * scale[0]), round(film.Rows * scale[1])
    if explanation.film is not None and explanation.film.shape != (rows, columns):
        height, width = explanation.film.shape
        raise ImageError(
            f"{source}: expected the film that was explained, {width}x{height}. Received: {columns}x{rows}."
        )
    return scale


def _save(dataset, path):
    for keyword in NAMES:
        setattr(dataset, keyword, str(dataset.get(keyword) or "").rstrip("^"))  # as in the film
    with replace_file(path) as place:
        dataset.save_as(place, enforce_file_format=True)
