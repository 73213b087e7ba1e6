"""Pool the feature maps of an image encoder, at one depth or at several, over the film or its cells, to a vector."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kmm.errors import InputError

DEPTHS = "depths"  # the layer that joins several depths

Output = Any  # of a network: the feature map, or the pair of feature map and vector


@keras.saving.register_keras_serializable(package="kmm")
class GridMeans(layers.Layer):
    """Means of a feature map over the cells of a square grid, row by row.

    A mean over the whole film does not say where something is; means over cells do, as in a spatial pyramid. A map that
    cannot be divided evenly has cells whose numbers of rows, or of columns, differ by one.

    Args:
        grid: int, at least 1. Cells along each side.

    Raises:
        InputError: if the map has fewer rows or columns than the grid.

    Source: https://doi.org/10.1109/CVPR.2006.68

    Example:
        >>> features = np.arange(16, dtype="float32").reshape(1, 4, 4, 1)
        >>> ops.convert_to_numpy(GridMeans(2)(features)).tolist()
        [[2.5, 4.5, 10.5, 12.5]]
    """

    def __init__(self, grid: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.grid = grid

    def build(self, shape: tuple) -> None:
        if min(shape[1:3]) < self.grid:
            raise InputError(
                f"`image_grid` must be at most {min(shape[1:3])}, because a feature map of this encoder has "
                f"{shape[1]} x {shape[2]} places at this size of film. Received: {self.grid}."
            )
        self._shares = [_divide(size, self.grid) for size in shape[1:3]]

    def call(self, features: Any) -> Any:
        """Takes `(n, rows, columns, d)`; returns `(n, grid * grid * d)`."""
        rows, columns = (ops.cast(share, features.dtype) for share in self._shares)
        means = ops.einsum("ir,nrcd,jc->nijd", rows, features, columns)
        return ops.reshape(means, (-1, self.grid * self.grid * features.shape[-1]))

    def compute_output_shape(self, shape: tuple) -> tuple:
        return (shape[0], self.grid * self.grid * shape[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid": self.grid}


def _divide(size, cells):
    """Returns float32 `(cells, size)`: the share of each row of a map, or of each column, in the mean of each cell."""
    ends = np.rint(np.arange(cells + 1) * size / cells).astype(int)
    shares = np.zeros((cells, size), np.float32)
    for cell, (start, end) in enumerate(itertools.pairwise(ends)):
        shares[cell, start:end] = 1 / (end - start)
    return shares


def _take_means(features, grid, name):
    """Takes the means of a feature map over the cells of a grid; over all of its places, if the grid has one cell."""
    return (layers.GlobalAveragePooling2D(name=name) if grid == 1 else GridMeans(grid, name=name))(features)


def _average(features, grid):
    """Takes the means of the feature map."""
    return features, _take_means(features, grid, "average_pool")


def _max_average(features, grid):
    """Takes the maximum over the places beside the means."""
    means = _take_means(features, grid, "average_pool")
    return features, layers.Concatenate(name="pools")([layers.GlobalMaxPooling2D(name="max_pool")(features), means])


def _network(pair, grid):
    """Takes the vector that the network itself makes of its feature map; of a grid the means of the cells beside it."""
    features, vector = pair
    if grid == 1:
        return pair
    return features, layers.Concatenate(name="pools")([vector, _take_means(features, grid, "average_pool")])


POOLINGS: dict[str, Callable[[Output, int], tuple[keras.KerasTensor, keras.KerasTensor]]] = {
    "average": _average,
    "max-average": _max_average,
    "network": _network,
}


def choose_depths(blocks: Sequence[str], depths: int) -> tuple[str, ...]:
    """Chooses the blocks whose feature maps are read beside the last one: evenly spaced, from a third of the way up; of
    an encoder with too few blocks for that, the upper ones.

    The features of middle blocks are less bound to the pictures that the network was trained on than the last ones, and
    how well each depth does depends on the task (https://arxiv.org/abs/1411.1792).

    Args:
        blocks: list of str, the blocks of the encoder, the last one last.
        depths: int >= 1, the last block included.

    Returns:
        tuple of `depths - 1` names of `blocks`, from the bottom up.

    Raises:
        InputError: if the encoder has too few blocks.

    Example:
        >>> choose_depths(["stem", "one", "two", "three", "four"], 3)
        ('one', 'three')
    """
    if depths > len(blocks):
        raise InputError(
            f"`image_depths` must be at most {len(blocks)}, the number of blocks of the image encoder. Received: "
            f"{depths}."
        )
    last = len(blocks) - 1
    spaced = {int(place + 0.5) for place in np.linspace(last / 3, last, depths)[: depths - 1]}
    chosen = sorted(spaced) if len(spaced - {last}) == depths - 1 else range(last - depths + 1, last)
    return tuple(blocks[number] for number in chosen)


def add_depths(
    network: keras.Model, names: Sequence[str], vector: keras.KerasTensor, feature_map: str, *, grid: int = 1
) -> keras.KerasTensor:
    """Joins the means of the feature maps of some layers of a network, over the cells of a grid, and the vector of the
    last one.

    Layers that return tokens `(n, t, d)` are arranged as maps like those of the layer `feature_map`.
    """
    maps = [arrange(network.get_layer(name).output, network.get_layer(feature_map)) for name in names]
    means = [_take_means(one, grid, f"depth{number}_pool") for number, one in enumerate(maps, start=1)]
    return layers.Concatenate(name=DEPTHS)([*means, vector])


def arrange(output: keras.KerasTensor, feature_map: layers.Layer) -> keras.KerasTensor:
    """Returns a map as it is, and tokens `(n, t, d)` as the layer of the feature map arranges them."""
    if len(output.shape) == 4:
        return output
    config = {name: value for name, value in feature_map.get_config().items() if name != "name"}
    return type(feature_map).from_config(config)(output)
