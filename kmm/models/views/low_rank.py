"""Low-rank factors in the attention of an encoder, through which alone it is tuned.

A stage trains a view of the model, in which the dense layers of queries and values add the product of two narrow
matrices to what they give. The layers themselves are those of the model, so nothing is copied, and the model that is
saved, explained and exported is the plain network.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from kmm.errors import InputError

# Dense layers that get factors, by the end of their names: for each of the equal parts of their outputs, whether.
PARTS = {"_query": (True,), "_value": (True,), "_qkv": (True, False, True)}


class LowRankDense(layers.Wrapper):
    """Adds the product of two narrow matrices to the kernel of a dense layer: `kernel + alpha / rank * down @ up`.

    `up` starts at 0, so the layer starts with exactly the outputs of the dense layer.

    Args:
        layer: `keras.layers.Dense` without activation, built.
        rank: int, at least 1. Columns of `down (d, rank)` and rows of `up (rank, units)`.
        alpha: float > 0. The product is scaled by `alpha / rank`, so that the rate need not follow the rank.
        parts: sequence of bool. For each of the equal parts into which the outputs are divided, whether it has factors.
        seed: int, which determines `down`.

    Source: https://arxiv.org/abs/2106.09685

    Example:
        >>> dense = layers.Dense(6)
        >>> dense.build((None, 4))
        >>> adapted = LowRankDense(dense, rank=2, alpha=4.0, parts=(True, False, True))
        >>> adapted(ops.ones((1, 4))).shape == dense(ops.ones((1, 4))).shape
        True
        >>> [weight.name for weight in adapted.weights]
        ['down0', 'up0', 'down2', 'up2', 'kernel', 'bias']
    """

    def __init__(
        self,
        layer: layers.Dense,
        rank: int,
        alpha: float,
        parts: Sequence[bool] = (True,),
        seed: int = 0,
        **options: Any,
    ):
        super().__init__(layer, **{"name": layer.name, "dtype": layer.dtype_policy, **options})
        self.rank, self.alpha, self.parts, self.seed = rank, alpha, tuple(parts), seed
        if not layer.built:
            raise ValueError(f"The layer {layer.name} is not built.")
        width, units = layer.kernel.shape
        self.factors: list[tuple[keras.Variable, keras.Variable] | None] = []
        for number, adapted in enumerate(self.parts):
            # The scale of a product with `down` is that of the inputs.
            start = keras.initializers.RandomNormal(stddev=width**-0.5, seed=seed + number)
            down = self.add_weight(shape=(width, rank), initializer=start, name=f"down{number}") if adapted else None
            size = units // len(self.parts)
            up = self.add_weight(shape=(rank, size), initializer="zeros", name=f"up{number}") if adapted else None
            self.factors.append(None if down is None or up is None else (down, up))
        self.built = True

    def call(self, x: Any) -> Any:
        """Takes `(..., d)`; returns `(..., units)`."""
        given = self.layer(x)
        size = given.shape[-1] // len(self.parts)
        added = [
            ops.zeros_like(given[..., :size]) if pair is None else ops.matmul(ops.matmul(x, pair[0]), pair[1])
            for pair in self.factors
        ]
        total = added[0] if len(added) == 1 else ops.concatenate(added, axis=-1)
        return given + ops.cast(self.alpha / self.rank, given.dtype) * total

    def compute_output_shape(self, shape: tuple) -> tuple:
        return (*shape[:-1], self.layer.units)

    def merge(self) -> None:
        """Adds the product to the kernel of the dense layer, and sets `up` to 0 again."""
        width, units = self.layer.kernel.shape
        products = [
            ops.zeros((width, units // len(self.parts))) if pair is None else ops.matmul(pair[0], pair[1])
            for pair in self.factors
        ]
        self.layer.kernel.assign_add(self.alpha / self.rank * ops.concatenate(products, axis=-1))
        for pair in self.factors:
            if pair is not None:
                pair[1].assign(ops.zeros(pair[1].shape))

    def get_config(self) -> dict[str, Any]:
        own = {"rank": self.rank, "alpha": self.alpha, "parts": list(self.parts), "seed": self.seed}
        return {**super().get_config(), **own}


def add_factors(encoder: keras.Model, *, rank: int, alpha: float, seed: int = 0) -> keras.Model:
    """Makes an encoder whose queries and values have low-rank factors. It shares all other weights with `encoder`.

    Args:
        encoder: `keras.Model` named `image_encoder` or `text_encoder`.
        rank, alpha: see `LowRankDense`.
        seed: int, which determines the factors.

    Returns:
        `keras.Model` with the inputs and outputs of `encoder`. Which of its weights are trained is said by the marks of
        the layers of `encoder`; the factors always are.

    Raises:
        InputError: if no layer is named as one of `PARTS`.

    Example:
        >>> from kmm.models.encoders_text import TEXT_ENCODERS, build_text_encoder
        >>> entry = TEXT_ENCODERS["transformer-small"]
        >>> encoder = build_text_encoder(entry, length=9, embedding_size=128, filters=1, dropout=0.1)
        >>> adapted = add_factors(encoder, rank=4, alpha=8.0)
        >>> sum(weight.size for weight in adapted.get_weights()) - encoder.count_params()  # two blocks, two layers each
        4096
    """
    numbers = itertools.count()

    def adapt(layer):
        parts = next((parts for end, parts in PARTS.items() if layer.name.endswith(end)), None)
        if parts is None or not isinstance(layer, layers.Dense):
            return layer
        return LowRankDense(layer, rank, alpha, parts, seed=seed + len(parts) * next(numbers))

    adapted = keras.models.clone_model(encoder, clone_function=adapt)
    if not list_adapted(adapted):
        raise InputError(f"The {encoder.name} has no layers of attention that low-rank factors are known for.")
    return adapted


def list_adapted(encoder: keras.Model) -> list[LowRankDense]:
    """Lists the layers of an encoder that have low-rank factors, in the order of the network."""
    return [layer for layer in encoder.layers if isinstance(layer, LowRankDense)]


def merge_factors(encoder: keras.Model) -> None:
    """Adds the products of the factors of an encoder from `add_factors` to the weights that it shares."""
    for layer in list_adapted(encoder):
        layer.merge()
