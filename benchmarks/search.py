"""Core-seconds of exact search in an index, to bare NumPy on arrays in memory; and its memory.

    python benchmarks/search.py                    a table; exit code 1 if the ratio exceeds `--limit`
    python benchmarks/search.py --rows 20000       fewer vectors, for a first answer

Both find the 10 nearest of the same random unit vectors for the same queries. Bare NumPy multiplies the matrices, takes
the largest by `argpartition` and sorts them. kmm maps its files, leaves out the query's patient, orders ties by id, and
makes hits with labels and predictions. Each time is the CPU time of all threads, the best of the rounds, which
alternate.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from kmm.retrieval.index import Index
from kmm.retrieval.index_folder import adding
from kmm.retrieval.shards import TEXTS, Rows

STEP = 8192  # rows of a shard
LABELS = ("mass", "effusion", "cyst")


def draw_vectors(rows, size, seed):
    """Draws unit vectors, float32 `(rows, size)`."""
    vectors = np.random.default_rng(seed).standard_normal((rows, size), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write_index(folder, vectors):
    """Writes the vectors as an index of studies, two of each patient; returns it opened."""
    random, count = np.random.default_rng(1), len(vectors)
    described = {
        "model": {"path": None, "digest": ""},
        "layer": "joint",
        "patterns": ["both"],
        "size": vectors.shape[1],
        "predicted": LABELS,
        "labels": {"scheme": "columns", "names": LABELS},
        "columns": [],
        "sources": [],
        "shards": [],
    }
    with adding(folder, described, "benchmark") as addition:
        for start in range(0, count, STEP):
            end = min(start + STEP, count)
            patients = np.arange(start, end, dtype=np.uint64) // 2 + 1
            none = np.zeros_like(patients)
            texts = {**dict.fromkeys(TEXTS, [""] * (end - start)), "id": [f"s{row}" for row in range(start, end)]}
            rows = Rows(
                vectors={"both": vectors[start:end]},
                predicted={"both": random.random((end - start, len(LABELS)), np.float32)},
                present=np.ones((end - start, 2), np.uint8),
                labels=random.integers(0, 2, (end - start, len(LABELS)), np.uint8),
                hashes=np.stack([patients, none, none], axis=1),
                texts=texts,
            )
            addition.write(rows, end)
        addition.finish()
    return Index(folder)


def search_bare(vectors, queries, k):
    """Finds the k nearest rows of each query with NumPy alone: int `(q, k)`."""
    scores = queries @ vectors.T
    top = np.argpartition(scores, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(scores, top, axis=1), axis=1)
    return np.take_along_axis(top, order, axis=1)


def measure(rows, size, count, k, rounds):
    """Returns the seconds of both per round, and whether they found the same."""
    vectors = draw_vectors(rows, size, 0)
    chosen = np.random.default_rng(2).choice(rows, count, replace=False)
    queries = np.ascontiguousarray(vectors[chosen])
    seconds = {"bare": [], "kmm": []}
    with tempfile.TemporaryDirectory() as folder:
        index = write_index(Path(folder, "index"), vectors)
        asked = [index.query(f"s{row}") for row in chosen]
        index.search(asked[:1], k=k)  # maps the files, reads ids and hashes
        for _ in range(rounds):
            start = time.process_time()
            bare = search_bare(vectors, queries, k + 2)
            middle = time.process_time()
            found = index.search(asked, k=k)
            seconds["kmm"].append(time.process_time() - middle)
            seconds["bare"].append(middle - start)
    same = True
    for row, near, one in zip(chosen, bare, found, strict=True):
        expected = [other for other in near.tolist() if other // 2 != row // 2][:k]
        same &= {hit.row for hit in one.hits} == set(expected)
    return seconds, bool(same)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1.1, help="Largest ratio of the core-seconds.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seconds, same = measure(options.rows, options.size, options.queries, options.k, options.rounds)
    best = {name: min(values) for name, values in seconds.items()}
    ratio = best["kmm"] / best["bare"]
    found = {
        "rows": options.rows,
        "size": options.size,
        "queries": options.queries,
        **best,
        "ratio": ratio,
        "same": same,
    }
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{options.queries} queries, {options.rows} x {options.size}")
        print(f"bare NumPy {best['bare']:.2f} s, kmm {best['kmm']:.2f} s")
        print(f"ratio {ratio:.2f}; {'the same studies' if same else 'OTHER STUDIES'}")
    sys.exit(0 if same and ratio <= options.limit else 1)


if __name__ == "__main__":
    main()
