"""Vision transformers in the form of timm, torchvision and DINOv2, so that their weights give the same features."""

from dataclasses import dataclass

import keras
from keras import layers

from kmm.errors import InputError
from kmm.models.networks.vision_block import add_block
from kmm.models.networks.vision_layers import PlacesOfTokens, SelfAttention, Tokens
from kmm.models.transformer.attention import gelu_tanh, quick_gelu

ACTIVATIONS = {"gelu": "gelu", "gelu-tanh": gelu_tanh, "quick-gelu": quick_gelu}


@dataclass(frozen=True)
class VisionTransformer:
    """Function that builds a vision transformer, whose feature map is that of the patches' last, normalised tokens.

    Source: https://arxiv.org/abs/2010.11929; registers: https://arxiv.org/abs/2309.16588

    Attributes:
        size: int. Size of a token.
        depth: int. Number of blocks.
        heads: int. Number of heads of attention.
        patch: int. Side of a patch in pixels.
        units: int. Units of the first dense layer of a block; 0 for four times `size`.
        class_token: bool. Whether there is a [CLS] token.
        registers: int. Number of register tokens, which weights may lack.
        residual_scale: bool. Whether a block scales what it adds, as DINOv2 does.
        activation: str, a key of `ACTIVATIONS`: GELU, or its approximation by tanh, as in SigLIP, or by a sigmoid, as
            in the first weights of CLIP.
        pre_norm: bool. Whether tokens are normalised before the first block, as CLIP does.
        epsilon: float. Number that layer normalisation adds to the variance.

    Example:
        >>> tiny = VisionTransformer(size=8, depth=2, heads=2, patch=16)
        >>> tiny(keras.Input((64, 64, 1))).shape
        (None, 4, 4, 8)
        >>> tiny.ends
        ('block0', 'block1')
    """

    size: int
    depth: int
    heads: int
    patch: int
    units: int = 0
    class_token: bool = True
    registers: int = 0
    residual_scale: bool = False
    activation: str = "gelu"
    pre_norm: bool = False
    epsilon: float = 1e-6

    @property
    def prefix(self) -> int:
        """Number of tokens before those of the patches."""
        return int(self.class_token) + self.registers

    @property
    def ends(self) -> tuple[str, ...]:
        """Names of the last layer of each block, in the order of the network."""
        return tuple(f"block{number}" for number in range(self.depth))

    @property
    def starts(self) -> tuple[str, ...]:
        """Names of the first layer of each quarter of the blocks, from the top down; the stem belongs to the last."""
        quarters = sorted({number * self.depth // 4 for number in (1, 2, 3)} - {0}, reverse=True)
        return (*(f"block{number}_norm1" for number in quarters), "patches")

    def __call__(self, x: keras.KerasTensor, weights: str | None = None) -> keras.KerasTensor:
        """Applies the network to a scaled film `(n, h, w, c)`; returns the map `(n, h / patch, w / patch, size)`.

        Raises:
            InputError: if the side of the film is no multiple of that of a patch.
        """
        height, width = x.shape[1:3]
        if height % self.patch or width % self.patch:
            raise InputError(f"`pixels` must be a multiple of {self.patch}, the side of a patch. Received: {height}.")
        x = layers.Conv2D(self.size, self.patch, strides=self.patch, name="patches")(x)
        x = Tokens(self.prefix, name="tokens")(x)
        if self.pre_norm:
            x = layers.LayerNormalization(epsilon=self.epsilon, name="pre_norm")(x)
        optional = (self.prefix - self.registers, self.prefix) if self.registers else (0, 0)
        for name in self.ends:
            attention = SelfAttention(self.heads, optional, name=f"{name}_attention")
            x = add_block(
                x,
                attention,
                name=name,
                units=self.units or 4 * self.size,
                epsilon=self.epsilon,
                activation=ACTIVATIONS[self.activation],
                residual_scale=self.residual_scale,
            )
        x = layers.LayerNormalization(epsilon=self.epsilon, name="norm")(x)
        return PlacesOfTokens(self.prefix, height // self.patch, name="map")(x)
