"""The graph reads reports for a BERT as `kmm.text` does, which is compared with the package `tokenizers`."""

import numpy as np
import pytest
import tensorflow as tf

from kmm.batches import TextPreparation
from kmm.export.graph.reports import CLEANING_MODES, ReportReader
from kmm.text.clean import find_words
from kmm.text.word_pieces import WordPieces
from tests.factories.bert import read_openi_reports, write_vocabulary

MODES = ("bert-cased", "bert-uncased")
TEXTS = [tf.TensorSpec([None], tf.string)]
CODES = (*range(0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE0200))  # planes that have characters


@pytest.mark.large
@pytest.mark.parametrize("mode", MODES)
def test_every_character(mode):
    parts = [f"a{chr(code)}B" for code in CODES]
    texts = [" ".join(parts[start : start + 5000]) for start in range(0, len(parts), 5000)]
    found = tf.function(CLEANING_MODES[mode], TEXTS)(tf.constant(texts)).to_list()
    for text, words in zip(texts, found, strict=True):
        assert [word.decode() for word in words] == [word.text for word in find_words(text, mode)]


def make_reader(folder, mode, **preparation):
    """The text preparation of a BERT, its vocabulary, and the graph that reads reports."""
    vocabulary = WordPieces.read(write_vocabulary(folder, lower=mode == "bert-uncased"))
    vocabulary.save(folder / "vocabulary.txt")
    text = TextPreparation(cleaning=mode, pieces=True, **preparation)
    return text, vocabulary, tf.function(ReportReader(text, folder / "vocabulary.txt").read, TEXTS)


REPORTS = [
    "No acute disease. Cardiomegaly (3.5 cm)!",
    "ÉTÉ cœur 心正常 soft\xadhyphen, XXXX-year-old",
    "E\u0301te\u0301 🙂 5° heart's [CLS]",
    "",
    " . ",
]


@pytest.mark.large
@pytest.mark.parametrize("mode", MODES)
def test_ids_of_pieces(mode, tmp_path):
    for more in ({}, {"truncate": "start"}, {"deidentified": "drop"}):
        text, vocabulary, read = make_reader(tmp_path, mode, length=12, **more)
        ids, _ = read(tf.constant(REPORTS))
        for row, report in enumerate(REPORTS):
            words = [word.text for word in text.find(report)]
            np.testing.assert_array_equal(ids[row], vocabulary.encode(words, 12, truncate=text.truncate))


@pytest.mark.large
@pytest.mark.openi
@pytest.mark.parametrize("mode", MODES)
def test_ids_of_every_real_report(mode, openi_folder, tmp_path):
    text, vocabulary, read = make_reader(tmp_path, mode, length=256)
    texts = read_openi_reports(openi_folder)
    assert len(texts) > 2500
    for start in range(0, len(texts), 500):
        reports = texts[start : start + 500]
        expected = [vocabulary.encode([word.text for word in text.find(report)], 256) for report in reports]
        np.testing.assert_array_equal(read(tf.constant(reports))[0], expected)
