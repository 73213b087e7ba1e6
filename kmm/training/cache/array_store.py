"""Arrays of one shape and type in files, found by a digest of what they were computed from and read by position.

A store is a folder of shards. A killed process loses at most one shard, and any number of processes may write at once.
"""

import contextlib
import hashlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from kmm.training.cache.cache_folder import MARK, Use, make_room, require_disk
from kmm.training.cache.shards import DAMAGE, Shard, has_checksums, read_shard, write_shard
from kmm.training.cache.stored_arrays import StoredArrays

SHARD_RECORDS, SHARD_BYTES = 256, 2**26  # a shard has at most so many records, and at most so many bytes of more than 1
LEFT_SECONDS = 3600  # a shard takes seconds to write: an older temporary file was left by a killed process


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
            if not has_checksums(self.folder / name, self.shards[name], records):
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

    def column(self, digests: Sequence[str], dtype: DTypeLike | None = None) -> StoredArrays:
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


def _remove_left(folder):
    """Removes the unfinished shards of killed processes."""
    for path in folder.glob(".*.zip"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > LEFT_SECONDS:
                path.unlink()
