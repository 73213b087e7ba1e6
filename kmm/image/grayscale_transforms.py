"""Turn the stored values of a DICOM film into gray levels: modality, then VOI, then MONOCHROME1 inversion.

The steps follow the standard and end with 0 = black .. 255 = white:

1. stored values, with `BitsStored` significant bits;
2. Modality LUT, or rescale slope and intercept, which default to 1 and 0;
3. VOI LUT, or the first window (LINEAR, LINEAR_EXACT or SIGMOID); without either, or if the window contains less than
   5 % of the pixels (a CT default on a radiograph), the 0.5th to 99.5th percentile of the pixels that are not padding;
4. one inversion, if the film is MONOCHROME1 or its presentation shape is INVERSE; padding pixels become black.

Source: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.11.html
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.pixels import get_decoder
from scipy.special import expit

from kmm.errors import ImageError
from kmm.image.gray_levels import PERCENTILES, stretch
from kmm.image.header_numbers import LARGEST, take_number
from kmm.image.lookup_table import LookupTable, read_lookup_table

LARGEST_IN_STEPS = 2**22  # largest rescaled value, in steps of the slope, that float32 resolves
LEAST_IN_WINDOW = 0.05  # fraction of the pixels that a window must contain to be used
NARROW_FUNCTIONS = ("LINEAR_EXACT", "SIGMOID")  # functions whose width may be below 1


@dataclass(frozen=True)
class Rescale:
    """A linear modality transform: `slope * stored + intercept`."""

    slope: float
    intercept: float


@dataclass(frozen=True)
class Window:
    """A window of `width` values around `center`; `function` is LINEAR, LINEAR_EXACT or SIGMOID."""

    center: float
    width: float
    function: str


def show_stored(stored: np.ndarray, dataset: Dataset, name: str) -> np.ndarray:
    """Turns stored values into gray levels.

    Args:
        stored: integer array `(rows, columns)`, as decoded by pydicom.
        dataset: `pydicom.Dataset` of the film, read from a file.
        name: str. The file's name, for the error.

    Returns:
        float32 array `(rows, columns)`, 0 = black .. 255 = white.

    Raises:
        ImageError: one line, if a number or table of the header cannot be used.

    Example:
        >>> from pydicom import Dataset
        >>> film = Dataset()
        >>> film.PhotometricInterpretation, film.BitsStored, film.PixelRepresentation = "MONOCHROME1", 8, 0
        >>> film.WindowCenter, film.WindowWidth = 128, 256
        >>> show_stored(np.array([[0, 55], [100, 255]], np.uint8), film, "film.dcm")
        array([[255., 200.],
               [155.,   0.]], dtype=float32)
    """
    padding = _find_padding(stored, dataset, name)
    modality, values_range = read_modality(dataset, name)
    voi = read_voi(dataset, values_range, name)
    gray = _apply_voi(_apply_modality(stored, modality), voi, padding)
    if dataset.PhotometricInterpretation == "MONOCHROME1" or dataset.get("PresentationLUTShape") == "INVERSE":
        gray = 255 - gray
    if padding is not None:
        gray[padding] = 0
    if not np.isfinite(gray.sum()):
        raise ImageError(f"{name}: its rescale values and window give no finite gray levels. Correct the header.")
    return gray.astype(np.float32, copy=False)


def read_modality(header: Dataset, name: str) -> tuple[LookupTable | Rescale, tuple[float, float]]:
    """Reads the modality transform, which is applied to stored values.

    Args:
        header: `pydicom.Dataset` with `BitsStored` and `PixelRepresentation`, read from a file.
        name: str. The file's name, for the error.

    Returns:
        `(transform, (least, greatest))`: the `LookupTable` of the Modality LUT, or a `Rescale`, which is the identity
        if the header defines none; and the range of its results.

    Raises:
        ImageError: one line, if a number or the table cannot be used.

    Example:
        >>> from pydicom import Dataset
        >>> header = Dataset()
        >>> header.BitsStored, header.PixelRepresentation, header.RescaleIntercept = 12, 0, -1024
        >>> read_modality(header, "film.dcm")
        (Rescale(slope=1.0, intercept=-1024.0), (-1024.0, 3071.0))
    """
    possible = _stored_range(header)
    table = read_lookup_table(header, "ModalityLUTSequence", values_range=possible, name=name)
    if table is not None:
        return table, (int(table.entries.min()), int(table.entries.max()))
    declared = take_number(header, "RescaleSlope", name)
    slope, intercept = 1.0 if declared is None else declared, take_number(header, "RescaleIntercept", name) or 0.0
    if abs(slope) < 1 / LARGEST:
        raise ImageError(f"{name}: RescaleSlope is {slope:g}, which makes all pixels equal. Correct or remove it.")
    least, greatest = sorted(slope * value + intercept for value in possible)
    if max(-least, greatest) > LARGEST_IN_STEPS * abs(slope):
        raise ImageError(
            f"{name}: RescaleIntercept is {intercept:g}, too large for a RescaleSlope of {slope:g}. Correct the header."
        )
    return Rescale(slope, intercept), (least, greatest)


def read_voi(
    header: Dataset | Mapping[str, Any], values_range: tuple[float, float], name: str
) -> LookupTable | Window | None:
    """Reads the VOI transform, which turns modality values into gray levels.

    Args:
        header, name: as in `read_modality`; a dict will do for the header.
        values_range: `(least, greatest)`, as returned by `read_modality`.

    Returns:
        the `LookupTable` of the VOI LUT; else the first `Window`; None if the header has neither, or a window without a
        valid width.

    Raises:
        ImageError: one line, if a number or the table cannot be used.

    Example:
        >>> read_voi({"WindowCenter": [2048, 40], "WindowWidth": [4096, 400]}, (0, 4095), "film.dcm")
        Window(center=2048.0, width=4096.0, function='LINEAR')
    """
    table = read_lookup_table(header, "VOILUTSequence", values_range=values_range, name=name)
    if table is not None:
        return table
    center, width = (take_number(header, keyword, name) for keyword in ("WindowCenter", "WindowWidth"))
    function = header.get("VOILUTFunction")
    function = function if function in NARROW_FUNCTIONS else "LINEAR"
    if center is None or width is None or width <= 0 or (width < 1 and function == "LINEAR"):
        return None
    return Window(center, width, function)


def _find_padding(stored, dataset, name):
    """Finds padding pixels: boolean `(rows, columns)`, or None if the file declares no padding.

    Padding values are 16 bits with the sign of the pixels, whatever their VR is. A value that does not fit in
    `BitsStored` bits is compared with all allocated bits of the pixels.
    """
    values = [take_number(dataset, keyword, name) for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if values[0] is None:
        return None
    kind = np.int16 if dataset.PixelRepresentation else np.uint16
    values = [int(np.uint16(int(value) & 0xFFFF).astype(kind)) for value in values if value is not None]
    low, high = min(values), max(values)
    least, greatest = _stored_range(dataset)
    if low < least or high > greatest:
        syntax = dataset.file_meta.TransferSyntaxUID
        if syntax.is_encapsulated:
            return (stored >= low) & (stored <= high)
        stored = get_decoder(syntax).as_array(dataset, correct_unused_bits=False)[0]
        if stored.itemsize == 1 and low >= 0 and high <= 255:  # signed bytes, but padding without sign extension
            stored = stored.view(np.uint8)
    return (stored >= low) & (stored <= high)


def _stored_range(header):
    """Returns `(least, greatest)`, the range of `BitsStored` bits."""
    bits = header.BitsStored
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.PixelRepresentation else (0, 2**bits - 1)


def _apply_modality(stored, modality):
    """Applies the modality transform to stored values; float32 of the same shape."""
    if isinstance(modality, LookupTable):
        return modality.look_up(stored)
    values = stored.astype(np.float32)
    values *= np.float32(modality.slope)
    values += np.float32(modality.intercept)
    return values


def _apply_voi(values, voi, padding):
    """Applies the VOI transform to modality values: 0..255 before inversion."""
    if isinstance(voi, LookupTable):
        return voi.show(values)
    shown = values if padding is None else values[~padding]
    if shown.size == 0:
        return np.zeros_like(values)
    if voi is not None:
        inside = np.count_nonzero(np.abs(shown - np.float32(voi.center)) < voi.width / 2)
        if inside >= LEAST_IN_WINDOW * shown.size:
            return _apply_window(values, voi.center, voi.width, voi.function)
    low, high = np.percentile(shown, PERCENTILES)
    return stretch(values, float(low), float(high))


def _apply_window(values, center, width, function):
    """Applies a window: 0..255. Source: section C.11.2.1.2 of the standard (see the module)."""
    if function == "SIGMOID":
        return 255 * expit((values - center) * (4 / width))
    if function == "LINEAR_EXACT":
        return stretch(values, center - width / 2, center + width / 2)
    return stretch(values, center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2)
