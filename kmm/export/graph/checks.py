"""Checks of inputs inside the graph, because a server in C++ does not check shapes."""

from collections.abc import Mapping

import tensorflow as tf


def require_rows(good: tf.Tensor, noun: str, expected: str) -> list[tf.Operation]:
    """Rejects a batch with an invalid row, and names the first such row.

    Args:
        good: bool tensor `(n,)`, n >= 1.
        noun: str. The name of a row's content, for example `"image"`.
        expected: str. The expectation, as the rest of the message.

    Returns:
        list of one operation, for `tf.control_dependencies`. A failure reads `image 3: expected ...`.
    """
    row = tf.argmin(tf.cast(good, tf.int32))
    return [refuse_unless(tf.reduce_all(good), noun, " ", tf.strings.as_string(row), ": ", expected)]


def refuse_unless(good: tf.Tensor, *text: str | tf.Tensor) -> tf.Operation:
    """Rejects a call unless a condition holds.

    Args:
        good: bool tensor `()`.
        text: strings and string tensors `()`, joined as the message.

    Returns:
        an operation, for `tf.control_dependencies`.
    """
    return tf.debugging.Assert(good, [tf.strings.join([tf.convert_to_tensor(part) for part in text])])


def check_shape(value: tf.Tensor, name: str, shape: tuple[int | None, ...]) -> tf.Tensor:
    """Rejects a tensor of another shape.

    Args:
        value: tensor.
        name: str. Name of the input, for the message.
        shape: tuple of int; None for the batch axis.

    Returns:
        `value` with the static shape.
    """
    # The graph's optimizer trusts the declared shape and would drop a comparison of numbers.
    value = tf.raw_ops.PlaceholderWithDefault(input=value, shape=tf.TensorShape(None))
    came = tf.strings.reduce_join(tf.strings.as_string(tf.shape(value)), separator=",")
    pattern, expected = (
        ",".join(free if side is None else str(side) for side in shape) for free in ("[0-9]+", "batch")
    )
    fits = tf.strings.regex_full_match(came, pattern)
    with tf.control_dependencies(
        [refuse_unless(fits, f"{name}: expected the shape [{expected}]. Received: [", came, "]")]
    ):
        return tf.ensure_shape(tf.identity(value), shape)


def check_batch(tensors: Mapping[str, tf.Tensor], most: int) -> dict[str, tf.Tensor]:
    """Rejects inputs with unequal numbers of rows, a batch of too many rows, and an empty batch, on which TensorFlow's
    kernels fail.

    Args:
        tensors: dict of name to tensor with a batch axis.
        most: int. Largest number of rows.

    Returns:
        the same dict.
    """
    (first, value), *others = tensors.items()
    count = tf.shape(value)[0]
    came = tf.strings.as_string(count)
    checks = [refuse_unless((count > 0) & (count <= most), f"{first}: expected 1 to {most} rows. Received: ", came)]
    checks += [
        refuse_unless(
            tf.equal(tf.shape(other)[0], count),
            f"expected as many rows of {name} as of {first}. Received: ",
            tf.strings.as_string(tf.shape(other)[0]),
            " and ",
            came,
        )
        for name, other in others
    ]
    with tf.control_dependencies(checks):
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}
