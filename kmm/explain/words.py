"""Scores of the words of a report, summed from attributions of embedding rows and placed in the original text."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from kmm.text.sentences import find_sentence_ends

_LETTER = r"[^\W_][\u0300-\u036f]*"  # with its combining marks
_WRITTEN = re.compile(rf"(?:{_LETTER})+(?:['’-](?:{_LETTER})+)*")


@dataclass(frozen=True)
class WordScore:
    """One word of a report, at one place.

    Attributes:
        start, end: int. Its characters in the report: `text[start:end]`.
        text: str. Those characters.
        section: str. Name of the section that contains it.
        sentence: int. Number of its sentence in the text, from 0.
        share: float in [0, 1]. Its part of the squared attribution of all words, as in the paper; 0 for a word that was
            not read, and for all words if the method does not score words.
        signed: float. Sum of its rows' attribution: above 0 it counts for the label. In units of the score where
            attributions are products with the input (integrated gradients, gradient times input); for plain gradients
            (gradient, SmoothGrad) in units of the score per unit of the embedding; of rollout its relevance, without a
            sign.
        seen: bool. False if the model does not know the word: it is not in the vocabulary, or was not read at all.
        read: bool. False if no part of it was read: it was redacted, dropped by the cleaning, or cut off. A word with
            `read` but not `seen` was read as UNKNOWN.
        cut: bool. True if it was not read because the report is longer than the model reads.
        redacted: bool. True if it was not read because the redaction removed it.
    """

    start: int
    end: int
    text: str
    section: str
    sentence: int
    share: float
    signed: float
    seen: bool = True
    read: bool = True
    cut: bool = False
    redacted: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Returns the word as written to JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ReadWord:
    """A word that the tokenizer found.

    Attributes:
        start, end: int. Its characters in the report.
        rows: slice of its rows in the model's input: one, or one per word piece. Empty for a word that was cut off
            because the report is longer than the model reads.
        known: bool. Whether it is in the vocabulary.
    """

    start: int
    end: int
    rows: slice
    known: bool = True


def score_words(
    text: str,
    sections: Sequence[tuple[str, int, int]],
    read: Sequence[ReadWord],
    values: np.ndarray | None,
    redacted: Sequence[tuple[int, int]] = (),
) -> list[WordScore]:
    """Scores every word of a report, including those that the model did not read.

    Args:
        text: str, the report.
        sections: list of `(name, start, end)` in `text`.
        read: list of `ReadWord` in the order of the text.
        values: float array `(t, d)`, the attribution of the rows; None: all scores are 0.
        redacted: list of `(start, end)` in `text`, which the redaction removed.

    Returns:
        list of `WordScore` in the order of the text, words that were read and words that were not. A share is the sum
        of squares of a word's attributions, divided by that of all words; shares sum to 1, or are all 0 if every
        attribution is 0.

    Source: https://arxiv.org/abs/1902.08888

    Example:
        >>> words = score_words("No mass.", [("findings", 0, 8)], [ReadWord(0, 2, slice(0, 1)),
        ...                     ReadWord(3, 7, slice(1, 2))], np.array([[1.0, 0], [-1, 1]]))
        >>> [(word.text, round(word.share, 3), word.signed) for word in words]
        [('No', 0.333, 1.0), ('mass', 0.667, 0.0)]
    """
    values = np.zeros((1, 1)) if values is None else np.asarray(values, np.float64)
    squares = np.array([np.square(values[word.rows]).sum() for word in read])
    total = squares.sum() if len(read) else 0.0
    shares = squares / total if total else np.zeros(len(read))
    stops = _list_stops(text, sections)
    scores = [
        (word.start, word.end, float(share), float(values[word.rows].sum()), word.known, True, False, False)
        if word.rows.start < word.rows.stop
        else (word.start, word.end, 0.0, 0.0, False, False, True, False)
        for word, share in zip(read, shares, strict=True)
    ]
    gone = [match.span() for span in redacted for match in _WRITTEN.finditer(text, *span)]
    scores += [(start, end, 0.0, 0.0, False, False, False, True) for start, end in gone]
    found = [*((word.start, word.end) for word in read), *redacted]
    scores += [(start, end, 0.0, 0.0, False, False, False, False) for start, end in _find_unread(text, found)]
    return [
        WordScore(
            start=start,
            end=end,
            text=text[start:end],
            section=next((name for name, first, last in sections if first <= start < last), ""),
            sentence=bisect_right(stops, start),
            share=share,
            signed=signed,
            seen=seen,
            read=was_read,
            cut=cut,
            redacted=was_redacted,
        )
        for start, end, share, signed, seen, was_read, cut, was_redacted in sorted(scores)
    ]


def sum_words(words: Iterable[WordScore], by: Literal["sentence", "section"]) -> dict[Any, tuple[float, float]]:
    """Sums the scores of words by sentence or by section.

    Args:
        words: list of `WordScore`.
        by: `"sentence"` or `"section"`.

    Returns:
        dict of sentence number or section name to `(share, signed)`, in the order of the text.
    """
    sums: dict[Any, tuple[float, float]] = {}
    for word in words:
        share, signed = sums.get(getattr(word, by), (0.0, 0.0))
        sums[getattr(word, by)] = (share + word.share, signed + word.signed)
    return sums


def weigh_words(scores: Iterable[tuple[float, float]], *, by_sum: bool) -> list[float]:
    """Weighs words, or sums of words, for shading and sorting.

    Args:
        scores: list of `(share, signed)`, one per word, sentence or section.
        by_sum: bool. True: by the size of the signed sum, for attributions that add up to the score. False: by the
            paper's share of the squared attribution, for attributions that do not.

    Returns:
        list of float in [0, 1]: 1 for the strongest; all 0 if nothing is attributed.

    Example:
        >>> weigh_words([(0.8, 0.5), (0.2, -1.0)], by_sum=True)
        [0.5, 1.0]
        >>> weigh_words([(0.8, 0.5), (0.2, -1.0)], by_sum=False)
        [1.0, 0.25]
    """
    sizes = [abs(signed) if by_sum else share for share, signed in scores]
    highest = max(sizes, default=0.0)
    return [size / highest if highest else 0.0 for size in sizes]


def warn_of_cut(words: Sequence[WordScore]) -> tuple[str, ...]:
    """Warns if the end or the beginning of a report was cut off, and states how many words were not read.

    Args:
        words: list of `WordScore`.

    Returns:
        tuple of str: one warning, or none if nothing was cut off.

    Example:
        >>> words = score_words("no mass", [], [ReadWord(0, 2, slice(0, 1)), ReadWord(3, 7, slice(1, 1))], None)
        >>> warn_of_cut(words)
        ('1 of 2 words were not read: the report is longer than the model reads',)
    """
    cut, unread = sum(word.cut for word in words), sum(not word.read for word in words)
    if not cut:
        return ()
    redacted = sum(word.redacted for word in words)
    reasons = {"cut off": cut, "redacted": redacted, "dropped by the cleaning": unread - cut - redacted}
    rest = f" ({', '.join(f'{count} {why}' for why, count in reasons.items() if count)})" if unread > cut else ""
    return (f"{unread} of {len(words)} words were not read{rest}: the report is longer than the model reads",)


def _find_unread(text, found):
    """Returns the spans of words that the tokenizer did not find, because the cleaning dropped them."""
    letters = list(text)
    for start, end in found:
        letters[start:end] = " " * (end - start)
    return [match.span() for match in _WRITTEN.finditer("".join(letters))]


def _list_stops(text, sections):
    """Returns the ends of sentences in order: those of `find_sentence_ends`, and the end of each section."""
    spans = [(start, end) for _, start, end in sections] or [(0, len(text))]
    inside = {start + place for start, end in spans for place in find_sentence_ends(text[start:end])}
    return sorted(inside | {end for _, end in spans})
