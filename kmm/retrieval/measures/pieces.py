"""Pieces of a measurement, kept in the folder of the index until it is finished, so that a stopped one goes on.

    INDEX/.measure/<kind>-<key>-<name>.npz

The key is a digest of everything that decides the numbers of a kind of work. A piece of another key is not read.
"""

import contextlib
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmm.explain.folder.fingerprints import digest_record
from kmm.progress import Progress
from kmm.retrieval.index_folder import MEASURE, MEASURE_LOCK
from kmm.storage.file_lock import hold_file
from kmm.storage.files import replace_file

NUMBERS = 1  # increased when kmm computes different numbers from the same index, studies and arguments
_DAMAGED = (OSError, ValueError, EOFError, zipfile.BadZipFile)

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Pieces:
    """Pieces of one kind of work.

    Attributes:
        folder: Path of the folder of their files; None if nothing is kept.
        kind: str. Beginning of their names.
    """

    folder: Path | None = None
    kind: str = ""

    def of(self, kind: str, facts: Mapping[str, Any]) -> "Pieces":
        """Returns the pieces of a kind of work.

        Args:
            kind: str for people, for example `"films"`.
            facts: mapping for JSON of everything that decides the numbers.
        """
        return Pieces(self.folder, f"{kind}-{digest_record({'numbers': NUMBERS, **facts})}")

    def has(self, name: object) -> bool:
        """Returns whether a piece is kept."""
        return self.folder is not None and self._place(self.folder, name).is_file()

    def read_or_make(self, name: object, make: Callable[[], Arrays]) -> Arrays:
        """Reads the arrays of a piece; if it is not kept, or its file is damaged, makes and keeps them.

        Args:
            name: int or str, the name of the piece among those of its kind.
            make: function that returns a mapping of names to arrays.

        Raises:
            OSError: if the file cannot be written.
        """
        if self.folder is None:
            return make()
        place = self._place(self.folder, name)
        if place.is_file():
            with contextlib.suppress(*_DAMAGED), open(place, "rb") as file, np.load(file, allow_pickle=False) as stored:
                return {key: stored[key] for key in stored.files}
        made: dict[str, Any] = dict(make())
        with replace_file(place) as temporary, open(temporary, "wb") as written:
            np.savez(written, **made)
        return made

    def _place(self, folder, name):
        return folder / f"{self.kind}-{name}.npz"


@contextlib.contextmanager
def keeping_pieces(index: Path, progress: Progress | None = None) -> Iterator[Pieces]:
    """Keeps the pieces of a measurement beside an index while the block runs, and after an error or an interruption.
    They are removed when the block succeeds.

    If the folder cannot be written, or another process measures the same index, nothing is kept, and a note says so.

    Args:
        index: Path of the folder of the index.
        progress: `Progress` that shows the note.

    Yields:
        `Pieces`.
    """
    progress = progress or Progress()
    if not os.access(index, os.W_OK):
        progress.note(f"{index} cannot be written, so a measurement that is stopped starts again")
        yield Pieces()
        return
    with hold_file(index / MEASURE_LOCK) as held:
        if not held:
            progress.note("Another process measures this index. If this one is stopped, it starts again")
            yield Pieces()
            return
        place = index / MEASURE
        place.mkdir(exist_ok=True)
        yield Pieces(place)
        shutil.rmtree(place, ignore_errors=True)
