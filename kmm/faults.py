"""Where an error came from, without its text: that may quote a request."""

import traceback
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def tell_fault(error):
    """The type of an error, the last line of kmm that it passed, and the line that raised it, where that is another's.

    Args:
        error: exception that was raised.

    Returns:
        str, never with the words of the error.

    Example:
        >>> from kmm.server.settings import parse_model
        >>> try:
        ...     parse_model("a:b=folder")
        ... except ValueError as error:
        ...     tell_fault(error).partition(":")[0]
        'InputError at kmm/server/settings.py'
    """
    places = [(Path(frame.f_code.co_filename), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(path.relative_to(_ROOT), line) for path, line in places if path.is_relative_to(_ROOT / "kmm")]
    told = type(error).__name__
    if own:
        told += f" at {own[-1][0].as_posix()}:{own[-1][1]}"
    if places and not places[-1][0].is_relative_to(_ROOT / "kmm"):
        told += f", raised at {places[-1][0]}:{places[-1][1]}"
    return told
