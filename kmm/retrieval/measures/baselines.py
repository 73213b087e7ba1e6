"""Simple features to which those of a classifier are compared: TF-IDF of reports, and gray levels of small films."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from kmm.batches import BatchMaker
from kmm.data.collection import read_collection
from kmm.data.study import Study
from kmm.errors import ImageError, InputError, ReportError
from kmm.image.decoding import decode_ahead
from kmm.image.prepare import resize_image
from kmm.progress import Progress
from kmm.retrieval.columns import IndexColumns
from kmm.retrieval.measures.pieces import Arrays, Pieces
from kmm.retrieval.study_rows import describe_study
from kmm.text.tfidf import weigh_texts

PIXELS = 32  # side of the small films
FILMS_AT_ONCE = 256  # in a piece
TITLES = {"tfidf": "TF-IDF of the reports", "film": f"gray levels of {PIXELS} x {PIXELS} pixels"}


def read_again(index: IndexColumns, folders: Collection[str] | None = None) -> dict[str, Study]:
    """Reads the studies of an index again from the folders that it names.

    Args:
        index: `IndexColumns`.
        folders: collection of str, those of them that are read; None for all.

    Returns:
        dict of study id to `Study`, of those whose folder still has them.
    """
    found: dict[str, Study] = {}
    for source in index.description["sources"]:
        if folders is not None and source["folder"] not in folders:
            continue
        if source["folder"] and Path(source["folder"]).exists():
            with contextlib.suppress(InputError):
                found |= {study.id: study for study in read_collection(source["folder"]).studies}
    return found


def make_baselines(
    index: IndexColumns,
    studies: Mapping[str, Study],
    rows: np.ndarray,
    progress: Progress | None = None,
    pieces: Pieces | None = None,
) -> dict[str, Any]:
    """Computes the features of the baselines for some rows of an index.

    Args:
        index: `IndexColumns`.
        studies: mapping of study id to `Study`.
        rows: int array of rows.
        progress: `Progress`.
        pieces: `Pieces` of a measurement that goes on after an interruption; None to keep nothing.

    Returns:
        dict of `"tfidf"`, a sparse matrix `(len(rows), n_terms)`, and `"film"`, float32 `(len(rows), 1024)`, with rows
        of length 1, or 0 for a study that lacks the report or the film; without those that the classifier does not
        read, or that cannot be made because studies are not found.
    """
    maker = BatchMaker.from_dict(index.description["preparation"], None)
    ids = index.read_texts("id", rows)
    if any(id not in studies for id in ids):
        return {}
    chosen = [studies[id] for id in ids]
    found: dict[str, Any] = {}
    if maker.text is not None:
        found["tfidf"] = weigh_texts([_read_text(maker, study) for study in chosen])
    if maker.image is not None:
        found["film"] = shrink_films(maker, chosen, progress or Progress(), pieces or Pieces())
    return found


def shrink_films(
    maker: BatchMaker, studies: Sequence[Study], progress: Progress, pieces: Pieces | None = None
) -> np.ndarray:
    """Makes vectors of small films: gray levels minus their mean, of length 1; zeros for a study without a film.

    Args:
        maker: `BatchMaker` of films.
        studies: sequence of n `Study`.
        progress: `Progress`.
        pieces: `Pieces`, as for `make_baselines`.

    Returns:
        float32 `(n, 1024)`.
    """
    facts = {"preparation": maker.as_dict()["image"], "pixels": PIXELS, "studies": [*map(describe_study, studies)]}
    pieces = (pieces or Pieces()).of("films", facts)

    def shrink(study: Study) -> np.ndarray:
        try:
            film, _ = maker.pixels(study)
        except ImageError:
            film = None
        small = np.zeros((PIXELS, PIXELS)) if film is None else resize_image(film[..., 0], PIXELS, PIXELS)
        centred = (small - small.mean()).ravel()
        return (centred / max(np.linalg.norm(centred), 1e-9)).astype(np.float32)

    made = np.zeros((len(studies), PIXELS * PIXELS), np.float32)
    starts = range(0, len(studies), FILMS_AT_ONCE)
    done = sum(len(studies[start : start + FILMS_AT_ONCE]) for start in starts if pieces.has(start))
    with progress.step("Reading films for the baseline", len(studies), done) as advance:

        def shrink_some(some: Sequence[Study]) -> Arrays:
            vectors = np.zeros((len(some), PIXELS * PIXELS), np.float32)
            for row, (_, vector) in enumerate(decode_ahead(shrink, some, size=maker.film_bytes)):
                vectors[row] = vector
                advance()
            return {"vectors": vectors}

        for start in starts:
            some = slice(start, start + FILMS_AT_ONCE)
            made[some] = pieces.read_or_make(start, partial(shrink_some, studies[some]))["vectors"]
    return made


def _read_text(maker, study):
    try:
        return maker.text.redacted_text(study)
    except ReportError:
        return ""
