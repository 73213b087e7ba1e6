"""Decoding and preparation of PNG and JPEG films in the graph, with the same results as `kmm.image`.

`kmm.image.read` and `kmm.image.prepare` define the gray levels and the resizing. Everything in a file's header is
checked before the file is decoded.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from kmm.export.graph.checks import refuse_unless
from kmm.export.graph.decoding import DAMAGED, find_bytes, require_size, try_decode
from kmm.export.graph.jpeg_film import decode_jpeg
from kmm.image.gray_levels import CALIBRATION, LEVELS, PERCENTILES, PNG_HEADER_BYTES, STEP
from kmm.image.prepare import ImagePreparation
from kmm.image.read import LUMA
from kmm.storage.file_kinds import JPEG_HEAD, PNG_HEAD

PNG_FIRST, PNG_END, PNG_TAIL = b"IHDR", b"IEND", 4096  # other bytes may follow the end
GRAY_TYPE, COLOUR_TYPES = 0, (2, 3, 6)  # PNG's numbers for gray without alpha; for RGB, a palette, RGB with alpha
STRIP_PIXELS = 2**20


def read_films(files: tf.Tensor, preparation: ImagePreparation) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes and prepares films.

    Args:
        files: string tensor `(n,)`, bytes of PNG or JPEG files; an empty string means no film.
        preparation: `ImagePreparation`.

    Returns:
        float32 `(n, pixels, pixels, 1)`, zeros where there is no film; int32 `(n, 4)`: top, left, height and width of
        the film in the square, zeros where there is none.
    """
    side = preparation.pixels
    empty = (tf.zeros((side, side, 1)), tf.zeros(4, tf.int32))
    prepare = partial(_prepare, preparation=preparation)

    def read(given):
        data, row = given
        name = tf.strings.join(["image ", tf.strings.as_string(row), ": "])
        return tf.cond(tf.equal(tf.strings.length(data), 0), lambda: empty, lambda: use_pixels(data, name, prepare))

    return tf.map_fn(
        read,
        (files, tf.range(tf.size(files))),
        fn_output_signature=(tf.TensorSpec((side, side, 1), tf.float32), tf.TensorSpec(4, tf.int32)),
        parallel_iterations=1,  # a film may have 50 million pixels
    )


def use_pixels(data: tf.Tensor, name: str | tf.Tensor, use: Callable[[tf.Tensor], Any]) -> Any:
    """Decodes one file and passes its pixels to a function in their stored type; float32 would take four times the
    memory of uint8.

    Args:
        data: string tensor `()`, bytes of a PNG or JPEG file.
        name: string tensor `()` or str. Beginning of error messages.
        use: function of the pixels: uint8 `(h, w, 1 or 3)`, gray or RGB, or float32 `(h, w, 1)`, gray levels 0..255
            of a 16-bit film. `mix_channels` converts both to gray levels.

    Returns:
        the result of `use`.
    """
    is_png, is_jpeg = (
        tf.equal(tf.strings.substr(data, 0, tf.minimum(tf.strings.length(data), len(head))), head)
        for head in (PNG_HEAD, JPEG_HEAD)
    )
    known = refuse_unless(is_png | is_jpeg, name, "expected a PNG or JPEG file. The content is neither.")
    with tf.control_dependencies([known]):
        data = tf.identity(data)

    def use_film(pixels):
        low, high = _find_range(pixels)
        with tf.control_dependencies(
            [refuse_unless(high - low >= 1, name, "expected a film. Every pixel is the same gray.")]
        ):
            return use(tf.identity(pixels))

    return tf.cond(is_png, lambda: _use_png(data, name, use_film), lambda: _use_jpeg(data, name, use_film))


def mix_channels(pixels: tf.Tensor) -> tf.Tensor:
    """Converts pixels to gray levels.

    Args:
        pixels: uint8 or float32 `(h, w, 1 or 3)`, gray or RGB.

    Returns:
        float32 `(h, w)`.
    """
    pixels = tf.cast(pixels, tf.float32)
    if pixels.shape[-1] == 1:
        return pixels[..., 0]
    return pixels[..., 0] * LUMA[0] + pixels[..., 1] * LUMA[1] + pixels[..., 2] * LUMA[2]


def _use_jpeg(data, name, use):
    pixels = decode_jpeg(data, name)
    return _use_either(tf.equal(tf.shape(pixels)[-1], 3), lambda channels: pixels, use)


def _use_either(colour, decode, use):
    """Passes RGB or gray pixels to a function, with a static number of channels.

    Args:
        colour: bool tensor `()`.
        decode: function of a number of channels, 3 or 1, that returns pixels `(h, w, channels)`.
        use: function of pixels.
    """

    def use_channels(channels):
        return use(tf.ensure_shape(decode(channels), (None, None, channels)))

    return tf.cond(colour, lambda: use_channels(3), lambda: use_channels(1))


def _use_png(data, name, use):
    long = tf.greater_equal(tf.strings.length(data), PNG_HEADER_BYTES)
    tail = tf.strings.substr(data, -tf.minimum(tf.strings.length(data), PNG_TAIL), PNG_TAIL)
    # The end marker is nearly always in the tail. Searching the whole file takes half as long as decoding it.
    ended = tf.cond(_holds(tail, PNG_END), lambda: True, lambda: _holds(data, PNG_END))
    with tf.control_dependencies([refuse_unless(long & ended, name, "expected a complete PNG file.")]):
        data = tf.identity(data)
    # libpng reads the size from the first chunk named IHDR, wherever it is.
    first = tf.equal(tf.strings.substr(data, 12, 4), PNG_FIRST)
    width, height = tf.unstack(tf.cast(_read(data, 16, tf.int32, 2), tf.int64), num=2)
    depth, kind = tf.unstack(tf.cast(_read(data, 24, tf.uint8, 2), tf.int32), num=2)
    deep = tf.equal(depth, 16)
    with tf.control_dependencies(
        [
            refuse_unless(first, name, "expected a PNG file whose header comes first."),
            *require_size(height, width, name),
            refuse_unless(~deep | tf.equal(kind, GRAY_TYPE), name, "expected 16 bits in gray images only."),
        ]
    ):
        data = tf.identity(data)
    refusal = (name, f"expected a whole PNG file. {DAMAGED}")
    colour = tf.reduce_any(tf.equal(kind, COLOUR_TYPES))

    def decode(channels):  # drops the alpha channel, which would take memory
        return try_decode(partial(tf.io.decode_png, channels=channels), data, *refusal)

    return tf.cond(
        deep,
        lambda: use(
            _scale_16_bits(
                try_decode(partial(tf.io.decode_png, channels=1, dtype=tf.uint16), data, *refusal),
                tf.equal(tf.strings.substr(data, PNG_HEADER_BYTES, len(CALIBRATION)), CALIBRATION),
            )
        ),
        lambda: _use_either(colour, decode, use),
    )


def _read(data, start, dtype, count):
    """Reads big-endian numbers from a file's header."""
    return tf.io.decode_raw(tf.strings.substr(data, start, count * dtype.size), dtype, little_endian=False)


def _holds(data, wanted):
    """Returns whether a string `()` contains a short sequence of bytes."""
    return tf.reduce_any(find_bytes(tf.io.decode_raw(data, tf.uint8), wanted))


def _fold_rows(function, start, pixels):
    """Folds a function over the strips of a film, so that intermediate results take little memory.

    Args:
        function: takes the state so far, a tuple of tensors, and a strip `(rows, w, c)`; returns the next state.
        start: tuple of tensors.
        pixels: tensor `(h, w, c)`.

    Returns:
        tuple of tensors.
    """
    height, width = tf.unstack(tf.shape(pixels)[:2], num=2)
    rows = tf.maximum(STRIP_PIXELS // width, 1)

    def walk(at, state):
        return at + rows, function(state, pixels[at : at + rows])

    return tf.while_loop(lambda at, _: at < height, walk, (tf.constant(0), start), parallel_iterations=1)[1]


def _find_range(pixels):
    """Finds the lowest and the highest gray level of a film."""

    def widen(found, strip):
        gray = mix_channels(strip)
        return tf.minimum(found[0], tf.reduce_min(gray)), tf.maximum(found[1], tf.reduce_max(gray))

    return _fold_rows(widen, (tf.constant(255.0), tf.constant(0.0)), pixels)


def _scale_16_bits(pixels, calibrated):
    """Scales uint16 `(h, w, 1)` to float32 `(h, w, 1)` as `kmm.image.gray_levels.scale_16_bits` does."""

    def count(found, strip):
        values = tf.cast(tf.reshape(strip, [-1]), tf.int32)
        return (found[0] + tf.math.bincount(values, minlength=LEVELS, maxlength=LEVELS),)

    (counts,) = _fold_rows(count, (tf.zeros(LEVELS, tf.int32),), pixels)
    holds_8_bits = tf.equal(tf.reduce_sum(counts[::STEP]), tf.size(pixels))
    low, high = _find_percentiles(counts)
    floor = tf.cast(low, tf.float32)
    scale = tf.cast(255 / tf.where(high > low, high - low, 1), tf.float32)
    # Each branch needs only one array of the film's size.
    return tf.case(
        [
            (calibrated | holds_8_bits, lambda: tf.cast(pixels, tf.float32) / STEP),
            (high > low, lambda: tf.clip_by_value((tf.cast(pixels, tf.float32) - floor) * scale, 0, 255)),
        ],
        default=lambda: 255 * tf.cast(tf.cast(pixels, tf.float32) > floor, tf.float32),
    )


def _find_percentiles(counts):
    """Finds two percentiles, float64 `()`, of counts, int32 `(65536,)`, as `kmm.image.gray_levels.find_percentiles`."""
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


def _round_levels(pixels):
    """Rounds pixels of `use_pixels` to gray levels uint8 `(h, w, 1)`, half to even, strip by strip to save memory."""
    if pixels.dtype == tf.uint8 and pixels.shape[-1] == 1:
        return pixels
    height, width = tf.unstack(tf.shape(pixels)[:2], num=2)
    rows = tf.maximum(STRIP_PIXELS // 4 // width, 1)  # narrow, as the rounded strips are in memory too
    count = (height + rows - 1) // rows
    strips = tf.TensorArray(tf.uint8, count, infer_shape=False, element_shape=(None, None))

    def walk(at, strips):
        levels = tf.round(mix_channels(pixels[at * rows : (at + 1) * rows]))
        return at + 1, strips.write(at, tf.cast(levels, tf.uint8))

    _, strips = tf.while_loop(lambda at, _: at < count, walk, (tf.constant(0), strips), parallel_iterations=1)
    return strips.concat()[..., None]


def _prepare(pixels, preparation):
    """Converts pixels of `use_pixels` to the square `(pixels, pixels, 1)` and the film's box in it."""
    side = preparation.pixels
    size = tf.cast(tf.shape(pixels)[:2], tf.int64)
    if preparation.fit == "stretch":
        height = width = tf.constant(side, tf.int64)
    else:  # the same as in `ImagePreparation.find_box`
        longest = tf.reduce_max(size)
        height, width = tf.unstack(tf.maximum(tf.constant(1, tf.int64), (2 * size * side + longest) // (2 * longest)))
    top, left = (side - height) // 2, (side - width) // 2
    whole = preparation.rounding == "uint8"
    # Resizing is linear, so unrounded channels are mixed afterwards, when there are fewer pixels. `resize` takes uint8.
    film = tf.image.resize(
        _round_levels(pixels) if whole else pixels, tf.cast(tf.stack([height, width]), tf.int32), antialias=True
    )
    film = tf.clip_by_value(mix_channels(film), 0, 255)[..., None]
    if whole:
        film = tf.round(film)  # half to even, as numpy.rint
    square = tf.pad(film, [[top, side - height - top], [left, side - width - left], [0, 0]])
    return tf.ensure_shape(square, (side, side, 1)), tf.cast(tf.stack([top, left, height, width]), tf.int32)
