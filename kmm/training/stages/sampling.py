"""Weighted sampling of training studies, so that rare labels are seen more often."""

import numpy as np

BALANCED = "balanced"  # value of the setting `sampling`
MOST_DRAWS = 20.0  # of one study per epoch, on average


def weigh_draws(labels: np.ndarray) -> np.ndarray:
    """Computes how often each training study is drawn per epoch on average.

    A study is drawn in inverse proportion to the number of studies with its rarest positive label; one without a
    positive label, to the number of those. So of one label both classes are drawn equally often. Sampling shifts the
    probabilities that a model learns towards rare labels; temperature and threshold come from validation studies as
    they are.

    Args:
        labels: float array `(n, n_labels)` in [0, 1], NaN where unknown; above one half is positive.

    Returns:
        float64 `(n,)`, the expected draws, which sum to n unless a study would be drawn more than `MOST_DRAWS` times.

    Example:
        >>> weigh_draws(np.array([[1.0], [0.0], [0.0], [np.nan], [0.0]])).tolist()
        [2.5, 0.625, 0.625, 0.625, 0.625]
    """
    positive = np.nan_to_num(labels) > 0.5
    rarest = np.where(positive, 1 / np.maximum(positive.sum(axis=0), 1), 0).max(axis=1, initial=0.0)
    none = rarest == 0
    weights = np.where(none, 1 / max(none.sum(), 1), rarest)
    return np.minimum(weights * len(weights) / weights.sum(), MOST_DRAWS)
