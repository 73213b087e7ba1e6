"""A DICOM film to an array: modality, then VOI, then MONOCHROME1 inversion.

The steps of the standard, in its order, with 0 = black .. 255 = white at the end:

1. stored values, of which `BitsStored` bits count;
2. Modality LUT, or rescale slope and intercept;
3. VOI LUT, or the first window (LINEAR, LINEAR_EXACT or SIGMOID); with neither, or with a window that holds less than
   5 % of the pixels (a CT default on a radiograph), the 0.5th to 99.5th percentile of the pixels that are not padding;
4. inversion, once, if the film is MONOCHROME1 or its presentation shape is INVERSE; padding pixels become black.

Source: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.11.html
"""

import io

import numpy as np
import pydicom
from pydicom.encaps import get_frame
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)
from scipy.special import expit

from kmm.errors import ImageError
from kmm.image.gray_levels import PERCENTILES, stretch
from kmm.image.jpeg import check_jpeg, read_frame
from kmm.image.limits import MAX_PIXELS, check_size, quiet_decoding

LEAST_IN_WINDOW = 0.05  # share of the pixels that must lie inside a window for it to be believed
DEFLATED = b"1.2.840.10008.1.2.1.99"
PACKAGES = {
    JPEGLossless: "pylibjpeg pylibjpeg-libjpeg",
    JPEGLosslessSV1: "pylibjpeg pylibjpeg-libjpeg",
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    HTJ2K: "pylibjpeg pylibjpeg-openjpeg",
    HTJ2KLossless: "pylibjpeg pylibjpeg-openjpeg",
    HTJ2KLosslessRPCL: "pylibjpeg pylibjpeg-openjpeg",
}


def read_dicom(source, *, name=None, max_pixels=MAX_PIXELS):
    """Reads one gray DICOM film.

    Args:
        source: path, bytes, or a file opened for reading bytes.
        name: str. What errors call it; the path when None.
        max_pixels: int. A file that declares more pixels is refused before it is decoded.

    Returns:
        float32 array `(height, width)`, 0 = black .. 255 = white. A film of one stored value becomes one gray level.

    Raises:
        ImageError: one line with the file's name, if it is no DICOM file, has no pixels, several frames, colour, a
            size out of bounds, damaged pixel data, or a compression whose decoder is not installed.

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
        raise ImageError(f"{source}: expected a readable file. Received: {error.strerror}.") from error


def _read(file, name, max_pixels):
    deflated = DEFLATED in file.read(2048)
    file.seek(0)
    if deflated:
        raise ImageError(f"{name}: expected a DICOM file that is not deflated as a whole: its size cannot be checked.")
    try:
        with quiet_decoding:
            _check_header(pydicom.dcmread(file, stop_before_pixels=True), name, max_pixels)
            file.seek(0)
            dataset = pydicom.dcmread(file)
            if "PixelData" not in dataset:
                raise ImageError(f"{name}: expected a DICOM film. It has no pixel data.")
            _check_jpeg(dataset, name, max_pixels)
            return _to_gray(dataset)
    except ImageError:
        raise
    except InvalidDicomError as error:
        raise ImageError(f"{name}: expected a DICOM file. It does not start with a DICOM header.") from error
    except Exception as error:  # a damaged file makes pydicom and its decoders raise nearly anything
        raise ImageError(
            f"{name}: expected a complete DICOM film. The file is truncated, damaged or of an unsupported kind."
        ) from error


def _check_header(dataset, name, max_pixels):
    """Refuses, before decoding, what is no single gray film or cannot be decoded here."""
    rows, columns = dataset.get("Rows"), dataset.get("Columns")
    if not rows or not columns:
        raise ImageError(f"{name}: expected a DICOM film. It has no pixels (no Rows and Columns).")
    check_size(name, columns, rows, max_pixels=max_pixels)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames != 1:
        raise ImageError(f"{name}: expected one frame. Received: {frames} frames.")
    kind = dataset.get("PhotometricInterpretation")
    if kind not in ("MONOCHROME1", "MONOCHROME2") or dataset.get("SamplesPerPixel", 1) != 1:
        raise ImageError(f"{name}: expected a gray film (MONOCHROME1 or MONOCHROME2). Received: colour ({kind}).")
    if dataset.BitsAllocated not in (8, 16):
        raise ImageError(f"{name}: expected 8 or 16 bits allocated. Received: {dataset.BitsAllocated}.")
    if dataset.get("HighBit") != dataset.BitsStored - 1:
        raise ImageError(f"{name}: expected HighBit to be BitsStored - 1. Received: {dataset.get('HighBit')}.")
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        packages = PACKAGES.get(syntax)
        remedy = f"Install it: pip install {packages}" if packages else "Convert the file first"
        raise ImageError(f"{name}: no decoder for the transfer syntax {syntax.name} ({syntax}). {remedy}.")


def _check_jpeg(dataset, name, max_pixels):
    """Refuses a JPEG frame of 8 bits that is damaged or of another size than the header says: decoders only warn."""
    if dataset.file_meta.TransferSyntaxUID not in (JPEGBaseline8Bit, JPEGExtended12Bit):
        return
    data = get_frame(dataset.PixelData, 0, number_of_frames=1)
    frame = read_frame(data)
    if frame is not None and frame.bits != 8:
        return
    frame = check_jpeg(data, name, max_pixels=max_pixels)
    if (frame.height, frame.width) != (dataset.Rows, dataset.Columns):
        raise ImageError(
            f"{name}: expected a JPEG frame of {dataset.Columns}x{dataset.Rows} pixels, as the DICOM header says. "
            f"Received: {frame.width}x{frame.height}."
        )


def _to_gray(dataset):
    """A checked dataset -> float32 `(height, width)`, 0..255."""
    stored = dataset.pixel_array  # pydicom drops the bits outside `BitsStored`, which may hold an overlay
    padding = _find_padding(stored, dataset)
    gray = _apply_voi(_apply_modality(stored, dataset), dataset, padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        gray = 255 - gray
    if padding is not None:
        gray[padding] = 0
    return gray


def _find_padding(stored, dataset):
    """Boolean `(height, width)`, or None when the file declares no padding."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    return (stored >= min(value, limit)) & (stored <= max(value, limit))


def _apply_modality(stored, dataset):
    if dataset.get("ModalityLUTSequence"):
        return _look_up(stored, dataset.ModalityLUTSequence[0])[0]
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    values = stored.astype(np.float32)
    if slope is not None and intercept is not None:
        values *= np.float32(slope)
        values += np.float32(intercept)
    return values


def _apply_voi(values, dataset, padding):
    """Values of the modality -> 0..255 before inversion."""
    if dataset.get("VOILUTSequence"):
        gray, top = _look_up(values, dataset.VOILUTSequence[0])
        return np.minimum(gray * np.float32(255 / top), 255)
    shown = values if padding is None else values[~padding]
    if shown.size == 0:
        return np.zeros_like(values)
    center, width = _first(dataset.get("WindowCenter")), _first(dataset.get("WindowWidth"))
    if center is not None and width is not None and width >= 1:
        inside = np.count_nonzero(np.abs(shown - np.float32(center)) < width / 2)
        if inside >= LEAST_IN_WINDOW * shown.size:
            return _apply_window(values, center, width, dataset.get("VOILUTFunction") or "LINEAR")
    low, high = np.percentile(shown, PERCENTILES)
    return stretch(values, low, high)


def _apply_window(values, center, width, function):
    """One window -> 0..255. Source: section C.11.2.1.2 of the standard (see the module)."""
    if function == "SIGMOID":
        return 255 * expit((values - np.float32(center)) * np.float32(4 / width))
    if function == "LINEAR_EXACT":
        return stretch(values, center - width / 2, center + width / 2)
    return stretch(values, center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2)


def _first(value):
    """The first of one or several numbers of a header element; None when it is absent or empty."""
    if isinstance(value, pydicom.multival.MultiValue):
        value = value[0] if value else None
    return None if value is None or value == "" else float(value)


def _look_up(values, table):
    """Looks values up in an item of a Modality or VOI LUT sequence.

    pydicom's own `apply_voi_lut` counts positions in the type of the entries, so that 8-bit tables of more than 256
    entries wrap around.

    Returns:
        `(float32 array of the shape of values, the largest value that entries of this depth can hold)`.
    """
    entries, first, bits = table.LUTDescriptor
    entries = entries or 65536
    data = table.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if len(data) >= 2 * entries else "u1")
    data = np.asarray(data, np.float32)[:entries]
    positions = np.clip(np.rint(values).astype(np.int64) - first, 0, len(data) - 1)
    return data[positions], 2**bits - 1
