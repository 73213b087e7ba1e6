"""DICOM films, and DICOM files of a few tags without pixels."""

import io

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

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


def make_film(height=40, width=50, top=4095):
    """Stored values 0..top, rising from the left to the right, with a little texture."""
    ramp = np.linspace(0, top, width)[None] + np.random.default_rng(0).normal(0, top / 50, (height, width))
    return np.clip(ramp, 0, top).astype(np.uint16)


def make_dataset(stored, **tags):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["kmm"])
    dataset.SOPClassUID = ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
    dataset.Modality = "CR"
    dataset.Rows, dataset.Columns = stored.shape[-2:]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = 8 * stored.itemsize
    dataset.BitsStored = 12 if stored.itemsize == 2 else 8
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    dataset.PixelData = stored.tobytes()
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.HighBit = tags.get("HighBit", dataset.BitsStored - 1)
    dataset["PixelData"].VR = "OW"
    return dataset


def encode(dataset):
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()
