"""The modality and VOI transformation of a film, as a presentation state may hold it.

A presentation state allows tables of 8 or 16 bits only, which must use their depth. Films hold others: of 10 or 12
bits, or declared as 16 bits with entries of 12. Tables are therefore rewritten with entries stretched to 16 bits, and a
window that follows a modality table is stretched with it. What a viewer shows stays the same.

Source: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.11.html
"""

import numpy as np
import pydicom
from pydicom.valuerep import DS

BITS = 16
TOP = 2**BITS - 1
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


def take_grays(header, *, little_endian=True):
    """Takes what maps the stored values of a film to gray levels.

    Args:
        header: `pydicom.Dataset` of the film.
        little_endian: bool. Byte order of the file, which is that of tables held as bytes.

    Returns:
        `pydicom.Dataset` with the elements of a Grayscale Softcopy Presentation State: `ModalityLUTSequence` or the
        rescale elements, and `SoftcopyVOILUTSequence` with the VOI table or the first window. What the film does not
        have is left out. A film with tables for both has one: the two in sequence.

    Raises:
        ValueError: if a table is empty or its entries are all 0.
    """
    grays, voi, factor = pydicom.Dataset(), pydicom.Dataset(), 1.0
    modality, table = (
        _read_table(header[name].value[0], little_endian) if header.get(name) else None
        for name in ("ModalityLUTSequence", "VOILUTSequence")
    )
    slope, intercept = _take_number(header, "RescaleSlope"), _take_number(header, "RescaleIntercept")
    if modality is not None and table is not None:
        entries, first = table
        positions = np.clip(modality[0] - first, 0, len(entries) - 1)
        modality, table = (entries[positions], modality[1]), None
        header = pydicom.Dataset()  # no window may follow: a table takes precedence
    if modality is not None:
        item, factor = _write_table(*modality)
        item.ModalityLUTType = "US"
        grays.ModalityLUTSequence = [item]
    elif slope is not None and intercept is not None:
        grays.RescaleSlope, grays.RescaleIntercept = DS(slope, auto_format=True), DS(intercept, auto_format=True)
        grays.RescaleType = header.get("RescaleType") or "US"
    if table is not None:
        voi.VOILUTSequence = [_write_table(*table)[0]]
    else:
        voi.update(_take_window(header, factor))
    if voi:
        grays.SoftcopyVOILUTSequence = [voi]
    return grays


def _take_window(header, factor):
    """The first window, on values that a modality table multiplies by `factor`; empty where the film has none."""
    window = pydicom.Dataset()
    center, width = _take_number(header, "WindowCenter"), _take_number(header, "WindowWidth")
    if center is None or width is None or width < 1:
        return window
    function = header.get("VOILUTFunction")
    function = function if function in FUNCTIONS else "LINEAR"
    if function == "LINEAR":  # from center - 0.5 - (width - 1) / 2 to center - 0.5 + (width - 1) / 2
        center, width = (center - 0.5) * factor + 0.5, (width - 1) * factor + 1
    else:
        center, width = center * factor, width * factor
    window.WindowCenter, window.WindowWidth = DS(center, auto_format=True), DS(width, auto_format=True)
    window.VOILUTFunction = function
    return window


def _read_table(item, little_endian):
    """`(int64 entries, first mapped value)` of an item of a Modality or VOI LUT sequence."""
    count, first, _ = (int(value) for value in item.LUTDescriptor)
    count, data = count or 2**16, item.LUTData
    if isinstance(data, bytes):
        order = "<" if little_endian else ">"
        data = np.frombuffer(data, f"{order}u2" if len(data) >= 2 * count else "u1")
    entries = np.asarray(data, np.int64)[:count]
    if not len(entries) or entries.max() <= 0:
        raise ValueError("Expected a lookup table with entries above 0.")
    return entries, first


def _write_table(entries, first):
    """A table stretched to 16 bits as `pydicom.Dataset`, and the factor by which its entries were multiplied."""
    factor = TOP / (2 ** int(entries.max()).bit_length() - 1)
    table, count = pydicom.Dataset(), len(entries) % 2**16
    table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [count, first, BITS])
    table.add_new("LUTData", "OW", np.rint(entries * factor).astype("<u2").tobytes())
    return table, factor


def _take_number(header, keyword):
    """The first number of an element; None when it is absent or empty."""
    numbers = [number for number in np.ravel(header.get(keyword)) if number not in (None, "")]
    return float(numbers[0]) if numbers else None
