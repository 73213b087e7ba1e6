"""Columns of an index: numbers and text of its studies by row, read from its shards when they are asked for."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from kmm.data.modalities import hide_sides
from kmm.errors import InputError
from kmm.retrieval.index_folder import list_shards, read_index
from kmm.retrieval.shards import TEXTS, UNKNOWN, Shard, decode_texts, name_column


class IndexColumns:
    """The columns of an index.

    Vectors, predictions and text stay in their files and are mapped into memory shard by shard; labels and hashes are
    read when they are first asked for.

    Args:
        folder: path of the index.

    Raises:
        ArtefactError: if the folder has no index, or it was altered.

    Attributes:
        folder: Path.
        description: dict, see `kmm.retrieval.index_folder.read_index`.
        shards: list of `kmm.retrieval.shards.Shard`.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.description: Mapping[str, Any] = read_index(folder)
        self.shards: list[Shard] = list_shards(folder, self.description)
        self._starts = [shard.start for shard in self.shards]

    def __len__(self) -> int:
        return self.shards[-1].end if self.shards else 0

    @property
    def layer(self) -> str:
        """The name of the layer, in `kmm.retrieval.layers.LAYERS`."""
        return str(self.description["layer"])

    @property
    def patterns(self) -> tuple[str, ...]:
        """The patterns in which studies were read, the fullest first."""
        return tuple(self.description["patterns"])

    @property
    def size(self) -> int:
        """The number of features of a vector."""
        return int(self.description["size"])

    @property
    def predicted_names(self) -> tuple[str, ...]:
        """The names of the labels that the classifier predicts."""
        return tuple(self.description["predicted"])

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the known labels."""
        return tuple(self.description["labels"]["names"])

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the further columns of text."""
        return tuple(self.description["columns"])

    @property
    def salt(self) -> bytes:
        """The salt of the hashes."""
        return bytes.fromhex(self.description["salt"])

    def stored(self, column: str) -> str:
        """Returns the name under which the shards have a column of text, one of `TEXTS` or of `columns`."""
        return column if column in TEXTS else name_column(self.columns.index(column))

    def blocks(self, pattern: str) -> Callable[[], Iterable[tuple[int, np.ndarray]]]:
        """Returns a function that maps the vectors of a pattern shard by shard: see `find_nearest`."""
        return lambda: ((shard.start, shard.vectors(pattern, self.size)) for shard in self.shards)

    @cached_property
    def present(self) -> np.ndarray:
        """Which sides each study has: uint8 `(n, 2)`."""
        return _join([shard.present() for shard in self.shards], (0, 2), np.uint8)

    @cached_property
    def labels(self) -> np.ndarray:
        """The known labels: float32 `(n, n_labels)` of 0, 1 and NaN."""
        size = len(self.label_names)
        stored = _join([shard.labels(size) for shard in self.shards], (0, size), np.uint8)
        return np.where(stored == UNKNOWN, np.float32(np.nan), stored.astype(np.float32))

    @cached_property
    def hashes(self) -> np.ndarray:
        """Salted hashes of patient, report body and film: uint64 `(n, 3)`, 0 for none."""
        return _join([shard.hashes() for shard in self.shards], (0, 3), np.uint64)

    @cached_property
    def ids(self) -> np.ndarray:
        """The ids of all studies, as bytes `(n,)`."""
        return _join([shard.texts("id") for shard in self.shards], 0, "S1")

    def has(self, pattern: str) -> np.ndarray:
        """Returns which studies have every side of a pattern: bool `(n,)`."""
        return hide_sides(self.present, pattern)[1]

    def predicted(self, pattern: str) -> np.ndarray:
        """Reads the predicted probabilities of all studies: float32 `(n, n_predicted)`."""
        size = len(self.predicted_names)
        return _join([shard.predicted(pattern, size) for shard in self.shards], (0, size), np.float32)

    def read_vectors(self, pattern: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Reads the vectors of some rows: float32 `(len(rows), size)`."""
        found = np.zeros((len(rows), self.size), np.float32)
        for shard, places, local in self._visit(rows):
            found[places] = shard.vectors(pattern, self.size)[local]
        return found

    def read_predicted(self, pattern: str, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Reads the predicted probabilities of some rows: float32 `(len(rows), n_predicted)`."""
        size = len(self.predicted_names)
        found = np.zeros((len(rows), size), np.float32)
        for shard, places, local in self._visit(rows):
            found[places] = shard.predicted(pattern, size)[local]
        return found

    def read_texts(self, column: str, rows: Sequence[int] | np.ndarray | None = None) -> list[str]:
        """Reads a column of text, of some rows or of all.

        Args:
            column: str, one of `kmm.retrieval.shards.TEXTS` or of `columns`.
            rows: sequence of int, or None.
        """
        if rows is None:
            return [text for shard in self.shards for text in decode_texts(shard.texts(self.stored(column)))]
        found = [""] * len(rows)
        for shard, places, local in self._visit(rows):
            for place, text in zip(places.tolist(), decode_texts(shard.texts(self.stored(column))[local]), strict=True):
                found[place] = text
        return found

    def find(self, study: str) -> int | None:
        """Returns the row of a study by its id; None if the index has no such study."""
        places = np.flatnonzero(self.ids == study.encode("utf-8", "surrogateescape"))
        return int(places[0]) if len(places) else None

    def _visit(self, rows: Sequence[int] | np.ndarray) -> Iterator[tuple[Shard, np.ndarray, np.ndarray]]:
        """Yields each shard that has some of the rows, with their places in `rows` and in the shard."""
        rows = np.asarray(rows, np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise InputError(f"Rows must be from 0 to {len(self) - 1}. Received: {rows.min()} to {rows.max()}.")
        owner = np.searchsorted(self._starts, rows, "right") - 1
        for number in np.unique(owner).tolist():
            places = np.flatnonzero(owner == number)
            yield self.shards[number], places, rows[places] - self.shards[number].start


def _join(arrays, empty, dtype):
    return np.concatenate(arrays) if arrays else np.zeros(empty, dtype)
