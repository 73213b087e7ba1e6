"""Learning curves: a metric against the number of training studies, and the number at which a wanted value is reached.

The curve is an inverse power law, `a - b * n ** -c`, fitted by weighted least squares.

Source: https://doi.org/10.1186/1472-6947-12-8
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import InputError

LEAST_SIZES = 3  # a curve has three parameters
RATES = (0.05, 4.0)  # range of c: a slower curve looks like one that rises without end, a faster one like a step
GRID, ZOOM, ROUNDS = 48, 9, 12  # rates that are tried at first, and then between the neighbours of the best, in rounds
DRAWS = 2000
FURTHEST = 100.0  # times the largest size, beyond which no size is named
REACHED, BEYOND, FLAT = "reached", "beyond", "flat"


@dataclass(frozen=True)
class SizeEstimate:
    """The number of training studies at which a curve reaches a wanted value.

    Attributes:
        wanted: float.
        state: str: `"reached"` if the curve reaches it within the sizes that were measured, `"beyond"` if it does so
            with more studies, `"flat"` if it flattens below it, or needs more than `FURTHEST` times the largest size.
        studies: float or None. The number of training studies; None if flat.
        interval: the ends of its interval, or None if there is none. An end is None if it is beyond every size; an end
            below the smallest size is an extrapolation downwards.
    """

    wanted: float
    state: str
    studies: float | None
    interval: tuple[float | None, float | None] | None


@dataclass(frozen=True)
class LearningCurve:
    """An inverse power law, `a - b * n ** -c`, of a metric of which more is better.

    Attributes:
        a: float. What the metric approaches.
        b: float >= 0; 0 for a flat curve, of which `c` says nothing.
        c: float in `RATES`. How fast it gets there.
        sizes: float64 `(s,)`. Training studies that it was fitted to, ascending.
        draws: float64 `(m, 3)`: limit, gap at the largest size, and rate of the curves of which intervals are made;
            without any there are no intervals.
    """

    a: float
    b: float
    c: float
    sizes: np.ndarray
    draws: np.ndarray

    def predict(self, studies: ArrayLike) -> np.ndarray:
        """Returns the metric at numbers of training studies above 0: float64 of the same shape.

        Example:
            >>> curve = LearningCurve(0.9, 1.0, 0.5, np.array([100.0, 400.0]), np.zeros((0, 3)))
            >>> curve.predict([100, 400]).round(3).tolist()
            [0.8, 0.85]
        """
        return self.a - self.b * np.asarray(studies, np.float64) ** -self.c

    def bound(self, studies: ArrayLike, *, level: float = 0.95) -> np.ndarray | None:
        """Returns the ends of the interval at numbers of training studies `(n,)`: float64 `(2, n)`; None without draws.

        Each number has an interval of its own; they do not hold for the whole curve at once. With few splits the curve
        may lie outside of what its draws say; the interval then reaches to it.
        """
        if not len(self.draws):
            return None
        limit, gap, rate = self.draws.T[:, :, None]
        values = limit - gap * (np.asarray(studies, np.float64) / self.sizes[-1]) ** -rate
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
        fitted = self.predict(studies)
        return np.stack([np.minimum(low, fitted), np.maximum(high, fitted)])

    def find_size(self, wanted: float, *, level: float = 0.95) -> SizeEstimate:
        """Finds the number of training studies at which the curve reaches a value.

        Args:
            wanted: float.
            level: float in (0, 1). Coverage of the interval.

        Returns:
            `SizeEstimate`.

        Example:
            >>> curve = LearningCurve(0.9, 1.0, 0.5, np.array([100.0, 400.0]), np.zeros((0, 3)))
            >>> found = curve.find_size(0.88)
            >>> found.state, round(found.studies), curve.find_size(0.95).state, curve.find_size(0.82).state
            ('beyond', 2500, 'flat', 'reached')
        """
        largest = self.sizes[-1]
        own = np.array([[self.a, self.b * largest**-self.c, self.c]])
        (studies,) = _solve(own, wanted, largest)
        interval = None
        if len(self.draws):
            ends = [(1 - level) / 2, (1 + level) / 2]
            low, high = np.quantile(_solve(self.draws, wanted, largest), ends, method="inverted_cdf")
            interval = _name_end(min(low, studies), largest), _name_end(max(high, studies), largest)
        named = _name_end(studies, largest)
        state = FLAT if named is None else REACHED if named <= largest else BEYOND
        return SizeEstimate(wanted, state, named, interval)


def fit_learning_curve(
    sizes: Sequence[float] | np.ndarray,
    values: ArrayLike,
    *,
    n_train: float,
    n_test: float,
    top: float = 1.0,
    draws: int = DRAWS,
    seed: int = 0,
) -> LearningCurve:
    """Fits an inverse power law to a metric that was measured on several splits with several numbers of studies.

    Every value counts by the rank of its size, so that the largest ones count most, as published. As all splits have
    the same sizes, a fit to their means is the same as one to all values.

    The interval takes splits as the units, because the values of one split go up and down together: its models share
    their training studies and have the same test studies. In each draw, every split gets a random weight, and the means
    at all sizes are moved by the weighted sum of the splits' deviations; the curve is fitted again. The weights are
    normal, and scaled so that the mean at each size has the interval of the corrected resampled t-test, as in
    `kmm.evaluate.statistics.resampled_tests.summarize_splits`: splits overlap, so drawing them with replacement alone
    would give intervals that are far too narrow.

    Source: https://doi.org/10.1186/1472-6947-12-8; https://doi.org/10.1023/A:1024068626366 (the correction)

    Args:
        sizes: `(s,)` numbers of training studies, ascending, above 0, at least `LEAST_SIZES`.
        values: array `(K, s)`, a row per split. NaN (undefined) is left out.
        n_train, n_test: float above 0. Studies that a split does not test and that it tests, as counts or shares.
        top: float. The largest value that the metric can have.
        draws: int. Number of curves of which intervals are made. With a single split there are none.
        seed: int.

    Returns:
        `LearningCurve`. It never falls: if the values do, it is flat.

    Raises:
        InputError: if there are too few sizes, they do not ascend, a size has no value, or the shapes do not match.

    Example:
        >>> sizes = np.array([100, 200, 400, 800])
        >>> curve = fit_learning_curve(sizes, [0.9 - 2.0 * sizes**-0.5] * 2, n_train=0.8, n_test=0.2)
        >>> round(curve.a, 4), round(curve.b, 3), round(curve.c, 4)
        (0.9, 2.0, 0.5)
    """
    found, table = np.asarray(sizes, np.float64), np.asarray(values, np.float64)
    if found.ndim != 1 or len(found) < LEAST_SIZES or not (np.diff(found, prepend=0.0) > 0).all():
        raise InputError(
            f"A learning curve needs {LEAST_SIZES} or more sizes above 0, in ascending order. Received: {sizes}."
        )
    if table.ndim != 2 or table.shape[1] != len(found) or np.isnan(table).all(axis=0).any():
        raise InputError(
            f"A learning curve needs a value of some split at each size. Received: shape {table.shape} for "
            f"{len(found)} sizes."
        )
    counts = (~np.isnan(table)).sum(axis=0)
    means = np.nanmean(table, axis=0)
    weights = counts * np.arange(1, len(found) + 1) / len(found)
    moved = means + _draw_errors(table - means, counts, n_test / n_train, draws, seed)
    limit, gap, rate = _fit(found / found[-1], np.vstack([means, moved]), weights / weights.sum(), top).T
    a, c = float(limit[0]), float(rate[0])
    return LearningCurve(a, float(gap[0] * found[-1] ** c), c, found, np.stack([limit, gap, rate], axis=1)[1:])


def _draw_errors(deviations, counts, ratio, draws, seed):
    """Draws errors of the means `(draws, s)`, by random weights of whole splits; none if a size has a single value."""
    if counts.min() < 2:
        return np.zeros((0, len(counts)))
    rng = np.random.default_rng(seed)
    freedom = counts.min() - 1
    weights = rng.standard_normal((draws, len(deviations))) / np.sqrt(rng.chisquare(freedom, (draws, 1)) / freedom)
    spread = np.sqrt((1 / counts + ratio) / (counts - 1))
    return weights @ np.nan_to_num(deviations) * spread


def _fit(relative, values, weights, top):
    """Fits curves to rows of values.

    For a given rate the curve is linear in its limit and its gap, which have a formula; so the rate alone is searched,
    on a grid that is refined around the best one of each row.

    Args:
        relative: float64 `(s,)`, the sizes as parts of the largest.
        values: float64 `(m, s)`.
        weights: float64 `(s,)` with sum 1.
        top: float, the largest limit.

    Returns:
        float64 `(m, 3)`: limit, gap at the largest size, and rate.
    """
    rates = np.log(np.tile(np.geomspace(*RATES, GRID), (len(values), 1)))
    rows = np.arange(len(values))
    for _ in range(ROUNDS + 1):
        limit, gap, loss = _fit_linear(np.exp(rates), relative, values, weights, top)
        best = loss.argmin(axis=1)
        found = np.stack([limit[rows, best], gap[rows, best], np.exp(rates[rows, best])], axis=1)
        ends = rates[rows, np.maximum(best - 1, 0)], rates[rows, np.minimum(best + 1, rates.shape[1] - 1)]
        rates = np.linspace(*ends, ZOOM, axis=1)
    return found


def _fit_linear(rates, relative, values, weights, top):
    """Fits limit and gap for each rate `(m, g)`, with a limit of at most `top` and no gap below 0; returns them and the
    weighted squared error, `(m, g)` each."""
    x, y = relative ** -rates[:, :, None], values[:, None, :]
    mean_x, mean_y = (x * weights).sum(-1), (y * weights).sum(-1)
    centred = x - mean_x[..., None]
    gap = -(weights * centred * y).sum(-1) / (weights * centred**2).sum(-1)
    capped = np.maximum((weights * x * (top - y)).sum(-1) / (weights * x**2).sum(-1), 0.0)
    zero = np.zeros_like(gap)
    limit = mean_y + gap * mean_x
    choices = [(limit, gap), (zero + np.minimum(mean_y, top), zero), (zero + top, capped)]  # inside, flat, at the top
    losses = np.stack([(weights * (y - a[..., None] + g[..., None] * x) ** 2).sum(-1) for a, g in choices])
    losses[0] = np.where((gap < 0) | (limit > top), np.inf, losses[0])
    best = losses.argmin(axis=0)
    return (*(np.choose(best, parameter) for parameter in zip(*choices, strict=True)), losses.min(axis=0))


def _solve(curves, wanted, largest):
    """Returns the number of studies at which each curve `(m, 3)` reaches a value; infinite if it never does, 0 if it is
    flat above it."""
    limit, gap, rate = curves.T
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        studies = largest * np.exp((np.log(gap) - np.log(limit - wanted)) / rate)
    return np.where(limit > wanted, studies, np.where((limit == wanted) & (gap == 0), 0.0, np.inf))


def _name_end(studies, largest):
    return float(studies) if studies <= FURTHEST * largest else None
