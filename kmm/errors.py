"""What kmm raises when the world is not as expected.

    KmmError
    ├── InputError (ValueError)        a file, folder, option or value from outside: exit code 2
    │   ├── ImageError                 this image file cannot be used
    │   ├── ReportError                this report cannot be used
    │   ├── WeightsError               these weights do not fit this network
    │   └── ArtefactError              this saved classifier is incomplete or was altered
    ├── LeakError                      a split lets a patient or a report cross: exit code 1
    ├── ServerError                    a server refused a request or could not be reached: exit code 2
    └── MissingPackageError            an optional package is not installed: exit code 2

Every text is one line that says what was expected and what came. Report text and names of patients never stand in it.
"""

import importlib


class KmmError(Exception):
    """The root: catch this to catch all that kmm raises on purpose.

    Attributes:
        problems: sequence of `kmm.data.study.Problem`: what had been set aside before, which may say why.
    """

    problems = ()


class InputError(KmmError, ValueError):
    """A file, folder, option or value from outside is not what was expected."""


class ImageError(InputError):
    """An image file cannot be used."""


class ReportError(InputError):
    """A report cannot be used."""


class WeightsError(InputError):
    """A weights file does not fit the network it was given to."""


class ArtefactError(InputError):
    """A saved classifier is incomplete or was altered."""


class LeakError(KmmError):
    """A split lets a patient or an identical report body cross from one part to another."""


class ServerError(KmmError):
    """A server refused a request, or could not be reached.

    Attributes:
        code: str. The name of gRPC's status code, for example `"INVALID_ARGUMENT"`.
        details: str. All that the server said, without what it repeats of the request; empty where it said nothing.
    """

    def __init__(self, text, code="UNKNOWN", details=""):
        super().__init__(text)
        self.code, self.details = code, details


class MissingPackageError(KmmError):
    """An optional package is not installed."""


def look_up(table, name, noun):
    """Returns the entry of a table that has a name.

    Args:
        table: mapping of str to entry.
        name: str. Chosen by a user, so it may be wrong.
        noun: str. What the table holds, in the singular, for the message.

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


def require(package, extra):
    """Imports an optional package, or says how to install it.

    Args:
        package: str. The name to import, for example `"torch"`.
        extra: str. The extra of kmm that installs it, for example `"torch"`.

    Returns:
        the module.

    Raises:
        MissingPackageError: if the package is not installed.

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
