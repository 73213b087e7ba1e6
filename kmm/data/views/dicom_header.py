"""What the header of a DICOM file says of its view, and whether the file holds a film at all."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

from kmm.errors import InputError

_READ = ["ViewPosition", "PatientOrientation", "ViewCodeSequence", "SOPClassUID", "Rows"]
_DEFLATED = "1.2.840.10008.1.2.1.99"
_STORAGE = "1.2.840.10008.5.1.4.1.1."
# SOP classes that hold no film, by the beginning of their UID.
# Source: https://dicom.nema.org/medical/dicom/current/output/chtml/part04/sect_B.5.html
_NO_FILM = {
    "1.2.840.10008.1.3.10": "DICOMDIR",
    f"{_STORAGE}11.": "presentation state",
    f"{_STORAGE}88.": "structured report",
    f"{_STORAGE}104.": "encapsulated document",
    f"{_STORAGE}9.": "waveform",
    f"{_STORAGE}66.": "segmentation or registration",
    f"{_STORAGE}481.": "radiotherapy object",
}


@dataclass(frozen=True)
class Header:
    """What was read of a header.

    Attributes:
        tags: mapping of `view_position`, `patient_orientation`, `view_code` and `view_meaning` to str, each only where
            it is not empty. Several items of View Code Sequence are separated by a backslash.
        kind: str. What the object is if it is no film, as `"presentation state"`; empty for a film.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""


def read_view_header(path):
    """Reads from the header of a DICOM file what tells its view and its kind; pixels are not read.

    Args:
        path: Path of a DICOM file.

    Returns:
        `Header`.

    Raises:
        InputError: if the header cannot be read, or the file is deflated as a whole and may unpack without end.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd values in other tags do not matter here
            meta = pydicom.filereader.read_file_meta_info(path)
            kind = _name_kind(str(meta.get("MediaStorageSOPClassUID") or ""))
            if kind:
                return Header(kind=kind)
            if meta.get("TransferSyntaxUID") == _DEFLATED:
                raise InputError("the file is deflated as a whole, and may unpack without end")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_READ)
            class_uid = str(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
            kind = _name_kind(class_uid, pictured="Rows" in header)
            return Header({} if kind else _read_tags(header), kind)
    except Exception as error:  # a damaged header makes pydicom raise nearly anything
        raise InputError(f"{path}: the DICOM header cannot be read") from error


def _name_kind(class_uid, *, pictured=True):
    """What an object is if it holds no film; one of an image class without a size counts as a damaged film."""
    from pydicom.uid import UID

    for beginning, kind in _NO_FILM.items():
        if class_uid.startswith(beginning):
            return kind
    return (
        "" if pictured or not class_uid or "Image Storage" in UID(class_uid).name else "DICOM object without an image"
    )


def _read_tags(header):
    items = [(_read_code(item), _join(item.get("CodeMeaning"))) for item in header.get("ViewCodeSequence") or ()]
    items = [item for item in items if any(item)]
    tags = {
        "view_position": _join(header.get("ViewPosition")).upper(),
        "patient_orientation": _join(header.get("PatientOrientation")).upper(),
        "view_code": "\\".join(code for code, _ in items),
        "view_meaning": "\\".join(meaning.replace("\\", " ") for _, meaning in items),
    }
    return {name: value for name, value in tags.items() if value.strip("\\ ")}


def _read_code(item):
    """The code of an item, in whichever of the three elements it stands; of a URN or URL its last part."""
    code = _join(item.get("CodeValue")) or _join(item.get("LongCodeValue"))
    return code or re.split("[:/]", _join(item.get("URNCodeValue")))[-1]


def _join(value):
    """A value of one or several parts as one text."""
    if value is None:
        return ""
    return (value if isinstance(value, str) else "\\".join(map(str, value))).strip()
