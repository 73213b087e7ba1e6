"""What every encoder returns, whatever it reads: one vector a study, and a sequence of rows with its mask."""

from typing import NamedTuple

import keras
from keras import ops


class Encoding(NamedTuple):
    """The outcome of an encoder, as tensors or arrays.

    Attributes:
        vector: float `(n, d)`, one vector a study. Concatenation reads it.
        sequence: float `(n, m, k)`, one row a place in the film or a word. Cross-attention reads it.
        mask: float `(n, m)`, 1 = a place or word, 0 = padding.
    """

    vector: keras.KerasTensor
    sequence: keras.KerasTensor
    mask: keras.KerasTensor


def encoder_model(inputs, encoding, *, name):
    """Wraps an encoding as a nested model, so that features can be computed by calling it alone.

    Args:
        inputs: KerasTensor, or dict of them by name.
        encoding: `Encoding` computed from `inputs`.
        name: str. `"image_encoder"` or `"text_encoder"`.

    Returns:
        `keras.Model` with the outputs `{"vector", "sequence", "mask"}`.

    Example:
        >>> rows = keras.Input((5, 3))
        >>> encoding = Encoding(ops.max(rows, axis=1), rows, full_mask(rows))
        >>> encoder_model(rows, encoding, name="text_encoder").output["vector"].shape
        (None, 3)
    """
    return keras.Model(inputs, encoding._asdict(), name=name)


def full_mask(sequence):
    """Returns the mask `(n, m)` of a sequence `(n, m, k)` without padding: all ones, float32."""
    return ops.cast(ops.ones_like(ops.max(sequence, axis=-1)), "float32")
