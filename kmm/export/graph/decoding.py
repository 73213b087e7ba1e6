"""Common parts of the PNG and JPEG decoders in the graph: size limits, error messages, and searches in bytes."""

from collections.abc import Callable

import tensorflow as tf

from kmm.export.graph.checks import refuse_unless
from kmm.image.limits import MAX_PIXELS, MIN_SIDE

DAMAGED = "The data inside is damaged, or memory is short."


def try_decode(operation: Callable[[tf.Tensor], tf.Tensor], data: tf.Tensor, *refusal: str | tf.Tensor) -> tf.Tensor:
    """Decodes a file; if the operation fails, rejects the call with kmm's own message.

    TensorFlow's own message does not say which image of a batch failed. So the operation runs inside a data set of one
    element that ignores errors, and an empty data set means that it failed.

    Args:
        operation: function of a string tensor `()`.
        data: string tensor `()`.
        refusal: strings and string tensors `()`, joined as the message.

    Returns:
        the result of `operation`.
    """
    made = tf.data.Dataset.from_tensors(data).map(lambda data: (operation(data), True)).ignore_errors()
    like = made.element_spec[0]
    nothing = (tf.zeros([side or 0 for side in like.shape], like.dtype), False)
    made, whole = made.concatenate(tf.data.Dataset.from_tensors(nothing)).take(1).get_single_element()
    with tf.control_dependencies([refuse_unless(whole, *refusal)]):
        return tf.identity(made)


def require_size(height: tf.Tensor, width: tf.Tensor, name: str | tf.Tensor) -> list[tf.Operation]:
    """Rejects images that are too small or too large before they are decoded.

    Args:
        height, width: int64 tensors `()`.
        name: string tensor `()` or str. Beginning of the messages.

    Returns:
        list of operations, for `tf.control_dependencies`.
    """
    came = tf.strings.join([tf.strings.as_string(width), "x", tf.strings.as_string(height)])
    return [
        refuse_unless(
            tf.minimum(height, width) >= MIN_SIDE,
            name,
            f"expected an image of at least {MIN_SIDE}x{MIN_SIDE} pixels. Received: ",
            came,
        ),
        refuse_unless(
            (height <= MAX_PIXELS) & (width <= MAX_PIXELS) & (height * width <= MAX_PIXELS),
            name,
            f"expected at most {MAX_PIXELS} pixels. Received: ",
            came,
        ),
    ]


def find_bytes(values: tf.Tensor, wanted: bytes) -> tf.Tensor:
    """Marks the positions at which a short sequence of bytes begins.

    Args:
        values: uint8 tensor `(n,)`.
        wanted: bytes.

    Returns:
        bool tensor `(max(n - len(wanted) + 1, 0),)`.
    """
    count = tf.maximum(tf.size(values) - len(wanted) + 1, 0)
    found = [tf.equal(values[place : place + count], byte) for place, byte in enumerate(wanted)]
    return tf.reduce_all(tf.stack(found), axis=0)
