"""Kernel of the first convolution of a network of one channel, from a kernel for three that films are repeated in."""

from collections.abc import Sequence

import numpy as np

from kmm.models.networks.scalings import FACTORS
from kmm.models.weights.names.torch_names import Normalisation


def sum_channels(arrays: Sequence[np.ndarray], normalisation: Normalisation, scaling: str) -> list[np.ndarray]:
    """Sums a kernel over its channels so that the convolution gives the same numbers for gray films.

    With the same gray level `g`, from 0 to 1, in each channel, channel `c` of the file's network is `(g - mean_c) /
    deviation_c`, and the one of kmm's is an affine function of `g` too. So the kernel is a weighted sum, and what the
    means add is part of the bias. That is exact where the convolution has no padding.

    Args:
        arrays: kernel `(h, w, 3, d)`, and bias `(d,)` if it has one.
        normalisation: `Normalisation` of the file's network.
        scaling: str, key of `kmm.models.networks.scalings.FACTORS`, of one factor for all channels.

    Returns:
        kernel `(h, w, 1, d)` and bias `(d,)`, float32.

    Example:
        >>> kernel = np.ones((1, 1, 3, 1))
        >>> half = Normalisation((0.5,) * 3, (0.5,) * 3)  # -1 to 1, as "symmetric"
        >>> [array.ravel().tolist() for array in sum_channels([kernel], half, "symmetric")]
        [[3.0], [0.0]]
    """
    kernel = np.asarray(arrays[0], np.float64)
    mean, deviation = (np.array(values)[:, None] for values in (normalisation.mean, normalisation.deviation))
    scale, offset = (np.asarray(value, np.float64) for value in FACTORS[scaling])
    level = 1 / (255 * scale)  # g = level * x + first, where x is what kmm's network reads
    first = -offset * level
    bias = np.asarray(arrays[1], np.float64) if len(arrays) > 1 else np.zeros(kernel.shape[-1])
    summed = (kernel * (level / deviation)).sum(axis=2, keepdims=True)
    bias = bias + (kernel * ((first - mean) / deviation)).sum(axis=(0, 1, 2))
    return [summed.astype(np.float32), bias.astype(np.float32)]
