"""The attribution of one study: a number for each pixel and for each component of a word's embedding row."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

import numpy as np


@dataclass(frozen=True)
class Attribution:
    """The attribution of one score to the inputs of one study.

    Attributes:
        values: dict of input name to float32 array of that input's shape, signed, in units of the score (gradient and
            SmoothGrad: per unit of the input; rollout: relevance, never below 0). For a model of kmm: `"image"`
            `(h, w, 1)` and `"rows"` `(t, d)`, or only the one that it reads or that the method explains. NaN where a
            score or a gradient was not finite.
        target: int. Index of the label that was explained.
        score: float. The score of the study.
        scores: float64 array `(n_labels,)`: the scores of the study for all labels.
        baseline_score: float. The score of the baseline; NaN for methods without one.
        completeness_gap: float >= 0. `|sum of values - (score - baseline_score)|` relative to the larger of
            `|score - baseline_score|` and a share of the sum of absolute values; NaN for methods that promise no sum.
        map_error: float >= 0. Estimated relative error (L1) of the values; NaN if unknown.
        steps: int. Points of the path that were computed.
        warnings: tuple of str. Tolerances that were missed, or are not known to be met; empty if all were met.
        kept_sums: dict of input name to float, or None. The sum of each input's values if the values themselves were
            not kept, as in an explanation read back from a folder; `values` is then empty.
    """

    values: Mapping[str, np.ndarray]
    target: int
    score: float
    scores: np.ndarray
    baseline_score: float = nan
    completeness_gap: float = nan
    map_error: float = nan
    steps: int = 0
    warnings: tuple[str, ...] = ()
    kept_sums: Mapping[str, float] | None = None

    @property
    def sums(self) -> Mapping[str, float]:
        """The sum of each input's values: dict of input name to float."""
        if self.kept_sums is not None:
            return self.kept_sums
        return {name: float(value.sum(dtype=np.float64)) for name, value in self.values.items()}

    @property
    def is_finite(self) -> bool:
        """Whether the scores of the study and all values are finite."""
        return all(bool(np.isfinite(value).all()) for value in (self.scores, *self.values.values()))


def sum_modalities(found: Attribution) -> dict[str, float | None]:
    """Sums the attributions of film and of report: how far each moved the score from the baseline's.

    Args:
        found: `Attribution`.

    Returns:
        dict of `"image"` and `"text"` to float, signed, in units of the score; 0 for a side that the model does not
        read, None for methods whose values do not promise a sum.
    """
    inputs = {"image": "image", "text": "rows"}
    if np.isnan(found.completeness_gap):
        return dict.fromkeys(inputs)
    sums = found.sums
    return {side: sums.get(name, 0.0) for side, name in inputs.items()}


def share_modalities(found: Attribution) -> dict[str, float]:
    """Computes the share of the decision that film and report each carried, from the absolute values of their sums.

    Args:
        found: `Attribution`.

    Returns:
        dict of `"image"` and `"text"` to float in [0, 1], summing to 1; both 0 if both sums are 0, and for methods
        whose values do not promise a sum.
    """
    sizes = {side: abs(value or 0.0) for side, value in sum_modalities(found).items()}
    total = sum(sizes.values())
    return {side: size / total if total else 0.0 for side, size in sizes.items()}
