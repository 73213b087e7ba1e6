"""Scalings of gray levels from 0 = black to 255 = white to the range of a network: one affine function per channel."""

from collections.abc import Callable

import keras
from keras import layers

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, for levels from 0 to 1

# name: scale and offset, of all channels or of each
FACTORS: dict[str, tuple[float | list[float], float | list[float]]] = {
    "none": (1.0, 0.0),
    "unit": (1 / 255, 0.0),
    "symmetric": (1 / 127.5, -1.0),
    "xrv": (2048 / 255, -1024.0),  # that of torchxrayvision
    "imagenet": ([1 / (255 * d) for d in DEVIATION], [-m / d for m, d in zip(MEAN, DEVIATION)]),
}


def _scale(name):
    scale, offset = FACTORS[name]
    if scale == 1:
        return lambda x: layers.Identity(dtype="float32", name="scaling")(x)
    return lambda x: layers.Rescaling(scale, offset=offset, dtype="float32", name="scaling")(x)


SCALINGS: dict[str, Callable[[keras.KerasTensor], keras.KerasTensor]] = {name: _scale(name) for name in FACTORS}
