"""The graph removes what Python removes, from any text and by any entry that a redaction accepts."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from kmm.batches import BatchMaker, TextPreparation
from kmm.data.study import Report, Study
from kmm.errors import InputError
from kmm.export.graph.redaction import redact_texts
from kmm.export.graph.reports import ReportReader
from kmm.text.clean import compose, find_words
from kmm.text.expressions import MAX_WAYS
from kmm.text.redaction import DEFAULT, MAX_ENTRIES, MAX_SIZE, Redaction, check_entry, read_redaction
from kmm.text.vocabulary import Vocabulary

SPACED = dict.fromkeys(map(ord, "_\ue000\ue001\ue002"), " ")
SIGNS = "aAbB1_-.,/\\^$*+?(){}[]|&~# \t\n\x0b\x1c\u00a0\u2028éÉe\u0301ßſıİIiKkKµσςΣ\u0308\ue000\ue001\ue002漢🙂\x00"
TEXTS = st.lists(st.text(st.one_of(st.sampled_from(SIGNS), st.characters(codec="utf-8")), max_size=30), max_size=8)
LITERALS = st.sampled_from(["a", "b", "ab", "A1", "é", "ß", "k", "i", "s", " ", r"\.", r"\-", r"\[", r"\\", "/", "漢"])
SETS = st.sampled_from(
    [
        r"\d",
        r"\w",
        r"\s",
        r"\D",
        r"\W",
        r"\S",
        ".",
        "[ab]",
        "[^ab]",
        "[a-c1_]",
        r"[^\w ]",
        r"[\s,.]",
        "[à-é]",
        r"[\]\-^]",
    ]
)
BOUNDS = st.sampled_from(["?", "??", "{2}", "{0,3}", "{0,3}?", "{1,4}", "{1,4}?"])
EDGES = st.sampled_from(["", r"\b", r"\B"])


def extend(inner):
    """Makes larger expressions of smaller ones."""
    return st.one_of(
        st.lists(inner, min_size=2, max_size=4).map("".join),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
        st.tuples(inner, BOUNDS).map(lambda pair: f"(?:{pair[0]}){pair[1]}"),
        st.tuples(EDGES, inner, EDGES).map("".join),
    )


EXPRESSIONS = st.recursive(st.one_of(LITERALS, SETS), extend, max_leaves=8).map(lambda text: f"/{text}/")
PHRASES = st.lists(
    st.sampled_from(["a", "b", "ab", "1", "é", "e\u0301", "ß", "ſ", "a-b", "k", "i"]), min_size=1, max_size=3
)


def is_usable(entry):
    try:
        return bool(check_entry(entry))
    except InputError:
        return False


ENTRIES = st.lists(st.one_of(EXPRESSIONS.filter(is_usable), PHRASES.map(" ".join)), min_size=1, max_size=4)


def assert_equal(redaction, texts):
    """The graph's text is Python's, apart from how many spaces stand for a match; then the words are the same."""
    graph = redact_texts(tf.constant([text.encode() for text in texts], tf.string), redaction).numpy()
    for text, found in zip(texts, graph, strict=True):
        composed = compose(text)
        here, spaced = 0, ""
        for start, end in _list_matches(redaction, composed):
            spaced, here = spaced + composed[here:start] + " ", end
        expected = spaced + composed[here:]
        assert ascii(found.decode()) == ascii(expected.translate(SPACED))
        for mode in ("standard", "paper"):
            left = [word.text for word in find_words(found.decode(), mode)]
            assert left == [word.text for word in find_words(text, mode, redaction=redaction)]


def _list_matches(redaction, composed):
    """Every match of its own, where `find` joins those that touch."""
    marked, matches = composed.translate(SPACED), []
    for pattern in redaction._patterns:
        matches += [match.span() for match in pattern.finditer(marked)]
        marked = pattern.sub(lambda match: "\ue002" * len(match[0]), marked)
    return sorted(matches)


@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(entries=ENTRIES, texts=TEXTS)
def test_random_entries_and_texts(entries, texts):
    try:
        redaction = Redaction(tuple(entries))
    except InputError:
        assume(False)
    assert_equal(redaction, texts)


PUBLISHED = read_redaction(DEFAULT)
REPORTS = [
    "",
    "Heart size is NORMAL.  No\n acute  disease, un-remarkable; within_normal limits of normal_",
    "The lungs are clear. No pneumothorax or pleural effusion. No acute cardiopulmonary process. XXXX",
    "Stable e\u0301tat, unchanged\u00a0since prior. Normalé énormal NORMALITIES abnormally",
    "no active disease no active disease. Recommend follow up; no evidence of acute fracture",
]


@settings(max_examples=10)
@given(texts=TEXTS)
def test_the_published_list(texts):
    assert_equal(PUBLISHED, [*REPORTS, *texts])


@pytest.mark.large
def test_the_largest_redaction_compiles_in_the_graph():
    large = [f"/{'x' * number}[^a]{{1,299}}/" for number in range(1, 9)]
    redaction = Redaction((*large, *(f"word{number} and more" for number in range(900))))
    assert MAX_SIZE / 2 < 8 * 299 * 8 < MAX_SIZE
    assert_equal(redaction, [*REPORTS, "xx" * 500, "word7 and  more " * 50])


@pytest.mark.large
@pytest.mark.parametrize(("separator", "letter", "length"), [(" ", "a", 10), ("", "д", 80)])
def test_as_many_phrases_as_are_allowed_compile_in_the_graph(separator, letter, length):
    redaction = Redaction(tuple(separator.join(f"{number:03d}{letter * length}") for number in range(MAX_ENTRIES)))
    assert_equal(redaction, [redaction.entries[7], f"{redaction.entries[8]}x"])


def test_repetitions_inside_each_other_compile_in_the_graph():
    assert_equal(Redaction((r"/x(?:a{10}){100}/", r"/y((?:ab{2}c){20}d){25}/")), ["x" + "a" * 1000, "yabbc"])


def test_many_ways_give_the_same_match():
    redaction = Redaction((r"/(a|aa|aaa|b){1,3}(ab){0,9}(a|ab)(c|bcd)/",))
    assert_equal(redaction, ["aababababcd", "aaaaaabcd abac", "baaabcd" * 3])
    assert MAX_WAYS > 84 * 10 * 2 * 2


@pytest.mark.parametrize("cleaning", ["standard", "paper"])
@pytest.mark.parametrize("truncate", ["end", "start"])
def test_ids_and_words(tmp_path, cleaning, truncate):
    vocabulary = Vocabulary.fit([find_word.split() for find_word in ("heart size is in lungs are of or and", "clear")])
    vocabulary.save(tmp_path / "vocabulary.txt")
    text = TextPreparation(cleaning=cleaning, deidentified="drop", length=6, truncate=truncate, redaction=PUBLISHED)
    ids, words = ReportReader(text, tmp_path / "vocabulary.txt").read(tf.constant([one.encode() for one in REPORTS]))
    maker = BatchMaker(None, text, vocabulary=vocabulary, label_names=("mass",))
    studies = [Study(str(row), "1", report=Report(findings=one)) for row, one in enumerate(REPORTS)]
    np.testing.assert_array_equal(ids.numpy(), np.stack([maker.token_ids(study) for study in studies]))
    assert b"clear" not in words.numpy() and b"normal" not in words.numpy()


@pytest.mark.large
def test_an_export_answers_as_python_does(build_classifier, tmp_path):
    from kmm.export.privacy import describe_privacy, report_privacy
    from kmm.export.verification import verify_classifier
    from kmm.export.write import export_classifier

    classifier = build_classifier(None, "text-cnn", redaction=Redaction(("effusion", r"/\b(no|small) mass\b/")))
    classifier.save(tmp_path / "reader")
    export = export_classifier(tmp_path / "reader")
    loaded = tf.saved_model.load(str(export))
    reports = ["No mass. Small effusion cyst", "effusion word1 small mass word2", "cyst", "mass effusion mass"]
    studies = [Study(str(row), "1", report=Report(findings=one)) for row, one in enumerate(reports)]
    found = loaded.signatures["serving_bytes"](report=tf.constant([one.encode() for one in reports]))
    predictions = classifier.predict(studies)
    expected = classifier.probabilities(predictions.logits["text"], predictions.present)
    np.testing.assert_allclose(found["probabilities"].numpy(), expected, atol=1e-6)
    plain = build_classifier(None, "text-cnn")
    assert np.abs(plain.predict(studies).logits["text"] - predictions.logits["text"]).max() > 1e-3
    described = json.loads(loaded.signatures["describe"](query=tf.constant([b""]))["description"].numpy()[0])
    assert described["preparation"]["text"]["redact"] == ["effusion", r"/\b(no|small) mass\b/"]
    report = report_privacy(export, tmp_path / "reader", described)
    assert report["redaction"] == 2
    assert "redaction: 2 entries, which anyone can read in the export" in describe_privacy(report)
    assert {check.result for check in verify_classifier(tmp_path / "reader")} == {"passed"}
