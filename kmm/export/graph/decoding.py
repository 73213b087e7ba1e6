"""What decoders of PNG and JPEG in the graph share: size limits, refusals, and searches in bytes."""

import tensorflow as tf

from kmm.export.graph.checks import refuse_unless
from kmm.image.limits import MAX_PIXELS, MIN_SIDE

DAMAGED = "The data inside is damaged, or memory is short."


def try_decode(operation, data, *refusal):
    """Decodes a file, and refuses the call with a text of our own where the operation fails.

    An operation that decodes cannot say which image of a batch it failed on: it runs within a data set of one element,
    which goes on without what fails.

    Args:
        operation: function of a string tensor `()`.
        data: string tensor `()`.
        refusal: strings and string tensors `()`, joined.

    Returns:
        what `operation` returns.
    """
    made = tf.data.Dataset.from_tensors(data).map(lambda data: (operation(data), True)).ignore_errors()
    like = made.element_spec[0]
    nothing = (tf.zeros([side or 0 for side in like.shape], like.dtype), False)
    made, whole = made.concatenate(tf.data.Dataset.from_tensors(nothing)).take(1).get_single_element()
    with tf.control_dependencies([refuse_unless(whole, *refusal)]):
        return tf.identity(made)


def require_size(height, width, name):
    """Refuses dots and bombs before they are decoded.

    Args:
        height, width: int64 tensors `()`.
        name: string tensor `()` or str. What refusals begin with.

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


def find_bytes(values, wanted):
    """Where a short sequence of bytes begins.

    Args:
        values: uint8 tensor `(n,)`.
        wanted: bytes.

    Returns:
        bool tensor `(max(n - len(wanted) + 1, 0),)`.
    """
    count = tf.maximum(tf.size(values) - len(wanted) + 1, 0)
    found = [tf.equal(values[place : place + count], byte) for place, byte in enumerate(wanted)]
    return tf.reduce_all(tf.stack(found), axis=0)
