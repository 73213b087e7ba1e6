"""Colours of a signed map: vermilion for evidence in favour of the label, blue for evidence against it."""

import numpy as np

# Colours that colour-blind readers tell apart. Source: https://jfly.uni-koeln.de/color/
FOR, AGAINST = (213, 94, 0), (0, 114, 178)  # vermilion, blue
# For each level of a map, 1 (most against) to 255 (most for), with 128 = zero: the colour and its opacity, 0 to 1.
COLOURS = np.where(np.arange(256)[:, None] > 128, FOR, AGAINST)
STRENGTHS = np.abs(np.arange(256) - 128).clip(max=127) / 127
FULL = 0.99  # quantile of a map's non-zero magnitudes, above which its colour is strongest


def color_heat(heat: np.ndarray, *, opacity: int = 190) -> np.ndarray:
    """Colours a signed map: vermilion for the label, blue against it, transparent at zero.

    Args:
        heat: float array `(h, w)`, signed. NaN and infinities count as 0.
        opacity: int in [0, 255]. Opacity at and above the 99 % quantile of the non-zero magnitudes.

    Returns:
        uint8 array `(h, w, 4)`, RGBA.

    Example:
        >>> color_heat(np.array([[1.0, 0.0, -1.0]]))[0].tolist()
        [[213, 94, 0, 190], [0, 114, 178, 0], [0, 114, 178, 190]]
    """
    levels = scale_heat(np.nan_to_num(heat, posinf=0.0, neginf=0.0))
    return np.dstack([COLOURS[levels], np.rint(opacity * STRENGTHS[levels])]).astype(np.uint8)


def scale_heat(heat: np.ndarray) -> np.ndarray:
    """Converts a finite map to uint8 levels of the same shape: indices of `COLOURS` and `STRENGTHS`.

    Example:
        >>> scale_heat(np.array([[1.0, 0.0, -1.0]])).tolist()
        [[255, 128, 1]]
    """
    magnitudes = np.abs(heat[heat != 0])
    full = np.quantile(magnitudes, FULL, method="lower") if len(magnitudes) else 1.0
    return np.rint(127 * np.clip(heat / full, -1, 1) + 128).astype(np.uint8)
