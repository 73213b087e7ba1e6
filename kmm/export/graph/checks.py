"""Refusals inside a graph: a server in C++ checks no shapes, so the graph says what it expected and what came."""

import tensorflow as tf


def require_rows(good, noun, expected):
    """Refuses a batch of which a row is not as expected, and says which.

    Args:
        good: bool tensor `(n,)`, n >= 1.
        noun: str. What a row is, for example `"image"`.
        expected: str.

    Returns:
        list of one operation, for `tf.control_dependencies`. A failure reads `image 3: expected ...`.
    """
    row = tf.argmin(tf.cast(good, tf.int32))
    return [refuse_unless(tf.reduce_all(good), noun, " ", tf.strings.as_string(row), ": ", expected)]


def refuse_unless(good, *text):
    """Refuses a call.

    Args:
        good: bool tensor `()`.
        text: strings and string tensors `()`, joined.

    Returns:
        an operation.
    """
    return tf.debugging.Assert(good, [tf.strings.join([tf.convert_to_tensor(part) for part in text])])


def check_shape(value, name, shape):
    """Refuses a tensor of another shape.

    Args:
        value: tensor.
        name: str.
        shape: tuple of int; None stands for the batch.

    Returns:
        `value` with the static shape.
    """
    # The graph's optimizer takes the declared shape for the truth: it would drop a comparison of numbers.
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


def check_batch(tensors, most):
    """Refuses inputs of unequal length, a batch that would take too long or too much memory, and one without a row, for
    which TensorFlow's kernels are not made.

    Args:
        tensors: dict of name to tensor with a batch axis.
        most: int. Rows at most.

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
