"""Pool the feature maps of an image encoder, at one depth or at several, to the vector of a film."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers

from kmm.errors import InputError

DEPTHS = "depths"  # the layer that joins several depths


def _average(features):
    """Takes the mean of the feature map over its places."""
    return features, layers.GlobalAveragePooling2D(name="average_pool")(features)


def _max_average(features):
    """Takes the maximum over the places beside the mean."""
    vector = layers.GlobalAveragePooling2D(name="average_pool")(features)
    return features, layers.Concatenate(name="pools")([layers.GlobalMaxPooling2D(name="max_pool")(features), vector])


def _network(pair):
    """Takes the vector that the network itself makes of its feature map."""
    return pair


POOLINGS = {"average": _average, "max-average": _max_average, "network": _network}


def choose_depths(blocks: Sequence[str], depths: int) -> tuple[str, ...]:
    """Chooses the blocks whose feature maps are read beside the last one: evenly spaced, from a third of the way up.

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

    chosen = _space(len(blocks), depths)
    if len(chosen) < depths:
        most = max(count for count in range(1, depths) if len(_space(len(blocks), count)) == count)
        raise InputError(
            f"`image_depths` must be at most {most} with an encoder of {len(blocks)} blocks. Received: {depths}."
        )
    return tuple(blocks[number] for number in chosen[:-1])


def _space(blocks, depths):
    """Returns different numbers of blocks, at most `depths` of them; the last one is among them."""
    last = blocks - 1
    return sorted({last, *(int(place + 0.5) for place in np.linspace(last / 3, last, depths)[: depths - 1])})


def add_depths(
    network: keras.Model, names: Sequence[str], vector: keras.KerasTensor, feature_map: str
) -> keras.KerasTensor:
    """Joins the means of the feature maps of some layers of a network, and the vector of the last one.

    Layers that return tokens `(n, t, d)` are arranged as maps like those of the layer `feature_map`.
    """
    maps = [arrange(network.get_layer(name).output, network.get_layer(feature_map)) for name in names]
    means = [layers.GlobalAveragePooling2D(name=f"depth{number}_pool")(one) for number, one in enumerate(maps, start=1)]
    return layers.Concatenate(name=DEPTHS)([*means, vector])


def arrange(output: keras.KerasTensor, feature_map: layers.Layer) -> keras.KerasTensor:
    """Returns a map as it is, and tokens `(n, t, d)` as the layer of the feature map arranges them."""
    if len(output.shape) == 4:
        return output
    config = {name: value for name, value in feature_map.get_config().items() if name != "name"}
    return type(feature_map).from_config(config)(output)
