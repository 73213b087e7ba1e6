"""What the nodes of paths gave, and what follows from it: attributions, their errors, and the steps that they need."""

from dataclasses import dataclass, replace
from math import isnan, nan

import numpy as np

from kmm.explain.attribution.result import Attribution

GAP_FLOOR = 0.05  # share of the sum of absolute values under which a difference of scores counts as this much
MARGIN = 1.1  # steps taken beyond those that the error says are needed
SIDE_FLOOR = 0.01  # share of all absolute values under which an input's error is measured against this much


@dataclass(frozen=True)
class Path:
    """A straight line between two points of one study's inputs.

    Attributes:
        start, end: dict of input name to float array, without a batch axis. Baseline and input.
        fixed: dict of name to array: what the score needs besides, the same along the path.
        target: int, or None: the label of the highest score at `end`.
    """

    start: dict
    end: dict
    fixed: dict
    target: int | None = None


@dataclass(frozen=True)
class Tolerance:
    """When a path is done.

    Attributes:
        map_error, gap: float > 0. Relative errors.
        max_steps: int. No refinement makes more nodes than these.
    """

    map_error: float = 0.05
    gap: float = 0.01
    max_steps: int = 216


TOLERANCE = Tolerance()


@dataclass(frozen=True)
class PathMean:
    """What the nodes of a path gave.

    Attributes:
        path: `Path`.
        target: int. The label that was differentiated.
        scores: float64 array `(2, n_labels)`, of the baseline and of the input.
        gradients: dict of input name to float64 array: the weighted mean over the nodes.
        halves: dict of the same names: the mean over even nodes minus that over odd nodes; NaN where there are none.
        steps: int. Nodes.
    """

    path: Path
    target: int
    scores: np.ndarray
    gradients: dict
    halves: dict
    steps: int


def attribute(means, tolerance=TOLERANCE):
    """Integrated gradients of one study from its paths: one a baseline, averaged.

    Args:
        means: list of `PathMean` of one study and one target.
        tolerance: `Tolerance`. What is missed of it becomes a warning.

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
    """What is to be said of an attribution: a line for each tolerance that is missed or not known to be met."""
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


def measure_gap(values, difference):
    """How far a sum of attributions is from the difference of scores that it should be.

    Args:
        values: dict of name to float array.
        difference: float. Score minus baseline score.

    Returns:
        float >= 0, relative to the larger of `|difference|` and 5 % of the sum of absolute values; 0 when all is 0.
    """
    total = sum(float(value.sum()) for value in values.values())
    floor = GAP_FLOOR * sum(float(np.abs(value).sum()) for value in values.values())
    scale = max(abs(difference), floor)
    return abs(total - difference) / scale if scale else 0.0


def measure_error(values, halves):
    """The estimated relative error of a map: half the disagreement of two estimates from every other node.

    Args:
        values: dict of name to float array.
        halves: dict of the same names to the estimate from even nodes minus that from odd nodes.

    Returns:
        float >= 0: the largest of the inputs' errors, each relative to that input's sum of absolute values (or to 1 %
        of all inputs', where that is more).
    """
    sizes = {name: float(np.abs(value).sum()) for name, value in values.items()}
    floor = SIDE_FLOOR * sum(sizes.values())
    scales = {name: max(size, floor) for name, size in sizes.items()}
    errors = [float(np.abs(halves[name]).sum()) / (4 * scales[name]) if scales[name] else 0.0 for name in values]
    return float(np.max(errors))


def choose_factor(means, tolerance):
    """How many times as many steps the paths of a study need.

    The gradient of a network of ReLUs jumps along the path, so the error falls as 1 / steps: one refinement by the odd
    factor that this says, and a little more, mostly is enough.

    Args:
        means: list of `PathMean` of one study and one target, of equal steps.
        tolerance: `Tolerance`.

    Returns:
        odd int >= 3, or None when the study is done.
    """
    found, factor, most = attribute(means, tolerance), 3, tolerance.max_steps // means[0].steps
    done = found.map_error <= tolerance.map_error and found.completeness_gap <= tolerance.gap
    if done or most < 3 or not found.is_finite:
        return None
    while factor * tolerance.map_error < MARGIN * found.map_error and factor + 2 <= most:
        factor += 2
    return factor
