"""Confidence intervals of proportions and of their differences, in closed form."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm

from kmm.errors import InputError
from kmm.evaluate.arrays import number_groups


def wilson_interval(successes: float, n: float, *, level: float = 0.95) -> list[float] | None:
    """Computes Wilson's interval of a proportion.

    Source: https://doi.org/10.1080/01621459.1927.10502953

    Args:
        successes: float in [0, n].
        n: float. Number of independent observations; an effective number need not be whole.
        level: float in (0, 1).

    Returns:
        list `[low, high]` of floats in [0, 1], or None if `n` is 0.

    Raises:
        InputError: if the numbers are not in these ranges.

    Example:
        >>> [round(end, 4) for end in wilson_interval(8, 10)]
        [0.4902, 0.9433]
    """
    if not 0 <= successes <= n or not 0 < level < 1:
        raise InputError(f"Expected 0 <= successes <= n and a level in (0, 1). Received: {successes}, {n}, {level}.")
    if n == 0:
        return None
    z, share = float(norm.ppf((1 + level) / 2)), successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return [max(0.0, (centre - half) / (1 + z * z / n)), min(1.0, (centre + half) / (1 + z * z / n))]


def clustered_interval(hits: ArrayLike, groups: Sequence | None = None, *, level: float = 0.95) -> list[float] | None:
    """Computes Wilson's interval of a proportion among studies of which a patient may have several.

    The number of studies is divided by the design effect: the variance of the proportion over patients, relative to
    that of as many independent studies. If all studies agree, so that there is no variance to compare, the number of
    patients is taken. With one study per patient this is Wilson's interval. Unlike a bootstrap interval it is not a
    single point where the proportion is 0 or 1.

    Source: https://doi.org/10.2307/2532311 (effective number of clustered observations).

    Args:
        hits: array `(n,)` of bool, or of 0 and 1.
        groups: sequence of `n` patient keys, or None: each study is a group.
        level: float in (0, 1).

    Returns:
        list `[low, high]` of floats in [0, 1], or None if there are no studies.

    Raises:
        InputError: if the lengths differ.

    Example:
        >>> clustered_interval([1, 1, 0, 1]) == wilson_interval(3, 4)
        True
        >>> clustered_interval([1, 1, 0, 0, 1, 1, 1, 1], list("aabbccdd")) == wilson_interval(3, 4)
        True
    """
    hit = np.asarray(hits, np.float64)
    group, n_groups = number_groups(groups, len(hit))
    if not len(hit):
        return None
    effective = count_effective(np.bincount(group, hit, n_groups), np.bincount(group, minlength=n_groups))
    return wilson_interval(float(hit.mean()) * effective, effective, level=level)


def count_effective(hits: ArrayLike, numbers: ArrayLike) -> float:
    """Computes the number of independent observations that tell as much of a proportion as those of these groups.

    Source: as `clustered_interval`, which describes it.

    Args:
        hits: array `(k,)`. Successes in each group (patient).
        numbers: array `(k,)`. Observations in each group, 0 or more.

    Returns:
        float in [0, sum of `numbers`].

    Example:
        >>> round(count_effective([1, 0, 1], [1, 1, 1]), 6), round(count_effective([5, 0, 5], [5, 5, 5]), 6)
        (3.0, 3.0)
    """
    found, total = np.asarray(hits, np.float64), np.asarray(numbers, np.float64)
    n = float(total.sum())
    share = float(found.sum()) / n if n else 0.0
    if not 0 < share < 1:
        return float((total > 0).sum())
    return n / max(1.0, float(np.sum((found - share * total) ** 2)) / (n * share * (1 - share)))


def newcombe_interval(
    first: tuple[float, float], second: tuple[float, float], *, level: float = 0.95
) -> list[float] | None:
    """Computes the interval of the difference of two independent proportions from Wilson's intervals of both.

    Source: https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8%3C873::AID-SIM779%3E3.0.CO;2-I (method 10).

    Args:
        first, second: pairs of successes and number of observations.
        level: float in (0, 1).

    Returns:
        list `[low, high]` of floats in [-1, 1], of the first proportion minus the second; None if one has no
        observations.

    Raises:
        InputError: as `wilson_interval`.

    Example:
        >>> [round(end, 4) for end in newcombe_interval((56, 70), (48, 80))]
        [0.0524, 0.3339]
    """
    ends = [wilson_interval(*pair, level=level) for pair in (first, second)]
    if ends[0] is None or ends[1] is None:
        return None
    (low, high), (other_low, other_high) = ends[0], ends[1]
    share, other = first[0] / first[1], second[0] / second[1]
    below = math.hypot(share - low, other_high - other)
    above = math.hypot(high - share, other - other_low)
    return [share - other - below, share - other + above]
