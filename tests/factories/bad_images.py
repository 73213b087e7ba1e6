"""Image files that cannot be used, and what is said of each."""

import io
import struct
import zlib

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from tests.factories.commands import CANARY


def png(width, height, rows):
    """A gray PNG of one bit a pixel, of `rows`, bytes for the decoder."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def make_bomb():
    """20,000 x 20,000 black pixels in 50 kB."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 20_000 // 8)
    return png(20_000, 20_000, b"".join(packer.compress(row) for _ in range(20_000)) + packer.flush())


def make_dicom_without_pixels():
    film = Dataset()
    film.PatientName = f"{CANARY}^Name"
    film.ImageComments = f"no mass {CANARY}"
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    film.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = io.BytesIO()
    film.save_as(file, enforce_file_format=True)
    return file.getvalue()


def make_png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
BAD_IMAGES = {
    "truncated.png": (lambda: make_png(NOISE)[:2000], "expected a complete PNG"),
    "zero.png": (lambda: b"", "The file is empty"),
    "text.png": (lambda: f"There is a mass {CANARY}.".encode(), "The content is none of these"),
    "black.png": (lambda: make_png(np.zeros((64, 64), np.uint8)), "Every pixel is black"),
    "dot.png": (lambda: make_png(np.full((1, 1), 9, np.uint8)), "at least 16x16 pixels. Received: 1x1"),
    "bomb.png": (make_bomb, "Received: 20000x20000"),
    "empty.dcm": (make_dicom_without_pixels, "It has no pixels"),
    "broken.dcm": (lambda: make_dicom_without_pixels()[:200], "expected a"),
}
