"""The modality and VOI transformation of a film, rewritten for a presentation state.

A presentation state allows only tables of 8 or 16 bits, which must use their full depth. Films have other ones: of 10
or 12 bits, or declared as 16 bits with entries of 12. Tables are therefore rewritten with entries stretched to 16 bits,
and a window that follows a modality table is stretched with it. A viewer shows the same picture as before.

Source: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.11.html
"""

import numpy as np
import pydicom
from pydicom.valuerep import DS

from kmm.image.grayscale_transforms import Rescale, Window, read_modality, read_voi
from kmm.image.lookup_table import LookupTable

BITS = 16
TOP = 2**BITS - 1


def take_grays(header: pydicom.Dataset, name: str) -> pydicom.Dataset:
    """Takes from a film's header the elements that map stored values to gray levels.

    Args:
        header: `pydicom.Dataset` of the film, read from a file.
        name: str. The file's name, for errors.

    Returns:
        `pydicom.Dataset` with the elements of a Grayscale Softcopy Presentation State: `ModalityLUTSequence` or the
        rescale elements, and `SoftcopyVOILUTSequence` with the VOI table or the first window. Elements that the film
        lacks are left out. If the film has tables for both, one table holds the two in sequence.

    Raises:
        ImageError: one line, if a number or table of the header cannot be used.
    """
    grays, factor = pydicom.Dataset(), 1.0
    modality, values_range = read_modality(header, name)
    voi = read_voi(header, values_range, name)
    if isinstance(modality, LookupTable):
        factor = TOP / modality.levels[1]
        if isinstance(voi, LookupTable):
            entries, voi = voi.show(modality.entries) * (TOP / 255), None
        else:
            entries = modality.entries * factor
        item = _write_table(entries, modality.first)
        item.ModalityLUTType = "US"
        grays.ModalityLUTSequence = [item]
    elif modality != Rescale(1.0, 0.0):
        grays.RescaleSlope = DS(modality.slope, auto_format=True)
        grays.RescaleIntercept = DS(modality.intercept, auto_format=True)
        grays.RescaleType = header.get("RescaleType") or "US"
    if isinstance(voi, Window):
        grays.SoftcopyVOILUTSequence = [_write_window(voi, factor)]
    elif voi is not None:
        item = pydicom.Dataset()
        black, white = voi.levels
        item.VOILUTSequence = [_write_table((voi.entries.astype(float) - black) * (TOP / (white - black)), voi.first)]
        grays.SoftcopyVOILUTSequence = [item]
    return grays


def _write_window(window, factor):
    """Makes a `pydicom.Dataset` of a window on values that a modality table multiplies by `factor`."""
    item = pydicom.Dataset()
    if window.function == "LINEAR":  # from center - 0.5 - (width - 1) / 2 to center - 0.5 + (width - 1) / 2
        center, width = (window.center - 0.5) * factor + 0.5, (window.width - 1) * factor + 1
    else:
        center, width = window.center * factor, window.width * factor
    item.WindowCenter, item.WindowWidth = DS(center, auto_format=True), DS(width, auto_format=True)
    item.VOILUTFunction = window.function
    return item


def _write_table(entries, first):
    """Makes a `pydicom.Dataset` of a table of 16 bits."""
    table = pydicom.Dataset()
    table.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 2**16, first, BITS])
    table.add_new("LUTData", "OW", np.rint(entries).clip(0, TOP).astype("<u2").tobytes())
    return table
