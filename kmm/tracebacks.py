"""Describe the origin of an error without its message, which may quote a report; show tracebacks on demand only."""

import os
import sys
import traceback
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def is_debugging() -> bool:
    """Returns whether the variable KMM_DEBUG asks for tracebacks; `kmm --debug` sets it, in worker processes too."""
    return os.environ.get("KMM_DEBUG", "").lower() not in ("", "0", "false", "no", "off")


def show_traceback(error: BaseException) -> None:
    """With KMM_DEBUG, writes the traceback of an error and of every error that led to it to standard error.

    Args:
        error: exception that was raised.
    """
    if not is_debugging():
        return
    earlier: BaseException | None = error
    seen = set()
    while earlier is not None and id(earlier) not in seen:
        seen.add(id(earlier))
        earlier.__suppress_context__ = False  # `raise ... from None` hides the first error
        earlier = earlier.__cause__ or earlier.__context__
    traceback.print_exception(error, file=sys.stderr)


def describe_error(error: BaseException) -> str:
    """Names the type of an error, the last line of kmm that it passed, and the line outside kmm that raised it.

    With KMM_DEBUG the traceback goes to standard error too.

    Args:
        error: exception that was raised.

    Returns:
        str that never contains the error's message.

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
    text = type(error).__name__
    if own:
        text += f" at {own[-1][0].as_posix()}:{own[-1][1]}"
    if places and not places[-1][0].is_relative_to(_ROOT / "kmm"):
        text += f", raised at {places[-1][0]}:{places[-1][1]}"
    return text
