"""The header of a DICOM film, reduced to the elements that other objects need to refer to it, and made valid.

De-identified films often lack elements that the standard requires, or have invalid ones. UIDs are copied only if they
are valid; invalid names, dates and ids are left empty, as the standard allows.
"""

from pathlib import Path

import pydicom
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.uid import UID_dictionary
from pydicom.valuerep import DA, PN_DELIMS, TEXT_VR_DELIMS, TM, validate_value

from kmm.errors import ImageError
from kmm.explain.dicom.grays import take_grays
from kmm.image.dicom import DEFLATED
from kmm.image.limits import quiet_decoding

UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
NAMES = ("PatientName", "ReferringPhysicianName")
PATIENT = ("PatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyID", "StudyDate", "StudyTime", "AccessionNumber")
PIXELS = ("Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "PresentationLUTShape", "NumberOfFrames")
MODALITY = (
    "ModalityLUTSequence",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "PixelRepresentation",
    "BitsStored",
)
VOI = ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction")
READ = [*UIDS, *NAMES, *PATIENT, *STUDY, *PIXELS, *MODALITY, *VOI, "LossyImageCompression"]


def read_reference(source: Path | str) -> tuple[pydicom.Dataset, pydicom.Dataset]:
    """Reads the elements of a film's header that other objects need; its pixels are not read.

    Args:
        source: path of a DICOM film.

    Returns:
        `(film, grays)`, two `pydicom.Dataset`s. `film`: UIDs that are valid, patient and study (UTF-8; empty where
        absent or invalid), size and kind of the pixels. `grays`: see `kmm.explain.dicom.grays.take_grays`.

    Raises:
        ImageError: one line, if it is not a DICOM file, or is damaged, without pixels, of several frames, or in colour.
    """
    try:
        with open(source, "rb") as file, quiet_decoding:
            if DEFLATED in file.read(2048):
                raise ImageError(f"{source}: expected a DICOM file that is not deflated as a whole.")
            file.seek(0)
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=READ)
            correct_ambiguous_vr(header, is_little_endian=header.original_encoding[1] is not False)
            _check_pixels(header, source)
            return _take_film(header), take_grays(header, str(source))
    except ImageError:
        raise
    except OSError as error:
        raise ImageError(f"{source}: expected a readable file. Received: {error.strerror}.") from error
    except Exception as error:  # a damaged file makes pydicom raise nearly anything
        raise ImageError(f"{source}: expected a DICOM film. It is not DICOM, or its header is damaged.") from error


def require_reference(film: pydicom.Dataset, source: Path | str) -> None:
    """Rejects a film that no other object can refer to.

    Args:
        film: dataset from `read_reference`.
        source: path of the film, for the error.

    Raises:
        ImageError: one line, if a UID is missing or invalid, or the SOP class is not in the standard.

    Example:
        >>> require_reference(pydicom.Dataset(), "film.dcm")
        Traceback (most recent call last):
        kmm.errors.ImageError: film.dcm: expected valid UIDs. Missing: SOPClassUID, SOPInstanceUID, StudyInstanceUID, \
SeriesInstanceUID.
    """
    missing = [keyword for keyword in UIDS if keyword not in film]
    if missing:
        raise ImageError(f"{source}: expected valid UIDs. Missing: {', '.join(missing)}.")
    if UID_dictionary.get(film.SOPClassUID, ())[1:4] != ("SOP Class", "", ""):
        raise ImageError(f"{source}: expected a SOP class of the standard. Received: {film.SOPClassUID}.")


def _check_pixels(header, source):
    if not header.get("Rows") or not header.get("Columns"):
        raise ImageError(f"{source}: expected a DICOM film. It has no pixels (no Rows and Columns).")
    if int(header.get("NumberOfFrames") or 1) != 1:
        raise ImageError(f"{source}: expected one frame. Received: {header.NumberOfFrames} frames.")
    kind = header.get("PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2") or header.get("SamplesPerPixel", 1) != 1:
        raise ImageError(f"{source}: expected a gray film (MONOCHROME1 or MONOCHROME2). Received: {kind}.")


def _take_film(header):
    film = pydicom.Dataset()
    film.SpecificCharacterSet = "ISO_IR 192"
    film.Rows, film.Columns, film.SamplesPerPixel = header.Rows, header.Columns, 1
    film.PhotometricInterpretation = header.PhotometricInterpretation
    for keyword in (*NAMES, *PATIENT, *STUDY, "PresentationLUTShape", "LossyImageCompression"):
        setattr(film, keyword, _take_text(header, keyword))
    if film.PatientSex not in ("M", "F", "O"):
        film.PatientSex = ""
    for keyword in NAMES:  # DICOM ignores the trailing ^; highdicom needs it to accept a name
        if film[keyword].value and "^" not in film[keyword].value:
            setattr(film, keyword, f"{film[keyword].value}^")
    for keyword in UIDS:
        if uid := _take_text(header, keyword):
            setattr(film, keyword, uid)
    return film


def _take_text(header, keyword):
    """Returns the text of an element; empty if it is absent or invalid."""
    element, vr = header.get_item(keyword), dictionary_VR(keyword)  # raw: pydicom would log invalid values
    if element is None or not element.value:
        return ""
    encodings = convert_encodings(header.get("SpecificCharacterSet"))
    text = decode_bytes(element.value, encodings, PN_DELIMS if vr == "PN" else TEXT_VR_DELIMS).strip("\0 ")
    try:
        validate_value(vr, text, pydicom.config.RAISE)
        {"DA": DA, "TM": TM}.get(vr, str)(text)  # a range of dates is a valid value, but not a date
    except ValueError:
        return ""
    return text
