"""Words to ids and back, and what is lost on the way."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kmm.errors import InputError
from kmm.storage.files import replace_file

PADDING, UNKNOWN = 0, 1
SPECIAL_WORDS = ("[PAD]", "[UNK]")
MAX_FILE_BYTES = 100_000_000


@dataclass(frozen=True)
class Vocabulary:
    """The words a model knows.

    Attributes:
        words: tuple of str: the word of each id. The first two are `[PAD]` and `[UNK]`, which no report can hold.

    Raises:
        InputError: if `words` does not start with these two, or has a word twice, an empty one or one with white space.

    Example:
        >>> vocabulary = Vocabulary.fit([["no", "effusion"], ["no", "mass"]])
        >>> vocabulary.words
        ('[PAD]', '[UNK]', 'no', 'effusion', 'mass')
        >>> vocabulary.encode(["no", "pneumonia"], length=4).tolist()
        [2, 1, 0, 0]
    """

    words: tuple[str, ...]

    def __post_init__(self):
        object.__setattr__(self, "words", tuple(self.words))
        if self.words[:2] != SPECIAL_WORDS:
            raise InputError(f"A vocabulary must start with {' and '.join(SPECIAL_WORDS)}.")
        check_lines(self.words)

    def __len__(self):
        return len(self.words)

    def __repr__(self):
        return f"{type(self).__name__}({len(self)} words)"

    @cached_property
    def _ids(self):
        return {word: number for number, word in enumerate(self.words)}

    @classmethod
    def fit(cls, documents, *, min_count=1, max_words=15000):
        """Collects the words of documents, the most frequent first, equals in alphabetical order.

        Give it the training studies only: a word that is met in validation or test must stay unknown.

        Args:
            documents: iterable of lists of str.
            min_count: int. A rarer word is left out.
            max_words: int. So many words are kept at most, the two special ones not counted.

        Returns:
            `Vocabulary`; only the two special words when there are no others.
        """
        counts = Counter(word for words in documents for word in words)
        kept = sorted((word for word in counts if counts[word] >= min_count), key=lambda word: (-counts[word], word))
        return cls(SPECIAL_WORDS + tuple(kept[:max_words]))

    def extend(self, words):
        """Returns the vocabulary with more words behind its own, in their order; those that it has are left out.

        Example:
            >>> Vocabulary.fit([["no", "mass"]]).extend(["cyst", "no"]).words[2:]
            ('mass', 'no', 'cyst')
        """
        return type(self)(self.words + tuple(word for word in dict.fromkeys(words) if word not in self._ids))

    def split(self, words):
        """Cuts words into the pieces that have ids: here each word is one piece.

        Args:
            words: list of str.

        Returns:
            list of tuples of str: the pieces of each word.
        """
        return [(word,) for word in words]

    def pieces(self, words):
        """The pieces of all words in one list of str: what a model reads, uncut."""
        return [piece for pieces in self.split(words) for piece in pieces]

    def encode(self, words, length=140, *, truncate="end"):
        """Returns the ids of one document, padded or cut to a length.

        Args:
            words: list of str.
            length: int. Pieces that are read.
            truncate: `"end"` drops the last pieces of a longer document, `"start"` the first (as the paper).

        Returns:
            int32 `(length,)`: `PADDING` behind the pieces, `UNKNOWN` for what is not in the vocabulary.

        Raises:
            InputError: if `truncate` is neither.
        """
        if truncate not in ("end", "start"):
            raise InputError(f"`truncate` must be end or start. Received: {truncate!r}")
        pieces = self.pieces(words)
        kept = pieces[:length] if truncate == "end" else pieces[max(len(pieces) - length, 0) :]
        ids = np.full(length, PADDING, np.int32)
        ids[: len(kept)] = [self._ids.get(piece, UNKNOWN) for piece in kept]
        return ids

    def save(self, path):
        """Writes the words, one a line, so that line number (from 0) is id; whole or not at all."""
        with replace_file(path) as place:
            place.write_text("".join(f"{word}\n" for word in self.words), encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote.

        Raises:
            InputError: if the file is missing, too large, not UTF-8 or not a vocabulary; it names the file.
        """
        return read_lines(path, cls)


def read_lines(path, make):
    """Reads the file of a vocabulary.

    Args:
        path: of a file of one word a line.
        make: callable, tuple of lines -> `Vocabulary`.

    Returns:
        what `make` returns.

    Raises:
        InputError: if the file is missing, too large, not UTF-8, or `make` raises it; it names the file.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"expected a vocabulary of at most {MAX_FILE_BYTES} bytes.")
        return make(tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n")))
    except OSError as error:
        raise InputError(f"{path}: expected a readable vocabulary. Received: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: expected a vocabulary in UTF-8. Received: other bytes") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def check_lines(lines):
    """Raises `InputError` if lines have a word twice, an empty one or one with white space."""
    for number, word in enumerate(lines, start=1):
        if word.split() != [word]:
            raise InputError(f"Each line of a vocabulary must be one word. Received: something else on line {number}")
    repeated = len(lines) - len(set(lines))
    if repeated:
        raise InputError(f"A vocabulary must have no word twice. Received: {repeated} repeated")


def count_patients(documents, patients):
    """Counts the patients whose documents hold each word.

    Args:
        documents: list of n lists of str.
        patients: sequence of n str: whose document each one is.

    Returns:
        `Counter` of word to number of patients, each patient counted once however often they use the word.

    Example:
        >>> sorted(count_patients([["mass", "mass"], ["no", "mass"], ["no"]], ["ann", "ann", "ben"]).items())
        [('mass', 1), ('no', 2)]
    """
    by_patient = defaultdict(list)
    for words, patient in zip(documents, patients, strict=True):
        by_patient[patient].append(words)
    counts = Counter()
    for owned in by_patient.values():
        counts.update({word for words in owned for word in words})
    return counts


def find_rare(counts, least):
    """Finds the words that too few patients use to be kept in anything that is saved.

    Args:
        counts: mapping of word to number of patients, as `count_patients` returns.
        least: int >= 1. Patients that must use a word.

    Returns:
        set of str; empty for `least` 1.

    Raises:
        InputError: if every word is rare.

    Example:
        >>> find_rare({"no": 2, "smith": 1}, least=2)
        {'smith'}
    """
    rare = {word for word, count in counts.items() if count < least}
    if rare and len(rare) == len(counts):
        raise InputError(
            f"Expected words that at least {least} patients use. Found none among {len(counts)} words. Use more "
            "reports, or keep the words of one patient with min_word_patients 1."
        )
    return rare


def text_report(documents, vocabulary, length=140):
    """Counts what a model does not see of documents.

    Args:
        documents: list of lists of str: words, or the pieces that the vocabulary cuts them into.
        vocabulary: `Vocabulary`.
        length: int. Words that are read of each document.

    Returns:
        dict: `documents`, `empty_share` (without a word), `truncated_share` (longer than `length`), `unknown_rate`
        (share of all words that are not in the vocabulary), `length_median`, `length_p99`, `length_max` in words. All 0
        when there are no documents.

    Example:
        >>> text_report([["no", "mass"], ["no"], []], Vocabulary.fit([["no"]]), length=1)["unknown_rate"]
        0.3333333333333333
    """
    lengths = np.array([len(words) for words in documents] or [0])
    known = set(vocabulary.words[len(SPECIAL_WORDS) :])
    unknown = sum(word not in known for words in documents for word in words)
    return {
        "documents": len(documents),
        "empty_share": float((lengths == 0).mean()) if documents else 0.0,
        "truncated_share": float((lengths > length).mean()),
        "unknown_rate": unknown / max(int(lengths.sum()), 1),
        "length_median": float(np.median(lengths)),
        "length_p99": float(np.percentile(lengths, 99)),
        "length_max": int(lengths.max()),
    }
