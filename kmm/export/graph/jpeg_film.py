"""Decoding of JPEG films in the graph, with all detection of damage that TensorFlow's core operations allow.

`tf.io.decode_jpeg` fails if the file ends early, but not if bytes are missing in the middle: libjpeg then warns and
leaves the rest of the film gray. `kmm.image.jpeg`, and thus the client and `kmm serve`, catch those warnings; the graph
cannot. The graph rejects a file

- whose first scan ends before the last block: that block then has exactly gray level 128, and other bytes at the end of
  the scan change it;
- whose first scan continues after the last block, for example because the header states too small a size: removing the
  end of the scan then does not change the last block;
- whose first scan has more or fewer restart markers than its size requires.

It does not detect altered bytes, bytes missing within any restart interval but the last, or bytes missing in a later
scan of a progressive file.
"""

from functools import partial

import tensorflow as tf

from kmm.export.graph.checks import refuse_unless
from kmm.export.graph.decoding import DAMAGED, require_size, try_decode
from kmm.image.jpeg import ALONE, EOI, NO_FRAME, SOS, UNSUPPORTED

DRI, LAST_HUFFMAN = 0xDD, 0xC2  # baseline, extended and progressive
FILL = 128  # gray level of blocks that the data lacks
OTHER = b"\x55" * 4  # inserted after the last block; few enough bytes for libjpeg to read them without a warning
END, MOST_PADDING = 64, 4096  # last bytes of a scan, which must include its last block; most zeros after it
EMPTY = -1


def decode_jpeg(data: tf.Tensor, name: str | tf.Tensor) -> tf.Tensor:
    """Decodes one JPEG file.

    Args:
        data: string tensor `()`, bytes of the file.
        name: string tensor `()` or str. Beginning of error messages.

    Returns:
        uint8 tensor `(h, w, 1 or 3)`.
    """
    refusal = (name, f"expected a whole JPEG file. {DAMAGED}")
    values = tf.io.decode_raw(data, tf.uint8)
    frame, scan, interval = _find_header(values)
    with tf.control_dependencies([refuse_unless((frame > 0) & (scan > 0), *refusal)]):
        values = tf.identity(values)
    places, followers = _find_marks(values, scan + 2)
    # Compressed data cannot contain the end marker, so a file without one ends early.
    ended = tf.reduce_any(tf.equal(followers, EOI))
    ends_scan = ~(tf.equal(followers, 0) | tf.equal(followers, 0xFF) | _is_restart(followers))
    end = tf.concat([tf.boolean_mask(places, ends_scan), [scan + 2]], 0)[0]
    kind, bits, components = (tf.cast(values[frame + place], tf.int32) for place in (1, 4, 9))
    height, width = _read_16(values, frame + 5), _read_16(values, frame + 7)
    lossy = tf.reduce_all(kind != tf.constant(list(UNSUPPORTED)))
    with tf.control_dependencies(
        [
            refuse_unless(ended, name, "expected a complete JPEG file."),
            refuse_unless(
                lossy, name, "expected a baseline or progressive JPEG. Received: another kind; convert it to PNG."
            ),
            refuse_unless(tf.equal(bits, 8), name, "expected a JPEG of 8 bits. Received: ", tf.strings.as_string(bits)),
            *require_size(tf.cast(height, tf.int64), tf.cast(width, tf.int64), name),
            refuse_unless(components <= 3, name, "expected gray or RGB. Received: CMYK."),
        ]
    ):
        data = tf.identity(data)
    decode = partial(tf.io.decode_jpeg, dct_method="INTEGER_ACCURATE")
    pixels = try_decode(decode, data, *refusal)
    huffman = kind <= LAST_HUFFMAN
    all_in_one = huffman & tf.equal(tf.cast(values[scan + 4], tf.int32), components)
    marks = tf.math.count_nonzero(_is_restart(followers) & (places < end), dtype=tf.int32)
    expected = _expect_restarts(values, frame, components, (height, width), interval)
    ends_gray = tf.reduce_all(tf.equal(pixels[-1, -1], FILL))
    full = tf.cond(
        all_in_one & ends_gray,
        lambda: tf.reduce_all(tf.equal(pixels, try_decode(decode, _insert(data, end, OTHER), *refusal))),
        lambda: True,
    )

    def is_used():
        last_row = partial(_decode_last_row, height=height, width=width)
        cut = try_decode(last_row, _cut(data, values, scan, end), *refusal)
        # Color is scaled up from rows above the last one too, which a decoder of the last row alone does not have.
        whole = tf.cond(tf.equal(components, 1), lambda: pixels[-1:], lambda: try_decode(last_row, data, *refusal))
        return tf.reduce_any(tf.not_equal(whole, cut))

    used = tf.cond(all_in_one & ~ends_gray, is_used, lambda: True)
    missing = (name, "expected a whole JPEG file. Bytes are missing in its middle, or its header states a wrong size.")
    with tf.control_dependencies([refuse_unless((tf.equal(marks, expected) | ~all_in_one) & full & used, *missing)]):
        return tf.identity(pixels)


def _decode_last_row(data, height, width):
    """Decodes only the last row of pixels, which is faster than the whole file: uint8 `(1, w, 1 or 3)`."""
    window = tf.stack([height - 1, 0, 1, width])
    return tf.io.decode_and_crop_jpeg(data, window, dct_method="INTEGER_ACCURATE")


def _find_header(values):
    """Reads the segments before the pixels.

    Returns:
        int32 `()` each: position of the frame header and of the scan header, `EMPTY` if missing, and the number of
        units between two restart markers, 0 for none.
    """

    def walk(at, frame, scan, interval):
        marker = tf.cast(values[at + 1], tf.int32)
        fill = tf.equal(marker, 0xFF)
        alone = tf.reduce_any(tf.equal(marker, tf.constant(ALONE)))
        is_frame = (marker >= 0xC0) & (marker <= 0xCF) & tf.reduce_all(marker != tf.constant(NO_FRAME))
        step = tf.where(fill, 1, tf.where(alone, 2, 2 + _read_16(values, at + 2)))
        return (
            at + step,
            tf.where(is_frame, at, frame),
            tf.where(tf.equal(marker, SOS), at, scan),
            tf.where(tf.equal(marker, DRI), _read_16(values, at + 4), interval),
        )

    def goes_on(at, frame, scan, interval):
        inside = at + 10 < tf.size(values)
        return (
            tf.less(scan, 0) & inside & tf.equal(tf.cast(values[tf.minimum(at, tf.size(values) - 1)], tf.int32), 0xFF)
        )

    start = (tf.constant(2), tf.constant(EMPTY), tf.constant(EMPTY), tf.constant(0))
    return tf.while_loop(goes_on, walk, start, parallel_iterations=1)[1:]


def _read_16(values, at):
    high, low = tf.unstack(tf.cast(values[at : at + 2], tf.int32), num=2)
    return 256 * high + low


def _expect_restarts(values, frame, components, size, interval):
    """Computes the number of restart markers in a scan of all components."""
    factors = tf.cast(values[frame + 11 : frame + 11 + 3 * components : 3], tf.int32)
    # A scan of a single component ignores its sampling factors.
    factors = tf.where(tf.equal(components, 1), 0x11, factors)
    down, across = (8 * tf.maximum(tf.reduce_max(part), 1) for part in (factors % 16, factors // 16))
    units = tf.math.floordiv(size[0] + down - 1, down) * tf.math.floordiv(size[1] + across - 1, across)
    return tf.where(interval > 0, tf.math.floordiv(units - 1, tf.maximum(interval, 1)), 0)


def _find_marks(values, start):
    """Finds the bytes 0xFF from a position on: int32 `(n,)`, their positions, and uint8 `(n,)`, the bytes after them.
    Leaves out the last byte of the file, which nothing follows."""
    places = start + tf.cast(tf.where(tf.equal(values[start:-1], 0xFF))[:, 0], tf.int32)
    return places, tf.gather(values, places + 1)


def _is_restart(second):
    return tf.equal(tf.bitwise.bitwise_and(second, 0xF8), 0xD0)


def _insert(data, at, more):
    return tf.strings.join([tf.strings.substr(data, 0, at), more, tf.strings.substr(data, at, -1)])


def _cut(data, values, scan, end):
    """Removes the last bytes of a scan, counted from before the zeros that may follow the last block."""
    start = scan + 2 + _read_16(values, scan + 2)
    tail = values[tf.maximum(start, end - MOST_PADDING) : end]
    last = end - tf.argmax(tf.reverse(tail, [0]) != 0, output_type=tf.int32)
    last -= tf.minimum(END, tf.maximum(last - start, 0) // 2)
    return tf.strings.join([tf.strings.substr(data, 0, last), tf.strings.substr(data, end, -1)])
