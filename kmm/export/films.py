"""Bytes of PNG and JPEG files to prepared films, in the graph: the numbers of `kmm.image`.

One definition of gray and of resizing on both sides: see `kmm.image.read` and `kmm.image.prepare`. All that a file's
frame tells is checked before it is decoded. An operation that decodes cannot say which image of a batch it failed on:
it runs within a data set of one element, which goes on without what fails.
"""

from functools import partial

import numpy as np
import tensorflow as tf

from kmm.export.checks import require
from kmm.image.limits import MAX_PIXELS, MIN_SIDE
from kmm.image.read import LUMA

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
JPEG_HEAD = b"\xff\xd8\xff"
PNG_FRAME = 33  # bytes of the signature and the header of a PNG file
PNG_END, PNG_TAIL = b"IEND", 4096  # other bytes may follow the end
DAMAGED = "The data inside is damaged, or memory is short."
GRAY_TYPE = 0  # PNG's number for gray without alpha


def read_films(files, preparation):
    """Decodes and prepares films.

    Args:
        files: string tensor `(n,)`, bytes of PNG or JPEG files; empty: no film.
        preparation: `ImagePreparation`.

    Returns:
        float32 `(n, pixels, pixels, 1)`, zeros where there is no film; int32 `(n, 4)`: top, left, height and width of
        the film in the square, zeros where there is none.
    """
    side = preparation.pixels
    empty = (tf.zeros((side, side, 1)), tf.zeros(4, tf.int32))

    def read(given):
        data, row = given
        name = tf.strings.join(["image ", tf.strings.as_string(row), ": "])
        return tf.cond(
            tf.equal(tf.strings.length(data), 0), lambda: empty, lambda: _prepare(decode_film(data, name), preparation)
        )

    return tf.map_fn(
        read,
        (files, tf.range(tf.size(files))),
        fn_output_signature=(tf.TensorSpec((side, side, 1), tf.float32), tf.TensorSpec(4, tf.int32)),
        parallel_iterations=1,  # a film may have 50 million pixels
    )


def decode_film(data, name):
    """Decodes one file.

    Args:
        data: string tensor `()`, bytes of a PNG or JPEG file.
        name: string tensor `()` or str. What refusals begin with.

    Returns:
        float32 `(h, w)`, gray levels 0..255.
    """
    is_png, is_jpeg = (
        tf.equal(tf.strings.substr(data, 0, tf.minimum(tf.strings.length(data), len(head))), head)
        for head in (PNG_HEAD, JPEG_HEAD)
    )
    known = require(is_png | is_jpeg, name, "expected a PNG or JPEG file. The content is neither.")
    with tf.control_dependencies([known]):
        data = tf.identity(data)
    film = tf.cond(is_png, lambda: _decode_png(data, name), lambda: _decode_jpeg(data, name))
    low, high = tf.reduce_min(film), tf.reduce_max(film)
    with tf.control_dependencies([require(high - low >= 1, name, "expected a film. Every pixel is the same gray.")]):
        return tf.identity(film)


def _decode_png(data, name):
    long = tf.greater_equal(tf.strings.length(data), PNG_FRAME)
    tail = tf.strings.substr(data, -tf.minimum(tf.strings.length(data), PNG_TAIL), PNG_TAIL)
    # The end stands nearly always in the tail. To look through a whole file takes half as long as to decode it.
    ended = tf.cond(_holds(tail, PNG_END), lambda: True, lambda: _holds(data, PNG_END))
    with tf.control_dependencies([require(long & ended, name, "expected a complete PNG file.")]):
        data = tf.identity(data)
    width, height = tf.unstack(tf.cast(_read(data, 16, tf.int32, 2), tf.int64), num=2)
    depth, kind = tf.unstack(tf.cast(_read(data, 24, tf.uint8, 2), tf.int32), num=2)
    deep = tf.equal(depth, 16)
    with tf.control_dependencies(
        [
            *_check_size(height, width, name),
            require(~deep | tf.equal(kind, GRAY_TYPE), name, "expected 16 bits in gray images only."),
        ]
    ):
        data = tf.identity(data)
    refusal = (name, f"expected a whole PNG file. {DAMAGED}")
    return tf.cond(
        deep,
        lambda: _spread(_decode(partial(tf.io.decode_png, channels=1, dtype=tf.uint16), data, *refusal)),
        lambda: _to_gray(_decode(tf.io.decode_png, data, *refusal)),
    )


def _decode_jpeg(data, name):
    refusal = (name, f"expected a whole JPEG file. {DAMAGED}")
    # The mark of the end cannot stand in compressed data: without one the file ends early.
    with tf.control_dependencies([require(_holds(data, b"\xff\xd9"), name, "expected a complete JPEG file.")]):
        height, width, channels = tf.unstack(
            tf.cast(_decode(tf.io.extract_jpeg_shape, data, *refusal), tf.int64), num=3
        )
    with tf.control_dependencies(
        [*_check_size(height, width, name), require(channels <= 3, name, "expected gray or RGB. Received: CMYK.")]
    ):
        data = tf.identity(data)
    return _to_gray(_decode(partial(tf.io.decode_jpeg, dct_method="INTEGER_ACCURATE"), data, *refusal))


def _decode(operation, data, *refusal):
    """What an operation makes of a file; where it fails, the call is refused with a text of our own."""
    made = tf.data.Dataset.from_tensors(data).map(lambda data: (operation(data), True)).ignore_errors()
    like = made.element_spec[0]
    nothing = (tf.zeros([side or 0 for side in like.shape], like.dtype), False)
    made, whole = made.concatenate(tf.data.Dataset.from_tensors(nothing)).take(1).get_single_element()
    with tf.control_dependencies([require(whole, *refusal)]):
        return tf.identity(made)


def _check_size(height, width, name):
    """Refuses dots and bombs before they are decoded."""
    came = tf.strings.join([tf.strings.as_string(width), "x", tf.strings.as_string(height)])
    return [
        require(
            tf.minimum(height, width) >= MIN_SIDE,
            name,
            f"expected an image of at least {MIN_SIDE}x{MIN_SIDE} pixels. Received: ",
            came,
        ),
        require(
            (height <= MAX_PIXELS) & (width <= MAX_PIXELS) & (height * width <= MAX_PIXELS),
            name,
            f"expected at most {MAX_PIXELS} pixels. Received: ",
            came,
        ),
    ]


def _read(data, start, dtype, count):
    """Numbers of a file's header, the most significant byte first."""
    return tf.io.decode_raw(tf.strings.substr(data, start, count * dtype.size), dtype, little_endian=False)


def _holds(data, wanted):
    """Whether a string `()` holds a short sequence of bytes."""
    values = tf.io.decode_raw(data, tf.uint8)
    count = tf.maximum(tf.size(values) - len(wanted) + 1, 0)
    found = [tf.equal(values[place : place + count], byte) for place, byte in enumerate(wanted)]
    return tf.reduce_any(tf.reduce_all(tf.stack(found), axis=0))


def _to_gray(pixels):
    """uint8 `(h, w, 1..4)` -> float32 `(h, w)`; alpha is ignored."""
    pixels = tf.cast(pixels, tf.float32)

    def mix():
        return pixels[..., 0] * LUMA[0] + pixels[..., 1] * LUMA[1] + pixels[..., 2] * LUMA[2]

    return tf.cond(tf.shape(pixels)[-1] >= 3, mix, lambda: pixels[..., 0])


def _spread(pixels):
    """uint16 `(h, w, 1)` -> float32 `(h, w)`."""
    pixels = tf.cast(pixels[..., 0], tf.float32)
    low, high = tf.reduce_min(pixels), tf.reduce_max(pixels)
    return (pixels - low) * (np.float32(255) / tf.maximum(high - low, 1))


def _prepare(film, preparation):
    """Gray levels `(h, w)` -> the square `(pixels, pixels, 1)` and the film's box in it."""
    side = preparation.pixels
    size = tf.cast(tf.shape(film), tf.int64)
    if preparation.fit == "stretch":
        height = width = tf.constant(side, tf.int64)
    else:  # as `ImagePreparation.find_box`
        longest = tf.reduce_max(size)
        height, width = tf.unstack(tf.maximum(tf.constant(1, tf.int64), (2 * size * side + longest) // (2 * longest)))
    top, left = (side - height) // 2, (side - width) // 2
    film = tf.image.resize(film[..., None], tf.cast(tf.stack([height, width]), tf.int32), antialias=True)
    film = tf.clip_by_value(film, 0, 255)
    square = tf.pad(film, [[top, side - height - top], [left, side - width - left], [0, 0]])
    return tf.ensure_shape(square, (side, side, 1)), tf.cast(tf.stack([top, left, height, width]), tf.int32)
