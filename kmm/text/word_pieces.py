"""Word pieces: the vocabulary of a BERT, which splits words into known pieces, so that few words are unknown."""

import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from kmm.errors import InputError
from kmm.text.vocabulary import SPECIAL_WORDS, UNKNOWN, Vocabulary, check_lines, read_lines

CONTINUED = "##"  # prefix of each piece after the first of its word
MAX_WORD = 100  # characters; a longer word is unknown
_BRACKETED = re.compile(r"\[\S+\]")


class WordPieces(Vocabulary):
    """The word pieces that a model knows.

    Words come from `kmm.text.clean`, in lower case and without punctuation, so use the vocabulary of an uncased BERT.
    Pieces with capitals or signs are kept but never occur.

    Attributes:
        words: tuple of str: the piece of each id. The first two are `[PAD]` and `[UNK]`.

    Raises:
        InputError: as `Vocabulary`, and if there are no pieces, or one is longer than any word.

    Source: https://arxiv.org/abs/1609.08144 (word pieces), https://arxiv.org/abs/1810.04805 (BERT's way to split)

    Example:
        >>> vocabulary = WordPieces(("[PAD]", "[UNK]", "card", "##io", "##mega", "##ly", "no"))
        >>> vocabulary.split(["no", "cardiomegaly", "cardiac"])
        [('no',), ('card', '##io', '##mega', '##ly'), ('[UNK]',)]
        >>> vocabulary.encode(["no", "cardiomegaly"], length=6).tolist()
        [6, 2, 3, 4, 5, 0]
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        longest = max((len(piece.removeprefix(CONTINUED)) for piece in self.words[len(SPECIAL_WORDS) :]), default=0)
        if not 0 < longest <= MAX_WORD:
            raise InputError(f"Expected word pieces of up to {MAX_WORD} characters. Received: {longest or 'none'}")

    @cached_property
    def longest(self) -> int:
        """The length of the longest piece, including its `##`."""
        return max(map(len, self.words[len(SPECIAL_WORDS) :]))

    @classmethod
    def read(cls, path: Path | str) -> "WordPieces":
        """Reads the `vocab.txt` of a BERT: one piece per line; other bracketed tokens (`[CLS]`) are left out.

        Args:
            path: of the file.

        Returns:
            `WordPieces`, in the order of the file.

        Raises:
            InputError: if the file is missing, too large, not UTF-8, has no `[UNK]` or no pieces, or has repeated or
                empty lines or lines with white space; it names the file.
        """

        def make(lines: tuple[str, ...]) -> WordPieces:
            check_lines(lines)
            if SPECIAL_WORDS[UNKNOWN] not in lines:
                raise InputError("expected the word pieces of a BERT. The line [UNK] is missing.")
            return cls(SPECIAL_WORDS + tuple(line for line in lines if not _BRACKETED.fullmatch(line)))

        return read_lines(path, make)

    def split(self, words: Iterable[str]) -> list[tuple[str, ...]]:
        """Splits words into pieces, always taking the longest piece that fits.

        Args:
            words: list of str.

        Returns:
            list of tuples of str: the pieces of each word; all but the first begin with `##`. A word that cannot be
            split completely, or has more than 100 characters, is one `[UNK]`.
        """
        return [self._split_word(word) for word in words]

    def _split_word(self, word: str) -> tuple[str, ...]:
        pieces: list[str] = []
        start = 0
        while start < len(word) <= MAX_WORD:
            prefix = CONTINUED if start else ""
            ends = range(min(len(word), start + self.longest), start, -1)
            end = next((end for end in ends if prefix + word[start:end] in self._ids), start)
            if end == start:
                break
            pieces.append(prefix + word[start:end])
            start = end
        return tuple(pieces) if start == len(word) else (SPECIAL_WORDS[UNKNOWN],)
