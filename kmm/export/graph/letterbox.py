"""Boxes of films in their squares, in the graph, so that the bars of the letterbox get no attribution."""

import tensorflow as tf


def find_boxes(squares: tf.Tensor, fit: str) -> tf.Tensor:
    """Finds films in prepared squares when the graph does not know the size of the films.

    The bars that `kmm.image.prepare` adds are 0, on two opposite sides, and differ in width by at most one pixel. The
    widest such bars are assumed. Edges of the film itself that are 0 throughout may therefore count as bars; they do
    not for `explain_bytes` and `kmm explain`, which know the size of the film.

    Args:
        squares: float32 `(n, side, side, 1)`.
        fit: str, as in `kmm.image.prepare.ImagePreparation`; with `"stretch"` there are no bars.

    Returns:
        int32 `(n, 4)`: top, left, height and width; the whole square where it is all 0.
    """
    side = squares.shape[1]
    whole = tf.tile([[0, 0, side, side]], [tf.shape(squares)[0], 1])
    if fit == "stretch":
        return whole
    bars = [_measure_bars(tf.reduce_any(squares != 0, axis=(axis, 3)), side) for axis in (2, 1)]
    rows = bars[0] >= bars[1]
    top, left = tf.where(rows, bars[0], 0), tf.where(rows, 0, bars[1])
    return tf.stack([top // 2, left // 2, side - top, side - left], axis=1)


def _measure_bars(filled, side):
    """Measures the width of both bars together, `(n,)`, from the lines with a pixel above 0, `(n, side)`. The second
    bar may be one pixel wider than the first."""
    filled = tf.cast(filled, tf.int32)
    before = tf.argmax(filled, axis=1, output_type=tf.int32)
    behind = tf.argmax(tf.reverse(filled, [1]), axis=1, output_type=tf.int32)
    return tf.minimum(2 * before + 1, 2 * behind)


def mask_letterbox(boxes: tf.Tensor, side: int) -> tf.Tensor:
    """Marks the pixels of films in their squares.

    Args:
        boxes: int32 `(n, 4)`: top, left, height and width.
        side: int.

    Returns:
        bool `(n, side, side, 1)`.
    """
    top, left, height, width = tf.unstack(boxes[:, :, None], axis=1)
    places = tf.range(side)[None]
    rows, columns = ((places >= first) & (places < first + size) for first, size in ((top, height), (left, width)))
    return (rows[:, :, None] & columns[:, None, :])[..., None]
