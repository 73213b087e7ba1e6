"""Report to words, each with its character span in the original.

The same ids must come from a TensorFlow graph of core operations, in any version of Python. So letters and digits are
those of Unicode 3.2, which `unicodedata.ucd_3_2_0` keeps unchanged. All else separates words: signs, emoji, combining
marks, and the few letters that are younger (capital sharp s, U+1E9E). `WORD_CHARACTERS` is the inside of a character
class that Python's `re` and TensorFlow's RE2 both read. The standard mode as a graph, exact for all of Unicode:

    spaced = tf.strings.regex_replace(text, f"[^{WORD_CHARACTERS}]+", " ")
    dotted = tf.strings.regex_replace(tf.strings.regex_replace(spaced, "I", "i"), "İ", "i\\u0307")
    words = tf.strings.split(tf.strings.lower(dotted, encoding="utf-8"))

The second line is for a machine with Turkish settings (LC_ALL=tr_TR.UTF-8), where TensorFlow lowers "I" to a dotless i.
"""

import re
import sys
import unicodedata
from typing import NamedTuple

from kmm.errors import InputError, ReportError

MAX_CHARACTERS = 1_000_000
DEIDENTIFIED = re.compile("x{4,}")


def _list_characters(kinds):
    """The characters of the general categories `kinds` (first letters) as ranges `a-b`, one after the other."""
    category, ranges = unicodedata.ucd_3_2_0.category, []
    for code in range(sys.maxunicode + 1):
        if category(chr(code))[0] in kinds:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


WORD_CHARACTERS = _list_characters("LN")
LETTERS = _list_characters("L")
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
        first to behind the last character that was kept.

    Raises:
        InputError: for an unknown mode or policy.
        ReportError: if the text is too long. The text is not quoted.

    Source: https://arxiv.org/abs/1902.08888 (mode `paper`)

    Example:
        >>> [word.text for word in find_words("No T-spine fracture. XXXX 2019")]
        ['no', 't', 'spine', 'fracture', 'xxxx', '2019']
        >>> find_words("No T-spine fracture.", "paper")
        [Word(text='tspine', start=3, end=10), Word(text='fracture', start=11, end=19)]
    """
    if mode not in CLEANING_MODES:
        raise InputError(f"Unknown cleaning mode {mode!r}. Known: {', '.join(CLEANING_MODES)}")
    if deidentified not in ("keep", "drop"):
        raise InputError(f"`deidentified` must be keep or drop. Received: {deidentified!r}")
    if len(text) > MAX_CHARACTERS:
        raise ReportError(f"A report must have at most {MAX_CHARACTERS} characters. Received: {len(text)}")
    words = CLEANING_MODES[mode](text)
    if deidentified == "drop":
        words = [word for word in words if not DEIDENTIFIED.fullmatch(word.text)]
    return words
