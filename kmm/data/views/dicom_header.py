"""Read view, sex and age from a DICOM header, and recognise DICOM objects that hold no film."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kmm.data.tabular.attributes import read_attributes
from kmm.errors import InputError

if TYPE_CHECKING:
    import pydicom

_ATTRIBUTES = {"sex": "PatientSex", "age": "PatientAge"}
_READ = ["ViewPosition", "PatientOrientation", "ViewCodeSequence", "SOPClassUID", "Rows", *_ATTRIBUTES.values()]
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
    """The view and the kind of a DICOM object.

    Attributes:
        tags: mapping of `view_position`, `patient_orientation`, `view_code` and `view_meaning` to str; empty values are
            left out. Several items of View Code Sequence are separated by a backslash.
        kind: str. The kind of an object that is not a film, for example `"presentation state"`; empty for a film.
        attributes: mapping of `sex` and `age` of the patient, as `kmm.data.tabular.attributes.read_attributes` returns
            it.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    attributes: Mapping[str, str | float] = field(default_factory=dict, repr=False)


def read_view_header(path: Path | str) -> Header:
    """Reads the view and the kind of a DICOM file from its header; pixels are not read.

    Args:
        path: Path of a DICOM file.

    Returns:
        `Header`.

    Raises:
        InputError: if the header cannot be read, or the whole file is deflated and could expand without limit.
    """
    import pydicom

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid values in other tags do not matter here
            meta = pydicom.filereader.read_file_meta_info(path)
            kind = _name_kind(str(meta.get("MediaStorageSOPClassUID") or ""))
            if kind:
                return Header(kind=kind)
            if meta.get("TransferSyntaxUID") == _DEFLATED:
                raise InputError("the whole file is deflated and could expand without limit")
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_READ)
            return _describe(header, meta)
    except Exception as error:  # pydicom raises many kinds of exception on a damaged header
        raise InputError(f"{path}: the DICOM header cannot be read") from error


def read_dataset_header(dataset: "pydicom.Dataset", name: str) -> Header:
    """Reads the view and the kind of a DICOM object in memory.

    Args:
        dataset: `pydicom.Dataset`.
        name: str, its name in the error.

    Returns:
        `Header`.

    Raises:
        InputError: if an element cannot be read.

    Example:
        >>> from pydicom import Dataset
        >>> dataset = Dataset()
        >>> dataset.Rows, dataset.ViewPosition = 16, "PA"
        >>> read_dataset_header(dataset, "film")
        Header(tags={'view_position': 'PA'}, kind='')
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _describe(dataset, getattr(dataset, "file_meta", None) or {})
    except Exception as error:
        raise InputError(f"{name}: the DICOM header cannot be read") from error


def _describe(header, meta):
    class_uid = str(header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or "")
    kind = _name_kind(class_uid, pictured="Rows" in header)
    if kind:
        return Header(kind=kind)
    about = read_attributes({name: _join(header.get(keyword)) for name, keyword in _ATTRIBUTES.items()})
    return Header(_read_tags(header), attributes=about)


def _name_kind(class_uid: str, *, pictured: bool = True) -> str:
    """Returns the kind of an object without a film; empty for a film, also for a damaged one without a size."""
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
    """Returns the code of an item from any of three elements; of a URN or URL, the last part."""
    code = _join(item.get("CodeValue")) or _join(item.get("LongCodeValue"))
    return code or re.split("[:/]", _join(item.get("URNCodeValue")))[-1]


def _join(value) -> str:
    """Returns a value of one or several parts as one text."""
    if value is None:
        return ""
    return (value if isinstance(value, str) else "\\".join(map(str, value))).strip()
