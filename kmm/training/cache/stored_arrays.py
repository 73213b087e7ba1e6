"""Column of arrays that stay in the files of a store and are read when they are asked for."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from kmm.training.cache.cache_folder import Use
from kmm.training.cache.shards import ShardFile

OPEN_FILES = 128


class StoredArrays:
    """A column of a store: an array of row numbers gives the arrays of these rows.

    Nothing is mapped into memory or kept there, so that memory does not grow with the number of rows. A column can be
    pickled: another process opens the files again. Threads may read at once.

    Args:
        folder: Path of the store.
        shards: list of (name, start) of its files.
        numbers: int32 `(n,)`. Number of the file of each row; -1 for a row of zeros.
        records: int32 `(n,)`. Place of each row in its file.
        shape: tuple of int. Shape of one row.
        stored: str. Type of the numbers in the files.
        dtype: type of the arrays to return; as stored if None.
    """

    def __init__(
        self,
        folder: Path,
        shards: Sequence[tuple[str, int]],
        numbers: np.ndarray,
        records: np.ndarray,
        *,
        shape: tuple[int, ...],
        stored: str,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.folder, self.shards, self.numbers, self.records = folder, list(shards), numbers, records
        self.stored = np.dtype(stored)
        self.dtype = self.stored if dtype is None else np.dtype(dtype)
        self.shape = (len(numbers), *shape)
        self._open_files()

    def _open_files(self):
        self.use = Use(self.folder) if self.folder.exists() else None
        paths = [self.folder / name for name, _ in self.shards]
        self.open = lru_cache(OPEN_FILES)(lambda number: ShardFile(paths[number]))

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Returns the arrays `(len(rows), *shape)` of the given row numbers, a sequence or array of int.

        Raises:
            OSError: if a file of the store is gone or was truncated.
        """
        numbers, records = self.numbers[rows].tolist(), self.records[rows].tolist()
        read = np.zeros((len(numbers), *self.shape[1:]), self.stored)
        size = read.nbytes // max(len(numbers), 1)
        for place, (number, record) in enumerate(zip(numbers, records, strict=True)):
            if number >= 0:
                self.open(number).read(read[place : place + 1], self.shards[number][1] + record * size)
        return read.astype(self.dtype, copy=False)

    def as_stored(self) -> "StoredArrays":
        """Returns the same column in the type of its files."""
        shape, stored = self.shape[1:], self.stored.name
        return StoredArrays(self.folder, self.shards, self.numbers, self.records, shape=shape, stored=stored)

    def take(self, rows: np.ndarray) -> "StoredArrays":
        """Returns the column of some rows, an int array, without reading them."""
        shape, stored = self.shape[1:], self.stored.name
        numbers, records = self.numbers[rows], self.records[rows]
        return StoredArrays(self.folder, self.shards, numbers, records, shape=shape, stored=stored, dtype=self.dtype)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("use", "open")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._open_files()
