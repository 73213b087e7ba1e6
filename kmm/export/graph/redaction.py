"""Redaction of reports in the graph: `kmm.text.redaction` with TensorFlow's core operations only."""

import tensorflow as tf

from kmm.export.graph.composition import compose_texts
from kmm.text.characters import WORD_CHARACTERS
from kmm.text.expressions import GAP
from kmm.text.redaction import END, SPACED, START, Redaction


def redact_texts(texts: tf.Tensor, redaction: Redaction) -> tf.Tensor:
    """Removes from texts what a redaction lists.

    Args:
        texts: string tensor `(n,)`, UTF-8.
        redaction: `Redaction`.

    Returns:
        string tensor `(n,)`: the composed texts, with a space in place of each match. Their words are those of
        `redaction.blank`, which has a space in place of each character.
    """
    texts = tf.strings.regex_replace(compose_texts(texts), SPACED, " ")
    if redaction.marked_phrases:
        texts = tf.strings.regex_replace(texts, f"[{WORD_CHARACTERS}]+", rf"{START}\0{END}")
        texts = tf.strings.regex_replace(texts, redaction.marked_phrases, GAP)
        texts = tf.strings.regex_replace(texts, f"[{START}{END}]", "")
    if redaction.expressions:
        texts = tf.strings.regex_replace(texts, redaction.expressions, GAP)
    return tf.strings.regex_replace(texts, GAP, " ")
