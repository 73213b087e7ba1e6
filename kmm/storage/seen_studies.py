"""Hashes of the studies that a classifier was trained and calibrated on, to recognise them later."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

SEEN_PARTS = ("train", "validation")
NUMBER = np.dtype("<u8")
# Copies of 300 Open-i films (0.5 to 1.7 times the size, JPEG of quality 60, gamma 0.8) differ in at most 2 bits; two
# different films differ in 18 bits (median), and in 5 or fewer in one of a hundred pairs.
SAME_FILM_BITS = 4


@dataclass(frozen=True)
class SeenStudies:
    """The studies of one part of a split, as hashes from which nothing can be reconstructed.

    Attributes:
        prints: sorted uint64 `(k,)`: hashes of films (of the file and of the pixels), and of the records (see
            `kmm.evaluate.seen.record_prints`) of studies without a film.
        records: uint64 `(m, 2)`, sorted: each hash of a record of a study with a film, and the sketch of that film, see
            `kmm.image.film_identity.sketch_film`. Studies with equal reports may share a hash.

    Example:
        >>> seen = SeenStudies.gather({3, 9}, {(5, 0b1111)})
        >>> seen.holds({9, 10}), seen.holds({4}), seen.holds({5})
        (True, False, False)
        >>> seen.holds_record(5, sketch=0b1101), seen.holds_record(5, sketch=0xFFFF), seen.holds_record(5, sketch=None)
        (True, False, True)
    """

    prints: np.ndarray
    records: np.ndarray

    @classmethod
    def gather(cls, prints: Iterable[int], records: Iterable[tuple[int, int]] = ()) -> Self:
        """Makes the tables from prints and from pairs of record and sketch, ints below 2**64."""
        pairs = np.array(sorted(set(records)), NUMBER).reshape(-1, 2)
        return cls(np.array(sorted(set(prints)), NUMBER), pairs)

    def merged(self, other: Self) -> Self:
        """Returns the studies of both."""
        return type(self)(
            np.union1d(self.prints, other.prints).astype(NUMBER),
            np.unique(np.concatenate([self.records, other.records]).astype(NUMBER), axis=0),
        )

    @classmethod
    def from_format_1(cls, known: Mapping[str, str], part: str) -> Self:
        """Reads the hashes of format 1: a dict of 16 hexadecimal digits to the part."""
        return cls.gather({int(key, 16) for key, found in known.items() if found == part})

    def holds(self, prints: Iterable[int]) -> bool:
        """Returns whether the part includes one of the prints, ints below 2**64."""
        wanted = np.array(sorted(prints), NUMBER)
        places = np.searchsorted(self.prints, wanted)
        inside = places < len(self.prints)
        return bool((self.prints[places[inside]] == wanted[inside]).any())

    def holds_record(self, record: int, *, sketch: int | None) -> bool:
        """Returns whether the part includes a study with this record and the same film.

        Args:
            record: int below 2**64.
            sketch: int below 2**64, the sketch of the study's film; None if it has no film, which matches any film. A
                film that differs in more than `SAME_FILM_BITS` bits is another study's.
        """
        first, last = (
            int(np.searchsorted(self.records[:, 0], NUMBER.type(record), side)) for side in ("left", "right")
        )
        if sketch is None:
            return first < last
        return any((int(known) ^ sketch).bit_count() <= SAME_FILM_BITS for known in self.records[first:last, 1])

    def save(self, folder: Path, part: str) -> None:
        """Writes the two files of a part."""
        for name, table in zip(_list_files(part), (self.prints, self.records), strict=True):
            np.save(folder / name, np.asarray(table, NUMBER), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, part: str) -> Self:
        """Maps the two files of a part into memory, so that pages are read only when a study is looked up.

        Raises:
            TypeError: if a file has another type or shape.
        """
        return cls(*(_map(folder / name, shape) for name, shape in zip(_list_files(part), ((), (2,)), strict=True)))


def load_seen(folder: Path, files: Collection[str]) -> dict[str, SeenStudies]:
    """Loads the parts that are listed in `files`, as dict of part to `SeenStudies`."""
    return {part: SeenStudies.load(folder, part) for part in SEEN_PARTS if set(_list_files(part)) <= set(files)}


def _list_files(part):
    return f"seen_{part}.npy", f"seen_{part}_records.npy"


def _map(path, shape):
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        table = None
    if table is None or table.dtype != NUMBER or table.ndim != 1 + len(shape) or table.shape[1:] != shape:
        raise TypeError(f"{path.name} must be an array of 8-byte unsigned integers")
    return table
