"""Linear baselines as plain arrays: a probe of the features of films, and its sum with a model of reports."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmm.errors import ArtefactError
from kmm.storage.files import replace_file

IMAGE_LINEAR, LINEAR_SUM = "image-linear", "linear-sum"  # rows of results
MAX_FILE_BYTES = 2_000_000_000
ROWS = 512  # of features, which may be many, that are converted at once
PROBE = ("mean", "scale", "coef", "intercept", "strengths")
SUM = ("image_weight", "text_weight", "bias", "prior")
DAMAGED = (ValueError, TypeError, LookupError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class LinearProbe:
    """One linear model per label. `kmm.evaluate.linear_probe.fit_probe` fits it.

    Attributes:
        mean, scale: float64 `(d,)`; `scale` is above 0.
        coef: float64 `(d, n_labels)`, of the standardised features.
        intercept: float64 `(n_labels,)`.
        strengths: tuple of float or None, one per label: the inverse strength of the penalty; None for a label with a
            single class in training.

    Example:
        >>> probe = LinearProbe(np.array([1.0]), np.array([2.0]), np.array([[3.0]]), np.array([0.5]), (1.0,))
        >>> probe.logits(np.array([[1.0], [3.0]])).tolist()
        [[0.5], [3.5]]
    """

    mean: np.ndarray
    scale: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    strengths: tuple[float | None, ...]

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Returns the logits float64 `(n, n_labels)` of features `(n, d)`, computed in blocks of rows."""
        logits = np.empty((len(features), len(self.intercept)))
        for start in range(0, len(features), ROWS):
            block = np.asarray(features[start : start + ROWS], np.float64)
            logits[start : start + ROWS] = (block - self.mean) / self.scale @ self.coef + self.intercept
        return logits


@dataclass(frozen=True)
class LinearSum:
    """Weights with which the logits of two linear models, of films and of reports, add up.

    Attributes:
        image_weight, text_weight, bias: float64 `(n_labels,)`.
        prior: float64 `(n_labels,)` in (0, 1), the prevalence in training: a study that lacks a side adds its log odds.
    """

    image_weight: np.ndarray
    text_weight: np.ndarray
    bias: np.ndarray
    prior: np.ndarray


@dataclass(frozen=True, repr=False)
class LinearBaselines:
    """The linear baselines of a classifier that reads films.

    Attributes:
        probe: `LinearProbe` of the vectors of its image encoder.
        total: `LinearSum` with the TF-IDF baseline; None without one.
    """

    probe: LinearProbe
    total: LinearSum | None = None

    def __repr__(self) -> str:
        return f"LinearBaselines({len(self.probe.mean)} features, {len(self.probe.intercept)} labels)"

    def save(self, path: Path | str) -> None:
        """Writes a `.npz` file of plain arrays, whole or not at all."""
        strengths = [np.nan if strength is None else strength for strength in self.probe.strengths]
        arrays = {**vars(self.probe), "strengths": np.array(strengths), **(vars(self.total) if self.total else {})}
        with replace_file(path) as place, open(place, "wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path | str) -> "LinearBaselines":
        """Reads a file that `save` wrote.

        Raises:
            ArtefactError: if the file is missing, damaged, too large or lacks the arrays of `save`; it names the file.
        """
        path = Path(path)
        try:
            found = _read_arrays(path)
        except OSError as error:
            raise ArtefactError(f"{path}: the linear baselines cannot be read ({error.strerror})") from None
        except DAMAGED:
            raise ArtefactError(f"{path}: the file is damaged or holds no linear baselines (.npz)") from None
        strengths = tuple(None if np.isnan(value) else float(value) for value in found["strengths"])
        probe = LinearProbe(found["mean"], found["scale"], found["coef"], found["intercept"], strengths)
        return cls(probe, LinearSum(*(found[name] for name in SUM)) if "bias" in found else None)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads and checks the arrays of a file; raises `ValueError`, or the errors of a damaged archive."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_FILE_BYTES:
            raise ValueError
    with np.load(path, allow_pickle=False) as arrays:
        found = {name: arrays[name].astype(np.float64) for name in arrays.files}
    size, labels = found["coef"].shape
    shapes = {"coef": (size, labels), **dict.fromkeys(("mean", "scale"), (size,))}
    for name in {*PROBE, *(SUM if "bias" in found else ())}:
        if found[name].shape != shapes.get(name, (labels,)):
            raise ValueError
        if name != "strengths" and not np.isfinite(found[name]).all():
            raise ValueError
    if not (found["scale"] > 0).all():
        raise ValueError
    return found
