"""Checks of arguments: numbers of Python and numpy, never a bool, and names."""

import numbers
from typing import Any

from kmm.errors import InputError

MAX_SECONDS = 1_000_000.0  # eleven days; gRPC fails on much larger floats


def take_whole(name: str, value: Any, least: int, most: int) -> int:
    """Returns a whole number in [least, most] as int.

    Raises:
        InputError: if the value is not a whole number or out of range.

    Example:
        >>> take_whole("concurrency", 0, 1, 1000)
        Traceback (most recent call last):
        kmm.errors.InputError: `concurrency` must be a whole number from 1 to 1000. Received: 0.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= int(value) <= most:
        raise InputError(f"`{name}` must be a whole number from {least} to {most}. Received: {_show(value)}.")
    return int(value)


def take_seconds(name: str, value: Any) -> float:
    """Returns a time above 0 and at most 1,000,000 seconds as float.

    Raises:
        InputError: if the value is not a number or out of range.

    Example:
        >>> take_seconds("timeout", 30)
        30.0
    """
    if not _is_seconds(value):
        raise InputError(
            f"`{name}` must be a number of seconds above 0 and at most {MAX_SECONDS:.0f}. Received: {_show(value)}."
        )
    return float(value)


def take_name(name: str, value: Any) -> str | None:
    """Returns a name that a message can hold; None for None.

    Raises:
        InputError: if the value is not a str, is blank, or has characters that cannot be printed or encoded in UTF-8.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InputError(f"`{name}` must be a str of printable characters. Received: {_show(value)}.")
    return value


def _is_seconds(value):
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 < value <= MAX_SECONDS


def _show(value):
    """Shows a number itself, and only the type of any other value, which may be long or confidential."""
    is_short = isinstance(value, numbers.Real) and not (isinstance(value, int) and abs(value) >= 10**30)
    return repr(value) if is_short else type(value).__name__
