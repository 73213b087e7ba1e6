"""Cache of the features of a frozen encoder, computed once per film, so that later epochs, folds and heads take
seconds."""

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmm.progress import Progress
from kmm.storage.files import replace_file
from kmm.training.prepared_studies import PreparedStudies

SHARD = 256  # films per file


class FeatureCache:
    """Feature vectors by the content of the film, in one folder per preparation and set of weights.

    A shard is a file of at most 256 vectors, written atomically, so that a killed process loses at most one shard.

    Args:
        folder: path of the folder of all caches.
        preparation: dict for JSON that describes the preparation of films.
        weights: str, digest of the encoder's weights.
    """

    def __init__(self, folder: Path | str, preparation: Mapping[str, Any], weights: str):
        key = hashlib.sha256(f"{sorted(preparation.items())}\n{weights}".encode()).hexdigest()[:24]
        self.folder = Path(folder) / key

    def load(self) -> dict[str, np.ndarray]:
        """Returns a dict from film digest to float32 `(d,)`. Removes damaged shards, whose features are left out."""
        vectors: dict[str, np.ndarray] = {}
        for path in sorted(self.folder.glob("[!.]*.npz")):
            try:
                with open(path, "rb") as file, np.load(file, allow_pickle=False) as shard:
                    vectors.update(zip(shard["digests"].tolist(), shard["vectors"], strict=True))
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
                path.unlink()
        return vectors

    def store(self, digests: Sequence[str], vectors: np.ndarray) -> None:
        """Writes one shard."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:24]
        with replace_file(self.folder / f"{name}.npz") as place, open(place, "wb") as file:
            np.savez(file, digests=np.array(digests), vectors=np.asarray(vectors, np.float32))


def compute_features(
    encode: Callable[[np.ndarray], np.ndarray],
    prepared: PreparedStudies,
    cache: FeatureCache | None = None,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
) -> np.ndarray:
    """Returns the feature vectors of all films; computes those that the cache lacks.

    Args:
        encode: function from float32 `(n, h, w, 1)` to `(n, d)`.
        prepared: `PreparedStudies`.
        cache: `FeatureCache`, or None for no cache, because the encoder changes with every run.
        batch_size: int.
        progress: `kmm.progress.Progress`.

    Returns:
        float32 `(n, d)`, one row per study; zeros for studies without a film.
    """
    known = cache.load() if cache else {}
    missing: dict[str, int] = {}
    for row, digest in enumerate(prepared.image_digests):
        if digest and digest not in known:
            missing.setdefault(digest, row)
    rows = list(missing.values())
    if prepared.image is not None and rows:
        with (progress or Progress()).step("Features of films", len(rows)) as advance:
            for start in range(0, len(rows), SHARD):
                made = []
                for first in range(start, min(start + SHARD, len(rows)), batch_size):
                    part = rows[first : min(first + batch_size, start + SHARD, len(rows))]
                    films = prepared.image[part]
                    padded = np.concatenate([films, np.zeros((batch_size - len(part), *films.shape[1:]), np.float32)])
                    made.append(np.asarray(encode(padded))[: len(part)])
                    advance(len(part))
                digests = [prepared.image_digests[row] for row in rows[start : start + SHARD]]
                vectors = np.concatenate(made)
                if cache:
                    cache.store(digests, vectors)
                known.update(zip(digests, vectors, strict=True))
    size = next(iter(known.values())).shape[0] if known else 1
    features = np.zeros((len(prepared.studies), size), np.float32)
    for row, digest in enumerate(prepared.image_digests):
        if digest:
            features[row] = known[digest]
    return features
