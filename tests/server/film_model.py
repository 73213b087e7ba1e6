"""A SavedModel that reads films as an export of kmm does, without a network behind; and files that inflate."""

import io
import struct
import zlib

import numpy as np
import PIL.Image

from kmm.image.prepare import ImagePreparation

PIXELS = 16
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def save_films(folder):
    """Saves a version; the score of a film is the mean of its prepared square, that of a study without one is -1."""
    import tensorflow as tf

    from kmm.export.graph.checks import check_batch, check_shape, require_rows
    from kmm.export.graph.films import read_films

    strings = tf.TensorSpec([None], tf.string)

    class Films(tf.Module):
        def _score(self, files, reports, most):
            given = {"image_bytes": files, "report": reports}
            given = {name: check_shape(value, name, (None,)) for name, value in given.items()}
            return self.score(**check_batch(given, most))

        @tf.function(autograph=False, input_signature=[strings, strings])
        def score(self, image_bytes, report):
            squares, boxes = read_films(image_bytes, ImagePreparation(PIXELS))
            held = (boxes[:, 2] > 0) | (report != "")
            with tf.control_dependencies(require_rows(held, "study", "expected a film or a report with words.")):
                return {
                    "scores": tf.where(boxes[:, 2] > 0, tf.reduce_mean(squares, [1, 2, 3]), -1.0),
                    "boxes": boxes,
                    "words": tf.strings.lower(report),
                }

        @tf.function(autograph=False, input_signature=[strings, strings])
        def serving_bytes(self, image_bytes, report):
            return self._score(image_bytes, report, 1024)

        @tf.function(autograph=False, input_signature=[strings, strings])
        def explain_bytes(self, image_bytes, report):
            return self._score(image_bytes, report, 64)

        @tf.function(autograph=False, input_signature=[strings])
        def classify(self, inputs):
            found = tf.io.parse_example(inputs, {"image_bytes": tf.io.FixedLenFeature((), tf.string, "")})
            scores = self._score(found["image_bytes"], tf.fill(tf.shape(inputs), "x"), 1024)["scores"]
            return {"classes": tf.fill([tf.size(scores), 1], "mean"), "scores": scores[:, None]}

        @tf.function(autograph=False, input_signature=[strings])
        def describe(self, query):
            return {"description": tf.fill(tf.shape(query), "{}")}

    model = Films()
    names = ("serving_bytes", "explain_bytes", "classify", "describe")
    tf.saved_model.save(model, str(folder), signatures={name: getattr(model, name) for name in names})


def make_film(number=0, kind="PNG", **options):
    """A small film as a file; each number has other levels."""
    pixels = (np.mgrid[0:20, 0:24].sum(0) * 3 + 2 * number).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def make_large_png(width, height, *, channels=1):
    """A PNG of few bytes: black but for its first column."""
    row = b"\0" + b"\xff" * channels + bytes((width - 1) * channels)
    return write_png(width, height, (row for _ in range(height)), kind={1: 0, 3: 2, 4: 6}[channels])


def make_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(width, height, rows, *, kind=0, depth=8, interlaced=False, before=(), behind=0):
    """A PNG of filtered rows.

    Args:
        before: chunks to write before the pixels.
        behind: int. Megabytes of zeros in the compressed data behind the last row.
    """
    deflate = zlib.compressobj(9)
    data = b"".join(deflate.compress(row) for row in rows)
    data += b"".join(deflate.compress(bytes(2**20)) for _ in range(behind)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    chunks = [make_chunk(b"IHDR", header), *before, make_chunk(b"IDAT", data), make_chunk(b"IEND", b"")]
    return PNG_HEAD + b"".join(chunks)


def write_interlaced(pixels):
    """An Adam7 PNG of uint8 gray pixels `(h, w)`."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [pixels[top::down, left::across] for top, left, down, across in passes]
    rows = [b"\0" + row.tobytes() for part in parts if part.size for row in part]
    return write_png(pixels.shape[1], pixels.shape[0], rows, interlaced=True)
