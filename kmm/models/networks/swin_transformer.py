"""Swin transformers in the form of timm and torchvision, so that their weights give the same features."""

from dataclasses import dataclass

import keras
from keras import layers

from kmm.errors import InputError
from kmm.models.networks.vision_block import add_block
from kmm.models.networks.window_attention import SquaresOfPlaces, WindowAttention

EPSILON = 1e-5  # of layer normalisation
SPREAD = 4  # units of the first dense layer of a block, as a multiple of the size of a place


@dataclass(frozen=True)
class SwinTransformer:
    """Function that builds a Swin transformer, whose feature map is that of the last, normalised places.

    Windows of every second block are shifted by half a window, unless one window covers the map. Programs that have
    this network pad maps which windows do not divide, each in its own way, and let places attend to the padding; such
    films are refused here.

    Source: https://arxiv.org/abs/2103.14030

    Attributes:
        width: int. Size of a place of the first map; each further map doubles it.
        depths: tuple of int. Number of blocks at each size of map.
        heads: tuple of int. Number of heads of attention at each size of map.
        patch: int. Side of a patch in pixels.
        window: int. Side of a window in places.

    Example:
        >>> tiny = SwinTransformer(width=4, depths=(1, 2), heads=(1, 2), window=2)
        >>> tiny.multiple, tiny(keras.Input((32, 32, 1))).shape
        (16, (None, 4, 4, 8))
        >>> tiny.ends
        ('stage1_block0', 'stage2_block0', 'stage2_block1')
    """

    width: int
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    patch: int = 4
    window: int = 7

    @property
    def size(self) -> int:
        """Size of a place of the last map."""
        return self.width * 2 ** (len(self.depths) - 1)

    @property
    def multiple(self) -> int:
        """Number of pixels of which the side of a film must be a multiple, so that windows divide every map."""
        return self.patch * 2 ** (len(self.depths) - 1) * self.window

    @property
    def ends(self) -> tuple[str, ...]:
        """Names of the last layer of each block, in the order of the network."""
        stages = enumerate(self.depths, start=1)
        return tuple(f"stage{stage}_block{number}" for stage, count in stages for number in range(count))

    @property
    def starts(self) -> tuple[str, ...]:
        """Names of the first layer with weights of each size of map, from the top down."""
        return (*(f"merge{stage}_norm" for stage in range(len(self.depths), 1, -1)), "patches")

    def __call__(self, x: keras.KerasTensor, weights: str | None = None) -> keras.KerasTensor:
        """Applies the network to a scaled film `(n, h, w, c)`; returns the map `(n, h / 32, w / 32, size)`, for patches
        of 4 pixels and four sizes of map.

        Raises:
            InputError: if windows do not divide the maps of the film.
        """
        height, width = x.shape[1:3]
        if height % self.multiple or width % self.multiple:
            raise InputError(
                f"`pixels` must be a multiple of {self.multiple}, so that windows divide the maps. Received: {height}."
            )
        x = layers.Conv2D(self.width, self.patch, strides=self.patch, name="patches")(x)
        x = layers.LayerNormalization(epsilon=EPSILON, name="patches_norm")(x)
        for stage, (count, heads) in enumerate(zip(self.depths, self.heads, strict=True), start=1):
            if stage > 1:
                x = _merge(x, f"merge{stage}")
            for number in range(count):
                name, shift = f"stage{stage}_block{number}", self.window // 2 if number % 2 else 0
                shift = shift if min(x.shape[1:3]) > self.window else 0
                attention = WindowAttention(heads, self.window, shift, name=f"{name}_attention")
                x = add_block(x, attention, name=name, units=SPREAD * x.shape[-1], epsilon=EPSILON)
        return layers.LayerNormalization(epsilon=EPSILON, name="norm")(x)


def _merge(x, name):
    """Halves the sides of a map and doubles the size of its places."""
    size = x.shape[-1]
    x = SquaresOfPlaces(name=name)(x)
    x = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm")(x)
    return layers.Dense(2 * size, use_bias=False, name=f"{name}_reduction")(x)
