"""Train, load and save word vectors, and arrange them as the embedding matrix of a vocabulary."""

import codecs
import mmap
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kmm.errors import InputError
from kmm.storage.files import replace_file
from kmm.text.clean import compose
from kmm.text.vocabulary import PADDING, SPECIAL_WORDS, UNKNOWN, Vocabulary

HEADER = re.compile(rb"[ \t]*(\d{1,12})[ \t]+(\d{1,6})[ \t]*\r?\n")
EXPECTED = "expected word vectors (word2vec text, word2vec binary or GloVe)"
MAX_LINE_BYTES = 1_000_000
FLOAT_LIMIT = 2.0**128 - 2.0**103  # smaller numbers round to a finite float32
MAGIC_BYTES = 8
PICKLED = (
    "a Python pickle, as written by gensim's `save` (.kv, .model); kmm does not open pickles. Export it from gensim: "
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
    (b"\x93NUMPY", "a NumPy array, which has no words. Save words and vectors as word2vec text or binary"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file. Save words and vectors as word2vec text or binary"),
    (b"\xba\x16\x4f\x2f", "a fastText model. Use the .vec file that fastText writes next to it"),
    (codecs.BOM_UTF16_LE, "text in UTF-16. Save it as UTF-8"),
    (codecs.BOM_UTF16_BE, "text in UTF-16. Save it as UTF-8"),
)
BINARY_SUFFIXES, TEXT_SUFFIXES = (".bin",), (".txt", ".vec")


@dataclass(frozen=True)
class WordVectors:
    """Words and their vectors.

    Attributes:
        words: tuple of n str without white space. If a word is repeated, its first vector is used.
        vectors: float32 `(n, dimensions)`, finite.
        skipped: int. Number of words in the file that were skipped because they cannot occur in a report.

    Raises:
        InputError: if words and vectors do not fit together or a number is not finite.

    Example:
        >>> WordVectors(("mass",), [[0.5, 1.0]])
        WordVectors(1 words, 2 dimensions)
    """

    words: tuple[str, ...]
    vectors: np.ndarray
    skipped: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        object.__setattr__(self, "vectors", np.asarray(self.vectors, np.float32))
        if self.vectors.ndim != 2 or 0 in self.vectors.shape or len(self.words) != len(self.vectors):
            received = f"{len(self.words)} words and an array {self.vectors.shape}"
            raise InputError(f"Word vectors must have one row per word. Received: {received}")
        if not np.isfinite(self.vectors).all():
            raise InputError("Word vectors must be finite. Received: NaN or infinity")
        if any(word.split() != [word] for word in self.words):
            raise InputError("The words of word vectors must not be empty or contain white space.")

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        return f"WordVectors({len(self)} words, {self.dimensions} dimensions)"

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return self.vectors.shape[1]

    def save(self, path: Path | str) -> None:
        """Writes the vectors exactly: word2vec text for `.txt` and `.vec`, word2vec binary for `.bin`.

        The file is written whole or not at all.

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


def check_suffix(path: Path | str) -> None:
    """Raises `InputError` if word vectors cannot be saved under this name.

    Example:
        >>> check_suffix("vectors.kv")
        Traceback (most recent call last):
        kmm.errors.InputError: vectors.kv: expected a name that ends in .txt, .vec or .bin. Received: '.kv'
    """
    suffix = Path(path).suffix
    if suffix not in BINARY_SUFFIXES + TEXT_SUFFIXES:
        raise InputError(f"{path}: expected a name that ends in .txt, .vec or .bin. Received: {suffix!r}")


def train_word_vectors(
    documents: Iterable[list[str]],
    dimensions: int = 300,
    *,
    window: int = 5,
    epochs: int = 10,
    min_count: int = 1,
    seed: int = 0,
    skip_gram: bool = True,
) -> WordVectors:
    """Trains Word2Vec with negative sampling, on one thread, so that the same input and seed give the same vectors.

    Args:
        documents: iterable of lists of str: the words of each training report.
        dimensions: int. Length of a vector.
        window: int. Number of words on each side that a word predicts.
        epochs: int. Passes over the documents.
        min_count: int. Rarer words get no vector.
        seed: int, not negative.
        skip_gram: bool. False trains a continuous bag of words, which is faster, but weaker on few reports.

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
        raise InputError(f"No word occurs at least {min_count} times. Use more reports or a smaller `min_count`.")
    model.train(documents, total_examples=len(documents), epochs=epochs)
    return WordVectors(tuple(model.wv.index_to_key), model.wv.vectors)


def load_word_vectors(
    path: Path | str,
    *,
    keep: Collection[str] | None = None,
    more: int = 0,
    accept: Callable[[str], bool] | None = None,
) -> WordVectors:
    """Reads word vectors from word2vec text, word2vec binary or GloVe (without a header), recognised by content.

    A first line of two whole numbers is a header, with or without a byte order mark before it.

    Args:
        path: of the file, not compressed. It is read as a stream, so it may be larger than the memory.
        keep: collection of words, or None for all. Other words are skipped, so that millions of vectors need no memory.
        more: int. Number of words to keep besides those of `keep`: the first ones in the file.
        accept: function of a word to bool, or None. Only words for which it is True count among `more`.

    Returns:
        `WordVectors`, in the order of the file. Words that cannot occur in a report, with white space (in some GloVe
        files) or bytes that are not UTF-8 (in some files of the C tool), are skipped and counted in `skipped`.

    Raises:
        InputError: if the file is missing, compressed, a pickle or in another format; it names the file, and the line
            if it is known.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            refuse_other_files(file.read(MAGIC_BYTES))
            file.seek(0)
            return _read_file(file, path.stat().st_size, _Chosen(keep, more, accept))
    except OSError as error:
        raise InputError(f"{path}: the word vectors cannot be read ({error.strerror})") from None
    except InputError as error:
        raise InputError(f"{path}: {EXPECTED}. {error}") from None


def refuse_other_files(start: bytes) -> None:
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
    """The words that are kept from a file, composed like those of reports, with their vectors."""

    def __init__(self, keep: Collection[str] | None, more: int, accept: Callable[[str], bool] | None) -> None:
        self.keep, self.more, self.accept = keep, more, accept or (lambda word: True)
        self.words: list[str] = []
        self.rows: list[np.ndarray] = []
        self.skipped = 0

    def offer(self, data: bytes, make_row: Callable[[], np.ndarray]) -> None:
        """Keeps a word, given as bytes, if it is wanted; its vector is made only then."""
        try:
            word = compose(data.decode("utf-8"))
        except UnicodeDecodeError:
            word = ""
        if word.split() != [word]:
            self.skipped += 1
        elif self._wants(word):
            self.words.append(word)
            self.rows.append(make_row())

    def _wants(self, word: str) -> bool:
        if self.keep is None or word in self.keep:
            return True
        if self.more > 0 and self.accept(word):
            self.more -= 1
            return True
        return False

    def gather(self, count: int) -> WordVectors:
        if not self.words or (self.keep is not None and not any(word in self.keep for word in self.words)):
            over = f" ({self.skipped} with white space or bytes that are not UTF-8)" if self.skipped else ""
            raise InputError(f"Received: {count} vectors, none of them for a word of the reports{over}")
        return WordVectors(tuple(self.words), np.array(self.rows), self.skipped)


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
        if numbers > 0 and _is_text(second, numbers):  # no binary file begins like this
            raise InputError(f"{error}. Line 2 is a word and {numbers} numbers") from None
        raise


def _check_size(size, needed, count, dimensions):
    if count < 1 or dimensions < 1 or size < needed:
        raise InputError(f"Received: a header of {count} vectors of {dimensions} numbers in a file of {size} bytes")


def _is_text(line, dimensions):
    """Returns True if a line is a word and `dimensions` numbers."""
    fields = line.split()[-dimensions:]
    return len(fields) == dimensions and all(re.fullmatch(rb"[-+.\deE]+|[-+]?(nan|inf)", field) for field in fields)


def _read_text(file, chosen, *, first_line, count=None, dimensions=None):
    """Reads lines of a word and its numbers. Without a header, the first line decides the number of dimensions."""
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
            raise InputError(f"Line {number} is not a word and {dimensions} finite numbers")
        chosen.offer(word, lambda row=row: row.astype(np.float32))
    if number < first_line or count not in (None, number + 1 - first_line):
        raise InputError(
            f"Received: {number + 1 - first_line} vectors{'' if count is None else f' instead of {count}'}"
        )
    return chosen.gather(number + 1 - first_line)


def _read_binary(data, chosen, *, position, count, dimensions):
    """Reads `count` times a word, a space and `dimensions` little-endian float32, with optional line ends between."""
    for number in range(count):
        space = data.find(b" ", position)
        end = space + 1 + 4 * dimensions
        if space < 0 or end > len(data):
            raise InputError(f"Received: {number} vectors instead of the {count} of the header")
        word = data[position:space].lstrip(b"\n")
        if not word:
            raise InputError(f"Word {number + 1} is empty")
        chosen.offer(word, lambda first=space + 1, last=end: np.frombuffer(data[first:last], "<f4"))
        position = end
    if data[position:].strip(b"\n"):
        raise InputError(f"Received: more bytes than the {count} vectors of the header")
    return chosen.gather(count)


@dataclass(frozen=True)
class Coverage:
    """The coverage of a vocabulary by word vectors.

    Attributes:
        types: fraction of the words with a vector, in 0..1; 1 for an empty vocabulary.
        tokens: fraction of the running words with a vector, in 0..1, or None if the counts were not given.
        missing: int. Number of words without a vector.
        examples: tuple of up to 20 of them, the most frequent first. Not shown in `repr`: they come from reports.
    """

    types: float
    tokens: float | None
    missing: int
    examples: tuple[str, ...] = field(repr=False)


def embedding_matrix(
    vectors: WordVectors,
    vocabulary: Vocabulary,
    *,
    counts: Mapping[str, int] | None = None,
    normalize: bool = True,
    seed: int = 0,
) -> tuple[np.ndarray, Coverage]:
    """Arranges word vectors in the order of the ids of a vocabulary.

    Vectors trained on few reports share a strong common direction, which hides the differences between words. By
    default this mean is subtracted, and each vector is scaled to length 1.

    Args:
        vectors: `WordVectors`.
        vocabulary: `Vocabulary`.
        counts: mapping of words to their number of occurrences in the training reports, for `Coverage.tokens`, or None.
        normalize: bool. Subtract from each row with a vector the mean of these rows, then scale all rows to length 1.
            False leaves the vectors unchanged.
        seed: int. Seed of the noise.

    Returns:
        float32 `(len(vocabulary), dimensions)`, and a `Coverage`. The row of padding is zero; the row of unknown words
        is the mean of all vectors (zero with `normalize`); a word without a vector gets normal noise with the standard
        deviation of the vectors.

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


def measure_coverage(
    vectors: WordVectors, vocabulary: Vocabulary, *, counts: Mapping[str, int] | None = None
) -> Coverage:
    """Measures the coverage of a vocabulary by word vectors.

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


def _normalize(rows: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Subtracts from the known rows their mean, then scales all rows to length 1; zero rows stay zero."""
    rows = rows.astype(np.float64)
    if known.any():
        rows[known] -= rows[known].mean(axis=0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-12)
