"""Word vectors of some studies only, and of both kinds of training."""

import csv

import numpy as np
import pytest

from kmm.text.word_vectors import load_word_vectors
from tests.factories.commands import run


@pytest.fixture
def studies(tmp_path):
    """A manifest of 12 studies and a split of it; the reports of each part have a word of their own."""
    words = {"train": "apex", "validation": "hilum", "test": "spine"}
    parts = {str(number): part for number, part in enumerate(["train", "train", "validation", "test"] * 3)}
    rows = [["id", "report"], *([id, f"There is no mass in the {words[part]}."] for id, part in parts.items())]
    split = [["study", "patient", "part"], *([id, id, part] for id, part in parts.items())]
    for name, lines in (("manifest.csv", rows), ("split.csv", split)):
        with open(tmp_path / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(lines)
    return tmp_path


def embed(studies, *options):
    out = studies / "vectors.txt"
    result = run("weights", "embed", studies, "--out", out, "--dimensions", 8, "--epochs", 3, *options)
    assert result.exit_code == 0, result.stderr
    return load_word_vectors(out)


def test_with_a_split_only_training_reports_are_read(studies):
    whole, part = embed(studies), embed(studies, "--split", studies / "split.csv")
    assert {"apex", "hilum", "spine"} <= set(whole.words)
    assert set(whole.words) - set(part.words) == {"hilum", "spine"}
    again = embed(studies, "--split", studies / "split.csv")
    assert np.array_equal(again.vectors, part.vectors)
    at = [whole.words.index(word) for word in part.words]
    assert not np.allclose(whole.vectors[at], part.vectors)


def test_cbow_learns_other_vectors_of_the_same_words(studies):
    skip_gram, cbow = embed(studies), embed(studies, "--cbow")
    assert set(cbow.words) == set(skip_gram.words)
    at = [skip_gram.words.index(word) for word in cbow.words]
    assert not np.allclose(skip_gram.vectors[at], cbow.vectors)


def test_a_split_without_training_studies_leaves_nothing_to_learn(studies):
    (studies / "split.csv").write_text("study,part\n0,test\n")
    result = run("weights", "embed", studies, "--out", studies / "v.txt", "--split", studies / "split.csv")
    assert result.exit_code == 2 and result.stderr.count("kmm: ") == 1 and not (studies / "v.txt").exists()


def test_a_suffix_that_cannot_be_written_is_refused_before_all_work(tmp_path):
    result = run("weights", "embed", tmp_path / "gone", "--out", tmp_path / "v.kv")
    assert result.exit_code == 2 and "v.kv: expected a name that ends in" in result.stderr


def test_the_layout_and_what_is_left_unread_are_said(studies):
    (studies / "ecgen-radiology").mkdir()
    xml = '<eCitation><uId id="CXR1"/><AbstractText Label="FINDINGS">No mass seen.</AbstractText></eCitation>'
    (studies / "ecgen-radiology" / "1.xml").write_text(xml)
    result = run("weights", "embed", studies, "--out", studies / "v.txt", "--dimensions", 2, "--epochs", 1)
    assert "(ecgen-radiology, no films); left unread: manifest.csv, 1 study\n" in result.stderr


def test_words_of_one_patient_are_left_out_of_the_file(studies):
    table = studies / "manifest.csv"
    table.write_text(table.read_text() + '12,"A mass of Quixley, Quixley."\n')
    assert "quixley" not in embed(studies).words and {"mass", "apex"} <= set(embed(studies).words)
    result = run("weights", "embed", studies, "--out", studies / "w.txt", "--dimensions", 2, "--epochs", 1)
    assert "3 words of fewer than 2 patients are left out\n" in result.stdout and "quixley" not in result.output
    assert "quixley" in embed(studies, "--min-word-patients", 1).words
    result = run("weights", "embed", studies, "--out", studies / "v.txt", "--min-word-patients", 99)
    assert result.exit_code == 2 and "words occurs in reports of at least 99 patients" in result.stderr
    assert not (studies / "v.txt").exists()


@pytest.mark.parametrize("suffix", [".txt", ".bin"])
def test_embed_writes_vectors_that_load_and_repeat(tiny_folder, tmp_path, suffix):
    for name in ("a", "b"):
        place = tmp_path / f"{name}{suffix}"
        result = run("weights", "embed", tiny_folder, "--out", place, "--dimensions", 6, "--epochs", 2, "--seed", 4)
        assert result.exit_code == 0 and "6 dimensions" in result.stdout and str(place) in result.stdout
    vectors = load_word_vectors(tmp_path / f"a{suffix}")
    assert vectors.dimensions == 6 and {"mass", "cough", "no"} <= set(vectors.words)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_embed_reads_the_sections_asked_for(tiny_folder, tmp_path):
    result = run(
        "weights", "embed", tiny_folder, "--out", tmp_path / "v.txt", "--sections", "pre-read", "--dimensions", 3
    )
    assert result.exit_code == 0, result.stderr
    assert set(load_word_vectors(tmp_path / "v.txt").words) == {"cough", "none"}
