"""The words that the graph reads are those of `kmm.text`, from any text; what is no report is refused by its number."""

import os
import re
import resource
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm.batches import TextPreparation
from kmm.export.graph.composition import compose_texts, list_classes, list_decompositions, list_pairs
from kmm.export.graph.reports import CLEANING_MODES, ReportReader
from kmm.text.characters import WORD_CHARACTERS
from kmm.text.clean import compose, find_words
from kmm.text.vocabulary import Vocabulary

LETTERS_AND_TRAPS = st.text(
    st.one_of(
        st.sampled_from(
            "aIiİıJĮÌΣσςßẞŉǅ ­'’_-.0٣²Ⅳ½\u0301\u0307\u200d\u00a0\u2028\ufeff漢字한🙂👩\U0001d400\x00\x1c\x85"
        ),
        st.characters(codec="utf-8"),
    ),
    max_size=40,
)


TEXTS = [tf.TensorSpec([None], tf.string)]
GRAPHS = {mode: tf.function(split, TEXTS) for mode, split in CLEANING_MODES.items()}


def assert_equal_words(texts, mode="standard"):
    graph = GRAPHS[mode](tf.constant([text.encode("utf-8") for text in texts]))
    for text, words in zip(texts, graph.to_list(), strict=True):
        assert [word.decode("utf-8") for word in words] == [word.text for word in find_words(text, mode)], ascii(text)


@pytest.mark.large
@pytest.mark.parametrize("mode", GRAPHS)
@settings(max_examples=40)
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
            "Neumoni\u0301a basal, o\u0308dem. E\u0301PANCHEMENT A\u0300 DROITE",
            "Vie\u0302\u0323t Vi\u00ea\u0323t Vie\u0323\u0302t Vi\u1ec7t x\u0304 q\u0307\u0323",
            "\u1112\u1161\u11ab\u1100\u1173\u11af \ud55c\uae00",
            "\u212b 5 \u2126 \u212a \u0958 \ufb2c \u0344",
            "\u0301 mark first",
        ],
        mode,
    )


COMPOSE = tf.function(compose_texts, TEXTS)
BASES = sorted({chr(first) for first, _ in list_pairs()} | set(map(chr, list_decompositions())))
MARKS = sorted({chr(second) for _, second in list_pairs()} | set(map(chr, list_classes())))


def assert_equal_composed(texts):
    found = COMPOSE(tf.constant([text.encode("utf-8") for text in texts])).numpy().tolist()
    for text, composed in zip(texts, found, strict=True):
        assert ascii(composed.decode("utf-8")) == ascii(compose(text))


@settings(max_examples=60)
@given(
    texts=st.lists(
        st.text(
            st.one_of(
                st.sampled_from("aeo \u0301\u0300\u0308\u0323\u0327\uac00\u1100\u1161\u11a8"),
                st.sampled_from(BASES),
                st.sampled_from(MARKS),
                st.characters(codec="utf-8"),
            ),
            max_size=30,
        ),
        min_size=1,
        max_size=12,
    )
)
def test_the_graph_composes_as_python_does(texts):
    assert_equal_composed(texts)


@pytest.mark.large
def test_the_graph_composes_every_character_alone_and_in_a_row():
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    for between in (" ", ""):
        assert_equal_composed(
            [between.join(characters[start : start + 1000]) for start in range(0, len(characters), 1000)]
        )


def test_no_second_of_a_pair_is_a_first():
    # The graph composes all pairs of a text at once: none may overlap.
    firsts = {first for first, _ in list_pairs()}
    assert not firsts & {second for _, second in list_pairs()} and not firsts & set(list_classes())


@pytest.mark.large
@pytest.mark.parametrize("mode", GRAPHS)
def test_memory_does_not_grow_with_the_words_of_all_reports(mode, tmp_path):
    _, _, _, read = make_reader(tmp_path, cleaning=mode)
    many = ["q " * 19_000] * 100
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read(tf.constant(many))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 40e6  # bytes; all words at once took 130e6, and 400e6 beside all stop words


@pytest.mark.large
def test_every_character():
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code <= 0xDFFF]
    assert_equal_words([" ".join(characters[start : start + 1000]) for start in range(0, len(characters), 1000)])


def test_final_sigma_beside_every_letter():
    letters = re.findall(f"[{WORD_CHARACTERS}]", "".join(map(chr, range(0x30000))))
    assert_equal_words(
        [" ".join(f"ΑΣ{c} {c}Σ" for c in letters[start : start + 1000]) for start in range(0, 95_000, 1000)]
    )


@pytest.mark.large
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


REPORTS = ["No mass. XXXX xxxx 3.5 cm", "", "!?", "mass " * 20 + "no", "Unheard words: effusion"]
PREPARATIONS = {
    "standard": {},
    "paper": {"cleaning": "paper"},
    "without names": {"deidentified": "drop"},
    "the last words": {"truncate": "start"},
    "the last words of the paper": {"truncate": "start", "cleaning": "paper", "deidentified": "drop"},
}


def make_reader(folder, **preparation):
    text, vocabulary = TextPreparation(length=6, **preparation), Vocabulary.fit([["no", "mass", "effusion", "xxxx"]])
    vocabulary.save(folder / "vocabulary.txt")
    reader = ReportReader(text, folder / "vocabulary.txt")
    return text, vocabulary, reader, tf.function(reader.read, input_signature=TEXTS)


@pytest.mark.large
@pytest.mark.parametrize("name", PREPARATIONS)
def test_accents_that_stand_apart_have_the_ids_of_composed_ones(tmp_path, name):
    text, vocabulary = TextPreparation(length=6, **PREPARATIONS[name]), Vocabulary.fit([["épanchement", "ödem"]])
    vocabulary.save(tmp_path / "vocabulary.txt")
    read = tf.function(ReportReader(text, tmp_path / "vocabulary.txt").read, input_signature=TEXTS)
    ids, words = read(tf.constant(["E\u0301panchement, O\u0308dem", "Épanchement, Ödem"]))
    assert set(ids[0].numpy().tolist()) == {0, 2, 3} and words[0].numpy()[0].decode() == "épanchement"
    np.testing.assert_array_equal(ids[0], ids[1])


@pytest.mark.large
@pytest.mark.parametrize("name", PREPARATIONS)
def test_ids_and_words_are_those_of_the_classifier(tmp_path, name):
    text, vocabulary, _, read = make_reader(tmp_path, **PREPARATIONS[name])
    ids, words = read(tf.constant(REPORTS))
    for row, report in enumerate(REPORTS):
        found = [word.text for word in text.find(report)]
        kept = found[-6:] if text.truncate == "start" else found[:6]
        np.testing.assert_array_equal(ids[row], vocabulary.encode(found, 6, truncate=text.truncate))
        assert words[row].numpy().tolist() == [word.encode() for word in kept] + [b""] * (6 - len(kept))


@pytest.mark.parametrize(
    "report, said",
    [
        (b"sentence caf\xe9", "report 1: expected text in UTF-8"),
        (b"sentence" + b"a" * 1_000_001, "report 1: expected a report of at most 1000000 characters"),
        (b"sentence " * 20_001, "report 1: expected a report of at most 20000 words"),
    ],
)
def test_what_is_no_report_is_refused_by_its_number(tmp_path, report, said):
    _, _, _, read = make_reader(tmp_path)
    with pytest.raises(tf.errors.InvalidArgumentError, match=said) as error:
        read(tf.constant([b"no mass", report]))
    assert "sentence" not in str(error.value)
