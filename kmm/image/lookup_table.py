"""Read the modality and VOI lookup tables of DICOM films, in all encodings that devices write.

Many files deviate from the standard, so a table is interpreted by its contents:

- `LUTData` with VR OW is bytes in the byte order of the file's transfer syntax; with VR US, numbers that pydicom has
  decoded;
- entries of 9 to 16 bits take two bytes; entries of 8 bits take one byte, packed in pairs, unless the data are long
  enough for two bytes per entry;
- the first mapped value is signed if the values that the table maps can be negative, whatever its VR is;
- black and white of a VOI table follow from its declared depth. If the entries exceed that depth or fit in half of it,
  for example 12-bit entries declared as 16 bits, black and white are the least and the greatest entry.

Source: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.11.html
"""

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import ImageError

if typing.TYPE_CHECKING:
    from pydicom import Dataset


@dataclass(frozen=True, eq=False)
class LookupTable:
    """A lookup table.

    Attributes:
        entries: uint16 array `(n,)`, n >= 1.
        first: int. The value that is mapped to the first entry. Lower values are mapped to the first entry too, and
            values beyond the last entry to the last.
        bits: int. The declared depth of an entry, which may be wrong.

    Example:
        >>> table = LookupTable(np.array([0, 100, 4095], np.uint16), first=-1, bits=12)
        >>> table.look_up(np.array([-5.0, 0.0, 7.0])).tolist(), table.levels
        ([0.0, 100.0, 4095.0], (0, 4095))
    """

    entries: np.ndarray
    first: int
    bits: int

    @property
    def levels(self) -> tuple[int, int]:
        """`(black, white)`: the entries that are shown as black and as white."""
        least, greatest, declared = int(self.entries.min()), int(self.entries.max()), 2**self.bits - 1
        return (0, declared) if declared // 2 < greatest <= declared else (least, greatest)

    def look_up(self, values: ArrayLike) -> np.ndarray:
        """Maps values, rounded to whole numbers, to entries: float32 array of the same shape."""
        return self._take(values, self.entries.astype(np.float32))

    def show(self, values: ArrayLike) -> np.ndarray:
        """Maps values, rounded to whole numbers, to gray levels 0..255: float32 array of the same shape."""
        black, white = self.levels
        levels = (self.entries.astype(np.float64) - black) * (255 / (white - black))
        return self._take(values, levels.clip(0, 255).astype(np.float32))

    def _take(self, values, levels):
        positions = np.clip(np.rint(values) - self.first, 0, len(levels) - 1)
        return levels[positions.astype(np.int64)]


def read_lookup_table(
    header: "Dataset | Mapping[str, Any]", keyword: str, *, values_range: tuple[float, float], name: str
) -> LookupTable | None:
    """Reads the first table of a sequence.

    Args:
        header: `pydicom.Dataset`, read from a file.
        keyword: `"ModalityLUTSequence"` or `"VOILUTSequence"`.
        values_range: `(least, greatest)` of the values that the table is applied to.
        name: str. The file's name, for the error.

    Returns:
        `LookupTable`; None if the sequence is absent or empty.

    Raises:
        ImageError: one line that names the sequence, if the table is incomplete, is shorter than declared, or has a
            single level.
    """
    sequence = header.get(keyword)
    if not sequence:
        return None
    item, table_name = sequence[0], f"{name}: the table of {keyword}"
    count, first, bits = _read_descriptor(item, table_name)
    first = _choose_sign(first, count, values_range, table_name)
    entries = _read_entries(item, count, bits, "<" if _is_little_endian(header) else ">", table_name)
    if entries.min() == entries.max():
        raise ImageError(f"{table_name} maps every value to {entries[0]}. Correct or remove it in the header.")
    return LookupTable(entries, first, bits)


def _is_little_endian(header):
    return header.original_encoding[1] is not False


def _read_descriptor(item, table_name):
    """Reads `(entries, first mapped value, bits)`, each as unsigned 16 bits."""
    try:
        values = [int(value) & 0xFFFF for value in item.LUTDescriptor]
    except (AttributeError, TypeError, ValueError):
        values = []
    if len(values) != 3 or "LUTData" not in item:
        raise ImageError(f"{table_name} is incomplete: it needs LUTData and a LUTDescriptor of three numbers.")
    count, first, bits = values
    if not 1 <= bits <= 16:
        raise ImageError(f"{table_name} declares entries of {bits} bits. Only entries of 1 to 16 bits can be read.")
    return count or 2**16, first, bits


def _choose_sign(first, count, values_range, table_name):
    """Returns the first mapped value: signed if mapped values can be negative, unless only the other reading fits."""
    least, greatest = values_range
    signed = first - 2**16 if first >= 2**15 else first
    wanted, other = (signed, first) if least < 0 else (first, signed)
    for start in (wanted, other):
        if start <= greatest and start + count > least:
            return start
    raise ImageError(
        f"{table_name} covers {wanted} to {wanted + count - 1}, but the pixels are {least:g} to {greatest:g}."
    )


def _read_entries(item, count, bits, order, table_name):
    """Reads the entries as uint16 `(count,)`; `order` is the byte order of the file, `<` or `>`."""
    data = item.LUTData
    if isinstance(data, bytes):
        packed, words = data, np.frombuffer(data, f"{order}u2", len(data) // 2)
        if item["LUTData"].VR != "OB" and order == ">":  # words were swapped as a whole
            packed = words.astype("<u2").tobytes()
    else:
        words = np.atleast_1d(np.asarray([] if data is None else data, np.int64)).astype(np.uint16)
        packed = words.astype("<u2").tobytes()
    if len(words) >= count:
        return words[:count].astype(np.uint16)
    if bits <= 8 and len(packed) >= count:
        return np.frombuffer(packed, np.uint8, count).astype(np.uint16)
    held = len(words) if bits > 8 else len(packed)
    raise ImageError(f"{table_name} is shorter than declared: {held} of {count} entries of {bits} bits.")
