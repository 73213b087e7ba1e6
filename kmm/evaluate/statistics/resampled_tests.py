"""Means and differences over resampled splits, with intervals that allow for the overlap of the training parts."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t as student

from kmm.errors import InputError

SAME = 1e-12  # numbers closer than this are equal up to rounding
FEW = "fewer than 2 splits have a value"
NO_SPREAD = "all splits have the same difference, so its variance cannot be estimated"


def summarize_splits(values: ArrayLike, *, n_train: float, n_test: float, level: float = 0.95) -> dict[str, Any]:
    """Computes the mean of a metric over splits and its interval, corrected for overlapping training parts.

    The variance of the mean is `(1 / K + n_test / n_train) * s**2` for `K` splits. The naive `s**2 / K` is far too
    small: different splits share most of their studies, so their results are correlated. The correction is made for
    random splits and repeated folds; for the folds of a single cross-validation it is too wide.

    Source: https://doi.org/10.1023/A:1024068626366; https://doi.org/10.1007/978-3-540-24775-3_3 (repeated folds).

    Args:
        values: array `(K,)`, one number per split, or per fold of every repeat. NaN (undefined in that split) is left
            out.
        n_train, n_test: float above 0. Studies that a split does not test (training and validation) and that it tests,
            as counts or shares: `k - 1` and 1 for `k` folds.
        level: float in (0, 1). Coverage of the interval.

    Returns:
        dict for JSON: `mean`, `sd` (with `K - 1`), `interval` `[low, high]`, `n` (splits with a value) and `left_out`.
        `mean` is None without a value, `sd` and `interval` with fewer than 2. `interval` is None too if all values are
        equal, which says nothing of other splits. It is symmetric, so it may leave the range of the metric.

    Raises:
        InputError: if the values are not one finite number or NaN per split, a size is not above 0, or `level` is not
            in (0, 1).

    Example:
        >>> found = summarize_splits([0.8, 0.9, 0.7, np.nan], n_train=80, n_test=20)
        >>> round(found["mean"], 3), round(found["sd"], 3), [round(end, 2) for end in found["interval"]]
        (0.8, 0.1, [0.47, 1.13])
        >>> found["n"], found["left_out"]
        (3, 1)
    """
    known, left_out = _as_splits(values)
    ratio = _as_ratio(n_train, n_test)
    if not 0 < level < 1:
        raise InputError(f"`level` must be in (0, 1). Received: {level}.")
    n = len(known)
    found: dict[str, Any] = {
        "mean": float(known.mean()) if n else None,
        "sd": float(known.std(ddof=1)) if n > 1 else None,
        "interval": None,
        "n": n,
        "left_out": left_out,
    }
    if n > 1 and np.ptp(known) >= SAME:
        half = student.ppf((1 + level) / 2, n - 1) * found["sd"] * np.sqrt(1 / n + ratio)
        found["interval"] = [float(found["mean"] - half), float(found["mean"] + half)]
    return found


def compare_splits(differences: ArrayLike, *, n_train: float, n_test: float, level: float = 0.95) -> dict[str, Any]:
    """Tests whether two classifiers differ on average over resampled splits: the corrected resampled t-test.

    The statistic is that of the paired t-test with the variance of `summarize_splits`. `naive_p` is the p of the
    uncorrected test, which errs several times as often as it says. It is given to show what the correction does, and
    supports no claim. `benchmarks/error_rates.py` measures how often either errs.

    Source: https://doi.org/10.1023/A:1024068626366; https://doi.org/10.1007/978-3-540-24775-3_3 (repeated folds).

    Args:
        differences: array `(K,)`: for each split the metric of the first classifier minus that of the second, both
            trained and tested on the same studies. NaN (undefined in that split) is left out.
        n_train, n_test, level: as in `summarize_splits`.

    Returns:
        dict for JSON: `difference` (the mean), `interval`, `t`, two-sided `p` in [0, 1], `naive_p`, `n` (splits with a
        value), `left_out`, and `reason` (str): why `p` is None, else None. With fewer than 2 splits everything but the
        difference is None. If all differences are zero, `p` is 1; if all have another equal value, `t`, `interval`
        and both `p` are None.

    Raises:
        InputError: as `summarize_splits`.

    Example:
        >>> found = compare_splits([0.02, 0.05, 0.01, 0.04, 0.03], n_train=80, n_test=20)
        >>> round(found["difference"], 3), round(found["t"], 3), round(found["p"], 3), round(found["naive_p"], 3)
        (0.03, 2.828, 0.047, 0.013)
        >>> compare_splits([0.0, 0.0], n_train=80, n_test=20)["p"]
        1.0
    """
    found = summarize_splits(differences, n_train=n_train, n_test=n_test, level=level)
    mean, n = found["mean"], found["n"]
    result: dict[str, Any] = {"difference": mean, "interval": found["interval"], "t": None, "p": None, "naive_p": None}
    counts = {"n": n, "left_out": found["left_out"], "reason": None}
    if n < 2:
        return result | counts | {"reason": FEW}
    if found["interval"] is None:
        if abs(mean) < SAME:
            return result | {"difference": 0.0, "interval": [0.0, 0.0], "t": 0.0, "p": 1.0, "naive_p": 1.0} | counts
        return result | counts | {"reason": NO_SPREAD}
    naive_t = mean / (found["sd"] / np.sqrt(n))
    t = naive_t / np.sqrt(1 + n * n_test / n_train)
    result |= {name: float(2 * student.sf(abs(value), n - 1)) for name, value in (("p", t), ("naive_p", naive_t))}
    return result | {"t": float(t)} | counts


def _as_splits(values):
    """Returns the known values of the splits, and how many are NaN."""
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or np.isinf(numbers).any():
        raise InputError(
            f"Splits must have one finite number (or NaN) each. Received: shape {numbers.shape}, "
            f"{int(np.isinf(numbers).sum())} infinite."
        )
    known = numbers[~np.isnan(numbers)]
    return known, len(numbers) - len(known)


def _as_ratio(n_train, n_test):
    if not (0 < n_train < np.inf and 0 < n_test < np.inf):
        raise InputError(f"`n_train` and `n_test` must be above 0. Received: {n_train} and {n_test}.")
    return n_test / n_train
