import contextlib
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kmm.errors import InputError
from kmm.text.vocabulary import Vocabulary
from kmm.text.word_vectors import WordVectors, embedding_matrix, load_word_vectors, train_word_vectors

VECTORS = WordVectors(("no", "œdème", "123"), np.array([[0.1, -2, 1e-30], [1 / 3, 4, 5e20], [0, -0.0, 7]], np.float32))


def make_documents(count=600, seed=0):
    """Two topics whose words never meet: vectors must tell them apart."""
    random = np.random.default_rng(seed)
    topics = [f"lung{i}" for i in range(6)], [f"bone{i}" for i in range(6)]
    return [list(random.choice(topics[i % 2], 8)) for i in range(count)]


def test_training_is_repeatable_and_learns_which_words_meet():
    documents = make_documents()
    vectors = train_word_vectors(iter(documents), 16, seed=1)
    again = train_word_vectors(documents, 16, seed=1)
    assert vectors.words == again.words and np.array_equal(vectors.vectors, again.vectors)
    assert not np.array_equal(vectors.vectors, train_word_vectors(documents, 16, seed=2).vectors)
    unit = vectors.vectors / np.linalg.norm(vectors.vectors, axis=1, keepdims=True)
    same = np.array([[a[:4] == b[:4] for a in vectors.words] for b in vectors.words])
    similarity = unit @ unit.T
    assert similarity[same].mean() > similarity[~same].mean() + 0.2


@pytest.mark.parametrize("skip_gram", [True, False])
def test_training_on_very_little(skip_gram):
    vectors = train_word_vectors([["one"], [], ["two", "two"]], 5, skip_gram=skip_gram)
    assert vectors.words == ("two", "one") and vectors.vectors.shape == (2, 5)
    assert train_word_vectors([["one"], [], ["two", "two"]], 5, min_count=2).words == ("two",)


@pytest.mark.parametrize("documents", [[], [[]], [["rare"]]])
def test_training_on_nothing(documents):
    with pytest.raises(InputError, match=r"No word occurs at least 2 times"):
        train_word_vectors(documents, 5, min_count=2)


@pytest.mark.parametrize("name", ["vectors.txt", "vectors.vec", "vectors.bin"])
def test_save_and_load_are_exact_and_agree_with_gensim(tmp_path, name):
    from gensim.models import KeyedVectors

    path = tmp_path / name
    VECTORS.save(path)
    loaded = load_word_vectors(path)
    assert loaded.words == VECTORS.words and np.array_equal(loaded.vectors, VECTORS.vectors)
    theirs = KeyedVectors.load_word2vec_format(str(path), binary=name.endswith("bin"))
    assert tuple(theirs.index_to_key) == VECTORS.words and np.array_equal(theirs.vectors, VECTORS.vectors)
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("options", [{"binary": False}, {"binary": True}, {"binary": False, "write_header": False}])
def test_files_of_gensim_load_whatever_their_name(tmp_path, options):
    from gensim.models import KeyedVectors

    theirs = KeyedVectors(VECTORS.dimensions)
    theirs.add_vectors(list(VECTORS.words), VECTORS.vectors)
    theirs.save_word2vec_format(str(tmp_path / "vectors"), **options)
    loaded = load_word_vectors(tmp_path / "vectors")
    assert loaded.words == VECTORS.words and np.array_equal(loaded.vectors, VECTORS.vectors)


@settings(max_examples=50)
@given(
    vectors=arrays.arrays(np.float32, (3, 4), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    suffix=st.sampled_from([".txt", ".bin"]),
)
@example(np.full((3, 4), np.finfo(np.float32).max), ".txt")
def test_any_numbers_come_back(tmp_path_factory, vectors, suffix):
    path = tmp_path_factory.mktemp("vectors") / f"vectors{suffix}"
    WordVectors(("a", "b", "c"), vectors).save(path)
    assert np.array_equal(load_word_vectors(path).vectors, vectors)


def test_glove_words_with_white_space_are_left_out(tmp_path):
    (tmp_path / "glove.txt").write_bytes(b"the 0.5 1\r\n. . 1 2\nmass 3e-1 4\n\xc2\xa0 3 4\n")
    loaded = load_word_vectors(tmp_path / "glove.txt")
    assert loaded.words == ("the", "mass")
    assert loaded.vectors.tolist() == [[0.5, 1.0], [np.float32(0.3), 4.0]]


def test_binary_with_and_without_line_ends(tmp_path):
    rows = [b"no " + struct.pack("<2f", 1, 2), b"mass " + struct.pack("<2f", 3, 4)]
    for name, end in (("with.bin", b"\n"), ("without.bin", b"")):
        (tmp_path / name).write_bytes(b"2 2\n" + end.join(rows) + end)
        loaded = load_word_vectors(tmp_path / name)
        assert loaded.words == ("no", "mass") and loaded.vectors.tolist() == [[1, 2], [3, 4]]


BINARY = b"1 2\nno " + struct.pack("<2f", 1, 2)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "Received: 0 vectors"),
        (b"word\n", "Line 1 is not a word and 1 finite numbers"),
        (b"Just some text.\nAnd more.", "Line 1 is not"),
        (b"no 1 2\nmass 1\n", "Line 2 is not a word and 2 finite numbers"),
        (b"no 1 2\nmass 1 2 3 4 five\n", "Line 2 is not"),
        (b"no 1 nan\n", "Line 1 is not"),
        (b"no 1 1e39\n", "Line 1 is not"),
        (b"no 1 2\n\n", "Line 2 is not"),
        (b"\xff\xfe 1 2\n", "text in UTF-16"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "Line 1 is not"),
        (b"\x1f\x8b\x08\x00garbage", "compressed by gzip"),
        (b"2 2\nno 1 2\n", "Received: 1 vectors instead of 2"),
        (b"1 2\nno 1 2\nmass 3 4\n", "Received: 2 vectors instead of 1"),
        (b"999999999999 300\nno 1 2\n", "999999999999 vectors of 300 numbers in a file of 24 bytes"),
        (b"5 999999\n" + b"\x00" * 60, "5 vectors of 999999 numbers in a file of 69 bytes"),
        (b"0 2\n", "0 vectors of 2 numbers"),
        (b"2 0\nno\nmass\n", "2 vectors of 0 numbers"),
        (BINARY[:-1], "Received: 0 vectors instead of the 1 of the header"),
        (BINARY[:-6], "1 vectors of 2 numbers in a file of 9 bytes"),
        (b"2 2\nno " + struct.pack("<2f", 1, 2) + b"xxxxxxxxx", "Received: 1 vectors instead of the 2 of the header"),
        (BINARY + b"and more", "more bytes than the 1 vectors"),
        (
            b"1 2\n\xff\xfe " + struct.pack("<2f", 1, 2),
            r"1 vectors, none of them .* \(1 with white space or bytes that are not UTF-8\)",
        ),
        (b"1 2\n\xc2\xa0 1 2\n", r"none of them .* \(1 with white space"),
        (b"2 3\nno 1 2\nmass 1 2\n", "Line 2 is a word and 2 numbers"),
        (b"1 2\n " + struct.pack("<2f", 1, 2) + b"\n", "Word 1 is empty"),
        (b"1 2\nno " + struct.pack("<2f", 1, np.inf), "must be finite"),
    ],
)
def test_a_file_of_something_else(tmp_path, content, expected):
    path = tmp_path / "vectors.any"
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected) as caught:
        load_word_vectors(path)
    assert str(caught.value).startswith(f"{path}: expected word vectors (word2vec text, word2vec binary or GloVe). ")
    assert "\n" not in str(caught.value)


@given(content=st.binary(max_size=80))
def test_any_bytes_load_or_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("vectors") / "vectors"
    for start in (b"", b"2 2\n", b"no 1 2\n"):
        path.write_bytes(start + content)
        with contextlib.suppress(InputError):
            assert np.isfinite(load_word_vectors(path).vectors).all()


def test_missing_file_and_unknown_suffix(tmp_path):
    with pytest.raises(InputError, match=r"the word vectors cannot be read \(No such file"):
        load_word_vectors(tmp_path / "none.txt")
    with pytest.raises(InputError, match=r"ends in .txt, .vec or .bin. Received: '.npz'"):
        VECTORS.save(tmp_path / "vectors.npz")


@pytest.mark.parametrize(
    ("words", "vectors"),
    [(("a",), [1.0]), (("a", "b"), [[1.0]]), ((), np.empty((0, 3))), (("a b",), [[1.0]]), (("a",), [[np.nan]])],
)
def test_words_and_vectors_that_do_not_fit(words, vectors):
    with pytest.raises(InputError):
        WordVectors(words, vectors)


def test_embedding_matrix():
    random = np.random.default_rng(0)
    words = tuple(f"w{i}" for i in range(50))
    vectors = WordVectors((*words, "w0"), random.normal(1.0, 2.0, (51, 40)))
    vocabulary = Vocabulary.fit([["w3", "w0", *(f"new{i:02}" for i in range(30))]])
    matrix, coverage = embedding_matrix(vectors, vocabulary, normalize=False, seed=1)
    ids = {word: number for number, word in enumerate(vocabulary.words)}
    assert matrix.shape == (34, 40) and matrix.dtype == np.float32
    assert not matrix[0].any()
    np.testing.assert_allclose(matrix[1], vectors.vectors.mean(axis=0), rtol=1e-5)
    assert np.array_equal(matrix[ids["w3"]], vectors.vectors[3])
    assert np.array_equal(matrix[ids["w0"]], vectors.vectors[0])  # the first of two
    noise = matrix[[ids[f"new{i:02}"] for i in range(30)]]
    assert noise.std() == pytest.approx(vectors.vectors.std(), rel=0.1)  # 1200 numbers: standard error 2 %
    assert abs(noise.mean()) < 0.25
    assert (coverage.types, coverage.tokens, coverage.missing) == (2 / 32, None, 30)
    assert coverage.examples == tuple(f"new{i:02}" for i in range(20))
    assert np.array_equal(matrix, embedding_matrix(vectors, vocabulary, normalize=False, seed=1)[0])
    assert not np.array_equal(matrix, embedding_matrix(vectors, vocabulary, normalize=False, seed=2)[0])


def test_normalized_rows_have_length_1_and_keep_their_directions_from_the_mean():
    vectors = WordVectors(("a", "b", "c", "d"), np.random.default_rng(0).normal(5.0, 1.0, (4, 6)))
    vocabulary = Vocabulary.fit([["a", "b", "c"]])
    matrix, _ = embedding_matrix(vectors, vocabulary)
    plain, _ = embedding_matrix(vectors, vocabulary, normalize=False)
    assert not matrix[:2].any()  # padding and unknown words
    np.testing.assert_allclose(np.linalg.norm(matrix[2:], axis=1), 1, rtol=1e-6)
    centered = plain[2:] - plain[2:].mean(axis=0)
    np.testing.assert_allclose(
        matrix[2:] * np.linalg.norm(centered, axis=1, keepdims=True), centered, rtol=1e-4, atol=1e-5
    )
    alone, _ = embedding_matrix(WordVectors(("a",), [[1.0, 2.0]]), Vocabulary.fit([["a"]]))
    assert not alone.any()


def test_words_without_a_vector_do_not_move_the_mean():
    vectors = WordVectors(("a", "b", "c"), np.random.default_rng(0).normal(5.0, 1.0, (3, 6)))
    alone, _ = embedding_matrix(vectors, Vocabulary.fit([["a", "b", "c"]]))
    matrix, _ = embedding_matrix(vectors, Vocabulary.fit([["a", "b", "c", *(f"new{i:03}" for i in range(500))]]))
    np.testing.assert_allclose(matrix[:5], alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(matrix[5:], axis=1), 1, rtol=1e-6)
    assert np.abs(matrix[5:].mean(axis=0)).max() < 5 / np.sqrt(6 * 500)  # 5 standard errors


def test_coverage_of_running_words_and_of_nothing():
    vocabulary = Vocabulary.fit([["no", "no", "mass"]])
    _, coverage = embedding_matrix(VECTORS, vocabulary, counts={"no": 2, "mass": 1, "rare": 1})
    assert (coverage.types, coverage.tokens, coverage.missing) == (0.5, 0.5, 1)
    assert "mass" not in repr(coverage)
    matrix, coverage = embedding_matrix(VECTORS, Vocabulary.fit([]), counts={})
    assert matrix.shape == (2, 3) and (coverage.types, coverage.tokens, coverage.missing) == (1.0, 0.0, 0)


def make_file(words, binary, *, header=True, mark=b""):
    rows = [(word, (number, 0.5)) for number, word in enumerate(words)]
    pack = (lambda row: struct.pack("<2f", *row)) if binary else (lambda row: b"%g %g" % row)
    first = b"%d 2\n" % len(rows) if header else b""
    return mark + first + b"".join(word + b" " + pack(row) + b"\n" for word, row in rows)


@pytest.mark.parametrize("binary", [False, True])
def test_words_that_are_not_utf8_are_passed_over_and_counted(tmp_path, binary):
    words = [b"mass", b"caf\xe9", b"\xff\xfe", b"lung", "caf\u00e9".encode()]
    (tmp_path / "v").write_bytes(make_file(words, binary))
    vectors = load_word_vectors(tmp_path / "v")
    assert vectors.words == ("mass", "lung", "caf\u00e9") and vectors.skipped == 2
    assert vectors.vectors[:, 0].tolist() == [0, 3, 4]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("header", [False, True])
def test_a_byte_order_mark_is_no_word(tmp_path, binary, header):
    if binary and not header:
        return
    (tmp_path / "v").write_bytes(make_file([b"mass", b"lung"], binary, header=header, mark=b"\xef\xbb\xbf"))
    vectors = load_word_vectors(tmp_path / "v")
    assert vectors.words == ("mass", "lung") and vectors.dimensions == 2


@pytest.mark.parametrize(
    ("content", "words", "dimensions"),
    [
        (b"2 3\nmass 1 2 3\nlung 4 5 6\n", ("mass", "lung"), 3),
        (b" 2  3 \r\nmass 1 2 3\r\nlung 4 5 6\r\n", ("mass", "lung"), 3),
        (b"2\t3\nmass\t1\t2\t3\nlung\t4\t5\t6", ("mass", "lung"), 3),
        (b"2 3 4\nmass 1 2\n", ("2", "mass"), 2),  # three numbers are no header: the word is "2"
        (b"2 3\nmass 4\nlung 5\n", ("2", "mass", "lung"), 1),
        (b"1 1\n2 5\n", ("2",), 1),  # as far as a header tells
        (b"mass 1 2 \nlung 3 4 \n", ("mass", "lung"), 2),
    ],
)
def test_a_header_is_recognised(tmp_path, content, words, dimensions):
    (tmp_path / "v.txt").write_bytes(content)
    vectors = load_word_vectors(tmp_path / "v.txt")
    assert (vectors.words, vectors.dimensions) == (words, dimensions)


def make_others():
    import bz2
    import gzip
    import io
    import lzma
    import pickle
    import zipfile

    text, archive, array = b"2 2\nmass 1 2\nlung 3 4\n", io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("v.txt", text)
    np.save(array, np.zeros((2, 2)))
    return {
        "gzip": gzip.compress(text),
        "zip archive": archive.getvalue(),
        "bzip2": bz2.compress(text),
        "xz": lzma.compress(text),
        "NumPy": array.getvalue(),
        "UTF-16": text.decode().encode("utf-16"),
        "fastText": struct.pack("<i", 793712314) + bytes(20),
        "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(20),
        **{f"pickle.*protocol{protocol}": pickle.dumps({"mass": [1.0]}, protocol) for protocol in range(6)},
    }


@pytest.mark.parametrize("kind", make_others())
def test_archives_pickles_and_other_formats_are_named_in_one_line(tmp_path, kind):
    path = tmp_path / "vectors.bin"
    path.write_bytes(make_others()[kind])
    with pytest.raises(InputError, match=kind.partition(".*")[0]) as caught:
        load_word_vectors(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_vectors_that_gensim_saved_by_itself_are_named(tmp_path):
    from gensim.models import KeyedVectors

    theirs = KeyedVectors(2)
    theirs.add_vectors(["mass", "lung"], np.eye(2, dtype=np.float32))
    theirs.save(str(tmp_path / "vectors.kv"))
    with pytest.raises(InputError, match=r"pickle.*save_word2vec_format"):
        load_word_vectors(tmp_path / "vectors.kv")


@pytest.mark.parametrize("binary", [False, True])
def test_the_first_other_words_of_the_file_are_kept_too(tmp_path, binary):
    (tmp_path / "v").write_bytes(make_file([b"The", b"of", b"mass", b"t-spine", b"cyst", b"rib", b"no"], binary))
    kept = load_word_vectors(tmp_path / "v", keep={"mass", "no"}, more=2, accept=str.isalpha)
    assert kept.words == ("The", "of", "mass", "no")
    kept = load_word_vectors(
        tmp_path / "v", keep={"mass"}, more=2, accept=lambda word: word.isalpha() and word.islower()
    )
    assert kept.words == ("of", "mass", "cyst") and kept.vectors[:, 0].tolist() == [1, 2, 4]
    with pytest.raises(InputError, match="none of them for a word of the reports"):
        load_word_vectors(tmp_path / "v", keep={"heart"}, more=2)


def test_words_of_the_file_are_composed_as_those_of_reports_are(tmp_path):
    (tmp_path / "v.txt").write_text("o\u0308dem 1 2\n", encoding="utf-8")
    assert load_word_vectors(tmp_path / "v.txt", keep={"\u00f6dem"}).words == ("\u00f6dem",)


@pytest.mark.parametrize("suffix", [".txt", ".bin"])
def test_only_the_words_that_are_looked_for_are_kept(tmp_path, suffix):
    path = tmp_path / f"vectors{suffix}"
    WordVectors(("no", "mass", "cyst"), [[1, 2], [3, 4], [5, 6]]).save(path)
    kept = load_word_vectors(path, keep={"cyst", "no", "heart"})
    assert kept.words == ("no", "cyst") and kept.vectors.tolist() == [[1, 2], [5, 6]]
    with pytest.raises(InputError, match="3 vectors, none of them for a word of the reports"):
        load_word_vectors(path, keep={"heart"})
