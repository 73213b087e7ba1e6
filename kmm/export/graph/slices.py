"""Slicing of long batches in the graph, so that the memory of a call does not grow with its rows."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

MOST_AT_ONCE = 64  # rows
SLICE_BYTES = 2**26  # of the largest output of a layer; a call needs about ten times as much


def wrap_slices(function: Callable[..., tuple], model: keras.Model) -> Callable[..., tuple]:
    """Limits the number of rows that a function of tensors receives at once, by the size of the model's layers.

    Args:
        function: takes tensors with a batch axis and returns a tuple of float32 tensors.
        model: `keras.Model` that `function` calls. Its outputs `logits` and `features` have the same shapes.

    Returns:
        a function with the same arguments and results, for one row or more.
    """
    rows = count_rows(model)
    shapes = [model.output[name].shape for name in ("logits", "features")]

    def sliced(*values):
        count = tf.shape(values[0])[0]
        rounds = (count + rows - 1) // rows
        arrays = [tf.TensorArray(tf.float32, rounds, infer_shape=False, element_shape=shape) for shape in shapes]

        def walk(place, *kept):
            found = function(*(value[place * rows : (place + 1) * rows] for value in values))
            return place + 1, *(array.write(place, part) for array, part in zip(kept, found, strict=True))

        _, *arrays = tf.while_loop(
            lambda place, *_: place < rounds, walk, (tf.constant(0), *arrays), parallel_iterations=1
        )
        return tuple(tf.ensure_shape(array.concat(), shape) for array, shape in zip(arrays, shapes, strict=True))

    return sliced


def count_rows(model: keras.Model) -> int:
    """Returns the number of rows that a `keras.Model` receives at once: 20 for DenseNet121 at 224 pixels."""
    return int(np.clip(SLICE_BYTES // _find_largest(model), 1, MOST_AT_ONCE))


def _find_largest(model):
    """Returns the bytes per row of the largest float32 output of a layer."""
    largest = 4
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            largest = max(largest, _find_largest(layer))
        else:
            outputs = keras.tree.flatten(layer.output)
            largest = max(largest, *(4 * int(np.prod(tensor.shape[1:])) for tensor in outputs))
    return largest
