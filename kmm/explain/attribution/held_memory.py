"""Memory that a point of a path holds for the gradient, counted layer by layer.

A gradient reads what the layers keep of the forward pass: as a rule each layer's output, which the next layer reads.
Layers that keep more are counted with more:

- layers of Keras: by the functions registered with `count_extra_bytes`;
- any other layer says so itself, by a method `path_point_bytes(outputs)` from the bytes of its outputs for one study to
  the bytes that it keeps for one study, outputs included.
"""

import functools
import re
from math import prod
from typing import Any

import keras
from keras import layers

from kmm.explain.attribution.gradients import keeps_copies
from kmm.models.views.joined_cut import OnViews

FLOAT, INDEX = 4, 8  # bytes of a float32 and of a place in a pooling window on torch
# What activations keep beside their output, as a multiple of it, on the backend that keeps most. Inside a layer that is
# also their input.
ACTIVATIONS = {
    **{"gelu": 3.0, "gelu_tanh": 6.0, "silu": 3.0, "hard_silu": 3.25, "elu": 2.5, "selu": 2.5, "mish": 4.0},
    "tanh": 2.0,
}
GATES = 12  # values that a recurrent layer keeps per step and unit


def count_point_bytes(model: keras.Model) -> float:
    """Counts the memory that the gradient of a model needs for one study.

    Args:
        model: functional `keras.Model`.

    Returns:
        float. Bytes of its inputs, and of what its layers and the operations of `keras.ops` between them keep.

    Example:
        >>> rows = keras.Input((10, 4))
        >>> count_point_bytes(keras.Model(rows, layers.ReLU()(rows)))
        320.0
        >>> count_point_bytes(keras.Model(rows, layers.LayerNormalization()(rows)))
        720.0
    """
    return count_bytes(model.inputs) + _count_layers(model)


def _count_layers(model):
    calls = {layer["config"]["name"]: len(layer.get("inbound_nodes", ())) for layer in model.get_config()["layers"]}
    total = 0.0
    for operation in getattr(model, "operations", model.layers):  # a `Sequential` has only layers
        if not isinstance(operation, layers.InputLayer):
            total += max(calls[operation.name], 1) * _count_call(operation)
    return total


def _count_call(operation):
    """Counts the bytes that one call of a layer keeps, outputs included."""
    if isinstance(operation, keras.Model):
        return _count_layers(operation)
    outputs = count_bytes(operation.output)
    if hasattr(operation, "path_point_bytes"):
        return operation.path_point_bytes(outputs)
    return outputs + count_extra_bytes(operation) + _count_copies(operation)


@functools.singledispatch
def count_extra_bytes(layer: Any) -> float:
    """Counts the bytes that a layer keeps beside its output, for one study. By type of layer, for those of Keras."""
    name = getattr(getattr(layer, "activation", None), "__name__", None)
    name = name or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()  # of an operation: `Gelu`
    return ACTIVATIONS[name] * count_bytes(layer.output) if name in ACTIVATIONS else 0.0


@count_extra_bytes.register(OnViews)
def _of_views(layer):
    """Of a model that runs on each view of a film: all that it keeps, for each view."""
    return layer.views * count_point_bytes(layer.network)


@count_extra_bytes.register(layers.LayerNormalization)
@count_extra_bytes.register(layers.RMSNormalization)
@count_extra_bytes.register(layers.UnitNormalization)
@count_extra_bytes.register(layers.GroupNormalization)
def _of_normalization(layer):
    """Of a normalisation by the input's own statistics: centred, scaled, and their squares."""
    return 2.5 * count_bytes(layer.output)


@count_extra_bytes.register(layers.PReLU)
@count_extra_bytes.register(layers.ELU)
def _of_activation(layer):
    return 1.5 * count_bytes(layer.output)


@count_extra_bytes.register(layers.MultiHeadAttention)
def _of_attention(layer):
    """Of attention: twice the weights `(heads, queries, keys)`, and the projections of query, key, value and result."""
    return _count_attention(layer, layer.num_heads, max(layer.key_dim, layer.value_dim))


@count_extra_bytes.register(layers.GroupQueryAttention)
def _of_grouped_attention(layer):
    return _count_attention(layer, layer.num_query_heads, layer.head_dim)


@count_extra_bytes.register(layers.Attention)
@count_extra_bytes.register(layers.AdditiveAttention)
def _of_plain_attention(layer):
    return _count_attention(layer, 1, _read_shapes(layer)[0][-1])


@count_extra_bytes.register(layers.GRU)
@count_extra_bytes.register(layers.LSTM)
@count_extra_bytes.register(layers.SimpleRNN)
def _of_recurrence(layer):
    """Of a recurrent layer: its gates at each step."""
    return GATES * FLOAT * _read_shapes(layer)[0][1] * layer.units


@count_extra_bytes.register(layers.Bidirectional)
def _of_both_directions(layer):
    return 2 * GATES * FLOAT * _read_shapes(layer)[0][1] * layer.forward_layer.units


def _count_attention(layer, heads, size):
    queries, keys = (prod(shape[1:-1]) for shape in _read_shapes(layer)[:2])
    return FLOAT * heads * (2 * queries * keys + 2 * (queries + keys) * size)


def _count_copies(layer):
    """Counts what convolutions and poolings keep where Keras gives them a copy of their input in another layout."""
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None)
    if window is None or not keeps_copies():
        return 0.0
    shape = _read_shapes(layer)[0]
    sides = [side + size - 1 for side, size in zip(shape[1:-1], window)]  # padded
    copies = FLOAT * prod(sides) * shape[-1]
    if isinstance(layer, layers.MaxPooling1D | layers.MaxPooling2D | layers.MaxPooling3D):
        copies = copies * (1 + (layer.padding == "same")) + INDEX / FLOAT * count_bytes(layer.output)
    if isinstance(layer, layers.SeparableConv1D | layers.SeparableConv2D):
        copies *= 1 + layer.depth_multiplier
    return copies


def count_bytes(tensors: Any) -> float:
    """Counts the bytes of tensors of one study, in a nested dict, list or tuple."""
    return float(sum(FLOAT * prod(tensor.shape[1:]) for tensor in keras.tree.flatten(tensors)))


def _read_shapes(layer):
    return [tensor.shape for tensor in keras.tree.flatten(layer.input)]
