"""Classes of characters by Unicode 3.2, which never changes, for Python's `re` and TensorFlow's RE2 alike."""

import string
import sys
import unicodedata
from collections.abc import Iterable
from itertools import groupby

UNICODE = unicodedata.ucd_3_2_0


def _list_categories() -> list[tuple[str, int, int]]:
    """Returns runs of characters with the same general category, as `(category, first, last)`."""
    runs, start = [], 0
    for category, characters in groupby(map(UNICODE.category, map(chr, range(sys.maxunicode + 1)))):
        count = len(list(characters))
        runs.append((category, start, start + count - 1))
        start += count
    return runs


def list_codes(kinds: tuple[str, ...]) -> set[int]:
    """Returns the code points whose general category begins with one of `kinds`."""
    return {code for kind, first, last in CATEGORIES if kind.startswith(kinds) for code in range(first, last + 1)}


def list_characters(kinds: tuple[str, ...], categories: list[tuple[str, int, int]]) -> str:
    """Returns the characters whose general category begins with one of `kinds`, as concatenated ranges `a-b`."""
    ranges: list[list[int]] = []
    for category, first, last in categories:
        if category.startswith(kinds):
            if ranges and ranges[-1][1] == first - 1:
                ranges[-1][1] = last
            else:
                ranges.append([first, last])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


CATEGORIES = _list_categories()
WORD_CHARACTERS = list_characters(("L", "N"), CATEGORIES)
LETTERS = list_characters(("L",), CATEGORIES)
SPACES = "".join(chr(code) for code in range(0x10000) if chr(code).isspace())


def write_class(codes: Iterable[int]) -> str:
    r"""Writes characters as the inside of a character class of `re` and RE2: ranges, with ASCII signs escaped.

    Example:
        >>> write_class(map(ord, "-abc"))
        '\\-a-c'
    """
    ranges: list[list[int]] = []
    for code in sorted(set(codes)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(_escape(first) + (f"-{_escape(last)}" if last > first else "") for first, last in ranges)


def _escape(code: int) -> str:
    return f"\\{chr(code)}" if chr(code) in string.punctuation else chr(code)
