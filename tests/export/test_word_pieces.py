"""Word pieces in the graph are those of `kmm.text`, and a classifier over them is the same on every road."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm.batches import TextPreparation
from kmm.classifier import Classifier
from kmm.client.replies import read_explanations
from kmm.data.study import Report, Study
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.export.explanation import ExplainSignature
from kmm.export.graph.reports import ReportReader
from kmm.export.graph.word_pieces import split_pieces
from kmm.export.samples import make_samples
from kmm.export.write import export_classifier
from kmm.protocol.messages import load_stubs
from kmm.protocol.tensors import encode_tensor
from kmm.text.vocabulary import SPECIAL_WORDS, UNKNOWN
from kmm.text.word_pieces import CONTINUED, WordPieces
from tests.export.cpp_loader import CppModel, open_library

LETTERS = "abßé漢𐐨"
TEXTS = st.text(st.sampled_from(LETTERS), min_size=1, max_size=4)
PIECES = st.lists(st.tuples(st.sampled_from(["", CONTINUED]), TEXTS).map("".join), min_size=1, max_size=30, unique=True)
WORDS = st.one_of(
    st.text(st.sampled_from(LETTERS), min_size=1, max_size=12),
    st.text(st.sampled_from("ab"), min_size=95, max_size=105),
)
REPORTS = st.lists(st.lists(WORDS, max_size=8), min_size=1, max_size=4)
VOCABULARY = ["no", "eff", "##us", "##ion", "a", "##a", "é", "##panche", "##ment", "##ß", "##漢", "心", "𐐨", "##𐐨"]
LINES = [
    "",
    "No effusion. Épanchement: effus, effusions!",
    "a" * 100 + " " + "a" * 101 + " " + "a" * 999_000,
    "aßß 心漢漢 𐐀𐐀a 漢",
    "effusion " * 9 + "no",
    "no " * 5 + "effusion",
    "effusion " * 20_000,
]


def make_table(vocabulary):
    ids = tf.range(len(vocabulary), dtype=tf.int64)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(list(vocabulary.words), ids), UNKNOWN)


def name_pieces(vocabulary, words):
    """The pieces as an export names them: a word that cannot be cut stays whole."""
    found = zip(words, vocabulary.split(words), strict=True)
    return [piece for word, pieces in found for piece in ((word,) if pieces == ("[UNK]",) else pieces)]


@pytest.mark.large
@settings(max_examples=60)
@given(pieces=PIECES, reports=REPORTS)
def test_any_vocabulary_and_words(pieces, reports):
    vocabulary = WordPieces((*SPECIAL_WORDS, *pieces))
    table = make_table(vocabulary)
    words = tf.ragged.constant(reports, tf.string, ragged_rank=1)
    found = split_pieces(words, table, vocabulary.longest)
    assert found.to_list() == [[piece.encode() for piece in name_pieces(vocabulary, report)] for report in reports]
    lengths = [len(vocabulary.pieces(report)) for report in reports]
    ids = [vocabulary.encode(report, length).tolist() for report, length in zip(reports, lengths, strict=True)]
    assert table.lookup(found).to_list() == ids


@pytest.mark.large
@pytest.mark.parametrize("truncate", ["end", pytest.param("start", marks=pytest.mark.large)])
def test_reports_of_any_length_are_cut_by_pieces_also_when_loaded(tmp_path, truncate):
    vocabulary = WordPieces((*SPECIAL_WORDS, *VOCABULARY))
    vocabulary.save(tmp_path / "vocabulary.txt")
    text = TextPreparation(length=7, truncate=truncate, pieces=True)
    reader = ReportReader(text, tmp_path / "vocabulary.txt")
    reader.call = tf.function(reader.read, [tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(reader, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for call in (reader.call, loaded.call):
        ids, pieces = call(tf.constant(LINES))
        for row, report in enumerate(LINES):
            words = [word.text for word in text.find(report)]
            named = name_pieces(vocabulary, words)
            named = named[:7] if truncate == "end" else named[-7:]
            assert ids[row].numpy().tolist() == vocabulary.encode(words, 7, truncate=truncate).tolist()
            assert [piece.decode() for piece in pieces[row].numpy()] == named + [""] * (7 - len(named))


@pytest.fixture(scope="module", params=[pytest.param(side, marks=pytest.mark.large) for side in ("end", "start")])
def saved(request, build_classifier, tmp_path_factory):
    """The folder of a classifier of reports over word pieces."""
    folder = tmp_path_factory.mktemp("saved_models") / "pieces"
    build_classifier(image=None, truncate=request.param, pieces=True).save(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(saved):
    return Classifier.load(saved)


@pytest.fixture(scope="module")
def exported(saved):
    return export_classifier(saved, explanation=ExplainSignature(steps=15, baseline="black"), warmup=())


@pytest.fixture(scope="module")
def signatures(exported):
    model = tf.saved_model.load(str(exported))
    yield model.signatures


REPORT = Report(findings="No small effusion, and no cyst of the lung. Heart is normal, like all.")
STUDIES = [
    Study("long", "long", (), REPORT),
    Study("short", "short", (), Report(findings="A cyst; cough.")),
    Study("unknown", "unknown", (), Report(findings="Pneumothorax?")),
]


def test_a_saved_classifier_knows_that_its_words_are_pieces(classifier):
    assert type(classifier.batches.vocabulary) is WordPieces and classifier.batches.text.pieces


def test_tensors_and_bytes_give_the_numbers_of_the_classifier(classifier, signatures):
    expected = classifier.predict(STUDIES).logits["text"]
    batch, reports = classifier.batches.batch(STUDIES), [classifier.batches.text.text(study) for study in STUDIES]
    for name, inputs in (("serving_default", {"token_ids": batch.token_ids}), ("serving_bytes", {"report": reports})):
        found = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        np.testing.assert_allclose(found["logits"], expected, atol=1e-5)
        np.testing.assert_allclose(found["probabilities"], classifier.probabilities(expected, batch.present), atol=1e-5)


def test_the_loader_in_cpp_says_the_same(classifier, exported):
    if open_library() is None:
        pytest.skip("this TensorFlow carries no C++ library with the loader")
    reports = np.array([classifier.batches.text.text(study).encode() for study in STUDIES], object)
    found = CppModel(exported).run("serving_bytes", {"report": reports})
    np.testing.assert_allclose(found["logits"], classifier.predict(STUDIES).logits["text"], atol=1e-5)


@pytest.fixture(scope="module")
def explained(classifier):
    """The explanation of each study by its id."""
    explainer = Explainer(classifier, ExplainSettings(steps=15, text_baseline="padding"))
    return {one.study: one for one in explainer.explain(STUDIES)}


def find_rows(classifier, study):
    """The rows of each word that was read at least in part, by hand: pieces of all words in a row, then cut."""
    text, vocabulary = classifier.batches.text, classifier.batches.vocabulary
    words = text.find(text.text(study))
    owners = [place for place, word in enumerate(words) for _ in vocabulary.split([word.text])[0]]
    owners = owners[: text.length] if text.truncate == "end" else owners[-text.length :]
    return {words[place]: [row for row, owner in enumerate(owners) if owner == place] for place in sorted(set(owners))}


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.id)
def test_explanations_sum_pieces_to_words(classifier, explained, study):
    one = explained[study.id]
    values, rows = one.attribution.values["rows"].astype(float), find_rows(classifier, study)
    scores = {(word.start, word.end): word for word in one.words}
    total = np.square(values[: sum(map(len, rows.values()))]).sum()
    for word, places in rows.items():
        score = scores.pop((word.start, word.end))
        assert score.text.lower() == word.text
        assert score.seen == (classifier.batches.vocabulary.pieces([word.text]) != ["[UNK]"])
        assert score.share == pytest.approx(np.square(values[places]).sum() / total)
        assert score.signed == pytest.approx(values[places].sum())
    assert all(not word.seen and not word.share for word in scores.values())
    assert bool(scores) == (study.id == "long")
    assert any(len(places) > 1 for places in rows.values()) == (study.id != "unknown")


def test_a_word_of_which_pieces_are_cut_off_keeps_the_others(classifier, explained):
    rows = {word.text: places for word, places in find_rows(classifier, STUDIES[0]).items()}
    assert rows["lung"] == ([11] if classifier.batches.text.truncate == "end" else [0])  # of l, ##un and ##g
    word = next(word for word in explained["long"].words if word.text == "lung")
    assert word.seen and word.share


def test_explanations_of_the_graph_are_per_piece_and_a_client_sums_them(classifier, explained, signatures):
    reports = [classifier.batches.text.text(study) for study in STUDIES]
    found = signatures["explain_bytes"](report=tf.constant(reports), target=tf.constant([-1, -1, -1]))
    outputs = {name: encode_tensor(value.numpy()) for name, value in found.items()}
    served = read_explanations(load_stubs().model_pb2.ModelSpec(), outputs, [False] * len(STUDIES), {"report"})
    for row, study in enumerate(STUDIES):
        one = explained[study.id]
        value = one.attribution.values["rows"].sum(axis=-1)
        np.testing.assert_allclose(found["token_attribution"][row], value, atol=1e-4 * np.abs(value).max())
        words = [word for word in one.words if word.share]
        assert [word.text for word in served[row].words][1:-1] == [word.text.lower() for word in words][1:-1]
        for word, expected in zip(served[row].words, words, strict=True):
            assert (word.share, word.signed) == pytest.approx((expected.share, expected.signed), abs=1e-3)
    edges = [served[0].words[0].text, served[0].words[-1].text]
    assert edges == (["no", "l"] if classifier.batches.text.truncate == "end" else ["##g", "all"])
    assert [word.text for word in served[2].words] == ["pneumothorax"]


def test_samples_are_made_of_pieces(classifier):
    samples = make_samples(classifier, 3)
    assert samples["token_ids"].max() > UNKNOWN and samples["token_ids"].any(axis=1).all()
