"""Layers at which a functional model can be cut in two: everything after them follows from their output alone."""

from collections.abc import Iterator
from graphlib import TopologicalSorter
from typing import Any

import keras

Node = tuple[str, int]  # name of a layer or operation, and the number of the call


def list_cuts(model: keras.Model) -> list[str]:
    """Lists the layers at which a functional model can be cut.

    Args:
        model: `keras.Model` with one input.

    Returns:
        list of layer names in the order of the network, without input and outputs: each is called once, has one output,
        and every path from the input to an output leads through it.

    Example:
        >>> x = film = keras.Input((8, 8, 1))
        >>> x = keras.layers.Conv2D(2, 3, padding="same", name="conv")(x)
        >>> y = keras.layers.ReLU(name="relu")(x)
        >>> y = keras.layers.Add(name="sum")([x, y])
        >>> list_cuts(keras.Model(film, keras.layers.Flatten(name="flat")(y)))
        ['conv', 'sum']
    """
    config = model.get_config()
    parents: dict[Node, set[Node]] = {}
    for layer in config["layers"]:
        for call, node in enumerate(layer["inbound_nodes"] or [None]):
            parents[layer["name"], call] = set(list_parents(node))
    order = list(TopologicalSorter(parents).static_order())
    place = {node: number for number, node in enumerate(order)}
    last = dict.fromkeys(order, -1)  # the place of the last node that reads a node's output
    for node, read in parents.items():
        for parent in read:
            last[parent] = max(last[parent], place[node])
    outputs = set(_list_tensors(config["output_layers"]))
    for node in outputs:
        last[node] = len(order)
    layers = {layer.name: layer for layer in model.layers}
    cuts: list[str] = []
    waiting: set[Node] = set()
    for number, node in enumerate(order):
        waiting = {one for one in waiting if last[one] > number} | {node}
        name, _ = node
        single = parents[node] and (name, 1) not in parents and node not in outputs
        if waiting == {node} and single and name in layers and not isinstance(layers[name].output, dict | list | tuple):
            cuts.append(name)
    return cuts


def list_parents(node: Any) -> Iterator[Node]:
    """Yields the calls whose outputs are arguments of a call, as Keras writes them into a configuration."""
    if isinstance(node, dict):
        if node.get("class_name") == "__keras_tensor__":
            name, call, _ = node["config"]["keras_history"]
            yield name, call
        else:
            for value in node.values():
                yield from list_parents(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from list_parents(value)


def _list_tensors(outputs: Any) -> Iterator[Node]:
    """Yields the calls of a nested structure of `[name, call, tensor]`."""
    if isinstance(outputs, dict):
        outputs = list(outputs.values())
    if outputs and isinstance(outputs[0], str):
        yield outputs[0], outputs[1]
    else:
        for one in outputs:
            yield from _list_tensors(one)
