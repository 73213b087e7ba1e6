"""Record of how a file of weights was trained and which studies it saw, kept inside the file.

Keras and `kmm.models.weights.weight_files` read the weights of such a file and ignore the record.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from kmm.errors import WeightsError
from kmm.storage.seen_studies import NUMBER, SEEN_PARTS, SeenStudies

GROUP, FACTS = "kmm_training_record", "facts"
MAX_FACTS_BYTES = 1 << 24
MAX_STUDIES = 20_000_000


@dataclass(frozen=True, repr=False)
class TrainingRecord:
    """How a file of weights was trained.

    Attributes:
        facts: mapping for JSON: objective, encoder, numbers of studies, digests, versions.
        seen: mapping of `"train"` and `"validation"` to `SeenStudies`.
    """

    facts: Mapping[str, Any]
    seen: Mapping[str, SeenStudies]

    def __repr__(self) -> str:
        return f"TrainingRecord({self.facts.get('objective')}, {', '.join(self.seen)})"


def write_record(path: Path | str, record: TrainingRecord) -> None:
    """Adds a record to an HDF5 file of weights. The caller replaces the file in one step (`replace_file`)."""
    with h5py.File(path, "r+") as file:
        group = file.create_group(GROUP)
        group.create_dataset(FACTS, data=np.frombuffer(json.dumps(record.facts, allow_nan=False).encode(), np.uint8))
        for part, seen in record.seen.items():
            group.create_dataset(f"{part}_prints", data=np.asarray(seen.prints, NUMBER))
            group.create_dataset(f"{part}_records", data=np.asarray(seen.records, NUMBER))


def read_record(path: Path | str) -> TrainingRecord | None:
    """Reads the record of a file of weights.

    Args:
        path: path of a file of any format.

    Returns:
        `TrainingRecord`; None for a file without one, also for a damaged file, which the reader of weights reports.

    Raises:
        WeightsError: if the file has a record that is damaged.
    """
    path = Path(path)
    if not path.is_file() or not h5py.is_hdf5(path):
        return None
    try:
        opened = h5py.File(path, "r")
    except OSError:
        return None
    try:
        with opened as file:
            if not isinstance(file.get(GROUP), h5py.Group):
                return None
            group = file[GROUP]
            text = _read_table(group, FACTS, np.dtype(np.uint8), (), MAX_FACTS_BYTES)
            facts = json.loads(text.tobytes())
            if not isinstance(facts, dict):
                raise ValueError("no facts")
            seen = {part: _read_seen(group, part) for part in SEEN_PARTS if f"{part}_prints" in group}
            return TrainingRecord(facts, seen)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise WeightsError(
            f"{path.name}: the record of its training is damaged ({type(error).__name__}). Train the weights again."
        ) from None


def _read_seen(group: h5py.Group, part: str) -> SeenStudies:
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = (("prints", ()), ("records", (2,)))
    return SeenStudies(*(_read_table(group, f"{part}_{name}", NUMBER, shape, MAX_STUDIES) for name, shape in shapes))


def _read_table(group: h5py.Group, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], most: int) -> np.ndarray:
    """Reads an array `(at most most, *shape)` that is in the file itself."""
    table = group.get(name, getlink=True)
    if not isinstance(table, h5py.HardLink) or not isinstance(table := group[name], h5py.Dataset):
        raise ValueError("not a table")
    if table.dtype != dtype or table.ndim != 1 + len(shape) or table.shape[1:] != shape or len(table) > most:
        raise ValueError("another type or shape")
    if table.external or table.is_virtual:
        raise ValueError("data in other files")
    return table[:]
