"""DICOM files of a few tags, for tests of what a header says."""

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

CR = "1.2.840.10008.5.1.4.1.1.1"


def write_dicom(path, *, syntax=ExplicitVRLittleEndian, class_uid=CR, **tags):
    """Writes a DICOM file without pixels; returns its path."""
    header = Dataset()
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = syntax
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = class_uid
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = "1.2.3"
    for name, value in tags.items():
        setattr(header, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    header.save_as(path, enforce_file_format=True)
    return path


def make_codes(*pairs):
    """A View Code Sequence of items of a value and a meaning, either of them None for absent."""
    items = []
    for value, meaning in pairs:
        item = Dataset()
        if value is not None:
            item.CodeValue, item.CodingSchemeDesignator = value, "SRT" if value.startswith("R-") else "SCT"
        if meaning is not None:
            item.CodeMeaning = meaning
        items.append(item)
    return Sequence(items)
