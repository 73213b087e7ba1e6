from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.errors import InputError
from kmm.text.vocabulary import MAX_FILE_BYTES, PADDING, UNKNOWN, Vocabulary, count_patients, find_rare, text_report

WORDS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=5)
DOCUMENTS = st.lists(st.lists(WORDS, max_size=8), max_size=8)


def test_frequent_words_come_first_and_equals_in_alphabetical_order():
    documents = [["mass", "no", "clear"], ["no", "clear", "apex"], ["no"]]
    assert Vocabulary.fit(documents).words == ("[PAD]", "[UNK]", "no", "clear", "apex", "mass")
    assert Vocabulary.fit(documents) == Vocabulary.fit([words[::-1] for words in documents[::-1]])


def test_rare_words_and_words_over_the_limit_are_left_out():
    documents = [["a", "a", "a", "b", "b", "c"]]
    assert Vocabulary.fit(documents, min_count=2).words[2:] == ("a", "b")
    assert Vocabulary.fit(documents, max_words=1).words[2:] == ("a",)
    assert len(Vocabulary.fit([])) == 2


def test_studies_of_one_patient_are_one_user_of_a_word():
    documents = [["mass", "rare"], ["mass", "rare", "rare"], ["mass"], []]
    assert count_patients(documents, ["a", "a", "b", "c"]) == {"mass": 2, "rare": 1}
    assert find_rare(count_patients(documents, ["a", "a", "b", "c"]), 2) == {"rare"}
    assert find_rare(count_patients(documents, ["a", "b", "b", "c"]), 2) == set()
    assert find_rare({"rare": 1}, 1) == find_rare({}, 2) == set()
    with pytest.raises(InputError, match="words occurs in reports of at least 3 patients"):
        find_rare({"mass": 2, "rare": 1}, 3)


@given(documents=DOCUMENTS, owners=st.lists(st.sampled_from("abc"), min_size=8, max_size=8))
def test_patients_are_counted_as_sets_count_them(documents, owners):
    pairs = {(word, owner) for words, owner in zip(documents, owners) for word in words}
    counts = count_patients(documents, owners[: len(documents)])
    assert counts == Counter(word for word, _ in pairs)


def test_encode_pads_and_cuts_at_either_end():
    vocabulary = Vocabulary.fit([["a", "a", "a", "b", "b", "c"]])
    assert vocabulary.encode(["c", "x", "a"], 5).tolist() == [4, UNKNOWN, 2, PADDING, PADDING]
    assert vocabulary.encode(["a", "b", "c"], 2).tolist() == [2, 3]
    assert vocabulary.encode(["a", "b", "c"], 2, truncate="start").tolist() == [3, 4]
    assert vocabulary.encode([], 2).tolist() == [0, 0]
    assert vocabulary.encode([]).shape == (140,)
    assert vocabulary.encode([]).dtype == np.int32
    with pytest.raises(InputError, match=r"`truncate` must be end or start. Received: 'middle'"):
        vocabulary.encode([], truncate="middle")


def test_extending_keeps_the_ids_and_adds_only_what_is_new():
    vocabulary = Vocabulary.fit([["no", "mass"]])
    more = vocabulary.extend(("cyst", "no", "cyst", "rib"))
    assert more.words == (*vocabulary.words, "cyst", "rib") and len(vocabulary) == 4
    assert vocabulary.extend(()) == vocabulary


@given(documents=DOCUMENTS)
def test_known_words_come_back_from_their_ids(documents):
    vocabulary = Vocabulary.fit(documents)
    for words in documents:
        ids = vocabulary.encode(words, length=8)
        assert [vocabulary.words[number] for number in ids if number != PADDING] == words
        assert UNKNOWN not in ids


@given(documents=DOCUMENTS)
def test_save_and_load(tmp_path_factory, documents):
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.txt"
    vocabulary = Vocabulary.fit(documents)
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary
    assert path.read_text(encoding="utf-8").split("\n")[: len(vocabulary)] == list(vocabulary.words)
    assert [file.name for file in path.parent.iterdir()] == ["vocabulary.txt"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "must start with"),
        (b"[PAD]\nno\n", "must start with"),
        (b"[PAD]\n[UNK]\nno\nno\n", "must be unique. Received: 1 repeated"),
        (b"[PAD]\n[UNK]\nno\n\nmass\n", "one word. Line 4 is empty"),
        (b"[PAD]\n[UNK]\nno mass\n", "Line 3"),
        (b"[PAD]\n[UNK]\n\xff\n", "not valid UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00", "not valid UTF-8"),
    ],
)
def test_a_file_of_something_else(tmp_path, content, expected):
    path = tmp_path / "vocabulary.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        Vocabulary.load(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_missing_file_and_a_huge_one(tmp_path):
    with pytest.raises(InputError, match=r"the vocabulary cannot be read \(No such file"):
        Vocabulary.load(tmp_path / "none.txt")
    with open(tmp_path / "huge.txt", "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(InputError, match="at most 100,000,000 bytes"):
        Vocabulary.load(tmp_path / "huge.txt")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "vocabulary.txt"
    Vocabulary.fit([["old"]]).save(path)

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        Vocabulary.fit([["new"]]).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["vocabulary.txt"]
    assert Vocabulary.load(path).words[2:] == ("old",)


def test_repr_shows_no_words():
    assert repr(Vocabulary.fit([["secret"]])) == "Vocabulary(3 words)"


def test_text_report():
    documents = [["a"] * 2, ["a", "b", "c", "x"], [], ["x"] * 4]
    report = text_report(documents, Vocabulary.fit([["a", "b", "c"]]), length=3)
    assert report == {
        "documents": 4,
        "empty_share": 0.25,
        "truncated_share": 0.5,
        "unknown_rate": 0.5,
        "length_median": 3.0,
        "length_p99": 4.0,
        "length_max": 4,
    }
    assert set(text_report([], Vocabulary.fit([])).values()) == {0}
