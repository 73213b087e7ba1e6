"""Search for traces of people and machines in files: ids of studies and patients, and paths of this machine."""

import csv
import os
import re
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import kmm

SHORTEST_ID = 4  # characters; shorter ids occur in any file by chance
SHORTEST_IN_NUMBERS = 8  # bytes, in weights and films; one of 1,000 shorter ids occurs by chance in 40 random MB
CHUNK = 1 << 20  # bytes in memory at a time
LONGEST = 1024  # longest part of an id or a path that is compared, in bytes
PLAIN_NUMBER = re.compile(r"[\d.,-]{1,6}")  # looks like a count, a year or a probability
_USERS = rb"/(?:home|Users|root|tmp|Volumes)/[\w.\-]|[A-Za-z]:\\Users\\"
_IN_TEXT = re.compile(r"""(["'])/(?:[^"'\n]*/)?([^"'\n/]+)\1|(?<![\w./-])/(?:[^\s"'/]+/)+([^\s"'/]+)""")


def read_ids(path: Path | str) -> set[str]:
    """Reads the ids of studies and patients from a split file.

    Args:
        path: path of a csv with the columns `study` and `patient`, as `kmm fit` saves it.

    Returns:
        set of str; empty if the file does not exist.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            return {row[name] for row in rows for name in ("study", "patient") if row.get(name)}
    except (FileNotFoundError, NotADirectoryError):
        return set()


class IdSearch:
    """Searches files for ids, as written and in lower case, in memory that does not grow with the file.

    A match counts only if its neighbours do not extend it: no digit next to a digit, no letter next to a letter.

    Args:
        ids: iterable of str.

    Attributes:
        short: int. Number of ids of fewer than 4 characters, which are not searched for.
        plain_numbers: int. Number of ids that are numbers of up to 6 characters, which are not searched for either,
            as they cannot be distinguished from other numbers.
        count: int. Number of ids that are searched for.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "card.md")
        ...     _ = path.write_text("Films of cxr-0017, cxr-00181 and 2010.")
        ...     IdSearch(["CXR-0017", "CXR-0018", "2010", "7"]).count_in(path)
        1
    """

    def __init__(self, ids: Iterable[str]):
        ids = set(ids)
        long = {name for name in ids if len(name) >= SHORTEST_ID}
        searched = {name for name in long if not PLAIN_NUMBER.fullmatch(name)}
        self.short, self.plain_numbers, self.count = len(ids - long), len(long - searched), len(searched)
        self._forms = {form.encode()[:LONGEST]: name for name in searched for form in (name.lower(), name)}
        lengths: dict[bytes, set[int]] = defaultdict(set)
        for form in self._forms:
            lengths[form[:SHORTEST_ID]].add(len(form))
        self._lengths = {int.from_bytes(start, "little"): sorted(found) for start, found in lengths.items()}
        self._starts = np.array(sorted(self._lengths), np.uint32)
        self._longest = max(map(len, self._forms), default=0)

    def count_in(self, path: Path | str, *, shortest: int = SHORTEST_ID) -> int:
        """Counts the different ids in a file.

        Args:
            path: path of the file.
            shortest: int. Ids of fewer bytes are ignored.
        """
        found = set()
        if not self.count:
            return 0
        for data, low, high in _read_chunks(path, self._longest + 1):
            places = np.frombuffer(data, np.uint8).astype(np.uint32)
            windows = places[:-3] | places[1:-2] << 8 | places[2:-1] << 16 | places[3:] << 24
            for place in np.flatnonzero(np.isin(windows, self._starts)).tolist():
                for length in self._lengths[int(windows[place])] if low <= place < high else ():
                    form = data[place : place + length]
                    if length >= shortest and form in self._forms and _stands_alone(data, place, length):
                        found.add(self._forms[form])
        return len(found)


class PathSearch:
    """Searches files for absolute paths of this machine: given folders, and those of users, Python and temporary files.

    Args:
        folders: iterable of paths that must not be revealed.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "graph.pb")
        ...     _ = path.write_text("hash_table_/home/ann/model/vocabulary.txt and map/home/while")
        ...     PathSearch([]).count_in(path)
        1
    """

    def __init__(self, folders: Iterable[Path | str]):
        machine = (Path.home(), Path.cwd(), tempfile.gettempdir(), sys.prefix, Path(kmm.__file__).parent)
        places = [Path(folder) for folder in (*folders, *machine)]
        forms = {form for place in places for form in (place.absolute(), place.resolve())}
        known = [re.escape(os.fsencode(form)) + b"/" for form in forms if len(form.parts) > 1]
        self._pattern = re.compile(rb"(?<![A-Za-z0-9.\-])(?:" + b"|".join([*known, _USERS]) + rb")")

    def count_in(self, path: Path | str) -> int:
        """Counts the positions in a file at which such a path begins."""
        return sum(
            sum(low <= match.start() < high for match in self._pattern.finditer(data))
            for data, low, high in _read_chunks(path, LONGEST)
        )


def strip_paths(text: str) -> str:
    """Removes the folders from absolute paths in a text and keeps the last part of each path.

    Example:
        >>> strip_paths("kmm predict /home/ann/models/demo FILM.png; Classifier.load(\\"/home/a b/demo\\"); and/or")
        'kmm predict demo FILM.png; Classifier.load("demo"); and/or'
    """

    def shorten(match):
        quote = match[1] or ""
        return f"{quote}{match[2] or match[3]}{quote}"

    return _IN_TEXT.sub(shorten, text)


def _stands_alone(data, place, length):
    """Returns whether the neighbours of `data[place : place + length]` do not extend it."""
    before, after = data[place - 1 : place] if place else b"", data[place + length : place + length + 1]
    return not (_continues(before, data[place : place + 1]) or _continues(after, data[place + length - 1 :][:1]))


def _continues(neighbour, edge):
    return (neighbour.isdigit() and edge.isdigit()) or (neighbour.isalpha() and edge.isalpha())


def _read_chunks(path, overlap):
    """Reads a file in overlapping chunks, so that one chunk contains each match of up to `overlap` bytes completely.

    Yields:
        `(data, low, high)`: bytes, and the range of positions in them at which a match may begin. Each position of the
        file is in one range, and the chunk includes the byte before it.
    """
    data, low, more = b"", 0, True
    with open(path, "rb") as file:
        while more:
            more = file.read(CHUNK)
            data += more
            high = max(len(data) - overlap, low) if more else len(data)
            yield data, low, high
            keep = max(high - 1, 0)
            data, low = data[keep:], high - keep
