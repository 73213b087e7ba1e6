"""What a classifier keeps of the studies that it was trained and calibrated on: hashes in files of their own."""

from dataclasses import dataclass

import numpy as np

SEEN_PARTS = ("train", "validation")
NUMBER = np.dtype("<u8")
# Copies of 300 Open-i films (half to 1.7 times the size, JPEG of quality 60, gamma 0.8) differ in 2 bits at most; two
# different films in 18 (median), in 5 or fewer once in a hundred.
SAME_FILM_BITS = 4


@dataclass(frozen=True)
class SeenStudies:
    """The studies of one part of a split. Nothing can be read back from the numbers.

    Attributes:
        prints: sorted uint64 `(k,)`: hashes of films (of the file and of the pixels), and of the records (patient, id
            and report body together) of studies without a film.
        records: uint64 `(m, 2)`, sorted by the first column: the hash of the record of each study with a film, and the
            sketch of that film, see `kmm.film_identity.sketch_film`.

    Example:
        >>> seen = SeenStudies.gather({3, 9}, {5: 0b1111})
        >>> seen.holds({9, 10}), seen.holds({4}), seen.holds({5})
        (True, False, False)
        >>> seen.holds_record(5, sketch=0b1101), seen.holds_record(5, sketch=0xFFFF), seen.holds_record(5, sketch=None)
        (True, False, True)
    """

    prints: np.ndarray
    records: np.ndarray

    @classmethod
    def gather(cls, prints, records=None):
        """Sorts a set of prints and a dict of record to sketch, ints below 2**64."""
        pairs = np.array(sorted((records or {}).items()), NUMBER).reshape(-1, 2)
        return cls(np.array(sorted(prints), NUMBER), pairs)

    @classmethod
    def from_format_1(cls, known, part):
        """Reads what format 1 held: a dict of 16 hexadecimal digits to the part."""
        return cls.gather({int(key, 16) for key, found in known.items() if found == part})

    def holds(self, prints):
        """Whether one of the prints, a set of ints, is among those of the part."""
        wanted = np.array(sorted(prints), NUMBER)
        places = np.searchsorted(self.prints, wanted)
        inside = places < len(self.prints)
        return bool((self.prints[places[inside]] == wanted[inside]).any())

    def holds_record(self, record, *, sketch):
        """Whether a study of this record is among those with a film of the part.

        Args:
            record: int below 2**64.
            sketch: int below 2**64, of the film of the study that is asked for, or None where it has none. A film that
                differs in more than `SAME_FILM_BITS` bits makes it another study.
        """
        place = np.searchsorted(self.records[:, 0], NUMBER.type(record))
        if place == len(self.records) or self.records[place, 0] != record:
            return False
        return sketch is None or (int(self.records[place, 1]) ^ sketch).bit_count() <= SAME_FILM_BITS

    def save(self, folder, part):
        """Writes the two files of a part."""
        for name, table in zip(_list_files(part), (self.prints, self.records), strict=True):
            np.save(folder / name, np.asarray(table, NUMBER), allow_pickle=False)

    @classmethod
    def load(cls, folder, part):
        """Maps the two files of a part into memory: pages are read where a study is looked up, and not before.

        Raises:
            TypeError: if a file holds something else.
        """
        return cls(*(_map(folder / name, shape) for name, shape in zip(_list_files(part), ((), (2,)), strict=True)))


def load_seen(folder, files):
    """Reads the parts that a saved classifier lists in `files`: dict of part to `SeenStudies`."""
    return {part: SeenStudies.load(folder, part) for part in SEEN_PARTS if set(_list_files(part)) <= set(files)}


def _list_files(part):
    return f"seen_{part}.npy", f"seen_{part}_records.npy"


def _map(path, shape):
    try:
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:
        table = None
    if table is None or table.dtype != NUMBER or table.ndim != 1 + len(shape) or table.shape[1:] != shape:
        raise TypeError(f"{path.name} must hold numbers of 8 bytes")
    return table
