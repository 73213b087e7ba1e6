"""Arguments that are numbers, checked: Python's and numpy's alike, never a bool."""

import numbers

from kmm.errors import InputError

MAX_SECONDS = 1_000_000.0  # eleven days; gRPC cannot count to the largest floats


def take_whole(name, value, least, most):
    """A whole number in [least, most] as int.

    Raises:
        InputError: if it is something else.

    Example:
        >>> take_whole("concurrency", 0, 1, 1000)
        Traceback (most recent call last):
        kmm.errors.InputError: `concurrency` must be a whole number from 1 to 1000. Received: 0.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not least <= value <= most:
        raise InputError(f"`{name}` must be a whole number from {least} to {most}. Received: {_show(value)}.")
    return int(value)


def take_seconds(name, value):
    """A time above 0 and at most 1,000,000 seconds as float.

    Raises:
        InputError: if it is something else.

    Example:
        >>> take_seconds("timeout", 30)
        30.0
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value <= MAX_SECONDS:
        raise InputError(
            f"`{name}` must be a number of seconds above 0 and at most {MAX_SECONDS:.0f}. Received: {_show(value)}."
        )
    return float(value)


def take_name(name, value):
    """A name that a message can hold, as str; None for None.

    Raises:
        InputError: if it is empty, not a str, or no text that UTF-8 can hold.
    """
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InputError(f"`{name}` must be a str of printable characters. Received: {_show(value)}.")
    return value


def _show(value):
    """A number as it is, and of anything else its type: it may be long, or hold what should not be shown."""
    is_short = isinstance(value, numbers.Real) and not (isinstance(value, int) and abs(value) >= 10**30)
    return repr(value) if is_short else type(value).__name__
