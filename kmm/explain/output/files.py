"""Files of one explained study: JSON, picture, thumbnail, page, and DICOM objects."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kmm.errors import ImageError, look_up, require
from kmm.explain.explained_study import ExplainedStudy
from kmm.explain.output import draw
from kmm.explain.output.page import render_page
from kmm.explain.output.pictures import PICTURES, draw_picture, draw_thumbnail
from kmm.explain.output.table import drop_unknown, make_writable
from kmm.explain.regions.find import Region, find_regions, smooth_map
from kmm.storage.file_kinds import is_dicom
from kmm.storage.files import replace_file, write_json

SUFFIXES = (".json", ".png", ".thumb.jpg", ".html", ".sr.dcm", ".pr.dcm", ".sc.dcm")  # after a study's id
RESERVED = ("index", "explanations")  # names of a folder's own files, which no study's files may have
SWEEP = tuple(round(0.1 * step, 1) for step in range(1, 10))  # sensitivities of a page's slider


@dataclass(frozen=True)
class Outputs:
    """Choice of the files that are written for each study besides its JSON.

    Attributes:
        picture: name in `PICTURES`: the kind of `<id>.png`.
        page: bool. Whether to write `<id>.html`.
        dicom: bool. Whether to write DICOM objects for DICOM films: a report `<id>.sr.dcm` and a presentation state
            `<id>.pr.dcm`, or a Secondary Capture `<id>.sc.dcm` if no object can refer to the film.

    Raises:
        InputError: if the kind of picture is unknown.
        MissingPackageError: if `dicom` is true and highdicom is not installed.
    """

    picture: str = "circles"
    page: bool = True
    dicom: bool = False

    def __post_init__(self) -> None:
        look_up(PICTURES, self.picture, "kind of picture")
        if self.dicom:
            require("highdicom", "dicom")

    def as_dict(self) -> dict[str, Any]:
        """Returns the choice as a dict that JSON can hold."""
        return asdict(self)


def write_outputs(
    explanation: ExplainedStudy,
    out: Path,
    outputs: Outputs,
    *,
    name: str | None = None,
    index: str | None = "index.html",
    others: Mapping[str, str] | None = None,
) -> tuple[list[str], list[str]]:
    """Writes the files of one study, each whole or not at all.

    Args:
        explanation: `Explanation`.
        out: Path of an existing folder.
        outputs: `Outputs`.
        name: str. Name of the files, without suffixes; None: the id of the study.
        index: str or None. Name of the folder's index, to which pages link; None: no link.
        others: mapping of other explained labels of the study to the names of their files, without suffixes; the page
            links to their pages.

    Returns:
        list of the names of the files, and list of notes: which DICOM objects could not be written, and why.

    Raises:
        OSError: if a file cannot be written.
    """
    name = name or explanation.study
    names, notes = [f"{name}.json"], []
    values = explanation.as_dict()
    if values["image"]:
        values["image"] = make_writable(values["image"])
    write_json(out / names[0], drop_unknown(values))
    if explanation.film is not None:
        names.append(f"{name}.png")
        draw.write_png(out / names[-1], draw_picture(explanation, outputs.picture))
        names.append(f"{name}.thumb.jpg")
        draw.write_jpeg(out / names[-1], draw_thumbnail(explanation))
    if outputs.page:
        names.append(f"{name}.html")
        pages = {label: f"{other}.html" for label, other in (others or {}).items()}
        page = render_page(explanation, sweep_regions(explanation), index=index, others=pages)
        with replace_file(out / names[-1]) as place:
            place.write_text(page, encoding="utf-8")
    if outputs.dicom and explanation.image:
        written, notes = _write_dicom(explanation, out, name)
        names += written
    return names, notes


def sweep_regions(
    explanation: ExplainedStudy, sensitivities: Sequence[float] = SWEEP
) -> list[tuple[float, list[Region]]]:
    """Finds the regions at several sensitivities.

    Args:
        explanation: `Explanation`.
        sensitivities: sequence of float in [0, 1].

    Returns:
        list of `(sensitivity, list of Region)`; empty without a film.
    """
    if explanation.heat is None or explanation.film is None:
        return []
    settings, size = explanation.settings.regions, explanation.film.shape
    heat, settings = smooth_map(explanation.heat, settings.smoothing), replace(settings, smoothing=0)
    return [
        (level, find_regions(heat, replace(settings, sensitivity=level), film_size=size)) for level in sensitivities
    ]


def _write_dicom(explanation, out, name):
    """Writes the DICOM objects of a DICOM film; returns their names, and notes on those that could not be written."""
    from kmm.explain.dicom import objects as dicom
    from kmm.explain.dicom.report import say_decision

    source, names = Path(explanation.image), []
    if not is_dicom(source):
        return [], []
    for suffix, write in ((".sr.dcm", dicom.write_structured_report), (".pr.dcm", dicom.write_presentation_state)):
        try:
            write(explanation, source, out / f"{name}{suffix}")
            names.append(f"{name}{suffix}")
        except ImageError:
            break
    else:
        return names, []
    try:
        picture = draw_picture(explanation, "circles")
        dicom.write_secondary_capture(picture, source, out / f"{name}.sc.dcm", said=say_decision(explanation))
    except ImageError as error:
        return names, [f"no DICOM object was written: {error}"]
    return [*names, f"{name}.sc.dcm"], []
