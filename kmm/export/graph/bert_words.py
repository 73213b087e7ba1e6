"""Words of a BERT in the graph: `kmm.text.bert_words` with TensorFlow's core operations only."""

from functools import cache

import numpy as np
import tensorflow as tf

from kmm.export.graph.composition import compose_texts, find_keys
from kmm.text.bert_words import CHINESE_CLASS, REMOVED_CLASS, SIGN_CLASS, SPACE_CLASS, strip_letter
from kmm.text.characters import CATEGORIES

ASCII = r"[\x00-\x7f]*"
LONGEST = 3  # letters of a character without its accents, of a Korean syllable


def split_bert_words(texts: tf.Tensor, *, lower: bool) -> tf.RaggedTensor:
    """Splits reports into words.

    Args:
        texts: string tensor `(n,)`, UTF-8.
        lower: bool. Remove accents and lower letters.

    Returns:
        ragged string tensor `(n, words)`.
    """
    texts = tf.strings.regex_replace(compose_texts(texts), f"[{REMOVED_CLASS}]", "")
    texts = tf.strings.regex_replace(texts, f"[{SPACE_CLASS}]", " ")
    texts = tf.strings.regex_replace(texts, f"[{CHINESE_CLASS}]", r" \0 ")
    if lower:
        plain = tf.reduce_all(tf.strings.regex_full_match(texts, ASCII))
        texts = tf.cond(plain, lambda: tf.strings.lower(texts), lambda: _strip(texts))
    return tf.strings.split(tf.strings.regex_replace(texts, f"[{SIGN_CLASS}]", r" \0 "))


@tf.autograph.experimental.do_not_convert
def _strip(texts):
    """Replaces each character by its letters without marks, in lower case."""
    decoded = tf.strings.unicode_decode(texts, "UTF-8")
    codes, rows = decoded.values, decoded.value_rowids()
    known, padded = _tabulate_letters()
    place, found = find_keys(known, codes)
    alone = tf.pad(codes[:, None], [[0, 0], [0, LONGEST - 1]], constant_values=-1)
    parts = tf.where(found[:, None], tf.gather(padded, place), alone)
    kept = parts >= 0
    rows = tf.boolean_mask(tf.broadcast_to(rows[:, None], tf.shape(parts)), kept)
    stripped = tf.RaggedTensor.from_value_rowids(tf.boolean_mask(parts, kept), rows, tf.shape(texts, tf.int64)[0])
    return tf.strings.unicode_encode(stripped, "UTF-8")


@cache
def _tabulate_letters():
    """Returns the code points that change, and what each becomes: int32 `(k, 3)`, padded with -1."""
    codes = (
        code for kind, first, last in CATEGORIES if kind not in ("Cn", "Co", "Cs") for code in range(first, last + 1)
    )
    table = [(code, parts) for code in codes if (parts := strip_letter(chr(code))) != chr(code)]
    padded = [[*map(ord, parts), *[-1] * (LONGEST - len(parts))] for _, parts in table]
    return np.array([code for code, _ in table]), np.array(padded, np.int32)
