"""Row of the table of image encoders: a description, with the function that builds the network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kmm.models.description import ImageDescription


@dataclass(frozen=True, kw_only=True)
class ImageEncoder(ImageDescription):
    """A row of the table `IMAGE_ENCODERS`: a description, with the function that builds the network.

    Attributes:
        network: function `(x, weights) -> feature map (n, rows, columns, d)`. `x` is the scaled film
            `(n, pixels, pixels, channels)`; `weights` is None (random), `"imagenet"` or `"given"`. With the pooling
            `"network"` it returns the pair of feature map and vector `(n, d)`.
        imagenet: bool. Whether ImageNet weights can be downloaded.
        given: bool. Whether the network brings weights of its own.
        torch_layers: function from a PyTorch state dict of arrays to a dict of Keras layer name to its arrays; None if
            PyTorch weights cannot be read. See `kmm.models.weights.names.torch_names`.
        starts: tuple of str. The first layer of each block that gradual unfreezing thaws, from the top of the network
            down. Empty: each of `blocks` is such a block.
        gray_stem: str. A convolution of one channel, without padding, whose kernel a file may have for three: the
            channels are then summed, with the file's scaling of each. Empty: a kernel must have the network's channels.
        positions: str. A layer whose last array is a table `(rows, columns, d)` of the positions of patches of
            `multiple` pixels, which tells the size of a file's films; empty if there is none.
        low_rank: bool. Whether its attention takes low-rank factors, see `kmm.models.views.low_rank`.
    """

    network: Callable[[keras.KerasTensor, str | None], Any]
    imagenet: bool = False
    given: bool = False
    torch_layers: Callable[[Mapping[str, np.ndarray]], dict[str, list[np.ndarray]]] | None = None
    starts: tuple[str, ...] = ()
    gray_stem: str = ""
    positions: str = ""
    low_rank: bool = False
