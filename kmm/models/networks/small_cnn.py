"""A small network for films that is trained from scratch."""

import keras
from keras import layers


def build_small_cnn(x: keras.KerasTensor, weights: str | None = None) -> keras.KerasTensor:
    """Builds five blocks of convolution, normalisation and ReLU, with max pooling between them.

    Args:
        x: scaled film `(n, h, w, channels)`.
        weights: not used; the weights are random.

    Returns:
        the feature map `(n, h / 16, w / 16, 128)`.
    """
    for number, filters in enumerate((16, 32, 64, 96, 128), start=1):
        if number > 1:
            x = layers.MaxPooling2D(name=f"block{number}_pool")(x)
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"block{number}_conv")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"block{number}_bn")(x)
        x = layers.ReLU(name=f"block{number}_relu")(x)
    return x
