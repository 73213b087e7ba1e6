"""Measures of explanations and their means with confidence intervals: named words, randomised weights, verdicts.

Every measure is a function of arrays and plain objects, and does not depend on how a map was made. `localisation.py`
compares circles with boxes; `deletion.py` measures the score that is lost without pixels.
"""

import random
import string
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, rankdata

from kmm.errors import InputError
from kmm.explain.words import WordScore

if TYPE_CHECKING:
    import keras

ALIKE = 0.5  # rank correlation with a model of new weights at and above which a map does not depend on the weights
PASSED, FAILED, NOT_MEASURED = "passed", "failed", "not measured"


def named_in_top(words: Iterable[WordScore], naming: Collection[str], *, top: int = 3) -> bool:
    """Returns whether a word that names the finding is among the strongest words of the report.

    Args:
        words: list of `WordScore`.
        naming: collection of str: words that name the finding. Case and punctuation at the ends are ignored.
        top: int, at least 1. Number of words with the largest share to search; words with share 0 are never searched.

    Returns:
        bool; False if all shares are 0 or `naming` is empty.

    Example:
        >>> from kmm.explain.words import WordScore
        >>> small = WordScore(0, 5, "Small", "findings", 0, share=0.2, signed=0.1)
        >>> words = [small, WordScore(6, 13, "nodule.", "findings", 0, share=0.8, signed=1.0)]
        >>> named_in_top(words, {"nodule"}, top=1), named_in_top(words, {"small"}, top=1)
        (True, False)
    """
    named = {_bare(word) for word in naming}
    carrying = sorted((word for word in words if word.share > 0), key=lambda word: -word.share)
    return any(_bare(word.text) in named for word in carrying[:top])


def _bare(word):
    return word.lower().strip(string.punctuation + string.whitespace)


def randomise_weights(model: "keras.Model", seed: int) -> "keras.Model":
    """Makes a model of the same structure with new random weights, drawn by each layer's own initializer.

    An explanation that is the same for both models does not depend on the trained weights. The global random state of
    Keras and of Python is restored. (An initializer with a seed of its own draws the same weights again.)

    Source: https://arxiv.org/abs/1810.03292 (model parameter randomisation test).

    Args:
        model: `keras.Model`, functional or sequential, of any backend; it is not changed.
        seed: int. The same seed gives the same weights on the same backend.

    Returns:
        `keras.Model` with the names, inputs and outputs of `model`. Normalisation layers have mean 0 and variance 1.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> new = randomise_weights(model, 0)
        >>> new.count_params(), bool((new.get_weights()[0] == model.get_weights()[0]).any())
        (9, False)
    """
    state = random.getstate()
    random.seed(f"randomised weights {seed}")  # initializers without a seed draw theirs here; training never does
    try:
        return model.__class__.from_config(model.get_config())
    finally:
        random.setstate(state)


def map_similarity(first: ArrayLike, second: ArrayLike) -> float:
    """Computes Spearman's rank correlation of two maps: about 0 if they are unrelated, 1 if they rank pixels alike.

    Source: https://arxiv.org/abs/1810.03292 (which compares maps before and after randomisation by this number).

    Args:
        first: float array, signed, for example the map of the trained model.
        second: float array of the same shape, for example the map of the model from `randomise_weights`.

    Returns:
        float in [-1, 1]; NaN if a map is constant or not finite, so that it has no ranks.

    Raises:
        InputError: if the shapes differ.

    Example:
        >>> map_similarity([[1.0, 2.0, 3.0]], [[1.0, 10.0, 100.0]]), map_similarity([1.0, 2.0], [3.0, -3.0])
        (1.0, -1.0)
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape:
        raise InputError(f"The two maps must have one shape. Received: {first.shape} and {second.shape}.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    ranks = [rankdata(each.ravel()) - (each.size + 1) / 2 for each in (first, second)]
    scale = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(np.clip(ranks[0] @ ranks[1] / scale, -1, 1)) if scale else float("nan")


def measure_fidelity(
    rows: Sequence[Mapping[str, Any]], *, repeats: int = 1000, level: float = 0.95, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """Averages the measures of single studies: for each method, the mean of each measure and its interval.

    Shares of hits (bool) have Wilson's interval; the others have the bootstrap interval over `repeats` draws of
    studies with replacement.

    Source: https://doi.org/10.1080/01621459.1927.10502953 (Wilson), https://doi.org/10.1214/ss/1177013815 (bootstrap).

    Args:
        rows: sequence of dict, one per method and study: `method` str, `study` str, and any measures by name, for
            example `hit` bool, `iou`, `deletion`, `insertion`, `completeness_gap`, `similarity` float. None and NaN are
            left out.
        repeats: int, at least 1.
        level: float in (0, 1).
        seed: int. The draws depend only on it and on the number of studies.

    Returns:
        dict of method to dict of measure to `{"n": int, "mean": float or None, "interval": [low, high] or None}`, in
        the order of `rows`.

    Raises:
        InputError: if a row names no method, or `repeats` or `level` is out of range.

    Example:
        >>> rows = [{"method": "saliency", "study": str(i), "hit": i > 0} for i in range(4)]
        >>> hit = measure_fidelity(rows)["saliency"]["hit"]
        >>> hit["n"], hit["mean"], [round(end, 2) for end in hit["interval"]]
        (4, 0.75, [0.3, 0.95])
    """
    if repeats < 1 or not 0 < level < 1:
        raise InputError(f"`repeats` must be 1 or more, `level` in (0, 1). Received: {repeats} and {level}.")
    if any("method" not in row for row in rows):
        raise InputError("Each row of measures must name its method. At least one has no `method`.")
    methods: dict[str, dict[str, list]] = {}
    for row in rows:
        measures = methods.setdefault(row["method"], {})
        for name, value in row.items():
            if name not in ("method", "study"):
                known = value is not None and not np.isnan(value)
                measures.setdefault(name, []).extend([value] * known)
    return {
        method: {name: _summarise(values, repeats, level, seed) for name, values in measures.items()}
        for method, measures in methods.items()
    }


def _summarise(values, repeats, level, seed):
    n = len(values)
    if n == 0:
        return {"n": 0, "mean": None, "interval": None}
    if all(isinstance(value, (bool, np.bool_)) for value in values):
        interval = binomtest(sum(map(bool, values)), n).proportion_ci(level, method="wilson")
    else:
        rng = np.random.default_rng([seed, n])
        means = [np.mean(np.take(values, rng.integers(n, size=n))) for _ in range(repeats)]
        interval = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return {"n": n, "mean": float(np.mean(values)), "interval": [float(end) for end in interval]}


def judge(
    measured: Mapping[str, Mapping[str, Any]], random_order: Mapping[str, Mapping[str, Any]], gap_tolerance: float
) -> dict[str, str]:
    """Checks the measures of a method against the criteria of a sound explanation.

    Args:
        measured, random_order: dict of measure to `{"n", "mean", "interval"}`: of the method, and of random order.
        gap_tolerance: float. Largest mean completeness gap.

    Returns:
        dict of criterion to `"passed"`, `"failed"` or `"not measured"`: `completeness` (attributions add up to the
        score), `weights_film` and `weights_words` (new weights give a different map), `pixels` (the pixels ranked first
        by the map carry more of the score than pixels in random order).

    Example:
        >>> judge({"completeness_gap": {"n": 9, "mean": 0.002, "interval": [0.001, 0.003]}}, {}, 0.01)["completeness"]
        'passed'
    """
    gap, film, words, insertion = (
        measured.get(name, {}).get("mean") for name in ("completeness_gap", "similarity", "alike_words", "insertion")
    )
    chance = random_order.get("insertion", {}).get("mean")
    passes = {
        "completeness": None if gap is None else gap <= gap_tolerance,
        "weights_film": None if film is None else film < ALIKE,
        "weights_words": None if words is None else words < ALIKE,
        "pixels": None if insertion is None or chance is None else insertion > chance,
    }
    return {name: NOT_MEASURED if fine is None else PASSED if fine else FAILED for name, fine in passes.items()}


def is_sound(verdict: Mapping[str, str]) -> bool:
    """Returns whether at least one criterion passed and none failed.

    Args:
        verdict: dict from `judge`.

    Returns:
        bool.

    Example:
        >>> is_sound({"completeness": "passed", "pixels": "not measured"}), is_sound({"pixels": "not measured"})
        (True, False)
    """
    return FAILED not in verdict.values() and PASSED in verdict.values()
