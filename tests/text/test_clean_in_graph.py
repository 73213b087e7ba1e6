"""The cleaning repeated by TensorFlow's core operations, as an exported graph does it: the same words from any text."""

import os
import re
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm.text.clean import LETTERS, STOP_WORDS, WORD_CHARACTERS, find_words

tf = pytest.importorskip("tensorflow")

LETTERS_AND_TRAPS = st.text(
    st.one_of(
        st.sampled_from(
            "aIiİıJĮÌΣσςßẞŉǅ ­'’_-.0٣²Ⅳ½\u0301\u0307\u200d\u00a0\u2028\ufeff漢字한🙂👩\U0001d400\x00\x1c\x85"
        ),
        st.characters(codec="utf-8"),
    ),
    max_size=40,
)


def lower(words):
    """Lower case that is the same under Turkish settings."""
    return tf.strings.lower(
        tf.strings.regex_replace(tf.strings.regex_replace(words, "I", "i"), "İ", "i\u0307"), encoding="utf-8"
    )


def split_standard(texts):
    return lower(tf.strings.split(tf.strings.regex_replace(texts, f"[^{WORD_CHARACTERS}]+", " ")))


def split_paper(texts):
    spaces = "".join(chr(code) for code in range(0x10000) if chr(code).isspace())
    spaced = tf.strings.regex_replace(texts, f"[{spaces}]+", " ")
    words = lower(tf.strings.split(tf.strings.regex_replace(spaced, f"[^ {LETTERS}]+", "")))
    stop = tf.constant(sorted(STOP_WORDS))
    kept = tf.reduce_all(words.flat_values[:, None] != stop[None], axis=1)
    return tf.ragged.boolean_mask(words, words.with_flat_values(kept))


TEXTS = [tf.TensorSpec([None], tf.string)]
GRAPHS = {"standard": tf.function(split_standard, TEXTS), "paper": tf.function(split_paper, TEXTS)}


def assert_equal_words(texts, mode="standard"):
    graph = GRAPHS[mode](tf.constant([text.encode("utf-8") for text in texts]))
    for text, words in zip(texts, graph.to_list(), strict=True):
        assert [word.decode("utf-8") for word in words] == [word.text for word in find_words(text, mode)], ascii(text)


@pytest.mark.parametrize("mode", GRAPHS)
@settings(max_examples=40, deadline=None)
@given(texts=st.lists(LETTERS_AND_TRAPS, min_size=8, max_size=16))
def test_random_strings(mode, texts):
    assert_equal_words(texts, mode)


@pytest.mark.parametrize("mode", GRAPHS)
def test_reports(mode):
    assert_equal_words(
        [
            "",
            "No T-spine fracture; 3.5 cm XXXX. Heart's size is NORMAL.",
            "Épanchement pleural à droite, cœur non élargi.",
            "ΚΑΡΔΙΑ ΜΕΓΑΛΟΣ, ΟΧΙ ΥΓΡΟΣ.",
            "AKCİĞER IŞIK, KALP İRİ",
            "心臓は正常。 폐는 깨끗하다",
            "e\u0301panchement\u00a0pleural\u2028nul\x00nul",
        ],
        mode,
    )


def test_every_character():
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    assert_equal_words([" ".join(characters[start : start + 1000]) for start in range(0, len(characters), 1000)])


def test_final_sigma_beside_every_letter():
    letters = re.findall(f"[{WORD_CHARACTERS}]", "".join(map(chr, range(0x30000))))
    assert_equal_words(
        [" ".join(f"ΑΣ{c} {c}Σ" for c in letters[start : start + 1000]) for start in range(0, 95_000, 1000)]
    )


def test_turkish_settings_of_the_machine_do_not_matter():
    # ICU reads these variables; under them TensorFlow alone lowers "TITLE" to "tıtle".
    program = (
        "import importlib.util, sys; spec = importlib.util.spec_from_file_location('graph', sys.argv[1]);"
        "graph = importlib.util.module_from_spec(spec); spec.loader.exec_module(graph);"
        "assert graph.tf.strings.lower('I', encoding='utf-8').numpy() == 'ı'.encode();"
        "graph.assert_equal_words(['TITLE IŞIK İRİ'])"
    )
    environment = {**os.environ, "LC_ALL": "tr_TR.UTF-8", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", program, __file__], env=environment, capture_output=True, timeout=300)
    assert run.returncode == 0, run.stderr.decode("utf-8", "replace")[-2000:]
