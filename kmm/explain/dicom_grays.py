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
        ValueError: if a table is empty or has one level only.
    """
    grays, voi, factor = pydicom.Dataset(), pydicom.Dataset(), 1.0
    modality, table = (
        _read_table(header[name].value[0], little_endian) if header.get(name) else None
        for name in ("ModalityLUTSequence", "VOILUTSequence")
    )
    slope, intercept = _take_number(header, "RescaleSlope"), _take_number(header, "RescaleIntercept")
    if modality is not None:
        entries, first, (_, white) = modality
        factor = TOP / white
        if table is not None:  # a window is not looked at: a table takes precedence
            positions = np.clip(entries - table[1], 0, len(table[0]) - 1)
            item = _write_table(_stretch(*table[::2])[positions], first)
        else:
            item = _write_table(entries * factor, first)
        item.ModalityLUTType = "US"
        grays.ModalityLUTSequence = [item]
    elif slope is not None and intercept is not None:
        grays.RescaleSlope, grays.RescaleIntercept = DS(slope, auto_format=True), DS(intercept, auto_format=True)
        grays.RescaleType = header.get("RescaleType") or "US"
    if table is None:
        voi.update(_take_window(header, factor))
    elif modality is None:
        voi.VOILUTSequence = [_write_table(_stretch(*table[::2]), table[1])]
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
    """`(int64 entries, first mapped value, (black, white))` of an item of a Modality or VOI LUT sequence.

    Black and white follow from the declared depth, unless the entries exceed it or fit in half of it: then they are the
    least and the greatest entry.
    """
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    count, data, declared = count or 2**16, item.LUTData, 2**bits - 1
    if isinstance(data, bytes):
        order = "<" if little_endian else ">"
        data = np.frombuffer(data, f"{order}u2" if len(data) >= 2 * count else "u1")
    entries = np.asarray(data, np.int64)[:count]
    if not len(entries) or entries.min() == entries.max():
        raise ValueError("Expected a lookup table with two levels or more.")
    least, greatest = int(entries.min()), int(entries.max())
    return entries, first, (0, declared) if declared // 2 < greatest <= declared else (least, greatest)


def _stretch(entries, levels):
    """Entries as 16 bits, of which 0 is black and `TOP` white."""
    black, white = levels
    return (entries - black) * (TOP / (white - black))


def _write_table(entries, first):
    """A table of 16 bits as `pydicom.Dataset`."""
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 2**16, first, BITS])
    table.add_new("LUTData", "OW", np.rint(entries).clip(0, TOP).astype("<u2").tobytes())
    return table


def _take_number(header, keyword):
    """The first number of an element; None when it is absent or empty."""
    numbers = [number for number in np.ravel(header.get(keyword)) if number not in (None, "")]
    return float(numbers[0]) if numbers else None
