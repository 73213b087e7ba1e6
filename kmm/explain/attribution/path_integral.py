"""Integrated gradients from the gradients at the nodes of paths, with their errors and the number of steps needed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan, nan

import numpy as np

from kmm.explain.attribution.result import Attribution

GAP_FLOOR = 0.05  # a difference of scores below this share of the sum of absolute values counts as this share
MARGIN = 1.1  # factor on the steps that the estimated error asks for
SIDE_FLOOR = 0.01  # an input below this share of all absolute values has its error measured against this share


@dataclass(frozen=True)
class Path:
    """A straight line between two points of one study's inputs.

    Attributes:
        start, end: dict of input name to float array, without a batch axis. Baseline and input.
        fixed: dict of name to array: other inputs of the score, constant along the path.
        target: int, or None: the label of the highest score at `end`.
    """

    start: Mapping[str, np.ndarray]
    end: Mapping[str, np.ndarray]
    fixed: Mapping[str, np.ndarray]
    target: int | None = None


@dataclass(frozen=True)
class Tolerance:
    """Errors at which a path needs no more nodes.

    Attributes:
        map_error, gap: float > 0. Relative errors.
        max_steps: int. Most nodes of a path, also after refinement.
    """

    map_error: float = 0.05
    gap: float = 0.01
    max_steps: int = 216


DEFAULT_TOLERANCE = Tolerance()


@dataclass(frozen=True)
class PathMean:
    """Mean gradients over the nodes of a path.

    Attributes:
        path: `Path`.
        target: int. The label whose score was differentiated.
        scores: float64 array `(2, n_labels)`, of the baseline and of the input.
        gradients: dict of input name to float64 array: the weighted mean over the nodes.
        halves: dict of the same names: the mean over even nodes minus that over odd nodes; NaN if either has no node.
        steps: int. Number of nodes.
    """

    path: Path
    target: int
    scores: np.ndarray
    gradients: Mapping[str, np.ndarray]
    halves: Mapping[str, np.ndarray]
    steps: int


def attribute(means: Sequence[PathMean], tolerance: Tolerance = DEFAULT_TOLERANCE) -> Attribution:
    """Computes integrated gradients of one study, averaged over its paths (one per baseline).

    Args:
        means: list of `PathMean` of one study and one target.
        tolerance: `Tolerance`. An error above it becomes a warning.

    Returns:
        `Attribution`.
    """
    names = list(means[0].gradients)
    deltas = [
        {name: np.subtract(m.path.end[name], m.path.start[name], dtype=np.float64) for name in names} for m in means
    ]
    values = {name: np.mean([m.gradients[name] * d[name] for m, d in zip(means, deltas)], axis=0) for name in names}
    halves = {name: np.mean([m.halves[name] * d[name] for m, d in zip(means, deltas)], axis=0) for name in names}
    target = means[0].target
    baseline_score = float(np.mean([m.scores[0, target] for m in means]))
    score = float(means[0].scores[1, target])
    steps = sum(m.steps for m in means)
    if not np.isfinite([m.scores for m in means]).all():
        values = {name: np.full_like(value, nan) for name, value in values.items()}
    gap, error = measure_gap(values, score - baseline_score), measure_error(values, halves)
    found = Attribution(
        values={name: value.astype(np.float32) for name, value in values.items()},
        target=target,
        score=score,
        scores=means[0].scores[1],
        baseline_score=baseline_score,
        completeness_gap=gap,
        map_error=error,
        steps=steps,
    )
    return replace(found, warnings=tuple(_list_misses(found, tolerance)))


def _list_misses(found, tolerance):
    """Yields a warning for each tolerance that an attribution misses or is not known to meet."""
    if not found.is_finite:
        yield f"a score or a gradient is not finite, found after {found.steps} steps"
        return
    for name, value, limit in (
        ("map error", found.map_error, tolerance.map_error),
        ("completeness gap", found.completeness_gap, tolerance.gap),
    ):
        if isnan(value):
            yield f"{name} unknown with 1 step"
        elif value > limit:
            yield f"{name} {value:.3g} is above its tolerance {limit:.3g} after {found.steps} steps"


def measure_gap(values: Mapping[str, np.ndarray], difference: float) -> float:
    """Measures how far the sum of attributions is from the difference of scores that it should equal.

    Args:
        values: dict of name to float array.
        difference: float. Score minus baseline score.

    Returns:
        float >= 0, relative to the larger of `|difference|` and 5 % of the sum of absolute values; 0 if all are 0.
    """
    total = sum(float(value.sum()) for value in values.values())
    floor = GAP_FLOOR * sum(float(np.abs(value).sum()) for value in values.values())
    scale = max(abs(difference), floor)
    return abs(total - difference) / scale if scale else 0.0


def measure_error(values: Mapping[str, np.ndarray], halves: Mapping[str, np.ndarray]) -> float:
    """Estimates the relative error of a map as half the difference of two estimates, from even and from odd nodes.

    Args:
        values: dict of name to float array.
        halves: dict of the same names to the estimate from even nodes minus that from odd nodes.

    Returns:
        float >= 0: the largest of the inputs' errors, each relative to that input's sum of absolute values (or to 1 %
        of the sum over all inputs, if that is larger).
    """
    sizes = {name: float(np.abs(value).sum()) for name, value in values.items()}
    floor = SIDE_FLOOR * sum(sizes.values())
    scales = {name: max(size, floor) for name, size in sizes.items()}
    errors = [float(np.abs(halves[name]).sum()) / (4 * scales[name]) if scales[name] else 0.0 for name in values]
    return float(np.max(errors))


def choose_factor(means: Sequence[PathMean], tolerance: Tolerance) -> int | None:
    """Chooses the factor by which to multiply the steps of a study's paths.

    The gradient of a ReLU network jumps along the path, so the error falls as 1 / steps. One refinement by the odd
    factor that follows, plus a margin, is usually enough.

    Args:
        means: list of `PathMean` of one study and one target, all with the same number of steps.
        tolerance: `Tolerance`.

    Returns:
        odd int >= 3, or None if the study is done.
    """
    found, factor, most = attribute(means, tolerance), 3, tolerance.max_steps // means[0].steps
    done = found.map_error <= tolerance.map_error and found.completeness_gap <= tolerance.gap
    if done or most < 3 or not found.is_finite:
        return None
    while factor * tolerance.map_error < MARGIN * found.map_error and factor + 2 <= most:
        factor += 2
    return factor
