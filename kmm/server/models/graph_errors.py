"""Translate TensorFlow's errors to the status code and text that its C++ server would send."""

import re
from typing import Any

from kmm.server.status import NAMES, ServingError

_PLACES = re.compile(
    r"\AGraph execution error:.*(?:stack traces unavailable>|^  File [^\n]*)\n+", re.DOTALL | re.MULTILINE
)
_FUNCTIONS = re.compile(r"\A(?:\{\{function_node [^}]*\}\} )+")
_OPERATION = re.compile(r"\s*\[Op:[^\]]*\](?: name: \S*)?\s*\Z")
_NODE = re.compile(r"\n\t \[\[.*?(\{\{node [^}]*\}\}).*", re.DOTALL)
_QUOTED_EXAMPLE = re.compile(r"(Could not parse example input, value: ').*", re.DOTALL)


def translate(error: Any) -> ServingError:
    """Translates the error of a failed run.

    Args:
        error: `tf.errors.OpError`, or the UnicodeDecodeError that TensorFlow raises instead if the text is not UTF-8.

    Returns:
        `ServingError` with the status code and text of the operation that failed.

    Example:
        >>> error = translate(UnicodeDecodeError("utf-8", b"Could not parse example input, value: '\\xff'", 0, 1, ""))
        >>> error.code, str(error)
        ('INVALID_ARGUMENT', "Could not parse example input, value: '...'")
    """
    if isinstance(error, UnicodeDecodeError):  # the text quotes bytes that are not UTF-8; its status code is lost
        return ServingError("INVALID_ARGUMENT", shorten_graph_error(error.object.decode("utf-8", "replace")))
    return ServingError(NAMES.get(error.error_code, "INTERNAL"), shorten_graph_error(error.message))


def translate_load(error: Exception) -> ServingError:
    """Translates an error of loading a version.

    Args:
        error: `tf.errors.OpError` or any other exception.

    Returns:
        `ServingError`; DATA_LOSS for an exception without a status code.

    Example:
        >>> translate_load(FileNotFoundError("no file variables.index")).code
        'NOT_FOUND'
    """
    if getattr(error, "error_code", None) in NAMES:
        return translate(error)
    codes = {FileNotFoundError: "NOT_FOUND", MemoryError: "RESOURCE_EXHAUSTED"}
    code = next((code for kind, code in codes.items() if isinstance(error, kind)), "DATA_LOSS")
    reason = str(error).strip().partition("\n")[0]
    return ServingError(code, f"The version cannot be loaded: {reason or type(error).__name__}")


def shorten_graph_error(text: str) -> str:
    """Reduces an error text of TensorFlow's Python API to the message of the operation and the name of its node.

    Removes code locations and the bytes of a tf.Example, which may hold a report.

    Example:
        >>> shorten_graph_error("{{function_node __f_1}} bad\\n\\t [[{{function_node __f_2}}{{node a/B}}]] [Op:__f_1]")
        'bad\\n\\t [[{{node a/B}}]]'
    """
    text = _OPERATION.sub("", _FUNCTIONS.sub("", _PLACES.sub("", text)))
    node = _NODE.search(text)
    words = _QUOTED_EXAMPLE.sub(r"\1...'", text[: node.start()] if node else text)
    return words + (f"\n\t [[{node.group(1)}]]" if node else "")
