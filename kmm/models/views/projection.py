"""Projections of contrastive terms as plain arrays: from the vectors of film, report and both into one space."""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kmm.errors import ArtefactError
from kmm.models.contrastive import ContrastiveTerms
from kmm.storage.files import replace_file

NAMES = ("image", "text", "joint")
KERNEL, OFFSET = "_kernel", "_offset"  # how the names of arrays in a file end
MAX_FILE_BYTES = 2_000_000_000
DAMAGED = (ValueError, TypeError, LookupError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, repr=False)
class Projection:
    """Affine maps into the space in which contrastive terms compare vectors by their cosines.

    Attributes:
        kernels: dict of `"image"`, `"text"` and `"joint"`, those that were trained, to float32 `(d, units)`.
        offsets: dict of the same to float32 `(units,)`.

    Example:
        >>> projection = Projection({"image": np.eye(2, dtype=np.float32)}, {"image": np.float32([1, 0])})
        >>> projection.project("image", np.array([[1.0, 2.0]])).tolist()
        [[2.0, 2.0]]
    """

    kernels: Mapping[str, np.ndarray]
    offsets: Mapping[str, np.ndarray]

    def __repr__(self) -> str:
        return f"Projection({', '.join(self.names)}: {self.units} dimensions)"

    @property
    def names(self) -> tuple[str, ...]:
        """The vectors that it maps, in the order of `NAMES`."""
        return tuple(name for name in NAMES if name in self.kernels)

    @property
    def units(self) -> int:
        """The number of dimensions of the space."""
        return int(self.kernels[self.names[0]].shape[1])

    def project(self, name: str, vectors: np.ndarray) -> np.ndarray:
        """Maps vectors `(n, d)` of one of `names` into the space: float32 `(n, units)`, of any length."""
        return np.asarray(vectors, np.float32) @ self.kernels[name] + self.offsets[name]

    @property
    def digest(self) -> str:
        """A digest of all numbers, 64 hexadecimal digits."""
        total = hashlib.sha256()
        for name, array in self._arrays().items():
            total.update(f"{name} {array.shape}".encode() + np.ascontiguousarray(array, "<f4").tobytes())
        return total.hexdigest()

    def save(self, path: Path | str) -> None:
        """Writes a `.npz` file of plain arrays, whole or not at all."""
        with replace_file(path) as place, open(place, "wb") as file:
            np.savez_compressed(file, **self._arrays())

    def _arrays(self):
        pairs = [(f"{name}{KERNEL}", self.kernels[name]) for name in self.names]
        return dict([*pairs, *((f"{name}{OFFSET}", self.offsets[name]) for name in self.names)])

    @classmethod
    def load(cls, path: Path | str) -> "Projection":
        """Reads a file that `save` wrote.

        Raises:
            ArtefactError: if the file is missing, damaged, too large or lacks the arrays of `save`; it names the file.
        """
        path = Path(path)
        try:
            return _read(path)
        except OSError as error:
            raise ArtefactError(f"{path}: the projections cannot be read ({error.strerror})") from None
        except DAMAGED:
            raise ArtefactError(f"{path}: the file is damaged or holds no projections (.npz)") from None


def _read(path: Path) -> Projection:
    """Reads and checks the arrays of a file; raises `ValueError`, or the errors of a damaged archive."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_FILE_BYTES:
            raise ValueError
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name].astype(np.float32) for name in arrays.files}
    names = [name for name in NAMES if f"{name}{KERNEL}" in found]
    kernels, offsets = ({name: found[f"{name}{end}"] for name in names} for end in (KERNEL, OFFSET))
    units = {kernel.shape[1:] for kernel in kernels.values()} | {offset.shape for offset in offsets.values()}
    if not names or len(found) != 2 * len(names) or len(units) != 1 or len(units.pop()) != 1:
        raise ValueError
    if not all(np.isfinite(array).all() for array in found.values()):
        raise ValueError
    return Projection(kernels, offsets)


def read_projection(terms: ContrastiveTerms) -> Projection:
    """Reads the projections of contrastive terms. Scaling by their running statistics, as outside of training, is part
    of the affine maps.

    Args:
        terms: `ContrastiveTerms` that are built.
    """
    kernels, offsets = {}, {}
    for name, dense in terms.projections.items():
        scaling = terms.scalings[name]
        gamma, beta, mean, variance = (
            np.asarray(keras.ops.convert_to_numpy(weight), np.float64)
            for weight in (scaling.gamma, scaling.beta, scaling.moving_mean, scaling.moving_variance)
        )
        kernel = np.asarray(keras.ops.convert_to_numpy(dense.kernel), np.float64)
        factor = gamma / np.sqrt(variance + scaling.epsilon)
        kernels[name] = (factor[:, None] * kernel).astype(np.float32)
        offsets[name] = ((beta - factor * mean) @ kernel).astype(np.float32)
    return Projection(kernels, offsets)
