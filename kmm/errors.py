"""Exceptions raised by kmm, and the origin of any error without its message, which may quote a report.

    KmmError
    ├── InputError (ValueError)        a file, folder, option or value from outside: exit code 2
    │   ├── ImageError                 an image file that cannot be used
    │   ├── ReportError                a report that cannot be used
    │   ├── WeightsError               weights that do not fit the network
    │   └── ArtefactError              a saved classifier that is incomplete or was altered
    ├── LeakError                      a patient or a report in more than one part of a split: exit code 1
    ├── ServerError                    a server refused a request or could not be reached: exit code 2
    └── MissingPackageError            an optional package is not installed: exit code 2

Each message is one line that names the thing, what is wrong with it and what to do. It never contains report text or
names of patients.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

Entry = TypeVar("Entry")
_ROOT = Path(__file__).parents[1]


class KmmError(Exception):
    """Base class of all errors that kmm raises on purpose.

    Attributes:
        problems: sequence of `kmm.data.study.Problem`: studies and files set aside before the error, which may explain
            it.
    """

    problems: Sequence[Any] = ()


class InputError(KmmError, ValueError):
    """A file, folder, option or value from outside is missing or invalid."""


class ImageError(InputError):
    """An image file cannot be used."""


class ReportError(InputError):
    """A report cannot be used."""


class WeightsError(InputError):
    """A weights file does not fit its network."""


class ArtefactError(InputError):
    """A saved classifier is incomplete or was altered."""


class LeakError(KmmError):
    """A patient or an identical report body appears in more than one part of a split."""


class ServerError(KmmError):
    """A server refused a request, or could not be reached.

    Attributes:
        code: str. The name of gRPC's status code, for example `"INVALID_ARGUMENT"`.
        details: str. The server's whole message, without the parts that repeat the request; empty if it sent none.
    """

    def __init__(self, text: str, code: str = "UNKNOWN", details: str = "") -> None:
        super().__init__(text)
        self.code, self.details = code, details


class MissingPackageError(KmmError):
    """An optional package is not installed."""


def look_up(table: Mapping[str, Entry], name: str, noun: str) -> Entry:
    """Returns the entry of a table by its name.

    Args:
        table: mapping of str to entry.
        name: str. Chosen by a user, so it may be wrong.
        noun: str. The kind of entry, in the singular, for the message.

    Raises:
        InputError: if the table has no such name; it lists the names that exist.

    Example:
        >>> look_up({"red": 1, "green": 2}, "green", "colour")
        2
        >>> look_up({"red": 1, "green": 2}, "blue", "colour")
        Traceback (most recent call last):
        kmm.errors.InputError: Unknown colour 'blue'. Known: red, green.
    """
    if name not in table:
        raise InputError(f"Unknown {noun} {name!r}. Known: {', '.join(table)}.")
    return table[name]


def check_path(argument: str, value: Any) -> None:
    """Checks that an argument is a path.

    Raises:
        InputError: if it is neither text nor a path object.

    Example:
        >>> check_path("folder", None)
        Traceback (most recent call last):
        kmm.errors.InputError: `folder` must be a path. Received: NoneType.
    """
    if not isinstance(value, str | os.PathLike):
        raise InputError(f"`{argument}` must be a path. Received: {type(value).__name__}.")


def require(package: str, extra: str) -> ModuleType:
    """Imports an optional package.

    Args:
        package: str. The name to import, for example `"torch"`.
        extra: str. The extra of kmm that installs it, for example `"torch"`.

    Returns:
        the module.

    Raises:
        MissingPackageError: if the package is not installed; it says how to install it.

    Example:
        >>> require("json", "none").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise MissingPackageError(
            f'The package "{package}" is needed here and is not installed. Install it: pip install "kmm[{extra}]"'
        ) from error


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
