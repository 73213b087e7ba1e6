"""Resampling of the table of positions of a vision transformer to a grid of another size, as PyTorch does it."""

import numpy as np

SHARP, SMOOTH = -0.75, -0.5  # coefficient of the cubic in PyTorch without and with antialiasing
REACH = 2  # places on each side that a cubic reads


def resample_positions(table: np.ndarray, size: tuple[int, int], *, antialias: bool) -> np.ndarray:
    """Resamples a table of positions by bicubic interpolation.

    It equals `torch.nn.functional.interpolate(mode="bicubic", align_corners=False)` with the same `antialias`: timm
    (`resample_abs_pos_embed`) and DINOv2 with registers use antialiasing, DINOv2 without registers does not.

    Args:
        table: float array `(rows, columns, d)`.
        size: pair of int, the new rows and columns.
        antialias: bool. Whether a smaller grid averages over all places, as Pillow does.

    Returns:
        float32 array `(*size, d)`.

    Source: https://ieeexplore.ieee.org/document/1163711

    Example:
        >>> table = np.arange(16.0).reshape(4, 4, 1)
        >>> resample_positions(table, (4, 4), antialias=False)[..., 0].tolist() == table[..., 0].tolist()
        True
        >>> resample_positions(table, (2, 2), antialias=True)[..., 0].astype(float).round(2).tolist()
        [[2.93, 4.76], [10.24, 12.07]]
    """
    rows, columns = (_make_weights(old, new, antialias) for old, new in zip(table.shape[:2], size))
    return np.einsum("ir,jc,rcd->ijd", rows, columns, np.asarray(table, np.float64), optimize=True).astype(np.float32)


def _make_weights(old, new, antialias):
    """Returns the share `(new, old)` of each old place in each new one."""
    scale = old / new
    centers = (np.arange(new)[:, None] + 0.5) * scale
    if not antialias:
        places = np.floor(centers - 0.5) + np.arange(1 - REACH, 1 + REACH)
        shares = _cubic(places + 0.5 - centers, SHARP)
        weights = np.zeros((new, old))
        np.add.at(weights, (np.arange(new)[:, None], np.clip(places, 0, old - 1).astype(int)), shares)
        return weights
    stretch = max(scale, 1.0)
    first, last = (np.trunc(centers + side * REACH * stretch + 0.5) for side in (-1, 1))
    places = np.arange(old)
    weights = np.where((places >= first) & (places < last), _cubic((places + 0.5 - centers) / stretch, SMOOTH), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def _cubic(distance, a):
    """The cubic convolution kernel with the coefficient `a`."""
    x = np.abs(distance)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
