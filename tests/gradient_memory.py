"""Bytes that a gradient keeps of the forward pass, counted exactly on each backend."""

import keras
import numpy as np


def count_held_bytes(model, inputs):
    """Counts the memory that the gradient of a model's summed output needs for one more row of inputs.

    Args:
        model: `keras.Model` with a dict of inputs.
        inputs: dict of name to float array with at least three rows. The gradient is taken of all of them.

    Returns:
        float. Bytes per row of the intermediate results that the forward pass keeps for the backward pass. Weights and
        other arrays whose size does not depend on the number of rows are left out.
    """
    count = {"tensorflow": _count_in_tensorflow, "jax": _count_in_jax, "torch": _count_in_torch}
    few, many = (
        count[keras.backend.backend()](model, {name: value[:rows] for name, value in inputs.items()}) for rows in (1, 3)
    )
    return (many - few) / 2


def _count_in_tensorflow(model, inputs):
    """Sums the outputs of forward operations that backward operations read, in the graph of both."""
    import tensorflow as tf

    forward = []

    def differentiate(given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            total = tf.reduce_sum(model(given, training=False))
        forward.extend(tf.compat.v1.get_default_graph().get_operations())
        return tape.gradient(total, given, unconnected_gradients="zero")

    given = {name: tf.constant(value) for name, value in inputs.items()}
    graph = tf.function(differentiate, autograph=False).get_concrete_function(given).graph
    early = set(forward)
    held = {
        tensor.name: tensor.dtype.size * int(np.prod(tensor.shape.as_list()))
        for operation in graph.get_operations()
        if operation not in early and operation.type not in ("Shape", "ShapeN", "Size", "Rank")  # shapes are constants
        for tensor in operation.inputs
        if tensor.op in early
    }
    return sum(held.values())


def _count_in_jax(model, inputs):
    """Sums the arrays inside the function that carries a gradient back."""
    import jax

    def total(given):
        return model(given, training=False).sum()

    _, pull_back = jax.vjp(total, {name: jax.numpy.asarray(value) for name, value in inputs.items()})
    arrays = {id(leaf): leaf.nbytes for leaf in jax.tree.leaves(pull_back) if hasattr(leaf, "nbytes")}
    return sum(arrays.values())


def _count_in_torch(model, inputs):
    """Sums the storages that autograd saves."""
    import torch

    held = {}

    def save(tensor):
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    given = {name: torch.tensor(value, requires_grad=True) for name, value in inputs.items()}
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        model(given, training=False).sum().backward()
    return sum(held.values())
