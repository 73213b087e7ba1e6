"""Words are cut as BERT cuts them; the `tokenizers` package is the reference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.models import WordPiece

from kmm.errors import InputError
from kmm.text.vocabulary import MAX_FILE_BYTES, SPECIAL_WORDS, UNKNOWN, Vocabulary, text_report
from kmm.text.word_pieces import CONTINUED, MAX_WORD, WordPieces

LETTERS = "abéß漢𐐀"
TEXTS = st.text(st.sampled_from(LETTERS), min_size=1, max_size=4)
PIECES = st.lists(st.tuples(st.sampled_from(["", CONTINUED]), TEXTS).map("".join), min_size=1, max_size=30, unique=True)
WORDS = st.lists(st.text(st.sampled_from(LETTERS), min_size=1, max_size=12), max_size=8)


def make_pieces(pieces):
    return WordPieces((*SPECIAL_WORDS, *pieces))


@given(pieces=PIECES, words=WORDS)
def test_pieces_are_those_of_the_reference(pieces, words):
    vocabulary = make_pieces(pieces)
    ids = {piece: number for number, piece in enumerate(vocabulary.words)}
    reference = WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100)
    expected = [tuple(token.value for token in reference.tokenize(word)) for word in words]
    assert vocabulary.split(words) == expected
    assert vocabulary.pieces(words) == [piece for found in expected for piece in found]
    assert vocabulary.encode(words, length=100).tolist()[: len(vocabulary.pieces(words))] == [
        token.id for word in words for token in reference.tokenize(word)
    ]


@given(pieces=PIECES, words=WORDS)
def test_pieces_of_a_word_joined_are_the_word(pieces, words):
    for word, found in zip(words, make_pieces(pieces).split(words), strict=True):
        assert found == ("[UNK]",) or "".join(piece.removeprefix(CONTINUED) for piece in found) == word
        assert not found[0].startswith(CONTINUED) and all(piece.startswith(CONTINUED) for piece in found[1:])


def test_a_word_is_cut_whole_or_not_at_all_and_up_to_100_characters():
    vocabulary = make_pieces(["un", "##aff", "##able", "a", "##a"])
    found = vocabulary.split(["unaffable", "unaffably", "able", "a" * MAX_WORD, "a" * (MAX_WORD + 1)])
    assert found[:3] == [("un", "##aff", "##able"), ("[UNK]",), ("[UNK]",)]
    assert found[3] == ("a", *["##a"] * (MAX_WORD - 1)) and found[4] == ("[UNK]",)
    assert vocabulary.split([]) == []


def test_ids_are_cut_by_pieces_at_either_end():
    vocabulary = make_pieces(["no", "card", "##io"])
    words = ["no", "cardio", "x", "no"]
    assert vocabulary.encode(words, 7).tolist() == [2, 3, 4, UNKNOWN, 2, 0, 0]
    assert vocabulary.encode(words, 2).tolist() == [2, 3]
    assert vocabulary.encode(words, 4, truncate="start").tolist() == [3, 4, 1, 2]
    assert vocabulary.encode(words, 3, truncate="start").tolist() == [4, 1, 2]


def test_whole_words_are_their_own_pieces():
    vocabulary = Vocabulary.fit([["no", "mass"]])
    assert vocabulary.split(["no", "cyst"]) == [("no",), ("cyst",)]
    assert vocabulary.pieces(["no", "cyst"]) == ["no", "cyst"]


def test_a_report_on_pieces_counts_words_that_cannot_be_cut():
    vocabulary = make_pieces(["no", "card", "##io"])
    report = text_report([vocabulary.pieces(["no", "cardio", "cyst"])], vocabulary, length=3)
    assert (report["unknown_rate"], report["length_max"], report["truncated_share"]) == (0.25, 4, 1.0)


def test_a_file_of_bert(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_bytes("[PAD]\r\n[unused0]\r\n[UNK]\r\n[CLS]\r\n[SEP]\r\n[MASK]\r\n[\r\n]\r\n##s\r\nnö\r\n".encode())
    vocabulary = WordPieces.read(path)
    assert vocabulary.words == ("[PAD]", "[UNK]", "[", "]", "##s", "nö")
    assert repr(vocabulary) == "WordPieces(6 words)" and vocabulary.longest == 3
    vocabulary.save(tmp_path / "vocabulary.txt")
    assert WordPieces.load(tmp_path / "vocabulary.txt") == WordPieces.read(tmp_path / "vocabulary.txt") == vocabulary
    assert Vocabulary.load(tmp_path / "vocabulary.txt") != vocabulary


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "must be one word. Line 1 is empty"),
        (b"[PAD]\n[UNK]\n[CLS]\n", "Received: none"),
        (b"[PAD]\nno\n##s\n", r"expected the word pieces of a BERT\. The line \[UNK\] is missing"),
        (b"[UNK]\nno\n##s\nno\n", "must be unique. Received: 1 repeated"),
        (b"[PAD]\n[unused0]\n[UNK]\nno\n\n##s\n", "Line 5 is empty or has white space"),
        (b"[UNK]\nno 0.1 0.2\n", "Line 2 is empty or has white space"),
        (b"[UNK]\n##" + b"a" * 101, "word pieces of up to 100 characters. Received: 101"),
        (b"[UNK]\n##\n", "Received: none"),
        (b"\x89PNG\r\n\x1a\n\x00", "not valid UTF-8"),
    ],
)
def test_a_file_of_something_else(tmp_path, content, expected):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        WordPieces.read(path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


def test_a_missing_file_and_a_huge_one(tmp_path):
    with pytest.raises(InputError, match=r"none.txt: the vocabulary cannot be read \(No such file"):
        WordPieces.read(tmp_path / "none.txt")
    with open(tmp_path / "huge.txt", "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(InputError, match=r"huge.txt: expected a vocabulary of at most"):
        WordPieces.read(tmp_path / "huge.txt")
