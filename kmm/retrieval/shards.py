"""Shards of an index: folders of arrays, written completely or not at all, and never changed afterwards.

Text is stored as arrays of bytes of one width, so that a filter compares a whole column and nothing is unpickled.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kmm.errors import ArtefactError

SIDES = ("image", "text")
HASHES = ("patient", "body", "film")  # columns of `hashes`; 0 for none
TEXTS = ("id", "film", "view", "part", "source")  # columns of text that every index has
UNKNOWN = 255  # in `labels`
BYTES, ROWS = 2**25, 4096  # a shard is written when its rows take this many bytes, or are as many


@dataclass(frozen=True)
class Rows:
    """Studies as the rows of a shard.

    Attributes:
        vectors: dict of pattern to float32 `(n, d)`, of length 1; zeros where a study lacks a side of the pattern.
        predicted: dict of pattern to float32 `(n, n_predicted)` in [0, 1].
        present: uint8 `(n, 2)`: whether each study has a film, and words.
        labels: uint8 `(n, n_labels)`: 0, 1 or `UNKNOWN`.
        hashes: uint64 `(n, 3)`, see `HASHES`.
        texts: dict of the columns of `TEXTS`, and of any other columns, to n str each.
    """

    vectors: Mapping[str, np.ndarray]
    predicted: Mapping[str, np.ndarray]
    present: np.ndarray
    labels: np.ndarray
    hashes: np.ndarray
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.present)

    @property
    def nbytes(self) -> int:
        """The size of the arrays of numbers."""
        arrays = [*self.vectors.values(), *self.predicted.values(), self.present, self.labels, self.hashes]
        return sum(array.nbytes for array in arrays)


def join_rows(parts: Sequence[Rows]) -> Rows:
    """Joins rows in order; at least one part."""
    first = parts[0]
    return Rows(
        vectors={name: np.concatenate([part.vectors[name] for part in parts]) for name in first.vectors},
        predicted={name: np.concatenate([part.predicted[name] for part in parts]) for name in first.predicted},
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in ("present", "labels", "hashes")},
        texts={name: [text for part in parts for text in part.texts[name]] for name in first.texts},
    )


def name_column(number: int) -> str:
    """Names a further column of text in `Rows.texts`, by its number among those of the index."""
    return f"column-{number}"


def write_shard(folder: Path, rows: Rows) -> None:
    """Writes rows into a new folder, which appears in one step when all its files are written.

    Args:
        folder: Path of the shard. One of this name, left by a killed process, is replaced.
        rows: `Rows`.

    Raises:
        OSError: if a file cannot be written.
    """
    arrays: dict[str, np.ndarray] = {name: getattr(rows, name) for name in ("present", "labels", "hashes")}
    arrays |= {f"vectors-{name}": array for name, array in rows.vectors.items()}
    arrays |= {f"predicted-{name}": array for name, array in rows.predicted.items()}
    arrays |= {f"text-{name}": encode_texts(texts) for name, texts in rows.texts.items()}
    temporary = folder.with_name(f".{folder.name}")
    for left in (temporary, folder):
        shutil.rmtree(left, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def encode_texts(texts: Sequence[str]) -> np.ndarray:
    """Encodes texts in UTF-8, as bytes of one width: `(n,)`.

    Example:
        >>> encode_texts(["a", "bé"]).dtype, decode_texts(encode_texts(["a", "bé"]))
        (dtype('S3'), ['a', 'bé'])
    """
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    return np.array(encoded, f"S{max([1, *map(len, encoded)])}")


def decode_texts(encoded: np.ndarray) -> list[str]:
    """Decodes an array of `encode_texts`."""
    return [bytes(text).decode("utf-8", "surrogateescape") for text in encoded.tolist()]


@dataclass(frozen=True)
class Shard:
    """A shard of an index, whose arrays are mapped into memory when they are asked for, and let go of afterwards.

    Attributes:
        folder: Path.
        start, count: int. The number of its first row in the index, and its number of rows.
    """

    folder: Path
    start: int
    count: int

    @property
    def end(self) -> int:
        """The number of the row behind its last one."""
        return self.start + self.count

    def vectors(self, pattern: str, size: int) -> np.ndarray:
        """Maps the vectors of a pattern: float32 `(count, size)`."""
        return self._map(f"vectors-{pattern}", np.float32, (size,))

    def predicted(self, pattern: str, size: int) -> np.ndarray:
        """Maps the predicted probabilities of a pattern: float32 `(count, size)`."""
        return self._map(f"predicted-{pattern}", np.float32, (size,))

    def present(self) -> np.ndarray:
        """Maps which sides each study has: uint8 `(count, 2)`."""
        return self._map("present", np.uint8, (2,))

    def labels(self, size: int) -> np.ndarray:
        """Maps the labels: uint8 `(count, size)`."""
        return self._map("labels", np.uint8, (size,))

    def hashes(self) -> np.ndarray:
        """Maps the hashes: uint64 `(count, 3)`."""
        return self._map("hashes", np.uint64, (len(HASHES),))

    def texts(self, column: str) -> np.ndarray:
        """Maps the texts of a column: bytes `(count,)`."""
        return self._map(f"text-{column}", None, ())

    def _map(self, name, dtype, shape):
        path = self.folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise ArtefactError(
                f"{path} is missing: the index was rebuilt since it was opened, or is damaged. Open it again."
            ) from None
        except ValueError:
            raise ArtefactError(f"{path} is damaged. Build the index again.") from None
        right = array.dtype.kind == "S" if dtype is None else array.dtype == dtype
        if not right or array.shape != (self.count, *shape):
            raise ArtefactError(f"{path} does not fit its index: {array.dtype} {array.shape}. Build the index again.")
        return array
