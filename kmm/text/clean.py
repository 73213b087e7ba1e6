"""Split reports into words, each with its character span in the original text.

Text is first composed (Unicode NFC), so that "é" and "e" with a combining accent are one letter. A TensorFlow graph of
core operations must give the same ids, and so must any version of Python. Therefore letters, digits and composition
follow Unicode 3.2 (`unicodedata.ucd_3_2_0`), which never changes. All other characters separate words: signs, emoji,
combining marks that do not compose with a letter, and letters that were added after Unicode 3.2 (such as capital sharp
s, U+1E9E). `WORD_CHARACTERS` is the inside of a character class that both Python's `re` and TensorFlow's RE2 accept.
The standard mode as a graph, exact for all of Unicode once the text is composed (`kmm.export.graph.composition`):

    spaced = tf.strings.regex_replace(text, f"[^{WORD_CHARACTERS}]+", " ")
    dotted = tf.strings.regex_replace(tf.strings.regex_replace(spaced, "I", "i"), "İ", "i\\u0307")
    words = tf.strings.split(tf.strings.lower(dotted, encoding="utf-8"))

The second line is needed on machines with a Turkish locale (LC_ALL=tr_TR.UTF-8), where TensorFlow lowers "I" to a
dotless i.
"""

import re
from typing import TYPE_CHECKING, NamedTuple

from kmm.errors import InputError, ReportError, look_up
from kmm.text.bert_words import find_bert_words
from kmm.text.characters import CATEGORIES, LETTERS, UNICODE, WORD_CHARACTERS, list_characters

if TYPE_CHECKING:
    from kmm.text.redaction import Redaction

MAX_CHARACTERS = 1_000_000
DEIDENTIFIED = re.compile("[Xx]{4,}")
_UNASSIGNED = re.compile(f"([{list_characters(('Cn',), CATEGORIES)}]+)")
_WORD = re.compile(f"[{WORD_CHARACTERS}]+")
_LETTERS = re.compile(f"[{LETTERS}]+")
_CHUNK = re.compile(r"\S+")

# NLTK's English list without its 26 forms with an apostrophe, which cannot occur after punctuation is deleted.
STOP_WORDS = frozenset(
    """
    i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it
    its itself they them their theirs themselves what which who whom this that these those am is are was were be been
    being have has had having do does did doing a an the and but if or because as until while of at by for with about
    against between into through during before after above below to from up down in out on off over under again
    further then once here there when where why how all any both each few more most other some such no nor not only
    own same so than too very s t can will just don should now d ll m o re ve y ain aren couldn didn doesn hadn hasn
    haven isn ma mightn mustn needn shan shouldn wasn weren won wouldn
    """.split()  # noqa: SIM905
)


def compose(text: str) -> str:
    """Normalizes a text to Unicode NFC by the rules of Unicode 3.2, in any version of Python.

    Characters that were added later are not changed, and marks are not moved across them.

    Source: https://www.unicode.org/reports/tr15/

    Example:
        >>> compose("e\N{COMBINING ACUTE ACCENT}") == "é"
        True
    """
    if text.isascii():
        return text
    # Python orders newer marks by its own version of Unicode, so the text is split at them.
    parts = _UNASSIGNED.split(text)
    parts[::2] = [UNICODE.normalize("NFC", part) for part in parts[::2]]
    return "".join(parts)


def list_places(text: str, composed: str) -> tuple[list[int], list[int]]:
    """Returns the start and the end, in the original text, of each character of a composed text.

    Composing moves and absorbs combining marks, but keeps the order of all other characters. These are counted in the
    decomposed form of both texts.
    """
    origins = [place for place, letter in enumerate(text) for _ in range(_count_bases(letter))]
    origins += [len(text)] * (len(text) - len(origins) + 1)
    starts: list[int] = []
    ends: list[int] = []
    bases = 0
    for letter in composed:
        start = origins[bases]
        bases += _count_bases(letter)
        last = origins[max(bases - 1, 0)]
        starts.append(start)
        ends.append(last + 1 if text[last : last + 1] == letter else max(origins[bases], last + 1))
    return starts, ends


def _count_bases(letter: str) -> int:
    """Counts the characters of a decomposed character that are not combining marks."""
    if letter.isascii():
        return 1
    return sum(not UNICODE.combining(part) for part in UNICODE.normalize("NFD", letter))


class Word(NamedTuple):
    """A word as the model reads it, and its span: `report[start:end]` is the original text."""

    text: str
    start: int
    end: int


def _find_standard_words(text: str) -> list[Word]:
    """Finds each longest run of letters and digits, in lower case."""
    return [Word(match.group().lower(), *match.span()) for match in _WORD.finditer(text)]


def _find_paper_words(text: str) -> list[Word]:
    """Finds each chunk between white space, without digits and punctuation, in lower case; drops stop words."""
    words = []
    for chunk in _CHUNK.finditer(text):
        pieces = list(_LETTERS.finditer(text, *chunk.span()))
        word = "".join(piece.group() for piece in pieces).lower()
        if word and word not in STOP_WORDS:
            words.append(Word(word, pieces[0].start(), pieces[-1].end()))
    return words


def _find_cased_words(text: str) -> list[Word]:
    return [Word(*found) for found in find_bert_words(text, lower=False)]


def _find_uncased_words(text: str) -> list[Word]:
    return [Word(*found) for found in find_bert_words(text, lower=True)]


CLEANING_MODES = {
    "standard": _find_standard_words,
    "paper": _find_paper_words,
    "bert-cased": _find_cased_words,
    "bert-uncased": _find_uncased_words,
}


def find_words(
    text: str, mode: str = "standard", deidentified: str = "keep", redaction: "Redaction | None" = None
) -> list[Word]:
    """Splits a report into the words that a model reads.

    `standard` takes each longest run of letters and digits, in lower case; no word is dropped, so negations are kept.
    `paper` repeats the published cleaning: digits and punctuation are deleted inside each chunk between white space
    ("t-spine" becomes "tspine"), then English stop words are dropped, including "no" and "not". This is a known defect
    of that work, reproduced for comparison.
    `bert-cased` and `bert-uncased` keep signs as words of their own, see `kmm.text.bert_words`.

    Args:
        text: str of at most `MAX_CHARACTERS` characters.
        mode: a name in `CLEANING_MODES`.
        deidentified: `"keep"` or `"drop"`: the treatment of words of four or more x, which replace removed names.
        redaction: `kmm.text.redaction.Redaction`, which is applied before the text is split; None removes nothing.

    Returns:
        list of `Word` in the order of the text; may be empty. `start` and `end` index `text`, from the first character
        that was kept to the end of the last, including combining marks that were composed with it.

    Raises:
        InputError: for an unknown mode or policy.
        ReportError: if the text is too long. The text is not quoted.

    Source: https://arxiv.org/abs/1902.08888 (mode `paper`)

    Example:
        >>> [word.text for word in find_words("No T-spine fracture. XXXX 2019")]
        ['no', 't', 'spine', 'fracture', 'xxxx', '2019']
        >>> find_words("No T-spine fracture.", "paper")
        [Word(text='tspine', start=3, end=10), Word(text='fracture', start=11, end=19)]
        >>> find_words("O\N{COMBINING DIAERESIS}dem") == [Word("ödem", 0, 5)]
        True
    """
    split = look_up(CLEANING_MODES, mode, "cleaning mode")
    if deidentified not in ("keep", "drop"):
        raise InputError(f"`deidentified` must be keep or drop. Received: {deidentified!r}")
    if len(text) > MAX_CHARACTERS:
        raise ReportError(f"A report must have at most {MAX_CHARACTERS} characters. Received: {len(text)}")
    composed = compose(text)
    words = split(redaction.blank(composed) if redaction else composed)
    if composed != text:
        starts, ends = list_places(text, composed)
        words = [Word(word.text, starts[word.start], ends[word.end - 1]) for word in words]
    if deidentified == "drop":
        words = [word for word in words if not DEIDENTIFIED.fullmatch(word.text)]
    return words
