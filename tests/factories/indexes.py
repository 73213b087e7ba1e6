"""Indexes of made-up vectors, written without a classifier."""

import numpy as np

from kmm.retrieval.exclusions import hash_value
from kmm.retrieval.index import Index
from kmm.retrieval.index_folder import adding
from kmm.retrieval.shards import Rows

SALT = bytes(16)


def make_rows(
    ids, vectors, *, patterns=("both",), labels=None, predicted=None, patients=None, bodies=None, films=None, **texts
):
    """Rows of studies with film and report; the same vectors for every pattern."""
    count = len(ids)
    columns = zip(*(given or [""] * count for given in (patients, bodies, films)), strict=True)
    hashes = [[hash_value(kind, text, SALT) for kind, text in zip(("patient", "body", "film"), row)] for row in columns]
    return Rows(
        vectors=dict.fromkeys(patterns, np.asarray(vectors, np.float32)),
        predicted=dict.fromkeys(
            patterns, np.asarray(np.zeros((count, 0)) if predicted is None else predicted, np.float32)
        ),
        present=np.ones((count, 2), np.uint8),
        labels=np.zeros((count, 0), np.uint8) if labels is None else np.asarray(labels, np.uint8),
        hashes=np.array(hashes, np.uint64).reshape(count, 3),
        texts={
            **{name: [""] * count for name in ("film", "view", "part", "source")},
            "id": list(ids),
            **{name: list(values) for name, values in texts.items()},
        },
    )


def describe(size, *, patterns=("both",), labels=(), predicted=(), columns=()):
    """The description of an index without shards."""
    return {
        "model": {"path": None, "digest": "m" * 64},
        "layer": "joint",
        "patterns": list(patterns),
        "size": size,
        "preparation": {"image": None, "text": None, "label_names": list(predicted)},
        "predicted": list(predicted),
        "labels": {"scheme": "columns", "names": list(labels)},
        "columns": list(columns),
        "salt": SALT.hex(),
        "sources": [],
        "shards": [],
    }


def write_index(folder, parts, **described):
    """Writes an index of some rows, a shard for each; returns it opened."""
    size = next(iter(parts[0].vectors.values())).shape[1]
    with adding(folder, describe(size, patterns=tuple(parts[0].vectors), **described), "key") as addition:
        for number, rows in enumerate(parts, 1):
            addition.write(rows, number)
        addition.finish()
    return Index(folder)
