"""What a method says of one study: a number for each pixel and for each component of a word's row."""

from dataclasses import dataclass
from math import nan

import numpy as np


@dataclass(frozen=True)
class Attribution:
    """The attribution of one score to the inputs of one study.

    Attributes:
        values: dict of input name to float32 array of that input's shape, signed, in units of the score. For a model
            of kmm: `"image"` `(h, w, 1)` and `"rows"` `(t, d)`, or the one that it reads. NaN where a score or a
            gradient was not finite.
        target: int. Index of the label that was explained.
        score: float. The score of the study.
        scores: float64 array `(n_labels,)`: the scores of the study for all labels.
        baseline_score: float. The score of the baseline; NaN for methods without one.
        completeness_gap: float >= 0. `|sum of values - (score - baseline_score)|` relative to the larger of
            `|score - baseline_score|` and a share of the sum of absolute values; NaN for methods that promise no sum.
        map_error: float >= 0. Estimated relative error (L1) of the values; NaN where it is not known.
        steps: int. Points of the path that were computed.
        warnings: tuple of str. Tolerances that were missed or not known; empty when all is well.
    """

    values: dict[str, np.ndarray]
    target: int
    score: float
    scores: np.ndarray
    baseline_score: float = nan
    completeness_gap: float = nan
    map_error: float = nan
    steps: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def is_finite(self):
        """Whether the scores of the study and all values are numbers."""
        return all(np.isfinite(value).all() for value in (self.scores, *self.values.values()))


def share_modalities(found):
    """The share of the decision that film and report each carried.

    Integrated gradients add up to the score less the baseline's. The sum over the film and the sum over the report are
    the parts that each moved it by; the shares are their sizes, whatever their sign.

    Args:
        found: `Attribution`.

    Returns:
        dict of `"image"` and `"text"` to float in [0, 1], summing to 1; both 0 where nothing was attributed, and for
        methods of which the values promise no sum.
    """
    if np.isnan(found.completeness_gap):
        return {"image": 0.0, "text": 0.0}
    sums = {
        side: abs(float(found.values[name].sum(dtype=np.float64))) if name in found.values else 0.0
        for side, name in (("image", "image"), ("text", "rows"))
    }
    total = sum(sums.values())
    return {side: value / total if total else 0.0 for side, value in sums.items()}
