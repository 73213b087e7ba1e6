"""Regular expressions that mean the same to Python's `re` and to RE2, the engine of TensorFlow's graphs.

The syntax is the part of RE2's that both engines read alike. An expression is parsed and written out in full: letters
in both cases, classes as ranges, groups without numbers. Both engines compile that text, without flags except
`re.ASCII`, which makes `\\b` in Python the word boundary of RE2.

`re` tries one way after the other, RE2 all at once. So that no text makes `re` slow, every repetition has an upper
bound, and an expression may match in at most `MAX_WAYS` ways at one place.
"""

import string
from dataclasses import dataclass, replace
from itertools import pairwise

from kmm.errors import InputError

MAX_WAYS = 20_000  # most ways in which an expression may try to match at one place
MAX_REPEATS = 1000  # RE2's own limit of {m,n}, and of the product of those inside each other
MAX_CLASS = 2000  # most characters of a class, apart from those of a negated one
MAX_DEPTH = 20  # of groups inside groups
GAP = "\ue002"  # stands for text that is already removed: no expression matches it
CLASSES = {"d": "0-9", "w": "0-9A-Z_a-z", "s": "\t\n\f\r "}  # RE2's, which are ASCII
_CONTROLS = {"t": "\t", "n": "\n"}
_UNSUPPORTED = {
    "^": "the text of a report is one line, so `^` and `$` mark no word: write \\b",
    "$": "the text of a report is one line, so `^` and `$` mark no word: write \\b",
    "*": "`*` has no upper bound: write {0,30}",
    "+": "`+` has no upper bound: write {1,30}",
    "?": "`?` must follow what it makes optional",
    "{": "`{` must follow what it repeats; for the character write \\{",
    "}": "for the character write \\}",
    "]": "for the character write \\]",
}


@dataclass(frozen=True)
class Expression:
    """A part of a regular expression as both engines compile it.

    Attributes:
        pattern: str in the common syntax.
        shortest: int. Fewest characters that it matches.
        ways: int. Most ways in which a backtracking engine may try it at one place.
        size: int. Roughly the number of instructions that RE2 compiles it to.
        repeats: int. Largest product of the upper bounds of repetitions inside each other.
    """

    pattern: str
    shortest: int = 0
    ways: int = 1
    size: int = 0
    repeats: int = 1


def translate_expression(text: str) -> Expression:
    r"""Translates a regular expression to the common syntax of Python's `re` and RE2; it then ignores case.

    Supported are characters, `.`, classes such as `[a-z]` and `[^,;]`, `\d \w \s \D \W \S \b \B \t \n`, escaped signs,
    groups `(...)` and `(?:...)`, alternatives `|`, and `? {m} {m,n}`, each also lazy (`??`, `{m,n}?`).

    Args:
        text: str, the expression.

    Returns:
        `Expression` that matches at least one character.

    Raises:
        InputError: for any other syntax, or an expression that may match nothing or in too many ways. The message says
            what to write instead.

    Source: https://github.com/google/re2/wiki/Syntax

    Example:
        >>> translate_expression(r"(un)?clear\w{0,9}").pattern
        '(?:[Uu][Nn])?[Cc][Ll][Ee][Aa][Rr][0-9A-Z_a-z]{0,9}'
        >>> translate_expression("clear.*")
        Traceback (most recent call last):
        kmm.errors.InputError: `*` has no upper bound: write {0,30}.
    """
    parser = _Parser(text)
    found = parser.read_alternatives(0)
    if parser.rest():
        raise InputError("a `)` closes no group; for the character write \\).")
    if not found.shortest:
        raise InputError("it may match without a character: make a part of it obligatory.")
    return found


def list_cases(char: str) -> str:
    """Lists a character in upper and lower case, as far as each is a single character.

    Example:
        >>> list_cases("n"), list_cases("4"), list_cases("ß")
        ('Nn', '4', 'ß')
    """
    return "".join(sorted({char, *(form for form in (char.upper(), char.lower()) if len(form) == 1)}))


def write_text(text: str) -> str:
    """Writes a text as a pattern that matches it in either case.

    Example:
        >>> write_text("t-4")
        '[Tt]\\\\-4'
    """
    return "".join(_write_class(list_cases(char)) for char in text)


class _Parser:
    """Reads an expression from left to right; `place` is the next character."""

    def __init__(self, text):
        self.text, self.place = text, 0

    def rest(self):
        return self.text[self.place :]

    def take(self):
        if not self.rest():
            raise InputError("it ends too early: a `\\`, `[` or `{` is not complete.")
        self.place += 1
        return self.text[self.place - 1]

    def skip(self, token):
        """Moves behind a token if it comes next."""
        found = self.text.startswith(token, self.place)
        self.place += len(token) * found
        return found

    def read_alternatives(self, depth):
        if depth > MAX_DEPTH:
            raise InputError(f"more than {MAX_DEPTH} groups are inside each other: write it more simply.")
        found = [self._read_sequence(depth)]
        while self.skip("|"):
            found.append(self._read_sequence(depth))
        if len(found) > 1 and not all(part.size for part in found):
            raise InputError(
                "an alternative is empty: make the group optional, as in (...)?, or write \\| for the sign."
            )
        ways = _limit(sum(part.ways for part in found))
        shortest, repeats = min(part.shortest for part in found), max(part.repeats for part in found)
        size = sum(part.size for part in found)
        return Expression("|".join(part.pattern for part in found), shortest, ways, size, repeats)

    def _read_sequence(self, depth):
        pattern, shortest, ways, size, repeats = "", 0, 1, 0, 1
        while self.rest() and self.rest()[0] not in "|)":
            part = self._repeat(self._read_atom(depth))
            pattern, shortest, size = pattern + part.pattern, shortest + part.shortest, size + part.size
            ways, repeats = _limit(ways * part.ways), max(repeats, part.repeats)
        return Expression(pattern, shortest, ways, size, repeats)

    def _repeat(self, atom):
        bounds = self._read_bounds()
        if bounds is None:
            return atom
        low, high, mark = bounds
        if not atom.shortest:
            raise InputError("it repeats what may be empty: give the inner part at least one character.")
        repeats = high * atom.repeats
        if repeats > MAX_REPEATS:
            raise InputError(
                f"the repetitions inside each other repeat {repeats} times together, of at most {MAX_REPEATS}: lower "
                "their bounds."
            )
        lazy = "?" if self.skip("?") else ""
        ways = 0
        for count in range(low, high + 1):
            ways = _limit(ways + atom.ways**count)
        return Expression(f"{atom.pattern}{mark}{lazy}", low * atom.shortest, ways, high * atom.size, repeats)

    def _read_bounds(self):
        """Returns the fewest and the most repetitions and their notation; None if none follows."""
        if self.skip("?"):
            return 0, 1, "?"
        if self.rest()[:1] in ("*", "+"):
            raise InputError(f"{_UNSUPPORTED[self.take()]}.")
        if not self.skip("{"):
            return None
        inside = ""
        while (char := self.take()) != "}":
            inside += char
        low, comma, high = inside.partition(",")
        if not all(number.isascii() and number.isdigit() for number in (low, high if comma else low)):
            raise InputError("a repetition has two bounds, as in {0,30}; for the character write \\{.")
        least, most = int(low[:9]), int((high if comma else low)[:9])
        if not least <= most <= MAX_REPEATS or not most:
            raise InputError(f"the bounds of a repetition must be in order, from 1 to {MAX_REPEATS}.")
        return least, most, f"{{{least},{most}}}" if comma else f"{{{least}}}"

    def _read_atom(self, depth):
        char = self.take()
        if char == "(":
            return self._read_group(depth)
        if char == "[":
            return self._read_class()
        if char == "\\":
            return self._read_escape()
        if char == ".":
            return Expression(f"[^\n{GAP}]", 1, size=8)
        if char in _UNSUPPORTED:
            raise InputError(f"{_UNSUPPORTED[char]}.")
        return _match_one(char)

    def _read_group(self, depth):
        if self.rest().startswith("?") and not self.skip("?:"):
            raise InputError(
                "groups are (...) and (?:...): look-around, flags and names are not supported, and case is ignored."
            )
        inside = self.read_alternatives(depth + 1)
        if not self.skip(")"):
            raise InputError("a `(` is not closed; for the character write \\(.")
        if not inside.size:
            raise InputError("a group is empty.")
        return replace(inside, pattern=f"(?:{inside.pattern})")

    def _read_escape(self):
        char = self.take()
        if char in ("b", "B"):
            return Expression(f"\\{char}", size=1)
        if char in CLASSES:
            return Expression(f"[{CLASSES[char]}]", 1, size=1)
        if char.lower() in CLASSES:
            return Expression(f"[^{CLASSES[char.lower()]}{GAP}]", 1, size=8)
        return _match_one(self._unescape(char))

    def _unescape(self, char):
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char in string.punctuation or char == " ":
            return char
        raise InputError(f"\\{char} is not supported. Supported: \\d \\w \\s \\D \\W \\S \\b \\B \\t \\n, and signs.")

    def _read_class(self):
        negated, chars = self.skip("^"), set()
        while not self.skip("]"):
            first = self.take()
            if first == "[":
                raise InputError("in a class write \\[ for the character; classes such as [:alpha:] are not supported.")
            if first == "\\" and (name := self.take()) in CLASSES:
                chars |= set(_list_ranges(CLASSES[name]))
                continue
            low = self._unescape(name) if first == "\\" else first
            high = low
            if self.rest()[:1] == "-" and self.rest()[1:2] not in ("]", ""):
                self.take()
                high = self.take()
                if high == "[" or (high == "\\" and self.rest()[:1] in CLASSES):
                    raise InputError("a range of a class ends with a single character; write \\- for the sign.")
                high = self._unescape(self.take()) if high == "\\" else high
            if not low <= high or ord(high) - ord(low) >= MAX_CLASS:
                raise InputError(f"a range of a class must be in order, of at most {MAX_CLASS} characters.")
            chars |= {chr(code) for code in range(ord(low), ord(high) + 1)}
        if not chars:
            raise InputError("a class is empty; for the character write \\[ or \\].")
        both = {case for char in chars for case in list_cases(char)} - {GAP}
        if negated:
            return Expression(_write_class([*both, GAP], "^"), 1, size=8)
        return Expression(_write_class(both), 1, size=1 if max(both).isascii() else 4)


def _match_one(char):
    if char == "_":
        raise InputError("an underscore of a report counts as a space: write a space.")
    return Expression(write_text(char), 1, size=1 if char.isascii() else 3)


def _limit(ways):
    if ways > MAX_WAYS:
        raise InputError(
            f"it can match in more than {MAX_WAYS} ways at one place: lower the bounds of its repetitions, or write it "
            "as several expressions."
        )
    return ways


def _list_ranges(text):
    """Lists the characters of a class without escapes, such as `0-9A-Z_a-z`."""
    place = 0
    while place < len(text):
        last = place + 2 if text[place + 1 : place + 2] == "-" else place
        yield from map(chr, range(ord(text[place]), ord(text[last]) + 1))
        place = last + 1


def _write_class(chars, negation=""):
    """Writes characters as a class of ranges, or a single one as itself."""
    codes = sorted(map(ord, chars))
    if len(codes) == 1 and not negation:
        return _escape(codes[0])
    starts = [codes[0], *(after for before, after in pairwise(codes) if after > before + 1)]
    ends = [*(before for before, after in pairwise(codes) if after > before + 1), codes[-1]]
    ranges = "".join(_write_range(low, high) for low, high in zip(starts, ends, strict=True))
    return f"[{negation}{ranges}]"


def _write_range(low, high):
    between = "" if high == low + 1 else "-"
    return _escape(low) if high == low else f"{_escape(low)}{between}{_escape(high)}"


def _escape(code):
    char = chr(code)
    return f"\\{char}" if char in string.punctuation and char != "_" else char
