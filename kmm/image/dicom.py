"""Read a DICOM film: check its header, reject anything but a single gray film, and decode the pixels.

`kmm.image.grayscale_transforms` turns stored values into gray levels. Films with non-square pixels are resampled to
square pixels at the end; see `kmm.image.pixel_aspect`.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pydicom
from pydicom.encaps import generate_frames
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from kmm.errors import ImageError
from kmm.image.compression import check_code_stream, explain_failure, require_decoder
from kmm.image.grayscale_transforms import show_stored
from kmm.image.header_numbers import take_number
from kmm.image.limits import MAX_PIXELS, check_film_size, quiet_decoding
from kmm.image.pixel_aspect import read_square_size
from kmm.image.prepare import resize_image

DEFLATED = b"1.2.840.10008.1.2.1.99"
PIXEL_KEYWORDS = ("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation")
ITEM = b"\xfe\xff\x00\xe0"  # the first bytes of compressed pixels
# `(implicit VR, little endian)`, as detected by pydicom, to the transfer syntax of uncompressed pixels.
SYNTAXES = {
    (True, True): ImplicitVRLittleEndian,
    (False, True): ExplicitVRLittleEndian,
    (False, False): ExplicitVRBigEndian,
}


def read_dicom(
    source: Path | str | bytes | BinaryIO, *, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Reads one gray DICOM film.

    Args:
        source: path, bytes, or a file opened for reading bytes.
        name: str. The file's name in errors; None takes the path.
        max_pixels: int. A file that declares more pixels is rejected before it is decoded.

    Returns:
        float32 array `(height, width)`, 0 = black .. 255 = white, with square pixels. Its shape is the film's rows and
        columns unless the header gives them different spacings. A film with a single stored value becomes a single gray
        level.

    Raises:
        ImageError: one line with the file's name, if it is not a DICOM file, has no pixels, several frames, colour, a
            size out of bounds, damaged pixel data, a header whose numbers or tables cannot be used, or a compression
            whose decoder is not installed.

    Example:
        >>> read_dicom(b"hello", name="film.dcm")
        Traceback (most recent call last):
        kmm.errors.ImageError: film.dcm: expected a DICOM file. It does not start with a DICOM header.
    """
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), name or "DICOM", max_pixels)
    if hasattr(source, "read"):
        return _read(source, name or getattr(source, "name", "DICOM"), max_pixels)
    try:
        with open(source, "rb") as file:
            return _read(file, name or str(source), max_pixels)
    except OSError as error:
        raise ImageError(f"{source}: the file cannot be read ({error.strerror}).") from error


def encode_dataset(dataset: pydicom.Dataset, name: str) -> bytes:
    """Encodes a DICOM film in memory as the bytes of a file, which `read_dicom` reads.

    Args:
        dataset: `pydicom.Dataset` of a film, with the transfer syntax of its pixels in `file_meta`.
        name: str. Its name in the error.

    Returns:
        bytes.

    Raises:
        ImageError: if pydicom cannot write it.

    Example:
        >>> encode_dataset(pydicom.Dataset(), "film")
        Traceback (most recent call last):
        kmm.errors.ImageError: film: the DICOM dataset lacks its transfer syntax (file_meta.TransferSyntaxUID).
    """
    if not getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", None):
        raise ImageError(f"{name}: the DICOM dataset lacks its transfer syntax (file_meta.TransferSyntaxUID).")
    file = io.BytesIO()
    try:
        with quiet_decoding:
            pydicom.dcmwrite(file, dataset, enforce_file_format=False)
    except Exception as error:  # pydicom raises many kinds of exception
        raise ImageError(f"{name}: the DICOM dataset is incomplete and cannot be encoded as a file.") from error
    data = file.getvalue()
    return data if data[128:132] == b"DICM" else bytes(128) + b"DICM" + data


def read_header(file: BinaryIO, name: str, keywords: Sequence[str] | None = None) -> pydicom.Dataset:
    """Reads the header of a DICOM file up to its pixels.

    Args:
        file: a file opened for reading bytes, at its beginning.
        name: str. The file's name, for the error.
        keywords: list of str, the elements to read; None reads all.

    Returns:
        `pydicom.Dataset`.

    Raises:
        ImageError: one line, if the file is not DICOM, is deflated, or pydicom cannot read it.

    Example:
        >>> read_header(io.BytesIO(b"hello"), "film.dcm")
        Traceback (most recent call last):
        kmm.errors.ImageError: film.dcm: expected a DICOM file. It does not start with a DICOM header.
    """
    deflated = DEFLATED in file.read(2048)
    file.seek(0)
    if deflated:
        raise ImageError(f"{name}: the whole file is deflated, so its size cannot be checked. Save it inflated.")
    with _naming_damage(name):
        return pydicom.dcmread(
            file, stop_before_pixels=True, specific_tags=None if keywords is None else list(keywords)
        )


@contextlib.contextmanager
def _naming_damage(name: str) -> Iterator[None]:
    """Turns the many kinds of exception that pydicom raises on a damaged file into an `ImageError` of one line."""
    try:
        with quiet_decoding:
            yield
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{name}: not enough memory to decode it.") from error
    except InvalidDicomError as error:
        raise ImageError(f"{name}: expected a DICOM file. It does not start with a DICOM header.") from error
    except Exception as error:
        raise ImageError(f"{name}: expected a complete DICOM film. The file is truncated or damaged.") from error


def _read(file, name, max_pixels):
    header = read_header(file, name)
    with _naming_damage(name):
        size = _check_header(header, name, max_pixels)
        file.seek(0)
        dataset = pydicom.dcmread(file)
        if "PixelData" not in dataset:
            raise ImageError(f"{name}: expected a DICOM film. It has no pixel data.")
        gray = show_stored(_decode(dataset, name), dataset, name)
        return gray if gray.shape == size else resize_image(gray, *size).clip(0, 255)


def _check_header(header, name, max_pixels):
    """Rejects, before decoding, anything but a single gray film; returns `(rows, columns)` with square pixels."""
    rows, columns = header.get("Rows"), header.get("Columns")
    if not rows or not columns:
        raise ImageError(f"{name}: expected a DICOM film. It has no pixels (no Rows and Columns).")
    check_film_size(name, columns, rows, max_pixels=max_pixels)
    frames = take_number(header, "NumberOfFrames", name) or 1
    if frames != 1:
        raise ImageError(f"{name}: expected one frame. Received: {frames:g} frames.")
    if (allocated := header.get("BitsAllocated")) not in (None, "", 8, 16):  # also rejects float pixels
        raise ImageError(f"{name}: expected 8 or 16 bits allocated. Received: {allocated}.")
    missing = [keyword for keyword in PIXEL_KEYWORDS if header.get(keyword) in (None, "")]
    if missing:
        raise ImageError(f"{name}: expected a complete header. Missing: {', '.join(missing)}.")
    kind = header.PhotometricInterpretation
    if kind not in ("MONOCHROME1", "MONOCHROME2") or (header.get("SamplesPerPixel") or 1) != 1:
        raise ImageError(f"{name}: expected a gray film (MONOCHROME1 or MONOCHROME2). Received: colour ({kind}).")
    if not 1 <= header.BitsStored <= header.BitsAllocated:
        raise ImageError(f"{name}: expected 1 to {header.BitsAllocated} bits stored. Received: {header.BitsStored}.")
    if header.HighBit != header.BitsStored - 1:
        raise ImageError(f"{name}: expected HighBit to be BitsStored - 1. Received: {header.HighBit}.")
    if header.PixelRepresentation not in (0, 1):
        raise ImageError(f"{name}: expected PixelRepresentation to be 0 or 1. Received: {header.PixelRepresentation}.")
    height, width = size = read_square_size(header, name)
    if height * width > max_pixels:
        raise ImageError(
            f"{name}: its pixels are not square. Resampled to square pixels, it would have {width}x{height} of them, "
            f"more than {max_pixels}."
        )
    if syntax := header.file_meta.get("TransferSyntaxUID"):
        require_decoder(syntax, header.BitsStored, name)
    return size


def _decode(dataset, name):
    """Decodes the stored values of a checked film: integers `(rows, columns)` with `BitsStored` significant bits."""
    element = dataset["PixelData"]
    data = element.value or b""
    if not dataset.file_meta.get("TransferSyntaxUID"):  # pydicom has detected the encoding of the header
        if element.is_undefined_length:
            raise ImageError(
                f"{name}: its pixels are compressed, but TransferSyntaxUID, which names the compression, is missing."
            )
        dataset.file_meta.TransferSyntaxUID = SYNTAXES[dataset.original_encoding]
    syntax = dataset.file_meta.TransferSyntaxUID
    plugins = require_decoder(syntax, dataset.BitsStored, name)
    if element.is_undefined_length != syntax.is_encapsulated and not (plugins and data[:4] == ITEM):
        kinds = ("compressed", "uncompressed") if plugins else ("uncompressed", "compressed")
        raise ImageError(
            f"{name}: its TransferSyntaxUID is for {kinds[0]} pixels ({syntax.name}), but the pixels are {kinds[1]}."
        )
    if not plugins:
        expected = dataset.Rows * dataset.Columns * dataset.BitsAllocated // 8
        if len(data) < expected:
            raise ImageError(f"{name}: truncated or damaged: it has {len(data)} of {expected} bytes of pixels.")
        return dataset.pixel_array
    frame = next(generate_frames(data, number_of_frames=1))
    check_code_stream(frame, dataset, plugins, name)
    try:
        return dataset.pixel_array
    except Exception as error:  # decoders raise many kinds of exception
        raise explain_failure(syntax, plugins, name) from error
