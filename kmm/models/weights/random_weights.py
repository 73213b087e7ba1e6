"""Random weights of an image encoder that stays frozen: scaled, so that its features do not vanish."""

from collections.abc import Iterator

import keras
import numpy as np

DEPTHWISE = "depthwise_kernel"  # of a separable convolution, which has no activation behind this part of it


def scale_kernels(model: keras.Model) -> None:
    """Scales the kernels of a network so that each layer keeps the variance of what it reads.

    The statistics of a batch normalisation that was never trained are 0 and 1, so with the kernels of Keras's
    initialisers a deep network that stays frozen gives features that are all nearly 0. He's variance, 2 over the number
    of inputs of an output, makes up for the half that ReLU removes; depthwise kernels have no ReLU behind them.

    Source: https://arxiv.org/abs/1502.01852

    Args:
        model: `keras.Model`, changed in place: the same weights always become the same.

    Example:
        >>> keras.utils.set_random_seed(0)
        >>> model = keras.Sequential([keras.Input((8, 8, 32)), keras.layers.Conv2D(64, 3)])
        >>> scale_kernels(model)
        >>> kernel = model.layers[0].get_weights()[0]
        >>> round(float(kernel.var()) * 3 * 3 * 32, 6)
        2.0
    """
    for layer in _list_layers(model):
        depthwise = isinstance(layer, keras.layers.DepthwiseConv1D | keras.layers.DepthwiseConv2D)
        for variable in layer.weights:
            if "kernel" not in variable.name:
                continue
            kernel = np.asarray(keras.ops.convert_to_numpy(variable.value), np.float64)
            alone = depthwise or variable.name == DEPTHWISE
            inputs = np.prod(kernel.shape[:-2] if alone else kernel.shape[:-1])
            if spread := kernel.std():
                variable.assign(kernel * np.sqrt((1 if alone else 2) / inputs) / spread)


def _list_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        yield from _list_layers(layer) if isinstance(layer, keras.Model) else [layer]
