"""Result of every encoder: one vector per study, and a sequence of rows with its mask."""

from typing import NamedTuple

import keras
from keras import ops


class Encoding(NamedTuple):
    """Result of an encoder, as tensors or arrays.

    Attributes:
        vector: float `(n, d)`, one vector per study, for fusion by concatenation.
        sequence: float `(n, m, k)`, one row per position in the film or word, for cross-attention.
        mask: float `(n, m)`, 1 = a position or word, 0 = padding.
    """

    vector: keras.KerasTensor
    sequence: keras.KerasTensor
    mask: keras.KerasTensor


def encoder_model(
    inputs: keras.KerasTensor | dict[str, keras.KerasTensor], encoding: Encoding, *, name: str
) -> keras.Model:
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


def full_mask(sequence: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the mask `(n, m)` of a sequence `(n, m, k)` without padding: all ones, float32."""
    return ops.cast(ops.ones_like(ops.max(sequence, axis=-1)), "float32")
