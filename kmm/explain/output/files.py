"""The files of one explained study: picture, numbers, page, and objects of DICOM."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from kmm.errors import ImageError, look_up, require
from kmm.explain.output import draw
from kmm.explain.output.page import render_page
from kmm.explain.output.pictures import PICTURES, draw_picture, draw_thumbnail
from kmm.explain.output.table import drop_unknown, make_writable
from kmm.explain.regions.find import find_regions, smooth_map
from kmm.storage.files import is_dicom, replace_file, write_json

SUFFIXES = (".json", ".png", ".thumb.jpg", ".html", ".sr.dcm", ".pr.dcm", ".sc.dcm")  # after a study's id
RESERVED = ("index", "explanations")  # what no study's files may be called: names of a folder's own files
SWEEP = tuple(round(0.1 * step, 1) for step in range(1, 10))  # sensitivities of a page's slider


@dataclass(frozen=True)
class Outputs:
    """What is written of each study besides its JSON.

    Attributes:
        picture: name in `PICTURES`: the kind of `<id>.png`.
        page: bool. Whether `<id>.html` is written.
        dicom: bool. Whether films of DICOM get objects of DICOM: a report and a presentation state, `<id>.sr.dcm` and
            `<id>.pr.dcm`, and a Secondary Capture `<id>.sc.dcm` where the film allows no reference.

    Raises:
        InputError: if the kind of picture is unknown.
        MissingPackageError: if objects of DICOM are asked for without highdicom.
    """

    picture: str = "circles"
    page: bool = True
    dicom: bool = False

    def __post_init__(self):
        look_up(PICTURES, self.picture, "kind of picture")
        if self.dicom:
            require("highdicom", "dicom")

    def as_dict(self):
        """The outputs as JSON holds them."""
        return asdict(self)


def write_outputs(explanation, out, outputs, *, name=None, index="index.html"):
    """Writes the files of one study, each whole or not at all.

    Args:
        explanation: `Explanation`.
        out: Path of the folder, which is there.
        outputs: `Outputs`.
        name: str. What the files are called, without their suffixes; None: the id of the study.
        index: str or None. Name of the folder's index, to which pages link; None: there is none.

    Returns:
        list of the names of the files, and list of str: what could not be written of the objects of DICOM, and why.

    Raises:
        OSError: if a file cannot be written.
    """
    name = name or explanation.study
    names, notes = [f"{name}.json"], []
    said = explanation.as_dict()
    if said["image"]:
        said["image"] = make_writable(said["image"])
    write_json(out / names[0], drop_unknown(said))
    if explanation.film is not None:
        names.append(f"{name}.png")
        draw.write_png(out / names[-1], draw_picture(explanation, outputs.picture))
        names.append(f"{name}.thumb.jpg")
        draw.write_jpeg(out / names[-1], draw_thumbnail(explanation))
    if outputs.page:
        names.append(f"{name}.html")
        with replace_file(out / names[-1]) as place:
            place.write_text(render_page(explanation, sweep_regions(explanation), index=index), encoding="utf-8")
    if outputs.dicom and explanation.image:
        made, notes = _write_dicom(explanation, out, name)
        names += made
    return names, notes


def sweep_regions(explanation, sensitivities=SWEEP):
    """The regions that other sensitivities leave.

    Args:
        explanation: `Explanation`.
        sensitivities: sequence of float in [0, 1].

    Returns:
        list of `(sensitivity, list of Region)`; empty without a film.
    """
    if explanation.heat is None:
        return []
    settings, size = explanation.settings.regions, explanation.film.shape
    heat, settings = smooth_map(explanation.heat, settings.smoothing), replace(settings, smoothing=0)
    return [
        (level, find_regions(heat, replace(settings, sensitivity=level), film_size=size)) for level in sensitivities
    ]


def _write_dicom(explanation, out, name):
    """Names of what was written for a film of DICOM, and notes."""
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
        place, said = out / f"{name}.sc.dcm", say_decision(explanation)
        dicom.write_secondary_capture(picture, source, place, said=said)
    except ImageError as error:
        return names, [f"no object of DICOM: {error}"]
    return [*names, f"{name}.sc.dcm"], []
