"""Residual networks in the form of torchvision and timm, so that their weights give the same features.

`keras.applications` has other strides and biases: its stride is in the first 1 x 1 convolution of a bottleneck block.
"""

from collections.abc import Sequence

import keras
from keras import layers

WIDTHS = (64, 128, 256, 512)
MOMENTUM, EPSILON = 0.9, 1e-5  # PyTorch's defaults of batch normalisation; its momentum is that of the batch, 0.1


class ResNet:
    """Function that builds a residual network.

    Source: https://arxiv.org/abs/1512.03385

    Args:
        blocks: tuple of four numbers of blocks, those of each size of map.
        bottleneck: bool. Whether a block is three convolutions, 1 x 1, 3 x 3 and 1 x 1; otherwise it is two of 3 x 3.
        widths: tuple of the filters of the 3 x 3 convolutions at each size of map.

    Example:
        >>> tiny = ResNet((1, 1, 1, 1), widths=(2, 3, 4, 5))
        >>> tiny(keras.Input((64, 64, 3))).shape
        (None, 2, 2, 5)
        >>> tiny.ends
        ('layer1_0_relu', 'layer2_0_relu', 'layer3_0_relu', 'layer4_0_relu')
    """

    def __init__(self, blocks: Sequence[int], *, bottleneck: bool = False, widths: Sequence[int] = WIDTHS):
        self.blocks, self.bottleneck, self.widths = tuple(blocks), bottleneck, tuple(widths)

    @property
    def ends(self) -> tuple[str, ...]:
        """Names of the last layer of each block, in the order of the network."""
        return tuple(
            f"layer{stage}_{number}_relu" for stage, count in enumerate(self.blocks, start=1) for number in range(count)
        )

    def __call__(self, x: keras.KerasTensor, weights: str | None = None) -> keras.KerasTensor:
        """Applies the network to a scaled film `(n, h, w, c)`; returns the map `(n, h / 32, w / 32, d)`."""
        x = _convolve(x, self.widths[0], 7, stride=2, name="conv1")
        x = _normalise(x, "bn1")
        x = layers.ReLU(name="relu1")(x)
        x = layers.ZeroPadding2D(1, name="pool1_pad")(x)  # nothing is below 0 after a ReLU
        x = layers.MaxPooling2D(3, strides=2, name="pool1")(x)
        for stage, (count, width) in enumerate(zip(self.blocks, self.widths, strict=True), start=1):
            for number in range(count):
                x = self._add_block(x, width, 2 if stage > 1 and number == 0 else 1, f"layer{stage}_{number}")
        return x

    def _add_block(self, x, width, stride, name):
        convolutions = [(width, 3, stride), (width, 3, 1)]
        if self.bottleneck:
            convolutions = [(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)]
        shortcut, inputs = x, x.shape[-1]
        for number, (filters, size, step) in enumerate(convolutions, start=1):
            x = _convolve(x, filters, size, stride=step, name=f"{name}_conv{number}")
            x = _normalise(x, f"{name}_bn{number}")
            if number < len(convolutions):
                x = layers.ReLU(name=f"{name}_relu{number}")(x)
        if stride > 1 or inputs != x.shape[-1]:
            shortcut = _convolve(shortcut, x.shape[-1], 1, stride=stride, name=f"{name}_shortcut_conv")
            shortcut = _normalise(shortcut, f"{name}_shortcut_bn")
        x = layers.Add(name=f"{name}_add")([x, shortcut])
        return layers.ReLU(name=f"{name}_relu")(x)


def _convolve(x, filters, size, *, stride, name):
    """Applies a convolution with PyTorch's padding: as many zeros on both sides, unlike "same" with a stride."""
    if stride > 1 and size > 1:
        x = layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    padding = "same" if stride == 1 else "valid"
    return layers.Conv2D(filters, size, strides=stride, padding=padding, use_bias=False, name=name)(x)


def _normalise(x, name):
    return layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON, name=name)(x)
