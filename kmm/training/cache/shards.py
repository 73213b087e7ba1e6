"""Shard: an uncompressed ZIP file of arrays of one shape and type, read by position.

Its members are `records.json`, with a digest, a checksum and facts per array, and `arrays.npy`, which `numpy.load`
reads too. A shard appears completely or not at all.
"""

import errno
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmm.storage.files import replace_file

RECORDS, ARRAYS = "records.json", "arrays.npy"
DAMAGE = (ValueError, KeyError, TypeError, AttributeError, EOFError, struct.error, zipfile.BadZipFile, zlib.error)
HEADER, LENGTHS = 30, 26  # of a ZIP member: size of its header without names, and where it says their lengths


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


class ShardFile:
    """An open shard, whose records several threads may read at once. It closes itself when nothing holds it.

    Args:
        path: Path of the file.

    Raises:
        OSError: if there is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.descriptor, self.path = -1, path
        self.descriptor = os.open(path, os.O_RDONLY)

    def read(self, into: np.ndarray, position: int) -> None:
        """Fills a contiguous array from a position in bytes; raises `OSError` if the file ends before."""
        if os.preadv(self.descriptor, [into.data], position) != into.nbytes:
            raise OSError(errno.EIO, "the file of cached arrays was truncated", str(self.path))

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


def has_checksums(path: Path, shard: Shard, records: Iterable[int]) -> bool:
    """Returns whether some records of a shard, by their places in it, have their checksums."""
    data = np.empty(shard.record, np.uint8)
    try:
        file = ShardFile(path)
        for record in records:
            file.read(data, shard.start + record * shard.record)
            if zlib.crc32(data.data) != shard.sums[record]:
                return False
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno == errno.EIO:
            return False
        raise
    return True
