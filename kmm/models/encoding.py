"""Result of every encoder: one vector per study, and a sequence of rows with its mask."""

from typing import Any, NamedTuple

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


@keras.saving.register_keras_serializable(package="kmm")
class MaskedMean(keras.layers.Layer):
    """Averages the rows of a sequence that its mask does not hide; zero where it hides all.

    Example:
        >>> rows, mask = ops.array([[[1.0], [3.0], [9.0]]]), ops.array([[1.0, 1.0, 0.0]])
        >>> ops.convert_to_numpy(MaskedMean()(rows, mask)).tolist()
        [[2.0]]
    """

    def call(self, sequence: Any, row_mask: Any) -> Any:
        """Takes `sequence (n, m, k)` and `row_mask (n, m)`, 1 = a word, 0 = padding; returns `(n, k)`."""
        weights = ops.expand_dims(ops.cast(row_mask, sequence.dtype), -1)
        return ops.sum(sequence * weights, axis=1) / ops.maximum(ops.sum(weights, axis=1), 1)

    def compute_output_shape(self, sequence_shape: tuple, row_mask_shape: tuple) -> tuple:
        return sequence_shape[0], sequence_shape[2]
