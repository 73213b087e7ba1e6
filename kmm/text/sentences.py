"""Find the ends of sentences in a report: at each stop, except after list numbers, abbreviations and initials."""

import re
from collections.abc import Sequence

TITLES = {"dr", "drs", "mr", "mrs", "ms", "prof", "st", "messrs"}
# Never the last word of a sentence.
ABBREVIATIONS = TITLES | {"vs", "e.g", "i.e", "eg", "ie", "cf", "viz", "approx", "incl", "resp", "al"}
# Abbreviations only before a number or "of" ("No. 3", "No. of views"); elsewhere they are words ("Effusion? No.").
BEFORE_NUMBERS = {
    *("no", "nos", "fig", "figs", "p", "pp", "vol", "ca", "c", "im", "ser"),
    *("jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"),
}
# These end a sentence only before a capital or the next number of a list: "at 5 p.m. No change".
BEFORE_CAPITALS = {
    *(
        "a.m",
        "p.m",
        "etc",
        "jr",
        "sr",
        "inc",
        "dept",
        "hx",
        "fx",
        "dx",
        "tx",
        "rt",
        "lt",
        "bilat",
        "abd",
        "ant",
        "post",
    ),
    *("lat", "sup", "inf", "prev", "poss", "prob", "mm", "cm", "min", "max", "yr", "yrs", "hr", "hrs", "mo", "wk"),
}
# A single letter after one of these is not an initial: "hepatitis C."
KINDS = {
    *("hepatitis", "vitamin", "type", "class", "grade", "group", "stage", "category", "influenza", "protein", "zone"),
    *("level", "kerley", "view", "lobe"),
}
# A number after one of these is not the number of a list item: "ribs 1 and 2."
BEFORE_VALUES = {
    "and",
    "or",
    "to",
    "of",
    "at",
    "than",
    "by",
    "from",
    "in",
    "is",
    "are",
    "was",
    "rib",
    "ribs",
    "x",
} | KINDS

_CHUNK = re.compile(r"\S+")
_STOP = re.compile(r"[.!?]+[)\]\"'”’»]*$")
_MARK = re.compile(r"[(\[#]?(\d{1,2}|(?:i{1,3}|i?v|vi{1,3}|i?x)|[a-z])(?:[.:]|[.:]?[)\]])", re.IGNORECASE)
_INITIALS = re.compile(r"(?:[A-Z]\.)*[A-Z]")
_UNITS = re.compile(r"(?:mm|cm|m|x|inch|inches|ml|kg|mg)\b", re.IGNORECASE)


def find_sentence_ends(text: str) -> list[int]:
    """Finds the ends of the sentences of a text.

    A sentence ends after `.`, `!` or `?` before white space. List numbers do not end a sentence (`1. No mass. 2. Cyst.`
    is two sentences, each with its number), nor do titles and abbreviations (`Dr.`, `vs.`, `No. 3`), initials and
    decimals. The next number of a list begins a sentence, even if there is no stop before it.

    Args:
        text: str, one section of a report.

    Returns:
        list of int in ascending order: positions in `text`, each after the last character of a sentence or at the first
        character of the next. The end of the text is left out unless it is a stop.

    Example:
        >>> text = "1. Seen by Dr. A. Smith at 1.5 cm. 2. No mass vs. cyst"
        >>> [text[a:b].strip() for a, b in zip([0, 34], find_sentence_ends(text) + [len(text)])]
        ['1. Seen by Dr. A. Smith at 1.5 cm.', '2. No mass vs. cyst']
    """
    chunks = list(_CHUNK.finditer(text))
    words = [chunk.group() for chunk in chunks]
    ends: list[int] = []
    begins = True
    number: int | None = None
    for place, (chunk, word) in enumerate(zip(chunks, words)):
        before = words[place - 1] if place else ""
        after = words[place + 1] if place + 1 < len(words) else ""
        mark = _MARK.fullmatch(word)
        if begins and not mark and _MARK.fullmatch(word + after):  # a number apart from its stop: "1 . No mass"
            continue
        if begins and not mark and (apart := _MARK.fullmatch(before + word)):
            mark = apart
        if mark and (begins or before.endswith(":")):
            number = int(mark[1]) if mark[1].isdecimal() else None
        elif mark and _continues_list(mark[1], number, before, after):
            ends.append(chunk.start())
            number, begins = int(mark[1]), True
        elif _STOP.search(word) and _ends_sentence(words, place, begins):
            ends.append(chunk.end())
            begins = True
        else:
            begins = False
    return ends


def _continues_list(item: str, number: int | None, before: str, after: str) -> bool:
    """Returns True if a number inside a sentence is the next number of its list."""
    follows = item.isdecimal() and number is not None and int(item) == number + 1
    repeated = (mark := _MARK.fullmatch(after)) and mark[1] == item
    return follows and after[:1].isupper() and not repeated and before.lower() not in BEFORE_VALUES


def _ends_sentence(words: Sequence[str], place: int, begins: bool) -> bool:
    """Returns True if the stop at the end of a word ends its sentence; `begins` if the word is the first of it."""
    word = words[place]
    before = words[place - 1] if place else ""
    after = words[place + 1] if place + 1 < len(words) else ""
    found = _STOP.search(word)
    if found is None:
        return False
    core, stop = word[: found.start()].lstrip("([\"'“‘«"), found.group()
    low, opening = core.lower(), after.lstrip("([\"'“‘«#")[:1]
    if not after or "!" in stop or "?" in stop:
        return True
    if low in ABBREVIATIONS or (low in BEFORE_NUMBERS and (opening.isdecimal() or after.lower() == "of")):
        return False
    if low in BEFORE_CAPITALS or stop.startswith(".."):
        return bool(_MARK.fullmatch(after)) or not (opening.islower() or opening.isdecimal())
    if _INITIALS.fullmatch(core):
        return not (begins or opening.islower() or _precedes_initial(before))
    if core[-1:].isdecimal() and after.isdecimal():
        return not _UNITS.match(words[place + 2] if place + 2 < len(words) else "")
    return True


def _precedes_initial(before: str) -> bool:
    """Returns True if a single capital letter after this word is an initial of a name."""
    core = before.rstrip(".,")
    names = core.lower() in TITLES | {"by", "with", "per"} or (before.endswith(".") and bool(_INITIALS.fullmatch(core)))
    return names or (core[:1].isupper() and not core.isupper() and core.lower() not in KINDS)
