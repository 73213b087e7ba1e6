"""Map words to ids and back, and count the words that are lost."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from kmm.errors import InputError
from kmm.storage.files import replace_file

PADDING, UNKNOWN = 0, 1
SPECIAL_WORDS = ("[PAD]", "[UNK]")
MAX_FILE_BYTES = 100_000_000
Made = TypeVar("Made")


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows.

    Attributes:
        words: tuple of str: the word of each id. The first two are `[PAD]` and `[UNK]`, which cannot occur in a report.

    Raises:
        InputError: if `words` does not start with these two, or has repeated or empty words or words with white space.

    Example:
        >>> vocabulary = Vocabulary.fit([["no", "effusion"], ["no", "mass"]])
        >>> vocabulary.words
        ('[PAD]', '[UNK]', 'no', 'effusion', 'mass')
        >>> vocabulary.encode(["no", "pneumonia"], length=4).tolist()
        [2, 1, 0, 0]
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(self.words))
        if self.words[:2] != SPECIAL_WORDS:
            raise InputError(f"A vocabulary must start with {' and '.join(SPECIAL_WORDS)}.")
        check_lines(self.words)

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} words)"

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @classmethod
    def fit(cls, documents: Iterable[Iterable[str]], *, min_count: int = 1, max_words: int = 15000) -> Self:
        """Collects the words of documents, the most frequent first, ties in alphabetical order.

        Pass the training studies only: words that occur only in validation or test must stay unknown.

        Args:
            documents: iterable of lists of str.
            min_count: int. Rarer words are left out.
            max_words: int. Maximum number of words, not counting the two special words.

        Returns:
            `Vocabulary`; only the two special words if the documents are empty.
        """
        counts = Counter(word for words in documents for word in words)
        kept = sorted((word for word in counts if counts[word] >= min_count), key=lambda word: (-counts[word], word))
        return cls(SPECIAL_WORDS + tuple(kept[:max_words]))

    def extend(self, words: Iterable[str]) -> Self:
        """Returns a vocabulary with new words appended in their order; words that it already has are skipped.

        Example:
            >>> Vocabulary.fit([["no", "mass"]]).extend(["cyst", "no"]).words[2:]
            ('mass', 'no', 'cyst')
        """
        return type(self)(self.words + tuple(word for word in dict.fromkeys(words) if word not in self._ids))

    def split(self, words: Iterable[str]) -> list[tuple[str, ...]]:
        """Splits words into the pieces that have ids; in this class, each word is one piece.

        Args:
            words: list of str.

        Returns:
            list of tuples of str: the pieces of each word.
        """
        return [(word,) for word in words]

    def pieces(self, words: Iterable[str]) -> list[str]:
        """Returns the pieces of all words in one list: the model's input before it is cut to a length."""
        return [piece for pieces in self.split(words) for piece in pieces]

    def encode(self, words: Iterable[str], length: int = 140, *, truncate: str = "end") -> np.ndarray:
        """Returns the ids of one document, padded or cut to a length.

        Args:
            words: list of str.
            length: int. Number of ids.
            truncate: `"end"` drops the last pieces of a longer document, `"start"` the first (as in the paper).

        Returns:
            int32 `(length,)`: the ids of the pieces, `UNKNOWN` for those not in the vocabulary, then `PADDING`.

        Raises:
            InputError: if `truncate` is another value.
        """
        if truncate not in ("end", "start"):
            raise InputError(f"`truncate` must be end or start. Received: {truncate!r}")
        pieces = self.pieces(words)
        kept = pieces[:length] if truncate == "end" else pieces[max(len(pieces) - length, 0) :]
        ids = np.full(length, PADDING, np.int32)
        ids[: len(kept)] = [self._ids.get(piece, UNKNOWN) for piece in kept]
        return ids

    def save(self, path: Path | str) -> None:
        """Writes the words, one per line in order of id. The file is written whole or not at all."""
        with replace_file(path) as place:
            place.write_text("".join(f"{word}\n" for word in self.words), encoding="utf-8", newline="\n")

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Reads a file that `save` wrote.

        Raises:
            InputError: if the file is missing, too large, not UTF-8 or not a vocabulary; it names the file.
        """
        return read_lines(path, cls)


def read_lines(path: Path | str, make: Callable[[tuple[str, ...]], Made]) -> Made:
    """Reads the file of a vocabulary.

    Args:
        path: of a file with one word per line.
        make: callable, tuple of lines -> `Vocabulary`.

    Returns:
        the result of `make`.

    Raises:
        InputError: if the file is missing, too large, not UTF-8, or `make` raises it; it names the file.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"expected a vocabulary of at most {MAX_FILE_BYTES:,} bytes.")
        return make(tuple(path.read_text(encoding="utf-8").removesuffix("\n").split("\n")))
    except OSError as error:
        raise InputError(f"{path}: the vocabulary cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the vocabulary is not valid UTF-8 (byte {error.start})") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def check_lines(lines: Collection[str]) -> None:
    """Raises `InputError` if lines are repeated, empty or have white space."""
    for number, word in enumerate(lines, start=1):
        if word.split() != [word]:
            raise InputError(f"Each line of a vocabulary must be one word. Line {number} is empty or has white space")
    repeated = len(lines) - len(set(lines))
    if repeated:
        raise InputError(f"The words of a vocabulary must be unique. Received: {repeated} repeated")


def count_patients(documents: Iterable[Iterable[str]], patients: Iterable[str]) -> Counter[str]:
    """Counts for each word the patients in whose documents it occurs.

    Args:
        documents: list of n lists of str.
        patients: sequence of n str: the patient of each document.

    Returns:
        `Counter` of word to number of patients; a patient counts once for each word.

    Example:
        >>> sorted(count_patients([["mass", "mass"], ["no", "mass"], ["no"]], ["ann", "ann", "ben"]).items())
        [('mass', 1), ('no', 2)]
    """
    by_patient: dict[str, list[Iterable[str]]] = defaultdict(list)
    for words, patient in zip(documents, patients, strict=True):
        by_patient[patient].append(words)
    counts: Counter[str] = Counter()
    for owned in by_patient.values():
        counts.update({word for words in owned for word in words})
    return counts


def find_rare(counts: Mapping[str, int], least: int) -> set[str]:
    """Finds the words of too few patients, which must not be saved.

    Args:
        counts: mapping of word to number of patients, as returned by `count_patients`.
        least: int >= 1. Minimum number of patients.

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
            f"None of the {len(counts)} words occurs in reports of at least {least} patients. Use more reports, or "
            "keep the words of single patients with min_word_patients 1."
        )
    return rare


def count_unknown(documents: Sequence[Sequence[str]], vocabulary: Vocabulary) -> list[int]:
    """Counts the words of each document that are not in a vocabulary.

    Args:
        documents: list of lists of str: words, or the pieces that the vocabulary splits them into.
        vocabulary: `Vocabulary`.

    Returns:
        list of int, one per document.

    Example:
        >>> count_unknown([["no", "mass"], []], Vocabulary.fit([["no"]]))
        [1, 0]
    """
    known = set(vocabulary.words[len(SPECIAL_WORDS) :])
    return [sum(word not in known for word in words) for words in documents]


def text_report(documents: Sequence[Sequence[str]], vocabulary: Vocabulary, length: int = 140) -> dict[str, Any]:
    """Counts the parts of documents that a model does not see.

    Args:
        documents: list of lists of str: words, or the pieces that the vocabulary splits them into.
        vocabulary: `Vocabulary`.
        length: int. Number of words that the model reads of each document.

    Returns:
        dict: `documents`, `empty_share` (fraction without a word), `truncated_share` (fraction longer than `length`),
        `unknown_rate` (fraction of all words that are not in the vocabulary), `length_median`, `length_p99`,
        `length_max` in words. All are 0 if there are no documents.

    Example:
        >>> text_report([["no", "mass"], ["no"], []], Vocabulary.fit([["no"]]), length=1)["unknown_rate"]
        0.3333333333333333
    """
    lengths = np.array([len(words) for words in documents] or [0])
    unknown = sum(count_unknown(documents, vocabulary))
    return {
        "documents": len(documents),
        "empty_share": float((lengths == 0).mean()) if documents else 0.0,
        "truncated_share": float((lengths > length).mean()),
        "unknown_rate": unknown / max(int(lengths.sum()), 1),
        "length_median": float(np.median(lengths)),
        "length_p99": float(np.percentile(lengths, 99)),
        "length_max": int(lengths.max()),
    }
