"""Overlap of what the explanations of two studies name, by which similar studies may be ranked again.

Known labels play no part: a study is explained for the label that is most probable by the classifier.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kmm.explain.fidelity.localisation import cover_circles
from kmm.explain.regions.find import Region
from kmm.explain.words import WordScore
from kmm.retrieval.exclusions import hash_value

GRID = 256  # cells of a film in each direction
BELOW = 4.0  # taken from scores of studies that are not ranked again, which follow in their order


@dataclass(frozen=True)
class Named:
    """What the explanation of a study names.

    Attributes:
        places: uint8 `(GRID * GRID / 8,)`, the bits of the cells of its film that its circles cover; zeros without a
            film or circles. See `mark_places`.
        words: uint64 `(m,)`, the salted hashes of its words, ascending.
        weights: float32 `(m,)`, above 0, with the sum 1. See `weigh_named`.
    """

    places: np.ndarray
    words: np.ndarray
    weights: np.ndarray


NOTHING = Named(np.zeros(GRID * GRID // 8, np.uint8), np.zeros(0, np.uint64), np.zeros(0, np.float32))


def mark_places(regions: Iterable[Region], film_size: Sequence[int]) -> np.ndarray:
    """Marks the cells of a film that circles cover. A film of any size and shape has `GRID` rows and columns of cells,
    so that places are shares of its height and width.

    Args:
        regions: iterable of `Region`, in pixels of the film.
        film_size: `(height, width)` of the film in pixels.

    Returns:
        uint8 `(GRID * GRID / 8,)`, a bit for each cell, row by row: whether its centre is covered.

    Example:
        >>> half = mark_places([Region(x=99.5, y=49.5, radius=50, weight=1)], (100, 200))
        >>> round(int(np.bitwise_count(half).sum()) / GRID**2, 3)  # pi / 8
        0.393
    """
    return np.packbits(cover_circles(regions, film_size, shape=(GRID, GRID)))


def weigh_named(words: Iterable[WordScore], salt: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Weighs the words that an explanation names: those that were read and count for the label.

    The weight of a word is the sum of its attributions above 0 at all of its places, in units of the sum of all words.
    Capitals do not matter.

    Args:
        words: iterable of `WordScore`.
        salt: bytes of the index, see `kmm.retrieval.exclusions.hash_value`.

    Returns:
        uint64 `(m,)`, hashes of distinct words in ascending order; and float32 `(m,)`, weights with the sum 1.

    Example:
        >>> words = [WordScore(0, 4, "Mass", "findings", 0, 0.5, 2.0), WordScore(5, 9, "mass", "findings", 0, 0.5, 1.0)]
        >>> weigh_named([*words, WordScore(10, 12, "no", "findings", 0, 0.0, -1.0)], b"salt")[1].tolist()
        [1.0]
    """
    sums: dict[int, float] = {}
    for word in words:
        if word.read and word.signed > 0:
            key = hash_value("word", word.text.casefold(), salt)
            sums[key] = sums.get(key, 0.0) + word.signed
    keys = np.array(sorted(sums), np.uint64)
    weights = np.array([sums[key] for key in keys.tolist()], np.float64)
    return keys, (weights / (weights.sum() if len(weights) else 1)).astype(np.float32)


def overlap_places(one: Named, other: Named) -> float:
    """Measures how far the circles of two films cover the same places: the area that the circles of both cover,
    divided by that which those of one of them cover, each film scaled to the same square.

    Returns:
        float in [0, 1]; 0 if neither has a circle.

    Source: https://en.wikipedia.org/wiki/Jaccard_index

    Example:
        >>> films = [mark_places([Region(x, 50, radius, 1)], (101, 101)) for x, radius in ((50, 20), (50, 40), (20, 9))]
        >>> first, *others = [Named(places, NOTHING.words, NOTHING.weights) for places in films]
        >>> [round(overlap_places(first, found), 2) for found in (first, *others)]
        [1.0, 0.25, 0.0]
    """
    either = int(np.bitwise_count(one.places | other.places).sum())
    return int(np.bitwise_count(one.places & other.places).sum()) / either if either else 0.0


def overlap_words(one: Named, other: Named) -> float:
    """Measures how far the explanations of two reports name the same words: the sum of the smaller weights of each word
    divided by the sum of the larger ones.

    If all words weigh the same and both name as many, this is the Jaccard index of the sets of words.

    Returns:
        float in [0, 1]; 0 if neither names a word.

    Source: https://en.wikipedia.org/wiki/Jaccard_index#Weighted_Jaccard_similarity_and_distance

    Example:
        >>> one, other = (Named(NOTHING.places, np.uint64(words), np.float32([0.5, 0.5])) for words in ([1, 2], [2, 3]))
        >>> round(overlap_words(one, other), 3)
        0.333
    """
    _, left, right = np.intersect1d(one.words, other.words, assume_unique=True, return_indices=True)
    smaller = float(np.minimum(one.weights[left], other.weights[right]).sum(dtype=np.float64))
    larger = float(one.weights.sum(dtype=np.float64) + other.weights.sum(dtype=np.float64)) - smaller
    return smaller / larger if larger > 0 else 0.0


OVERLAPS = {"image": (overlap_places,), "text": (overlap_words,), "both": (overlap_places, overlap_words)}


def measure_overlap(one: Named, other: Named, pattern: str) -> float:
    """Measures how far the explanations of two studies name the same: the mean of the overlap of places and of words,
    or the one that a pattern has.

    Args:
        one, other: `Named`.
        pattern: name in `kmm.data.modalities.PATTERNS`, what was read of both.

    Returns:
        float in [0, 1].

    Example:
        >>> measure_overlap(NOTHING, NOTHING, "both")
        0.0
    """
    measures = OVERLAPS[pattern]
    return sum(measure(one, other) for measure in measures) / len(measures)


def list_tops(scores: np.ndarray, depth: int) -> np.ndarray:
    """Lists the places of the largest scores of each row, ties in their order; -inf has none.

    Args:
        scores: float `(q, m)`.
        depth: int, at least 1.

    Returns:
        int64 `(q, min(depth, m))`, -1 where a row has fewer.

    Example:
        >>> list_tops(np.array([[1.0, 3.0, 3.0], [-np.inf, 2.0, -np.inf]]), 2).tolist()
        [[1, 2], [1, -1]]
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    return np.where(np.isfinite(np.take_along_axis(scores, order, axis=1)), order, -1)


def blend_overlaps(
    scores: np.ndarray, tops: np.ndarray, rows: np.ndarray, candidates: np.ndarray, named: Mapping[int, Named],
    *, pattern: str, weight: float
) -> np.ndarray:  # fmt: skip
    """Ranks the first studies of each query again: by `(1 - weight) * score + weight * overlap`. The others follow in
    their order.

    Args:
        scores: float64 `(q, m)` in [-1, 1], as the studies were ranked before.
        tops: int `(q, depth)`, the places among the candidates that are ranked again, -1 for none.
        rows: int `(q,)`, the rows of the queries.
        candidates: int `(m,)`, the rows of the candidates.
        named: mapping of row to `Named`.
        pattern: str, of queries and candidates.
        weight: float in [0, 1].

    Returns:
        float64 `(q, m)`.
    """
    found = scores - BELOW
    for query, (row, places) in enumerate(zip(rows.tolist(), tops, strict=True)):
        places = places[places >= 0]
        others = [named.get(other, NOTHING) for other in candidates[places].tolist()]
        own = named.get(row, NOTHING)
        overlaps = np.array([measure_overlap(own, other, pattern) for other in others], np.float64)
        found[query, places] = (1 - weight) * scores[query, places] + weight * overlaps
    return found
