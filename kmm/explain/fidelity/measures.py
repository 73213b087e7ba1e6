"""Is an explanation right? Does it name the finding, hang on what the model has learned, and how sure are the numbers?

Every measure is a function of arrays and plain objects, so it asks not how a map was made. Where the circles lie is
measured in `localisation.py`, what the score loses in `removal.py`.
"""

import random
import string

import numpy as np
from scipy.stats import binomtest, rankdata

from kmm.errors import InputError

ALIKE = 0.5  # rank correlation with the map of a model with new weights from which on a map does not hang on the model
PASSED, FAILED, NOT_MEASURED = "passed", "failed", "not measured"


def named_in_top(words, naming, *, top=3):
    """Whether a word that names the finding is among the strongest words of the report.

    Args:
        words: list of `WordScore`.
        naming: collection of str: words that name it. Case, and punctuation at the ends, do not count.
        top: int, at least 1. Words with the largest share that are looked at; those without any share are not.

    Returns:
        bool; False when no word carries anything or `naming` is empty.

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


def randomise_weights(model, seed):
    """Gives a model of the same structure whose every weight is newly drawn, by the rule its layer began with.

    An explanation that stays the same on it does not come from what the model has learned. The global state of
    Keras's and Python's random numbers is left as it was. (A layer whose initializer has a seed of its own keeps it.)

    Source: https://arxiv.org/abs/1810.03292 (model parameter randomisation test).

    Args:
        model: `keras.Model`, functional or sequential, of any backend; it is not changed.
        seed: int. One seed gives the same weights always, on the same backend.

    Returns:
        `keras.Model` with the names, inputs and outputs of `model`. Normalisation layers start afresh: mean 0,
        variance 1.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
        >>> new = randomise_weights(model, 0)
        >>> new.count_params(), bool((new.get_weights()[0] == model.get_weights()[0]).any())
        (9, False)
    """
    state = random.getstate()
    random.seed(f"randomised weights {seed}")  # where initializers without a seed take theirs; never a training's
    try:
        return model.__class__.from_config(model.get_config())
    finally:
        random.setstate(state)


def map_similarity(first, second):
    """Spearman's rank correlation of two maps: near 0 when they have nothing in common, 1 when they rank pixels alike.

    Source: https://arxiv.org/abs/1810.03292 (it compares maps before and after randomisation by this number).

    Args:
        first: float array, signed, for example the map of the trained model.
        second: float array of the same shape, for example of the model with `randomise_weights`.

    Returns:
        float in [-1, 1]; NaN when a map is constant or not finite, since it ranks nothing.

    Raises:
        InputError: if the shapes differ.

    Example:
        >>> map_similarity([[1.0, 2.0, 3.0]], [[1.0, 10.0, 100.0]]), map_similarity([1.0, 2.0], [3.0, -3.0])
        (1.0, -1.0)
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape:
        raise InputError(f"Two maps of one shape are needed. Received: {first.shape} and {second.shape}.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    ranks = [rankdata(each.ravel()) - (each.size + 1) / 2 for each in (first, second)]
    scale = np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1]))
    return float(np.clip(ranks[0] @ ranks[1] / scale, -1, 1)) if scale else float("nan")


def measure_fidelity(rows, *, repeats=1000, level=0.95, seed=0):
    """Puts the measures of single studies together: for every method the mean of each, and how sure it is.

    Shares of hits (bool) have Wilson's interval, the others that of `repeats` draws of studies with replacement.

    Source: https://doi.org/10.1080/01621459.1927.10502953 (Wilson), https://doi.org/10.1214/ss/1177013815 (bootstrap).

    Args:
        rows: sequence of dict, one a method and study: `method` str, `study` str, and any measures by name, for example
            `hit` bool, `iou`, `deletion`, `insertion`, `completeness_gap`, `similarity` float. None and NaN are left
            out.
        repeats: int, at least 1.
        level: float in (0, 1).
        seed: int. The draws depend on it and on the number of studies alone.

    Returns:
        dict of method to dict of measure to `{"n": int, "mean": float or None, "interval": [low, high] or None}`, in
        the order in which they came.

    Raises:
        InputError: if a row names no method, or `repeats` or `level` is out of its range.

    Example:
        >>> rows = [{"method": "saliency", "study": str(i), "hit": i > 0} for i in range(4)]
        >>> hit = measure_fidelity(rows)["saliency"]["hit"]
        >>> hit["n"], hit["mean"], [round(end, 2) for end in hit["interval"]]
        (4, 0.75, [0.3, 0.95])
    """
    if repeats < 1 or not 0 < level < 1:
        raise InputError(f"`repeats` must be 1 or more, `level` in (0, 1). Received: {repeats} and {level}.")
    if any("method" not in row for row in rows):
        raise InputError("Every row of a measurement must name its method. One has none.")
    methods = {}
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


def judge(measured, random_order, gap_tolerance):
    """Whether what was measured is as it must be.

    Args:
        measured, random_order: dict of measure to `{"n", "mean", "interval"}`: of the method, and of random order.
        gap_tolerance: float. Largest mean completeness gap.

    Returns:
        dict of criterion to `"passed"`, `"failed"` or `"not measured"`: `completeness` (attributions add up to the
        score), `weights_film` and `weights_words` (other weights give another map), `pixels` (those that the map names
        first carry more of the score than pixels in random order).

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


def is_sound(verdict):
    """Whether something was measured and nothing of it failed.

    Args:
        verdict: dict that `judge` returned.

    Returns:
        bool.

    Example:
        >>> is_sound({"completeness": "passed", "pixels": "not measured"}), is_sound({"pixels": "not measured"})
        (True, False)
    """
    return FAILED not in verdict.values() and PASSED in verdict.values()
