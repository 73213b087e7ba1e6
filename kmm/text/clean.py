"""Report to words, each with its character span in the original.

Text is composed first (NFC), so that "é" and "e" with a combining accent are one letter. The same ids must come from a
TensorFlow graph of core operations, in any version of Python. So letters and digits are those of Unicode 3.2, and text
is composed by its rules: `unicodedata.ucd_3_2_0` keeps both unchanged. All else separates words: signs, emoji,
combining marks that no letter took up, and the few letters that are younger (capital sharp s, U+1E9E).
`WORD_CHARACTERS` is the inside of a character class that Python's `re` and TensorFlow's RE2 both read. The standard
mode as a graph, exact for all of Unicode once the text is composed (`kmm.export.graph.composition`):

    spaced = tf.strings.regex_replace(text, f"[^{WORD_CHARACTERS}]+", " ")
    dotted = tf.strings.regex_replace(tf.strings.regex_replace(spaced, "I", "i"), "İ", "i\\u0307")
    words = tf.strings.split(tf.strings.lower(dotted, encoding="utf-8"))

The second line is for a machine with Turkish settings (LC_ALL=tr_TR.UTF-8), where TensorFlow lowers "I" to a dotless i.
"""

import re
import sys
import unicodedata
from itertools import groupby
from typing import NamedTuple

from kmm.errors import InputError, ReportError, look_up

MAX_CHARACTERS = 1_000_000
UNICODE = unicodedata.ucd_3_2_0
DEIDENTIFIED = re.compile("x{4,}")


def _list_categories():
    """The general categories of all characters, as list of `(category, first, last)`."""
    runs, start = [], 0
    for category, characters in groupby(map(UNICODE.category, map(chr, range(sys.maxunicode + 1)))):
        count = len(list(characters))
        runs.append((category, start, start + count - 1))
        start += count
    return runs


def _list_characters(kinds, categories):
    """The characters of the general categories that begin with one of `kinds` as ranges `a-b`, one after the other."""
    ranges = []
    for category, first, last in categories:
        if category.startswith(kinds):
            if ranges and ranges[-1][1] == first - 1:
                ranges[-1][1] = last
            else:
                ranges.append([first, last])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


CATEGORIES = _list_categories()
WORD_CHARACTERS = _list_characters(("L", "N"), CATEGORIES)
LETTERS = _list_characters(("L",), CATEGORIES)
_UNASSIGNED = re.compile(f"([{_list_characters(('Cn',), CATEGORIES)}]+)")
_WORD = re.compile(f"[{WORD_CHARACTERS}]+")
_LETTERS = re.compile(f"[{LETTERS}]+")
_CHUNK = re.compile(r"\S+")

# NLTK's English list without its 26 forms with an apostrophe, which cannot occur once punctuation is deleted.
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


def compose(text):
    """Returns a text in Unicode's composed form (NFC) by the rules of Unicode 3.2, whatever the version of Python.

    Characters that are younger stay as they are, and marks are not moved across them.

    Source: https://www.unicode.org/reports/tr15/

    Example:
        >>> compose("e\N{COMBINING ACUTE ACCENT}") == "é"
        True
    """
    if text.isascii():
        return text
    # Python orders younger marks by its own version of Unicode, so they are kept apart.
    parts = _UNASSIGNED.split(text)
    parts[::2] = [UNICODE.normalize("NFC", part) for part in parts[::2]]
    return "".join(parts)


def _list_places(text, composed):
    """Where each character of a composed text begins and ends in the original.

    Composing moves and takes up marks, but keeps the order of the characters that are no marks: so these are counted,
    in the decomposed form of both texts.
    """
    origins = [place for place, letter in enumerate(text) for _ in range(_count_bases(letter))]
    origins += [len(text)] * (len(text) - len(origins) + 1)
    starts, ends, bases = [], [], 0
    for letter in composed:
        start = origins[bases]
        bases += _count_bases(letter)
        last = origins[max(bases - 1, 0)]
        starts.append(start)
        ends.append(last + 1 if text[last : last + 1] == letter else max(origins[bases], last + 1))
    return starts, ends


def _count_bases(letter):
    """How many characters of a decomposed character are no marks."""
    if letter.isascii():
        return 1
    return sum(not UNICODE.combining(part) for part in UNICODE.normalize("NFD", letter))


class Word(NamedTuple):
    """A word as the model reads it, and where it stands: `report[start:end]` is what was written there."""

    text: str
    start: int
    end: int


def _find_standard_words(text):
    """Each longest run of letters and digits, in lower case."""
    return [Word(match.group().lower(), *match.span()) for match in _WORD.finditer(text)]


def _find_paper_words(text):
    """Each chunk between white space, without digits and punctuation, in lower case, unless it is a stop-word."""
    words = []
    for chunk in _CHUNK.finditer(text):
        pieces = list(_LETTERS.finditer(text, *chunk.span()))
        word = "".join(piece.group() for piece in pieces).lower()
        if word and word not in STOP_WORDS:
            words.append(Word(word, pieces[0].start(), pieces[-1].end()))
    return words


CLEANING_MODES = {"standard": _find_standard_words, "paper": _find_paper_words}


def find_words(text, mode="standard", deidentified="keep"):
    """Cuts a report into the words that a model reads.

    `standard` takes each longest run of letters and digits and puts it in lower case after cutting; no word is dropped,
    so negations stay. `paper` repeats the published cleaning: digits and punctuation are deleted inside each chunk
    between white space ("t-spine" becomes "tspine"), then English stop-words, "no" and "not" among them: a known defect
    of that work, kept for comparison with it.

    Args:
        text: str of at most `MAX_CHARACTERS` characters.
        mode: a name in `CLEANING_MODES`.
        deidentified: `"keep"` or `"drop"`: what becomes of words of four or more x, which stand for removed names.

    Returns:
        list of `Word` in the order of the text; empty when there is none. `start` and `end` index `text`, from the
        first to behind the last character that was kept, with the combining marks that it took up.

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
    words = split(composed)
    if composed != text:
        starts, ends = _list_places(text, composed)
        words = [Word(word.text, starts[word.start], ends[word.end - 1]) for word in words]
    if deidentified == "drop":
        words = [word for word in words if not DEIDENTIFIED.fullmatch(word.text)]
    return words
