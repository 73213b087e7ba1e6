"""Batching of several calls in the graph, with TensorFlow's batch function around the numeric core.

Each call does its own decoding, cleaning and checks, so that a bad image fails only the call that sent it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import keras
import tensorflow as tf

from kmm.errors import InputError
from kmm.protocol.signatures import MOST_ROWS

LONGEST_WAIT = 60_000  # milliseconds


@dataclass(frozen=True)
class Batching:
    """Settings of batching.

    Attributes:
        max_batch: int >= 1. Most rows of a batch; a larger call is split.
        timeout_ms: float in [0, 60,000]. Longest wait of the first row for others.
        threads: int >= 1. Batches that run concurrently.
        max_enqueued: int >= 1. Most waiting batches; beyond it a call fails with UNAVAILABLE.

    Raises:
        InputError: if a value is out of range.
    """

    max_batch: int = 16
    timeout_ms: float = 2.0
    threads: int = 2
    max_enqueued: int = 100

    def __post_init__(self):
        for name in ("max_batch", "threads", "max_enqueued"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value < 2**31:
                raise InputError(f"`{name}` must be a whole number of at least 1. Received: {value!r}.")
        wait = self.timeout_ms
        if isinstance(wait, bool) or not isinstance(wait, Real) or not 0 <= wait <= LONGEST_WAIT:
            raise InputError(f"`timeout_ms` must be a number from 0 to {LONGEST_WAIT}. Received: {wait!r}.")

    def wrap(self, function: Callable[..., tuple], model: keras.Model) -> Callable[..., tuple]:
        """Batches a function of tensors with a batch axis.

        Args:
            function: takes tensors and returns a tuple of tensors.
            model: `keras.Model` whose inputs and outputs `logits` and `features` have the same shapes.

        Returns:
            a function with the same arguments and results.
        """

        @tf.nondifferentiable_batch_function(
            num_batch_threads=self.threads,
            max_batch_size=max(MOST_ROWS, self.max_batch),  # largest call; it is split into batches of allowed sizes
            batch_timeout_micros=int(1000 * self.timeout_ms),
            allowed_batch_sizes=list_sizes(self.max_batch),
            max_enqueued_batches=self.max_enqueued,
            enable_large_batch_splitting=True,
        )
        def batched(*values):
            specs = [tensor.shape for tensor in model.inputs]
            return function(*(tf.ensure_shape(value, shape) for value, shape in zip(values, specs, strict=True)))

        shapes = [model.output[name].shape for name in ("logits", "features")]
        return lambda *values: tuple(
            tf.ensure_shape(value, shape) for value, shape in zip(batched(*values), shapes, strict=True)
        )


def list_sizes(most: int) -> list[int]:
    """Lists the sizes to which batches are padded: each size up to 16, then steps of at most one eighth.

    Padding rows cost as much as others, so the steps are small; a GPU tunes its kernels for each size, so the sizes
    are few.

    Args:
        most: int. The largest size.

    Example:
        >>> list_sizes(20)
        [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20]
    """
    sizes = [1]
    while sizes[-1] < most:
        sizes.append(min(most, sizes[-1] + max(1, sizes[-1] // 8)))
    return sizes
