"""Bytes of PNG and JPEG files to prepared films, in the graph: the numbers of `kmm.image`.

One definition of gray and of resizing on both sides: see `kmm.image.read` and `kmm.image.prepare`. All that a file's
frame tells is checked before it is decoded.
"""

from functools import partial

import tensorflow as tf

from kmm.export.checks import require
from kmm.export.decoding import DAMAGED, find_bytes, require_size, try_decode
from kmm.export.jpeg_film import decode_jpeg
from kmm.image.gray_levels import CALIBRATION, LEVELS, PERCENTILES, PNG_HEADER_BYTES, STEP
from kmm.image.jpeg import JPEG_HEAD
from kmm.image.read import LUMA

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
PNG_END, PNG_TAIL = b"IEND", 4096  # other bytes may follow the end
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
    film = tf.cond(is_png, lambda: _decode_png(data, name), lambda: _to_gray(decode_jpeg(data, name)))
    low, high = tf.reduce_min(film), tf.reduce_max(film)
    with tf.control_dependencies([require(high - low >= 1, name, "expected a film. Every pixel is the same gray.")]):
        return tf.identity(film)


def _decode_png(data, name):
    long = tf.greater_equal(tf.strings.length(data), PNG_HEADER_BYTES)
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
            *require_size(height, width, name),
            require(~deep | tf.equal(kind, GRAY_TYPE), name, "expected 16 bits in gray images only."),
        ]
    ):
        data = tf.identity(data)
    refusal = (name, f"expected a whole PNG file. {DAMAGED}")
    return tf.cond(
        deep,
        lambda: _scale_16_bits(
            try_decode(partial(tf.io.decode_png, channels=1, dtype=tf.uint16), data, *refusal),
            tf.equal(tf.strings.substr(data, PNG_HEADER_BYTES, len(CALIBRATION)), CALIBRATION),
        ),
        lambda: _to_gray(try_decode(tf.io.decode_png, data, *refusal)),
    )


def _read(data, start, dtype, count):
    """Numbers of a file's header, the most significant byte first."""
    return tf.io.decode_raw(tf.strings.substr(data, start, count * dtype.size), dtype, little_endian=False)


def _holds(data, wanted):
    """Whether a string `()` holds a short sequence of bytes."""
    return tf.reduce_any(find_bytes(tf.io.decode_raw(data, tf.uint8), wanted))


def _to_gray(pixels):
    """uint8 `(h, w, 1..4)` -> float32 `(h, w)`; alpha is ignored."""
    pixels = tf.cast(pixels, tf.float32)

    def mix():
        return pixels[..., 0] * LUMA[0] + pixels[..., 1] * LUMA[1] + pixels[..., 2] * LUMA[2]

    return tf.cond(tf.shape(pixels)[-1] >= 3, mix, lambda: pixels[..., 0])


def _scale_16_bits(pixels, calibrated):
    """uint16 `(h, w, 1)` -> float32 `(h, w)`: as `kmm.image.gray_levels.scale_16_bits`."""
    counts = tf.math.bincount(tf.cast(tf.reshape(pixels, [-1]), tf.int32), minlength=LEVELS, maxlength=LEVELS)
    holds_8_bits = tf.equal(tf.reduce_sum(counts[::STEP]), tf.size(pixels))
    values = tf.cast(pixels[..., 0], tf.float32)

    def stretch():
        low, high = _find_percentiles(counts)
        scale = tf.cast(255 / tf.where(high > low, high - low, 1), tf.float32)
        gray = tf.clip_by_value((values - tf.cast(low, tf.float32)) * scale, 0, 255)
        return tf.where(high > low, gray, tf.where(values > tf.cast(low, tf.float32), 255.0, 0.0))

    return tf.cond(calibrated | holds_8_bits, lambda: values / STEP, stretch)


def _find_percentiles(counts):
    """int32 `(65536,)` -> two float64 `()`: as `kmm.image.gray_levels.find_percentiles`."""
    below = tf.cumsum(counts)
    last, found = below[-1] - 1, []
    for percent in PERCENTILES:
        place = tf.cast(last, tf.float64) * (percent / 100)
        rank = tf.cast(place, tf.int32)
        ranks = tf.stack([rank, tf.minimum(rank + 1, last)])
        first, second = tf.unstack(tf.cast(tf.searchsorted(below, ranks, side="right"), tf.float64))
        gap, part = second - first, place - tf.cast(rank, tf.float64)
        found.append(tf.where(part < 0.5, first + gap * part, second - gap * (1 - part)))
    return found


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
