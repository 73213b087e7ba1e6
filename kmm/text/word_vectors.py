"""Word vectors: trained on reports, loaded, saved, and laid out for a vocabulary."""

import codecs
import mmap
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kmm.errors import InputError
from kmm.storage.files import replace_file
from kmm.text.clean import compose
from kmm.text.vocabulary import PADDING, SPECIAL_WORDS, UNKNOWN

HEADER = re.compile(rb"[ \t]*(\d{1,12})[ \t]+(\d{1,6})[ \t]*\r?\n")
EXPECTED = "expected word vectors (word2vec text, word2vec binary or GloVe)"
MAX_LINE_BYTES = 1_000_000
FLOAT_LIMIT = 2.0**128 - 2.0**103  # what is smaller rounds to a finite float32
MAGIC_BYTES = 8
PICKLED = (
    "a Python pickle, as gensim's own save writes it (.kv, .model); kmm opens none. In gensim: "
    "vectors.save_word2vec_format('vectors.bin', binary=True)"
)
OTHER_FILES = (
    (b"\x1f\x8b", "a file compressed by gzip. Unpack it first (gunzip)"),
    (b"PK\x03\x04", "a zip archive. Unpack it first (unzip)"),
    (b"BZh", "a file compressed by bzip2. Unpack it first (bunzip2)"),
    (b"\xfd7zXZ\x00", "a file compressed by xz. Unpack it first (unxz)"),
    (b"\x28\xb5\x2f\xfd", "a file compressed by zstd. Unpack it first (unzstd)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive. Unpack it first"),
    *((bytes([0x80, protocol]), PICKLED) for protocol in range(2, 6)),
    *((start, PICKLED) for start in (b"(dp0\n", b"(lp0\n", b"ccopy_reg", b"ccopyreg", b"}q\x00", b"]q\x00")),  # 0 and 1
    (b"\x93NUMPY", "a NumPy array, which holds no words. Save words and vectors as word2vec text or binary"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file. Save words and vectors as word2vec text or binary"),
    (b"\xba\x16\x4f\x2f", "a fastText model. Use the .vec file that fastText writes beside it"),
    (codecs.BOM_UTF16_LE, "text in UTF-16. Save it as UTF-8"),
    (codecs.BOM_UTF16_BE, "text in UTF-16. Save it as UTF-8"),
)
BINARY_SUFFIXES, TEXT_SUFFIXES = (".bin",), (".txt", ".vec")


@dataclass(frozen=True)
class WordVectors:
    """Words and their vectors.

    Attributes:
        words: tuple of n str without white space. Of a word that comes twice, the first counts.
        vectors: float32 `(n, dimensions)`, finite.
        passed_over: int. Words of a file that was read that no report can hold.

    Raises:
        InputError: if words and vectors do not fit together or a number is not finite.

    Example:
        >>> WordVectors(("mass",), [[0.5, 1.0]])
        WordVectors(1 words, 2 dimensions)
    """

    words: tuple[str, ...]
    vectors: np.ndarray
    passed_over: int = 0

    def __post_init__(self):
        object.__setattr__(self, "words", tuple(self.words))
        object.__setattr__(self, "vectors", np.asarray(self.vectors, np.float32))
        if self.vectors.ndim != 2 or 0 in self.vectors.shape or len(self.words) != len(self.vectors):
            received = f"{len(self.words)} words and an array {self.vectors.shape}"
            raise InputError(f"Word vectors must be one row a word. Received: {received}")
        if not np.isfinite(self.vectors).all():
            raise InputError("Word vectors must be finite. Received: NaN or infinity")
        if any(word.split() != [word] for word in self.words):
            raise InputError("The words of word vectors must not be empty or hold white space.")

    def __len__(self):
        return len(self.words)

    def __repr__(self):
        return f"WordVectors({len(self)} words, {self.dimensions} dimensions)"

    @property
    def dimensions(self):
        """The length of a vector."""
        return self.vectors.shape[1]

    def save(self, path):
        """Writes the vectors, whole or not at all: `.txt` and `.vec` word2vec text, `.bin` word2vec binary; both exact.

        Raises:
            InputError: for another suffix.
        """
        path = Path(path)
        check_suffix(path)
        with replace_file(path) as place, open(place, "wb") as file:
            file.write(f"{len(self)} {self.dimensions}\n".encode())
            for word, vector in zip(self.words, self.vectors):
                binary = path.suffix in BINARY_SUFFIXES
                numbers = vector.astype("<f4").tobytes() if binary else " ".join(vector.astype(str)).encode()
                file.write(word.encode() + b" " + numbers + b"\n")


def check_suffix(path):
    """Raises `InputError` if word vectors cannot be saved under this name.

    Example:
        >>> check_suffix("vectors.kv")
        Traceback (most recent call last):
        kmm.errors.InputError: vectors.kv: expected a name that ends in .txt, .vec or .bin. Received: '.kv'
    """
    suffix = Path(path).suffix
    if suffix not in BINARY_SUFFIXES + TEXT_SUFFIXES:
        raise InputError(f"{path}: expected a name that ends in .txt, .vec or .bin. Received: {suffix!r}")


def train_word_vectors(documents, dimensions=300, *, window=5, epochs=10, min_count=1, seed=0, skip_gram=True):
    """Trains Word2Vec with negative sampling, on one thread, so that the same input and seed give the same vectors.

    Args:
        documents: iterable of lists of str: the words of each training report.
        dimensions: int. Length of a vector.
        window: int. Words to each side that a word is to predict.
        epochs: int. Passes over the documents.
        min_count: int. A rarer word gets no vector.
        seed: int, not negative.
        skip_gram: bool. False trains a continuous bag of words: faster, weaker on few reports.

    Returns:
        `WordVectors`, the most frequent word first.

    Raises:
        InputError: if no word is frequent enough.

    Source: https://arxiv.org/abs/1310.4546
    """
    from gensim.models import Word2Vec

    model = Word2Vec(
        vector_size=dimensions,
        window=window,
        min_count=min_count,
        sg=int(skip_gram),
        seed=seed,
        workers=1,
        epochs=epochs,
    )
    documents = list(documents)
    model.build_vocab(documents)
    if not len(model.wv):
        raise InputError(f"Word vectors need a word that is met at least {min_count} times. Received: none")
    model.train(documents, total_examples=len(documents), epochs=epochs)
    return WordVectors(tuple(model.wv.index_to_key), model.wv.vectors)


def load_word_vectors(path, *, keep=None, more=0, accept=None):
    """Reads word vectors; what the file holds decides the format: word2vec text, word2vec binary, or GloVe (no header).

    A first line of two whole numbers is a header, with or without a byte order mark before it.

    Args:
        path: of the file, not compressed. It is read as a stream, so it may be larger than the memory.
        keep: collection of words, or None for all. The others are read over, so that millions of vectors cost nothing.
        more: int. Besides the words of `keep`, the first so many others of the file are kept.
        accept: function of a word to bool, or None for any: whether a word counts among those others.

    Returns:
        `WordVectors`, in the order of the file. Words that no report can hold, with white space (some GloVe files) or
        bytes that are not UTF-8 (some files of the C tool), are passed over and counted in `passed_over`.

    Raises:
        InputError: if the file is missing, compressed, a pickle or something else; it names the file, and the line
            where that is known.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            refuse_other_files(file.read(MAGIC_BYTES))
            file.seek(0)
            return _read_file(file, path.stat().st_size, _Chosen(keep, more, accept))
    except OSError as error:
        raise InputError(f"{path}: {EXPECTED}. Received: {error.strerror}") from None
    except InputError as error:
        raise InputError(f"{path}: {EXPECTED}. {error}") from None


def refuse_other_files(start):
    """Raises `InputError` if the first bytes of a file are those of an archive, a pickle or another known format.

    Example:
        >>> refuse_other_files(bytes([31, 139, 8]))
        Traceback (most recent call last):
        kmm.errors.InputError: Received: a file compressed by gzip. Unpack it first (gunzip)
    """
    for magic, kind in OTHER_FILES:
        if start.startswith(magic):
            raise InputError(f"Received: {kind}")


class _Chosen:
    """The words that are kept of a file, composed as those of reports are, with their vectors, and how many were passed
    over."""

    def __init__(self, keep, more, accept):
        self.keep, self.more, self.accept = keep, more, accept or (lambda word: True)
        self.words, self.rows, self.passed_over = [], [], 0

    def offer(self, data, make_row):
        """Keeps a word, given as bytes, if it is wanted; only then its vector is made."""
        try:
            word = compose(data.decode("utf-8"))
        except UnicodeDecodeError:
            word = ""
        if word.split() != [word]:
            self.passed_over += 1
        elif self._wants(word):
            self.words.append(word)
            self.rows.append(make_row())

    def _wants(self, word):
        if self.keep is None or word in self.keep:
            return True
        if self.more > 0 and self.accept(word):
            self.more -= 1
            return True
        return False

    def gather(self, count):
        if not self.words or (self.keep is not None and not any(word in self.keep for word in self.words)):
            over = f" ({self.passed_over} with white space or bytes that are not UTF-8)" if self.passed_over else ""
            raise InputError(f"Received: {count} vectors, none of them of a word that is looked for{over}")
        return WordVectors(tuple(self.words), np.array(self.rows), self.passed_over)


def _read_file(file, size, chosen):
    start = len(codecs.BOM_UTF8) if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8 else 0
    file.seek(start)
    header = HEADER.fullmatch(file.readline(64))
    if not header:
        file.seek(start)
        return _read_text(file, chosen, first_line=1)
    count, dimensions, body = int(header[1]), int(header[2]), start + header.end()
    second = file.readline(MAX_LINE_BYTES)
    if _is_text(second, dimensions):
        _check_size(size, count * (2 * dimensions + 1), count, dimensions)
        file.seek(body)
        return _read_text(file, chosen, first_line=2, count=count, dimensions=dimensions)
    if _is_text(second, 1) and len(second.split()) == 2 and header[2] != b"1":
        file.seek(start)  # GloVe of one dimension, whose first word is a number
        return _read_text(file, chosen, first_line=1)
    try:
        _check_size(size, count * (4 * dimensions + 2), count, dimensions)
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _read_binary(data, chosen, position=body, count=count, dimensions=dimensions)
    except InputError as error:
        numbers = len(second.split()) - 1
        if numbers > 0 and _is_text(second, numbers):  # no binary file begins so
            raise InputError(f"{error}. Line 2 is a word and {numbers} numbers") from None
        raise


def _check_size(size, needed, count, dimensions):
    if count < 1 or dimensions < 1 or size < needed:
        raise InputError(f"Received: a header of {count} vectors of {dimensions} numbers in a file of {size} bytes")


def _is_text(line, dimensions):
    """Whether a line is a word and `dimensions` numbers."""
    fields = line.split()[-dimensions:]
    return len(fields) == dimensions and all(re.fullmatch(rb"[-+.\deE]+|[-+]?(nan|inf)", field) for field in fields)


def _read_text(file, chosen, *, first_line, count=None, dimensions=None):
    """Reads lines of a word and its numbers. Without a header the first line says how many numbers there are."""
    number = first_line - 1
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES), b""), start=first_line):
        dimensions = dimensions or max(len(line.split()) - 1, 1)
        fields = line.rsplit(None, maxsplit=dimensions)
        word = b"" if line[:1].isspace() and len(fields) == dimensions else fields.pop(0) if fields else b""
        try:
            row = np.array([float(text) for text in fields])
        except ValueError:
            row = np.empty(0)
        if row.shape != (dimensions,) or not (np.abs(row) < FLOAT_LIMIT).all():
            raise InputError(f"Received: something other than a word and {dimensions} finite numbers on line {number}")
        chosen.offer(word, lambda row=row: row.astype(np.float32))
    if number < first_line or count not in (None, number + 1 - first_line):
        raise InputError(
            f"Received: {number + 1 - first_line} vectors{'' if count is None else f' instead of {count}'}"
        )
    return chosen.gather(number + 1 - first_line)


def _read_binary(data, chosen, *, position, count, dimensions):
    """Reads a word, a space and `dimensions` little-endian float32, `count` times; line ends between are allowed."""
    for number in range(count):
        space = data.find(b" ", position)
        end = space + 1 + 4 * dimensions
        if space < 0 or end > len(data):
            raise InputError(f"Received: {number} vectors where the header says {count}")
        word = data[position:space].lstrip(b"\n")
        if not word:
            raise InputError(f"The words must not be empty. Received: an empty one as word {number + 1}")
        chosen.offer(word, lambda first=space + 1, last=end: np.frombuffer(data[first:last], "<f4"))
        position = end
    if data[position:].strip(b"\n"):
        raise InputError(f"Received: more bytes than the {count} vectors of the header")
    return chosen.gather(count)


@dataclass(frozen=True)
class Coverage:
    """How much of a vocabulary has a vector.

    Attributes:
        types: share of the words, in 0..1; 1 when there are none.
        tokens: share of the running words, in 0..1, or None where the counts were not given.
        missing: int. Words without a vector.
        examples: tuple of up to 20 of them, the most frequent first. Not shown in `repr`: they come from reports.
    """

    types: float
    tokens: float | None
    missing: int
    examples: tuple[str, ...] = field(repr=False)


def embedding_matrix(vectors, vocabulary, *, counts=None, normalize=True, seed=0):
    """Lays out word vectors by the ids of a vocabulary.

    Vectors of few reports all point much the same way, which hides what tells words apart; so what they have in common
    is taken off, and each is brought to length 1.

    Args:
        vectors: `WordVectors`.
        vocabulary: `Vocabulary`.
        counts: mapping of words to how often the training reports hold them, for `Coverage.tokens`, or None.
        normalize: bool. Take the mean of the rows with a vector off each of them, and bring all rows to length 1; False
            leaves the vectors as they are.
        seed: int.

    Returns:
        float32 `(len(vocabulary), dimensions)`, and a `Coverage`. The row of padding is zero, that of unknown words the
        mean of all vectors (zero once that is taken off); a word without a vector gets normal noise with their standard
        deviation.

    Source: https://arxiv.org/abs/1702.01417

    Example:
        >>> from kmm.text.vocabulary import Vocabulary
        >>> vectors = WordVectors(("no", "mass"), [[1, 2], [3, 4]])
        >>> vocabulary = Vocabulary.fit([["mass", "cyst"]])
        >>> matrix, coverage = embedding_matrix(vectors, vocabulary, counts={"mass": 3, "cyst": 1}, normalize=False)
        >>> matrix[[0, 1, 3]].tolist()
        [[0.0, 0.0], [2.0, 3.0], [3.0, 4.0]]
        >>> coverage
        Coverage(types=0.5, tokens=0.75, missing=1)
    """
    rows = {word: row for row, word in reversed(list(enumerate(vectors.words)))}
    scale = vectors.vectors.std(dtype=np.float64)
    noise = np.random.default_rng(seed).normal(0.0, scale, (len(vocabulary), vectors.dimensions))
    matrix = noise.astype(np.float32)
    matrix[PADDING] = 0.0
    matrix[UNKNOWN] = vectors.vectors.mean(axis=0, dtype=np.float64)
    words = vocabulary.words[len(SPECIAL_WORDS) :]
    for number, word in enumerate(words, start=len(SPECIAL_WORDS)):
        if word in rows:
            matrix[number] = vectors.vectors[rows[word]]
    if normalize:
        matrix[UNKNOWN] = 0.0
        known = np.array([word in rows for word in words], bool)
        matrix[len(SPECIAL_WORDS) :] = _normalize(matrix[len(SPECIAL_WORDS) :], known)
    return matrix, measure_coverage(vectors, vocabulary, counts=counts)


def measure_coverage(vectors, vocabulary, *, counts=None):
    """Measures how much of a vocabulary has a vector.

    Args:
        vectors, vocabulary, counts: as in `embedding_matrix`.

    Returns:
        `Coverage`.
    """
    rows, words = set(vectors.words), vocabulary.words[len(SPECIAL_WORDS) :]
    missing = [word for word in words if word not in rows]
    tokens = None
    if counts is not None:
        tokens = sum(n for word, n in counts.items() if word in rows) / max(sum(counts.values()), 1)
    types = 1 - len(missing) / max(len(words), 1)
    return Coverage(types=types, tokens=tokens, missing=len(missing), examples=tuple(missing[:20]))


def _normalize(rows, known):
    """Rows, the known ones less what these have in common, each of length 1; one that is nothing else becomes zero."""
    rows = rows.astype(np.float64)
    if known.any():
        rows[known] -= rows[known].mean(axis=0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-12)
