"""Words as a BERT reads them: signs and Chinese characters are words of their own, control characters are removed.

`bert-uncased` also removes accents and lowers letters. The rules are those of `BertNormalizer` and `BertPreTokenizer`
of the package `tokenizers`, with the tables of Unicode 3.2, and with what later versions say of the characters that it
has. So words are those of `tokenizers` but for two things:

- Characters that are younger than Unicode 3.2 are kept as they are, like letters: emoji are the same there, but younger
  signs are words of their own, younger marks are removed, and younger capitals are lowered.
- All text is composed first (`kmm.text.clean.compose`). In `bert-cased`, a letter with a combining accent behind it is
  the composed letter, which cased vocabularies have. In both modes the place of a word includes its marks.

Source: https://arxiv.org/abs/1810.04805
"""

import re
import string
from functools import lru_cache

from kmm.text.characters import UNICODE, list_codes, write_class

_SPACES = {*map(ord, "\t\n\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000"), *range(0x2000, 0x200B)}
# Later versions made format characters of the soft hyphen and the zero-width space.
_REMOVED = (list_codes(("Cc", "Cf", "Co")) | {0xAD, 0x200B, 0xFFFD}) - _SPACES
# Later versions made signs of the section sign, the pilcrow, ceilings and floors, and symbols of three brackets.
_SIGNS = {*map(ord, string.punctuation), *(list_codes(("P",)) - {0x23B4, 0x23B5, 0x23B6})}
_SIGNS |= {0xA7, 0xB6, 0xF14, *range(0x2308, 0x230C)}
_SIGNS -= _REMOVED
_CHINESE = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F)]
_CHINESE += [(0x2B740, 0x2B81F), (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F)]
# Marks that have no width; later versions exchanged four of them with marks that have one.
_MARKS = (list_codes(("Mn",)) | {0x17B4, 0x17B5}) - {0x302E, 0x302F}

MOST_KEPT = 2**16  # characters whose cleaning is kept in memory
SPACE_CLASS, REMOVED_CLASS, SIGN_CLASS = map(write_class, (_SPACES, _REMOVED, _SIGNS))
CHINESE_CLASS = write_class(code for first, last in _CHINESE for code in range(first, last + 1))
_WORDS = re.compile(f"[{SIGN_CLASS}]|[^ {SIGN_CLASS}]+")
_ASCII_WORDS = re.compile(r"[!-/:-@\[-`{-~]|[0-9A-Za-z]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_KINDS = {
    kind: re.compile(f"[{inside}]")
    for kind, inside in (("removed", REMOVED_CLASS), ("space", SPACE_CLASS), ("chinese", CHINESE_CLASS))
}


def find_bert_words(text: str, *, lower: bool) -> list[tuple[str, int, int]]:
    """Finds the words of a composed text.

    Args:
        text: str, composed by `kmm.text.clean.compose`.
        lower: bool. Remove accents and lower letters, for an uncased BERT.

    Returns:
        list of `(word, start, end)` in the order of the text: `text[start:end]` is the word as it was written.

    Example:
        >>> find_bert_words("3.5 cm", lower=False)
        [('3', 0, 1), ('.', 1, 2), ('5', 2, 3), ('cm', 4, 6)]
        >>> [word for word, _, _ in find_bert_words("Épanchement: 心 3°", lower=True)]
        ['epanchement', ':', '心', '3°']
    """
    if text.isascii() and not _CONTROL.search(text):
        found = text.lower() if lower else text
        return [(match.group(), *match.span()) for match in _ASCII_WORDS.finditer(found)]
    parts = [_clean(letter, lower) for letter in text]
    places = [place for place, part in enumerate(parts) for _ in part]
    return [
        (match.group(), places[match.start()], places[match.end() - 1] + 1) for match in _WORDS.finditer("".join(parts))
    ]


@lru_cache(MOST_KEPT)
def _clean(letter: str, lower: bool) -> str:
    """Returns what the cleaning makes of a character: nothing, a space, itself between spaces, or letters."""
    kind = next((kind for kind, pattern in _KINDS.items() if pattern.match(letter)), None)
    if kind in ("removed", "space"):
        return "" if kind == "removed" else " "
    plain = strip_letter(letter) if lower else letter
    return f" {plain} " if kind == "chinese" else plain


@lru_cache(MOST_KEPT)
def strip_letter(letter: str) -> str:
    """Returns a character decomposed, without marks, in lower case: one or more letters, or none for a mark.

    Example:
        >>> strip_letter("É"), strip_letter("Σ"), strip_letter("≠"), len(strip_letter("한"))
        ('e', 'σ', '=', 3)
    """
    parts = [part for part in UNICODE.normalize("NFD", letter) if ord(part) not in _MARKS]
    return "".join(part.lower() if UNICODE.category(part) != "Cn" else part for part in parts)
