"""Traces of people and machines in files: ids of studies and patients, and paths of this machine, searched as bytes."""

import csv
import os
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

import kmm

SHORTEST_ID = 4  # characters; shorter ids stand in any file by chance
SHORTEST_IN_NUMBERS = 8  # bytes; in weights and films 40 MB of random bytes hold one of 1,000 shorter ids by chance
CHUNK = 1 << 20  # bytes in memory at a time
LONGEST = 1024  # bytes of an id or a path that are looked at
PLAIN_NUMBER = re.compile(r"[\d.,-]{1,6}")  # cannot be told from a count, a year or a probability
_USERS = rb"/(?:home|Users|root|tmp|Volumes)/[\w.\-]|[A-Za-z]:\\Users\\"
_IN_TEXT = re.compile(r"""(["'])/(?:[^"'\n]*/)?([^"'\n/]+)\1|(?<![\w./-])/(?:[^\s"'/]+/)+([^\s"'/]+)""")


def read_ids(path):
    """Reads the ids of studies and patients of a split file.

    Args:
        path: of a csv with the columns `study` and `patient`, as `kmm fit` saves it.

    Returns:
        set of str; empty where there is no such file.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            return {row[name] for row in rows for name in ("study", "patient") if row.get(name)}
    except (FileNotFoundError, NotADirectoryError):
        return set()


class IdSearch:
    """Searches files for ids, as they are and in lower case, in memory that does not grow with the file.

    An id counts where neither neighbour continues it: no digit beside its digit, no letter beside its letter.

    Args:
        ids: iterable of str.

    Attributes:
        short: int. Ids of fewer than 4 characters: they are not searched for.
        plain_numbers: int. Ids that are numbers of up to 6 characters, which are not searched for either: nothing
            tells them from other numbers.
        count: int. Ids that are searched for.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "card.md")
        ...     _ = path.write_text("Films of cxr-0017, cxr-00181 and 2010.")
        ...     IdSearch(["CXR-0017", "CXR-0018", "2010", "7"]).count_in(path)
        1
    """

    def __init__(self, ids):
        ids = set(ids)
        long = {one for one in ids if len(one) >= SHORTEST_ID}
        searched = {one for one in long if not PLAIN_NUMBER.fullmatch(one)}
        self.short, self.plain_numbers, self.count = len(ids - long), len(long - searched), len(searched)
        self._forms = {form.encode()[:LONGEST]: one for one in searched for form in (one.lower(), one)}
        lengths = defaultdict(set)
        for form in self._forms:
            lengths[form[:SHORTEST_ID]].add(len(form))
        self._lengths = {int.from_bytes(start, "little"): sorted(found) for start, found in lengths.items()}
        self._starts = np.array(sorted(self._lengths), np.uint32)
        self._longest = max(map(len, self._forms), default=0)

    def count_in(self, path, *, shortest=SHORTEST_ID):
        """Counts the ids that stand in a file.

        Args:
            path: of the file.
            shortest: int. Ids of fewer bytes are passed over.
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
        folders: paths that must not be told.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "graph.pb")
        ...     _ = path.write_text("hash_table_/home/ann/model/vocabulary.txt and map/home/while")
        ...     PathSearch([]).count_in(path)
        1
    """

    def __init__(self, folders):
        machine = (Path.home(), Path.cwd(), tempfile.gettempdir(), sys.prefix, Path(kmm.__file__).parent)
        forms = {form for one in (*folders, *machine) for form in (Path(one).absolute(), Path(one).resolve())}
        known = [re.escape(os.fsencode(form)) + b"/" for form in forms if len(form.parts) > 1]
        self._pattern = re.compile(rb"(?<![A-Za-z0-9.\-])(?:" + b"|".join([*known, _USERS]) + rb")")

    def count_in(self, path):
        """Counts the places of a file at which such a path stands."""
        return sum(
            sum(low <= match.start() < high for match in self._pattern.finditer(data))
            for data, low, high in _read_chunks(path, LONGEST)
        )


def strip_paths(text):
    """Takes the folders off absolute paths in a text; their last part stays.

    Example:
        >>> strip_paths("kmm predict /home/ann/models/demo FILM.png; Classifier.load(\\"/home/a b/demo\\"); and/or")
        'kmm predict demo FILM.png; Classifier.load("demo"); and/or'
    """

    def shorten(match):
        quote = match[1] or ""
        return f"{quote}{match[2] or match[3]}{quote}"

    return _IN_TEXT.sub(shorten, text)


def _stands_alone(data, place, length):
    """Whether the neighbours of `data[place : place + length]` do not continue it."""
    before, after = data[place - 1 : place] if place else b"", data[place + length : place + length + 1]
    return not (_continues(before, data[place : place + 1]) or _continues(after, data[place + length - 1 :][:1]))


def _continues(neighbour, edge):
    return (neighbour.isdigit() and edge.isdigit()) or (neighbour.isalpha() and edge.isalpha())


def _read_chunks(path, overlap):
    """Reads a file in pieces that overlap, so that a match of up to `overlap` bytes is whole in one of them.

    Yields:
        bytes, and from which position to which one matches may begin: each position of the file comes once, with the
        byte before it.
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
