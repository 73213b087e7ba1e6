"""Where the sentences of a report end: at a stop, unless it belongs to a list number, an abbreviation or an initial."""

import re

TITLES = {"dr", "drs", "mr", "mrs", "ms", "prof", "st", "messrs"}
# Never the last word of a sentence.
ABBREVIATIONS = TITLES | {"vs", "e.g", "i.e", "eg", "ie", "cf", "viz", "approx", "incl", "resp", "al"}
# Abbreviations before a number or "of", words elsewhere: "No. 3", "No. of views" and "Effusion? No."
BEFORE_NUMBERS = {
    *("no", "nos", "fig", "figs", "p", "pp", "vol", "ca", "c", "im", "ser"),
    *("jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "nov", "dec"),
}
# The last word of a sentence only where a capital or the next number of a list follows: "at 5 p.m. No change".
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
# What a single letter follows that is no initial: "hepatitis C."
KINDS = {
    *("hepatitis", "vitamin", "type", "class", "grade", "group", "stage", "category", "influenza", "protein", "zone"),
    *("level", "kerley", "view", "lobe"),
}
# What a number follows that is no number of a list: "ribs 1 and 2."
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


def find_sentence_ends(text):
    """Finds where the sentences of a text end.

    A sentence ends behind `.`, `!` or `?` before white space. The numbers of a list end none (`1. No mass. 2. Cyst.` is
    two sentences, each with its number), nor do titles and abbreviations (`Dr.`, `vs.`, `No. 3`), initials and
    decimals. The next number of a list begins a sentence, also where a stop is missing before it.

    Args:
        text: str, one section of a report.

    Returns:
        list of int in ascending order: places in `text`, each behind the last character of a sentence or at the first
        of the next. The end of the text is left out unless it is a stop.

    Example:
        >>> text = "1. Seen by Dr. A. Smith at 1.5 cm. 2. No mass vs. cyst"
        >>> [text[a:b].strip() for a, b in zip([0, 34], find_sentence_ends(text) + [len(text)])]
        ['1. Seen by Dr. A. Smith at 1.5 cm.', '2. No mass vs. cyst']
    """
    chunks = list(_CHUNK.finditer(text))
    words = [chunk.group() for chunk in chunks]
    ends, begins, number = [], True, None
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


def _continues_list(item, number, before, after):
    """Whether a number in a sentence is the next of its list."""
    follows = item.isdecimal() and number is not None and int(item) == number + 1
    repeated = (mark := _MARK.fullmatch(after)) and mark[1] == item
    return follows and after[:1].isupper() and not repeated and before.lower() not in BEFORE_VALUES


def _ends_sentence(words, place, begins):
    word = words[place]
    before = words[place - 1] if place else ""
    after = words[place + 1] if place + 1 < len(words) else ""
    stop = _STOP.search(word)
    core, stop = word[: stop.start()].lstrip("([\"'“‘«"), stop.group()
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


def _precedes_initial(before):
    """Whether a single capital letter behind a word of its sentence is a name's."""
    core = before.rstrip(".,")
    names = core.lower() in TITLES | {"by", "with", "per"} or (before.endswith(".") and bool(_INITIALS.fullmatch(core)))
    return names or (core[:1].isupper() and not core.isupper() and core.lower() not in KINDS)
