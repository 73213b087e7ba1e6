"""Redaction: words, phrases and expressions that are removed from a report before a model reads it.

A redaction controls what a report gives away about the labels; it does not make a report anonymous. It is applied to
the composed text (`kmm.text.clean.compose`) of all sections together, before the cleaning, in two passes: phrases, the
longest first, then expressions in the order of their list. Underscores count as spaces. Every match becomes white
space, so the words around it stay words of their own, and nothing shows the model that there was something.

`kmm.export.graph.redaction` does the same in TensorFlow. Both passes write `GAP`, which no entry matches, so a second
match never reaches into a first one. Python writes one per character, which keeps the positions; the graph one per
match.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from kmm.errors import InputError
from kmm.text.characters import SPACES, WORD_CHARACTERS
from kmm.text.clean import compose, list_places
from kmm.text.expressions import GAP, translate_expression, write_text

DEFAULT = "default"  # the name of kmm's own list
DEFAULT_FILE = "redaction_default.txt"
MAX_FILE_BYTES = 200_000
MAX_ENTRIES = 1000
MAX_CHARACTERS = 200  # of an entry
MAX_SIZE = 20_000  # of all expressions together: RE2 compiles them in a fixed amount of memory
MAX_PHRASES_SIZE = 500_000  # of all phrases together; RE2 compiles at most about 680,000
START, END = "\ue000", "\ue001"  # around each word, while the graph looks for phrases
SPACED = f"[_{START}-{GAP}]"  # read as spaces: the cleaning splits words at an underscore, but \b does not
_WORDS = re.compile(f"[{WORD_CHARACTERS}]+")
_PARTS = re.compile(f"(?P<word>{_WORDS.pattern})|(?P<space> )|.")
_GAPS = re.compile(f"{GAP}+")
_SPACED = re.compile(SPACED)


@dataclass(frozen=True, repr=False)
class Redaction:
    r"""A list of entries that are removed from reports.

    Attributes:
        entries: tuple of str in the order of the list. A phrase is one or more words with white space between them,
            without regard to case. `/.../` is an expression, see `kmm.text.expressions.translate_expression`.

    Raises:
        InputError: if an entry cannot be used, or there are too many.

    Example:
        >>> redaction = Redaction(("no acute", r"/\b(un)?clear\w{0,9}/"))
        >>> redaction.blank("No  acute disease, unclear.")
        '          disease,        .'
        >>> redaction.find("No acute disease.")
        [(0, 8)]
    """

    entries: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", tuple(dict.fromkeys(map(check_entry, self.entries))))
        if not 0 < len(self.entries) <= MAX_ENTRIES:
            raise InputError(f"A redaction has 1 to {MAX_ENTRIES} entries. Received: {len(self.entries)}")
        size = sum(translate_expression(text).size for text in self._expressions)
        if size > MAX_SIZE:
            raise InputError(
                f"The expressions of the redaction are too large together ({size} of at most {MAX_SIZE}): lower the "
                "bounds of their repetitions, or leave some out."
            )
        size = sum(map(_measure_phrase, self._phrases))
        if size > MAX_PHRASES_SIZE:
            raise InputError(
                f"The phrases of the redaction are too large together ({size} of at most {MAX_PHRASES_SIZE}): shorten "
                "them, or leave some out."
            )

    def __repr__(self) -> str:
        return f"Redaction({len(self.entries)} entries, {self.digest[:12]})"

    @property
    def digest(self) -> str:
        """The SHA-256 of the entries, 64 hexadecimal digits."""
        return hashlib.sha256("\n".join(self.entries).encode()).hexdigest()

    @property
    def _expressions(self) -> list[str]:
        return [entry[1:-1] for entry in self.entries if entry.startswith("/")]

    @property
    def _phrases(self) -> list[str]:
        """The phrases, longest first, so that none hides a longer one that begins alike."""
        phrases = [entry for entry in self.entries if not entry.startswith("/")]
        return sorted(phrases, key=lambda phrase: (-len(phrase), phrase))

    @cached_property
    def expressions(self) -> str:
        """One pattern for all expressions, for `re` and RE2; empty if there are none."""
        return "|".join(f"(?:{translate_expression(text).pattern})" for text in self._expressions)

    @cached_property
    def marked_phrases(self) -> str:
        """One RE2 pattern for all phrases in a text with `START` and `END` around each word; empty if there are none.

        RE2 has no look-around, and its word boundary knows ASCII letters alone.
        """
        return "|".join(write_phrase(phrase, lambda word: f"{START}{word}{END}") for phrase in self._phrases)

    @cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        phrases = "|".join(write_phrase(phrase) for phrase in self._phrases)
        letters = f"[{WORD_CHARACTERS}]"
        whole = phrases and f"(?<!{letters})(?:{phrases})(?!{letters})"
        return tuple(re.compile(pattern, re.ASCII) for pattern in (whole, self.expressions) if pattern)

    def blank(self, text: str) -> str:
        """Replaces each redacted character of a composed text by a space.

        Args:
            text: str, composed by `kmm.text.clean.compose`.

        Returns:
            str of the same length.
        """
        return self._mark(text).replace(GAP, " ")

    def find(self, text: str) -> list[tuple[int, int]]:
        """Finds what is redacted in a text, which need not be composed.

        Args:
            text: str.

        Returns:
            list of `(start, end)` in order: `text[start:end]` is redacted. Spans do not overlap or touch.
        """
        composed = compose(text)
        spans = [match.span() for match in _GAPS.finditer(self._mark(composed))]
        if composed == text:
            return spans
        starts, ends = list_places(text, composed)
        return [(starts[start], ends[end - 1]) for start, end in spans]

    def _mark(self, text):
        marked = _SPACED.sub(" ", text)
        for pattern in self._patterns:
            marked = pattern.sub(lambda match: GAP * len(match[0]), marked)
        return marked


def check_entry(entry: str) -> str:
    """Checks an entry of a redaction, and writes it in its normal form: composed, with single spaces in a phrase.

    Raises:
        InputError: if it cannot be used. The message says why, and what to write instead.

    Example:
        >>> check_entry(" within  normal limits ")
        'within normal limits'
        >>> check_entry("clear.")
        Traceback (most recent call last):
        kmm.errors.InputError: a phrase begins and ends with a letter or a digit; for other signs write /clear\\./.
    """
    text = compose(entry.strip())
    if not text.startswith("/"):
        text = " ".join(text.replace("_", " ").split())
    if not 0 < len(text) <= MAX_CHARACTERS:
        raise InputError(f"an entry has 1 to {MAX_CHARACTERS} characters. It has {len(text)}.")
    if not text.isprintable():
        raise InputError("it has a character that cannot be printed.")
    if text.startswith("/"):
        if len(text) < 3 or not text.endswith("/"):
            raise InputError("an expression stands between two slashes, as in /clear(ed|ing)?/.")
        translate_expression(text[1:-1])
    elif "#" in text:
        raise InputError("a comment has a line of its own; for the sign write an expression: /\\#/.")
    elif not _WORDS.match(text) or not _WORDS.match(text[-1]):
        raise InputError(
            f"a phrase begins and ends with a letter or a digit; for other signs write /{re.escape(text)}/."
        )
    return text


def read_redaction(name: str) -> Redaction:
    """Reads a redaction from a text file, or kmm's own list.

    The file has one entry per line. Empty lines, and lines that begin with `#`, are skipped.

    Args:
        name: str, path of a file in UTF-8, or `default`.

    Returns:
        `Redaction`.

    Raises:
        InputError: if the file cannot be read, or a line of it cannot be used; it names the file and the line.

    Example:
        >>> read_redaction("default").blank("Heart size is normal.")
        'Heart size is       .'
    """
    entries = []
    for number, line in enumerate(_read_text(name).split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            entries.append(check_entry(line))
        except InputError as error:
            raise InputError(f"{name}, line {number}: {error}") from None
    try:
        return Redaction(tuple(entries))
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _read_text(name):
    place = files("kmm.text").joinpath(DEFAULT_FILE) if name == DEFAULT else Path(name)
    try:
        with place.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise InputError(f"{name}: expected a redaction of at most {MAX_FILE_BYTES} bytes.")
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise InputError(f"{name}: expected a readable redaction, or `default`. Received: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{name}: expected a redaction in UTF-8, one word, phrase or /expression/ per line.") from None


def write_phrase(phrase: str, mark: Callable[[str], str] = str) -> str:
    """Writes a phrase as a pattern that ignores case and takes any white space between words; `mark` is applied to the
    pattern of each word.

    Example:
        >>> write_phrase("No")
        '[Nn][Oo]'
    """
    pattern = ""
    for part in _PARTS.finditer(phrase):
        text = write_text(part[0])
        pattern += mark(text) if part["word"] else f"[{SPACES}]+" if part["space"] else text
    return pattern


def _measure_phrase(phrase: str) -> int:
    """Estimates the number of instructions that RE2 compiles a marked phrase to, from above: 30 for the class of
    spaces, 6 for the marks of a word, 1 for an ASCII character and 6 for any other."""
    size = 0
    for part in _PARTS.finditer(phrase):
        size += 30 if part["space"] else 6 * bool(part["word"]) + sum(1 if char.isascii() else 6 for char in part[0])
    return size


def describe_redaction(redaction: Redaction, documents: Sequence[str]) -> dict[str, int | float | str]:
    """Counts what a redaction removes from texts: `entries`, `digest`, and `removed`, the share of their words.

    Example:
        >>> describe_redaction(Redaction(("normal",)), ["Heart is normal.", "Normal."])["removed"]
        0.5
    """
    composed = [compose(text) for text in documents]
    before = sum(len(_WORDS.findall(text)) for text in composed)
    after = sum(len(_WORDS.findall(redaction.blank(text))) for text in composed)
    return {
        "entries": len(redaction.entries),
        "digest": redaction.digest,
        "removed": 1 - after / before if before else 0.0,
    }
