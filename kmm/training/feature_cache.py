"""Features of a frozen encoder, computed once for each film and kept: later epochs, folds and heads cost seconds."""

import hashlib
import zipfile
from pathlib import Path

import numpy as np

from kmm.progress import Progress
from kmm.storage.files import replace_file

SHARD = 256


class FeatureCache:
    """Feature vectors by the content of the film, in one folder a preparation and set of weights.

    A shard is a file of at most 256 vectors, written whole and then renamed, so a kill loses at most one shard.

    Args:
        folder: where all caches lie.
        preparation: JSON-able description of how films are prepared.
        weights: str, digest of the encoder's weights.
    """

    def __init__(self, folder, preparation, weights):
        key = hashlib.sha256(f"{sorted(preparation.items())}\n{weights}".encode()).hexdigest()[:24]
        self.folder = Path(folder) / key

    def load(self):
        """Returns a dict from film digest to float32 `(d,)`. A shard that cannot be read is removed and made anew."""
        vectors = {}
        for path in sorted(self.folder.glob("[!.]*.npz")):
            try:
                with open(path, "rb") as file, np.load(file, allow_pickle=False) as shard:
                    vectors.update(zip(shard["digests"].tolist(), shard["vectors"], strict=True))
            except (OSError, ValueError, KeyError, zipfile.BadZipFile):
                path.unlink()
        return vectors

    def store(self, digests, vectors):
        """Writes one shard."""
        self.folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256("".join(digests).encode()).hexdigest()[:24]
        with replace_file(self.folder / f"{name}.npz") as place, open(place, "wb") as file:
            np.savez(file, digests=np.array(digests), vectors=np.asarray(vectors, np.float32))


def compute_features(encode, prepared, cache=None, *, batch_size=32, progress=None):
    """Computes the feature vector of every film that the cache lacks.

    Args:
        encode: callable from float32 `(n, h, w, 1)` to `(n, d)`.
        prepared: `PreparedStudies`.
        cache: `FeatureCache`, or None to keep nothing: for an encoder that changes with every run.
        batch_size: int.
        progress: `kmm.progress.Progress`.

    Returns:
        float32 `(n, d)`, a row a study; zeros where there is no film.
    """
    known = cache.load() if cache else {}
    missing = {}
    for row, digest in enumerate(prepared.image_digests):
        if digest and digest not in known:
            missing.setdefault(digest, row)
    rows = list(missing.values())
    if rows:
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
