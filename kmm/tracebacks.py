"""Where an error came from, without its text, which may quote a report or a request; its traceback only on demand."""

import os
import sys
import traceback
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def is_debugging():
    """Whether tracebacks are wanted: the variable KMM_DEBUG, which `kmm --debug` sets, in worker processes too."""
    return os.environ.get("KMM_DEBUG", "").lower() not in ("", "0", "false", "no", "off")


def show_traceback(error):
    """Writes the whole traceback of an error to standard error, with every error that led to it, where it is wanted.

    Args:
        error: exception that was raised.
    """
    if not is_debugging():
        return
    earlier, seen = error, set()
    while earlier is not None and id(earlier) not in seen:
        seen.add(id(earlier))
        earlier.__suppress_context__ = False  # `raise ... from None` hides where it began
        earlier = earlier.__cause__ or earlier.__context__
    traceback.print_exception(error, file=sys.stderr)


def describe_error(error):
    """Names the type of an error, the last line of kmm that it passed, and the line outside kmm that raised it.

    With KMM_DEBUG the traceback goes to standard error too.

    Args:
        error: exception that was raised.

    Returns:
        str, never with the words of the error.

    Example:
        >>> from kmm.server.settings import parse_model
        >>> try:
        ...     parse_model("a:b=folder")
        ... except ValueError as error:
        ...     describe_error(error).partition(":")[0]
        'InputError at kmm/server/settings.py'
    """
    show_traceback(error)
    places = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(path.relative_to(_ROOT), line) for path, line in places if path.is_relative_to(_ROOT / "kmm")]
    told = type(error).__name__
    if own:
        told += f" at {own[-1][0].as_posix()}:{own[-1][1]}"
    if places and not places[-1][0].is_relative_to(_ROOT / "kmm"):
        told += f", raised at {places[-1][0]}:{places[-1][1]}"
    return told
