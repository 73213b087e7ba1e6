"""Features of an encoder that does not change: computed once per film or report, so that later epochs, folds and heads
take seconds."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from kmm.models.checkpoints import architecture_digest, weights_digest
from kmm.progress import Progress
from kmm.training.array_store import ArrayStore, StoredArrays
from kmm.training.cache_folder import name_entry


class Column(Protocol):
    """Rows of one input of a model: an array, or `kmm.training.array_store.StoredArrays`."""

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Returns the values `(len(rows), ...)` of the given row numbers."""


def open_features(cache: Path, name: str, encoder: keras.Model, preparation: Mapping[str, Any]) -> ArrayStore:
    """Opens the store of the features of an encoder. Its name depends on what decides the numbers: the preparation of
    the input, the architecture and the weights of the encoder, the precision and the backend. It does not depend on the
    source code, so a changed comment leaves the features in use.

    Args:
        cache: Path of the folder of all stores.
        name: str. The encoder's name, for people.
        encoder: `keras.Model` whose features are kept.
        preparation: mapping for JSON: the preparation of the input, with the version of its code.
    """
    facts = {
        "preparation": dict(preparation),
        "architecture": architecture_digest(encoder),
        "weights": weights_digest(encoder),
        "precision": keras.config.dtype_policy().name,
        "backend": keras.backend.backend(),
    }
    return ArrayStore(cache / name_entry(f"features-{name}", facts))


def compute_features(
    encode: Callable[[np.ndarray], np.ndarray],
    column: Column,
    digests: Sequence[str],
    store: ArrayStore | None = None,
    *,
    batch_size: int = 32,
    progress: Progress | None = None,
    title: str = "Features of films",
) -> np.ndarray | StoredArrays:
    """Returns the features of all rows; computes those that the store lacks.

    Args:
        encode: function from values of the column `(n, ...)` to features `(n, ...)` of any one shape.
        column: values of the rows.
        digests: sequence of str, one per row: the identity of its value; `""` for a row without a value, whose features
            are 0.
        store: `ArrayStore` that keeps the features in files; None keeps them in memory, for short vectors of an encoder
            that changes with every run.
        batch_size: int. `encode` is always called with so many rows.
        progress: `kmm.progress.Progress`.
        title: str. Name of the step.

    Returns:
        column `(n, ...)`: `StoredArrays` if there is a store, else an array.

    Raises:
        InputError: if the disk has too little space.
    """
    if store is not None:
        store.check(digests)
    missing: dict[str, int] = {}
    for row, digest in enumerate(digests):
        if digest and (store is None or digest not in store):
            missing.setdefault(digest, row)
    made: dict[str, np.ndarray] = {}
    names, rows = list(missing), list(missing.values())
    if rows:
        with (progress or Progress()).step(title, len(rows)) as advance:
            for start in range(0, len(rows), batch_size):
                part = rows[start : start + batch_size]
                values = np.asarray(encode(column[np.resize(part, batch_size)]))[: len(part)]
                if store is None:
                    made.update(zip(names[start : start + batch_size], values, strict=True))
                else:
                    if not start:
                        store.reserve(len(rows), values[0].nbytes, title.lower())
                    for name, value in zip(names[start : start + batch_size], values, strict=True):
                        store.add(name, value)
                advance(len(part))
    if store is not None:
        store.flush()
        return store.column(digests)
    size = next(iter(made.values())).shape if made else (1,)
    features = np.zeros((len(digests), *size), np.float32)
    for row, digest in enumerate(digests):
        if digest:
            features[row] = made[digest]
    return features
