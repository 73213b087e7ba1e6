"""Arrays of one shape and type in files, found by a digest of what they were computed from and read by position.

A store is a folder of shards. A shard is an uncompressed ZIP file of two members: `records.json` with the digests, and
`arrays.npy`, which `numpy.load` reads too. A shard appears completely or not at all. So a killed process loses at most
one shard, and any number of processes may write at once.
"""

import contextlib
import errno
import hashlib
import json
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from kmm.storage.files import replace_file
from kmm.training.cache.cache_folder import MARK, Use, make_room, require_disk

SHARD_RECORDS, SHARD_BYTES = 256, 2**26  # a shard has at most so many records, and at most so many bytes of more than 1
OPEN_FILES = 128
LEFT_SECONDS = 3600  # a shard takes seconds to write: an older temporary file was left by a killed process


@dataclass(frozen=True)
class Shard:
    """A file of a store.

    Attributes:
        name: str. Name of the file.
        start: int. Position of the first record in it, in bytes.
        shape: tuple of int. Shape of a record.
        dtype: str. Type of the numbers, as NumPy writes it.
        digests: tuple of str, one per record.
        sums: tuple of int. CRC-32 of each record.
        facts: tuple of JSON values, one per record.
    """

    name: str
    start: int
    shape: tuple[int, ...]
    dtype: str
    digests: tuple[str, ...]
    sums: tuple[int, ...]
    facts: tuple[Any, ...]

    @property
    def record(self) -> int:
        """Size of a record in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class ArrayStore:
    """Arrays of one shape and type by digest. The first array that is added decides shape and type.

    The memory of a store does not depend on the size of its arrays.

    Args:
        folder: path of the store, among other stores of the same parent. It is created with the first shard.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as cache:
        ...     store = ArrayStore(Path(cache, "sums"))
        ...     store.add("a", np.float32([1, 2]))
        ...     store.add("b", np.float32([3, 4]))
        ...     store.flush()
        ...     column = ArrayStore(Path(cache, "sums")).column(["b", "", "a"])
        ...     column[[0, 1]].tolist(), column.shape
        ([[3.0, 4.0], [0.0, 0.0]], (3, 2))
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.use = Use(self.folder) if self.folder.exists() else None
        self.shards: dict[str, Shard] = {}
        self.places: dict[str, tuple[str, int]] = {}
        self.waiting: list[tuple[str, np.ndarray, Any]] = []
        _remove_left(self.folder)
        for path in sorted(self.folder.glob("[!.]*.zip")):
            try:
                self._know(read_shard(path))
            except FileNotFoundError:  # removed by another process
                continue
            except DAMAGE:
                path.unlink(missing_ok=True)

    @property
    def like(self) -> Shard | None:
        """A shard of the store, which has the shape and the type of all; None for an empty store."""
        return next(iter(self.shards.values()), None)

    def __contains__(self, digest: str) -> bool:
        return digest in self.places

    def facts(self, digest: str) -> Any:
        """Returns the facts that were added with an array."""
        name, record = self.places[digest]
        return self.shards[name].facts[record]

    def check(self, digests: Iterable[str]) -> None:
        """Compares arrays with their checksums. Removes the shards of damaged ones, whose arrays are then unknown."""
        wanted: dict[str, list[int]] = {}
        for digest in digests:
            if digest in self.places:
                name, record = self.places[digest]
                wanted.setdefault(name, []).append(record)
        for name, records in wanted.items():
            if not _is_whole(self.folder / name, self.shards[name], records):
                self._forget(name)

    def reserve(self, count: int, record: int, what: str) -> None:
        """Makes room for new arrays: removes stores beside this one that were unused for long, and checks the disk.

        Args:
            count: int. Number of arrays to add.
            record: int. Size of one in bytes.
            what: str, plural. What the arrays are, for the message.

        Raises:
            InputError: if the disk has too little space.
        """
        if count:
            make_room(self.folder.parent, count * record)
            require_disk(self.folder.parent, count * record, what)

    def add(self, digest: str, array: np.ndarray, facts: Any = None) -> None:
        """Adds an array; it is in a file after the shard is full, or after `flush`.

        Args:
            digest: str. What the array was computed from.
            array: of the store's shape and type.
            facts: value for JSON that belongs to the array.

        Raises:
            ValueError: if the array has another shape or type.
            OSError: if the shard cannot be written.
        """
        first = self.like or (self.waiting[0][1] if self.waiting else array)
        if (array.shape, array.dtype.str) != (tuple(first.shape), np.dtype(first.dtype).str):
            raise ValueError(f"expected {first.dtype} {first.shape}. Received: {array.dtype} {array.shape}.")
        self.waiting.append((digest, array, facts))
        if len(self.waiting) == max(1, min(SHARD_RECORDS, SHARD_BYTES // max(array.nbytes, 1))):
            self.flush()

    def flush(self) -> None:
        """Writes the arrays that wait for their shard to be full."""
        if not self.waiting:
            return
        digests, arrays, facts = zip(*self.waiting, strict=True)
        self.waiting = []
        self.use = self.use or Use(self.folder)
        name = f"{hashlib.sha256(''.join(digests).encode()).hexdigest()[:24]}.zip"
        try:
            write_shard(self.folder / name, digests, arrays, facts)
        except BaseException:
            self._remove_empty()
            raise
        self._know(read_shard(self.folder / name))

    def column(self, digests: Sequence[str], dtype: DTypeLike | None = None) -> "StoredArrays":
        """Returns the arrays of some digests as a column; its rows are read when they are asked for.

        Args:
            digests: sequence of str, one per row; `""` for a row of zeros.
            dtype: type of what the column returns; the store's own if None.

        Raises:
            KeyError: if a digest is unknown.
        """
        shards = list(self.shards.values())
        number = {shard.name: place for place, shard in enumerate(shards)}
        places = [self.places[digest] if digest else None for digest in digests]
        return StoredArrays(
            self.folder,
            [(shard.name, shard.start) for shard in shards],
            np.array([number[place[0]] if place else -1 for place in places], np.int32),
            np.array([place[1] if place else 0 for place in places], np.int32),
            shape=self.like.shape if self.like else (),
            stored=self.like.dtype if self.like else "<f4",
            dtype=dtype,
        )

    def _know(self, shard):
        like = self.like
        if like and (shard.shape, shard.dtype) != (like.shape, like.dtype):
            raise ValueError("a shard of another shape or type")
        self.shards[shard.name] = shard
        self.places.update({digest: (shard.name, record) for record, digest in enumerate(shard.digests)})

    def _forget(self, name):
        (self.folder / name).unlink(missing_ok=True)
        del self.shards[name]
        self.places = {digest: place for digest, place in self.places.items() if place[0] != name}

    def _remove_empty(self):
        """Leaves no folder behind if not even the first shard could be written."""
        if not self.shards and {path.name for path in self.folder.iterdir()} <= {MARK}:
            (self.folder / MARK).unlink(missing_ok=True)
            self.use = None
            for folder in (self.folder, self.folder.parent):
                try:
                    folder.rmdir()
                except OSError:
                    break


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
        self.open = lru_cache(OPEN_FILES)(lambda number: _OpenFile(paths[number]))

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

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("use", "open")}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self._open_files()


class _OpenFile:
    """A file that closes itself when no thread reads from it and the column has opened many others since."""

    def __init__(self, path: Path) -> None:
        self.descriptor, self.path = -1, path
        self.descriptor = os.open(path, os.O_RDONLY)

    def read(self, into: np.ndarray, position: int) -> None:
        if os.preadv(self.descriptor, [into.data], position) != into.nbytes:
            raise OSError(errno.EIO, "the file of cached arrays was truncated", str(self.path))

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


RECORDS, ARRAYS = "records.json", "arrays.npy"
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, EOFError, struct.error, zipfile.BadZipFile, zlib.error)
HEADER, LENGTHS = 30, 26  # of a ZIP member: size of its header without names, and where it says their lengths


def write_shard(path: Path, digests: Sequence[str], arrays: Sequence[np.ndarray], facts: Sequence[Any]) -> None:
    """Writes one shard, completely or not at all.

    Args:
        path: Path of the file.
        digests: sequence of str, one per array.
        arrays: sequence of arrays of one shape and type, at least one.
        facts: sequence of values for JSON, one per array.
    """
    arrays = [np.asarray(array, order="C") for array in arrays]
    shape, dtype = arrays[0].shape, arrays[0].dtype.str
    described = {
        "shape": shape,
        "dtype": dtype,
        "digests": digests,
        "sums": [zlib.crc32(array.data) for array in arrays],
        "facts": facts,
    }
    header = {"shape": (len(arrays), *shape), "fortran_order": False, "descr": dtype}
    with replace_file(path) as place, zipfile.ZipFile(place, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(RECORDS, json.dumps(described))
        with archive.open(ARRAYS, "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for array in arrays:
                member.write(array.data)


def read_shard(path: Path) -> Shard:
    """Reads the list of records of a shard, not its arrays.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError, KeyError, zipfile.BadZipFile and others of `DAMAGE`: if it is damaged.
    """
    with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
        described = json.loads(archive.read(RECORDS))
        shard = Shard(
            path.name,
            0,
            tuple(described["shape"]),
            np.dtype(described["dtype"]).str,
            *(tuple(described[name]) for name in ("digests", "sums", "facts")),
        )
        count, info = len(shard.digests), archive.getinfo(ARRAYS)
        file.seek(info.header_offset + LENGTHS)
        before = info.header_offset + HEADER + sum(struct.unpack("<HH", file.read(4)))
        start = before + info.file_size - count * shard.record
        if not len(shard.sums) == len(shard.facts) == count or start <= before or info.compress_type:
            raise ValueError("a shard whose parts do not fit together")
    return Shard(**{**vars(shard), "start": start})


def _remove_left(folder):
    """Removes the unfinished shards of killed processes."""
    for path in folder.glob(".*.zip"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > LEFT_SECONDS:
                path.unlink()


def _is_whole(path, shard, records):
    """Returns whether records of a shard have their checksums."""
    data = np.empty(shard.record, np.uint8)
    try:
        file = _OpenFile(path)
        for record in records:
            file.read(data, shard.start + record * shard.record)
            if zlib.crc32(data) != shard.sums[record]:
                return False
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.EIO:
            return False
        raise
    return True
