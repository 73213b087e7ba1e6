"""Block of a vision transformer, which normalises before attention and before the dense layers."""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from kmm.models.networks.vision_layers import ResidualScale


def add_block(
    x: keras.KerasTensor,
    attention: Callable[[Any], Any],
    *,
    name: str,
    units: int,
    epsilon: float,
    activation: str | Callable[[Any], Any] = "gelu",
    residual_scale: bool = False,
) -> keras.KerasTensor:
    """Adds attention, then two dense layers, each to what it reads.

    Args:
        x: KerasTensor `(n, ..., d)`.
        attention: layer from queries, keys and values `(n, ..., 3 d)` side by side to `(n, ..., d)`.
        name: str. Name of the block's last layer, and the beginning of the names of the others.
        units: int. Units of the first dense layer.
        epsilon: float > 0. Number that layer normalisation adds to the variance.
        activation: str of Keras, or function. Activation of the first dense layer.
        residual_scale: bool. Whether the block scales what it adds.

    Returns:
        KerasTensor `(n, ..., d)`.

    Source: https://arxiv.org/abs/2010.11929

    Example:
        >>> from kmm.models.networks.vision_layers import SelfAttention
        >>> add_block(keras.Input((5, 8)), SelfAttention(heads=2), name="block0", units=16, epsilon=1e-6).shape
        (None, 5, 8)
    """
    size = x.shape[-1]

    def join(x, y, scale, end):
        if residual_scale:
            y = ResidualScale(name=f"{name}_{scale}")(y)
        return layers.Add(name=end)([x, y])

    y = layers.LayerNormalization(epsilon=epsilon, name=f"{name}_norm1")(x)
    y = attention(layers.Dense(3 * size, name=f"{name}_qkv")(y))
    x = join(x, layers.Dense(size, name=f"{name}_projection")(y), "scale1", f"{name}_add1")
    y = layers.LayerNormalization(epsilon=epsilon, name=f"{name}_norm2")(x)
    y = layers.Dense(units, name=f"{name}_dense1")(y)
    y = layers.Activation(activation, name=f"{name}_gelu")(y)
    return join(x, layers.Dense(size, name=f"{name}_dense2")(y), "scale2", name)
