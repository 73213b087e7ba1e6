"""Conversion of reports to ids in the graph: `kmm.text.clean` with TensorFlow's core operations only."""

from functools import partial
from pathlib import Path

import tensorflow as tf

from kmm.batches import TextPreparation
from kmm.data.inputs import MAX_REPORT_WORDS
from kmm.export.graph.bert_words import split_bert_words
from kmm.export.graph.checks import require_rows
from kmm.export.graph.composition import compose_texts
from kmm.export.graph.redaction import redact_texts
from kmm.export.graph.word_pieces import split_pieces
from kmm.text.characters import LETTERS, SPACES, WORD_CHARACTERS
from kmm.text.clean import DEIDENTIFIED, MAX_CHARACTERS, STOP_WORDS
from kmm.text.vocabulary import PADDING, UNKNOWN
from kmm.text.word_pieces import WordPieces


class _Lines(tf.lookup.TextFileInitializer):
    """Maps the lines of a file to their numbers. TensorFlow would name the table after the path of the file, which
    reveals details of the machine; without a shared name it chooses a random one."""

    _shared_name = ""


class ReportReader(tf.Module):
    """Reads reports with a vocabulary that becomes an asset of the export.

    Args:
        text: `TextPreparation`.
        vocabulary: path of the vocabulary's file, one word or piece per line.
    """

    def __init__(self, text: TextPreparation, vocabulary: Path | str):
        super().__init__()
        self.text = text
        line, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        lines = _Lines(str(vocabulary), tf.string, line, tf.int64, number)
        self.table = tf.lookup.StaticHashTable(lines, UNKNOWN)
        self.longest = WordPieces.load(vocabulary).longest if text.pieces else 0

    def read(self, reports: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Converts reports to ids and words.

        Args:
            reports: string tensor `(n,)`, UTF-8.

        Returns:
            int32 `(n, length)`, the ids, and string `(n, length)`, the words as read, or their pieces (an unknown word
            stays whole). Ids are padded with 0, words with the empty string.
        """
        text, row = self.text, tf.TensorSpec((self.text.length,), tf.string)
        with tf.control_dependencies(_check_text(reports)):
            reports = tf.identity(reports)
        # One report at a time, because a whole call may have millions of one-letter words.
        words, counts = tf.map_fn(
            self._split, reports, fn_output_signature=(row, tf.TensorSpec((), tf.int64)), parallel_iterations=1
        )
        few, expected = counts <= MAX_REPORT_WORDS, f"expected a report of at most {MAX_REPORT_WORDS} words."
        with tf.control_dependencies(require_rows(few, "report", expected)):
            kept = tf.RaggedTensor.from_tensor(words, padding="")
        if text.pieces:  # words beyond `length` are already cut off; each word has at least one piece
            kept = self._cut(split_pieces(kept, self.table, self.longest))
        ids = self.table.lookup(kept).to_tensor(PADDING, shape=(None, text.length))
        return tf.cast(ids, tf.int32), kept.to_tensor("", shape=(None, text.length))

    def _split(self, report):
        """Returns the kept words of one report, `(length,)`, padded with "", and the number of all its words."""
        reports = report[None] if self.text.redaction is None else redact_texts(report[None], self.text.redaction)
        words = CLEANING_MODES[self.text.cleaning](reports)
        if self.text.deidentified == "drop":
            words = _keep(words, ~tf.strings.regex_full_match(words.flat_values, DEIDENTIFIED.pattern))
        return self._cut(words).to_tensor("", shape=(1, self.text.length))[0], words.row_lengths()[0]

    def _cut(self, words):
        length = self.text.length
        return words[:, -length:] if self.text.truncate == "start" else words[:, :length]


def _check_text(reports):
    """Rejects text that is not UTF-8 or far longer than any report."""
    clean = tf.strings.unicode_transcode(reports, "UTF-8", "UTF-8", errors="replace", replacement_char=0xFFFD)
    checks = require_rows(tf.equal(clean, reports), "report", "expected text in UTF-8. Received: other bytes.")
    short = tf.strings.length(clean, unit="UTF8_CHAR") <= MAX_CHARACTERS
    return checks + require_rows(short, "report", f"expected a report of at most {MAX_CHARACTERS} characters.")


def _lower(texts):
    """Converts to lower case in the same way under a Turkish locale of the machine."""
    dotted = tf.strings.regex_replace(tf.strings.regex_replace(texts, "I", "i"), "İ", "i\u0307")
    return tf.strings.lower(dotted, encoding="utf-8")


def _split_standard(reports):
    reports = compose_texts(reports)
    return _lower(tf.strings.split(tf.strings.regex_replace(reports, f"[^{WORD_CHARACTERS}]+", " ")))


def _split_paper(reports):
    spaced = tf.strings.regex_replace(compose_texts(reports), f"[{SPACES}]+", " ")
    words = _lower(tf.strings.split(tf.strings.regex_replace(spaced, f"[^ {LETTERS}]+", "")))
    return _keep(words, ~tf.strings.regex_full_match(words.flat_values, "|".join(sorted(STOP_WORDS))))


def _keep(words, kept):
    return tf.ragged.boolean_mask(words, words.with_flat_values(kept))


CLEANING_MODES = {
    "standard": _split_standard,
    "paper": _split_paper,
    "bert-cased": partial(split_bert_words, lower=False),
    "bert-uncased": partial(split_bert_words, lower=True),
}
