"""Conversion of words to word pieces in the graph: `kmm.text.word_pieces` with TensorFlow's core operations only."""

import tensorflow as tf

from kmm.text.vocabulary import UNKNOWN
from kmm.text.word_pieces import CONTINUED, MAX_WORD

UNIT = "UTF8_CHAR"


def split_pieces(words: tf.RaggedTensor, table: tf.lookup.StaticHashTable, longest: int) -> tf.RaggedTensor:
    """Splits words into pieces, the longest piece first.

    Each round finds the longest known piece at the beginning of the rest of each unfinished word.

    Args:
        words: ragged string tensor `(n, words)`, UTF-8; no word is empty or contains white space.
        table: lookup table of pieces to ids, with `UNKNOWN` for all other strings.
        longest: int. Length of the longest piece in characters, including its `##`.

    Returns:
        ragged string tensor `(n, pieces)`. A word that cannot be split completely, or is too long, stays whole; the
        table does not contain it.
    """
    whole, where = tf.unique(words.flat_values)
    sizes = tf.range(longest, 0, -1)

    def cut(prefix, done, rest):
        """`done`: the pieces so far, each after a space. `rest`: the remaining word, empty when it is finished."""
        rows = tf.where(tf.not_equal(rest, ""))[:, 0]
        left = tf.gather(rest, rows)
        ends = tf.broadcast_to(sizes, [tf.size(left), longest])
        found = prefix + tf.strings.substr(left[:, None], tf.zeros_like(ends), ends, unit=UNIT)
        known = tf.not_equal(table.lookup(found), UNKNOWN)
        fits = tf.reduce_any(known, axis=1)
        piece = tf.gather(found, tf.argmax(tf.cast(known, tf.int32), axis=1), batch_dims=1)
        start = tf.strings.length(piece, unit=UNIT) - tf.strings.length(prefix)
        after = tf.strings.substr(left, start, tf.fill(tf.shape(start), MAX_WORD), unit=UNIT)
        pieces = tf.where(fits, tf.gather(done, rows) + " " + piece, tf.gather(whole, rows))
        done = tf.tensor_scatter_nd_update(done, rows[:, None], pieces)
        return CONTINUED, done, tf.tensor_scatter_nd_update(rest, rows[:, None], tf.where(fits, after, ""))

    short = tf.strings.length(whole, unit=UNIT) <= MAX_WORD
    state = tf.constant(""), tf.where(short, "", whole), tf.where(short, whole, "")
    _, done, _ = tf.while_loop(lambda prefix, done, rest: tf.reduce_any(tf.not_equal(rest, "")), cut, state)
    pieces = words.with_flat_values(tf.gather(tf.strings.split(done), where))
    return pieces.merge_dims(1, 2)
