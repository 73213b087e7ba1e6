"""Agreement of an explanation with another one of the same score: of their maps of the film, of their words."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError
from kmm.explain.explanation import Explanation
from kmm.explain.fidelity.deletion import order_pixels
from kmm.explain.fidelity.localisation import overlap
from kmm.explain.fidelity.measures import map_similarity
from kmm.explain.regions.find import smooth_map

REFERENCE = "integrated-gradients"  # the method that others are compared with
SHARES = {"iou_5": 0.05, "iou_20": 0.2}  # of all values, the strongest ones
LEAST_WORDS = 3  # two words agree fully, or not at all


def measure_agreement(first: ArrayLike, second: ArrayLike) -> dict[str, float]:
    """Measures how far two maps, or two lists of words, agree.

    Args:
        first, second: float arrays of one shape.

    Returns:
        dict of `pearson` and `spearman`, the correlations of values and of ranks, in [-1, 1], and of `iou_5` and
        `iou_20`, in [0, 1]: the intersection over union of the highest 5 and 20 % of both, at least one; of equal
        values the first. By chance `iou_5` is about 0.026 and `iou_20` 0.11. All are NaN if one is constant or not
        finite.

    Raises:
        InputError: if the shapes differ.

    Source: https://arxiv.org/abs/1902.10186 (which compares attention with gradients).

    Example:
        >>> values = np.arange(20.0)
        >>> measure_agreement(values, np.roll(values, 1))["iou_20"], measure_agreement(values, -values)["spearman"]
        (0.6, -1.0)
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape:
        raise InputError(f"The two explanations must have one shape. Received: {first.shape} and {second.shape}.")
    spearman = map_similarity(first, second)
    if np.isnan(spearman):
        return dict.fromkeys(("pearson", "spearman", *SHARES), float("nan"))
    found = {"pearson": _correlate(first.ravel(), second.ravel()), "spearman": spearman}
    for name, share in SHARES.items():
        found[name] = overlap(*(_mark_highest(values, share) for values in (first, second)))
    return found


def _correlate(first, second):
    first, second = (values / np.abs(values).max() for values in (first, second))  # squares of tiny numbers are 0
    first, second = first - first.mean(), second - second.mean()
    return float(np.clip(first @ second / np.sqrt((first @ first) * (second @ second)), -1, 1))


def _mark_highest(values, share):
    marked = np.zeros(values.size, bool)
    marked[order_pixels(values)[: max(1, round(share * values.size))]] = True
    return marked


@dataclass(frozen=True)
class Compared:
    """The parts of an explanation that are compared with those of another one, without its film.

    Attributes:
        target: str. The explained label.
        heat: float32 array `(h', w')`, the map of the film; None without one.
        words: float array, the signed sum of each word that was read; None if the method does not score words.
    """

    target: str
    heat: np.ndarray | None
    words: np.ndarray | None


def take_compared(explanation: Explanation) -> Compared:
    """Returns the parts of an explanation that are compared."""
    words = None
    if "rows" in explanation.attribution.values:
        words = np.array([word.signed for word in explanation.words if word.read])
    return Compared(explanation.target, explanation.heat, words)


def compare_explanations(
    own: Compared, reference: Compared, *, smoothing: float = 0.0, signed: bool = True
) -> dict[str, float]:
    """Measures how far an explanation agrees with that of the same study by integrated gradients.

    Args:
        own, reference: `Compared`.
        smoothing: float in [0, 1]. Maps are smoothed as for the circles: see `smooth_map`.
        signed: bool. Whether the explanation tells what counts for the label from what counts against it. If not, it is
            compared with the sizes of the reference, without their signs.

    Returns:
        dict of `ig_pearson`, `ig_spearman`, `ig_iou_5`, `ig_iou_20` of the film, and with `ig_words_` in place of `ig_`
        of at least three words, where both explanations have them: see `measure_agreement`. Empty if they explain
        different labels.

    Example:
        >>> own, reference = (Compared("mass", None, np.array(words)) for words in ([1.0, 2, 3], [1.0, 2, -3]))
        >>> compare_explanations(own, reference, signed=False)["ig_words_spearman"]
        1.0
    """
    if own.target != reference.target:
        return {}
    found = {}
    if own.heat is not None and reference.heat is not None:
        other = reference.heat if signed else np.abs(reference.heat)
        agreement = measure_agreement(*(smooth_map(heat, smoothing) for heat in (own.heat, other)))
        found.update({f"ig_{name}": value for name, value in agreement.items()})
    if own.words is not None and reference.words is not None and len(own.words) >= LEAST_WORDS:
        other = reference.words if signed else np.abs(reference.words)
        found.update({f"ig_words_{name}": value for name, value in measure_agreement(own.words, other).items()})
    return found
