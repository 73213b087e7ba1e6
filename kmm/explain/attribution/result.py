"""What a method says of one study: a number for each pixel and for each component of a word's row."""

from dataclasses import dataclass
from math import nan

import numpy as np


@dataclass(frozen=True)
class Attribution:
    """The attribution of one score to the inputs of one study.

    Attributes:
        values: dict of input name to float32 array of that input's shape, signed, in units of the score (gradient and
            SmoothGrad: per unit of the input). For a model of kmm: `"image"` `(h, w, 1)` and `"rows"` `(t, d)`, or the
            one that it reads. NaN where a score or a gradient was not finite.
        target: int. Index of the label that was explained.
        score: float. The score of the study.
        scores: float64 array `(n_labels,)`: the scores of the study for all labels.
        baseline_score: float. The score of the baseline; NaN for methods without one.
        completeness_gap: float >= 0. `|sum of values - (score - baseline_score)|` relative to the larger of
            `|score - baseline_score|` and a share of the sum of absolute values; NaN for methods that promise no sum.
        map_error: float >= 0. Estimated relative error (L1) of the values; NaN where it is not known.
        steps: int. Points of the path that were computed.
        warnings: tuple of str. Tolerances that were missed or not known; empty when all is well.
        kept_sums: dict of input name to float, or None. The sum of each input's values where the values themselves were
            not kept, as of an explanation that was read back from a folder; `values` is then empty.
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
    kept_sums: dict[str, float] | None = None

    @property
    def sums(self):
        """The sum of each input's values: dict of input name to float."""
        if self.kept_sums is not None:
            return self.kept_sums
        return {name: float(value.sum(dtype=np.float64)) for name, value in self.values.items()}

    @property
    def is_finite(self):
        """Whether the scores of the study and all values are numbers."""
        return all(np.isfinite(value).all() for value in (self.scores, *self.values.values()))


def sum_modalities(found):
    """What film and report each moved the score by, from the baseline's.

    Args:
        found: `Attribution`.

    Returns:
        dict of `"image"` and `"text"` to float, signed, in units of the score; 0 for a side that the model does not
        read, None for methods of which the values promise no sum.
    """
    inputs = {"image": "image", "text": "rows"}
    if np.isnan(found.completeness_gap):
        return dict.fromkeys(inputs)
    sums = found.sums
    return {side: sums.get(name, 0.0) for side, name in inputs.items()}


def share_modalities(found):
    """The share of the decision that film and report each carried: the sizes of their sums, whatever the sign.

    Args:
        found: `Attribution`.

    Returns:
        dict of `"image"` and `"text"` to float in [0, 1], summing to 1; both 0 where nothing was attributed, and for
        methods of which the values promise no sum.
    """
    sizes = {side: abs(value or 0.0) for side, value in sum_modalities(found).items()}
    total = sum(sizes.values())
    return {side: size / total if total else 0.0 for side, size in sizes.items()}
