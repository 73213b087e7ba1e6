"""Parse the JSON body of a request: its object, base64 bytes and tf.Examples.

Errors never quote a string of the request, since it may be a report.
"""

import base64
import binascii
import json
import math
import re
import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm.protocol.messages import load_stubs
from kmm.server.status import refuse

if TYPE_CHECKING:
    from tensorflow_serving.apis import input_pb2

_BYTE_ORDER_MARK = "\ufeff"
_WHITE_SPACE = string.whitespace.encode("ascii")
_INF = re.compile(r"Inf(?=[],}\s])")
_NOT_JSON = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|-NaN|Inf(?:inity)?', re.DOTALL)
LARGE_BYTES = 2**22  # above it numbers are parsed by functions in Python, so that the parser lets other threads run
_HUGE = (re.compile(r"e\+?[0-9]{3}"), re.compile(r"E\+?[0-9]{3}"))  # two patterns: a search for a fixed letter is fast


def read_document(body: bytes) -> dict[str, Any]:
    """Parses the JSON object in the body of a request.

    As in TensorFlow Serving, numbers may be `NaN`, `Inf` and `Infinity`, the last two with a sign, and the text may
    begin with a byte order mark.

    Raises:
        ServingError: INVALID_ARGUMENT if the body is not a JSON object in UTF-8, or `signature_name` is not a string.

    Example:
        >>> read_document(b'{"instances": [1.5, -Inf]}')
        {'instances': [1.5, -inf]}
    """
    if not body:
        raise refuse("JSON Parse error: The document is empty")
    try:
        text = body.decode("utf-8").removeprefix(_BYTE_ORDER_MARK)
        large = len(body) > LARGE_BYTES
        read_float = _read_float if large or _has_huge(text) else None
        document = json.loads(_rewrite_numbers(text), parse_float=read_float, parse_int=_read_int if large else None)
        if rb"\ud" in body or rb"\uD" in body:
            _check_strings(document)
    except UnicodeEncodeError:
        raise refuse("JSON Parse error: The surrogate pair in string is invalid.") from None
    except json.JSONDecodeError as error:
        raise refuse(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        raise refuse(f"JSON Parse error: Invalid encoding in string. at offset: {error.start}") from None
    except (ValueError, RecursionError):
        raise refuse("JSON Parse error: a number is too long, or lists are nested too deeply.") from None
    if not isinstance(document, dict):
        raise refuse(f"JSON Value: {quote(document)} Is not object")
    if not isinstance(document.get("signature_name", ""), str):
        raise refuse("JSON Value not formatted correctly. 'signature_name' key must be a string value.")
    return document


def _rewrite_numbers(text):
    """Rewrites `Inf` and `-NaN` in the forms that Python's parser reads."""
    if "-NaN" not in text and not _INF.search(text):
        return text
    written = {"-NaN": "NaN", "Inf": "Infinity"}
    return _NOT_JSON.sub(lambda found: written.get(found[0], found[0]), text)


def _has_huge(text):
    """Returns whether a number may be too large for 64 bits."""
    return any(pattern.search(text) for pattern in _HUGE)


def _check_strings(document):
    """Raises UnicodeEncodeError if a string, or a key, holds a lone surrogate."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            value.encode("utf-8")
        elif isinstance(value, dict):
            waiting += value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += [element for element in value if isinstance(element, str | dict | list)]


def _read_int(text):
    return int(text)


def _read_float(text):
    value = float(text)
    if math.isinf(value):
        raise ValueError("too large for 64 bits")
    return value


def read_examples(document: Mapping[str, Any]) -> "input_pb2.Input":
    """Reads the examples of a `:classify` or `:regress`.

    Args:
        document: dict with `examples`, a list of objects, and optionally `context`, an object.

    Returns:
        `Input`.

    Raises:
        ServingError: INVALID_ARGUMENT if the examples are missing or malformed.
    """
    held = document.get("examples")
    if held is None:
        raise refuse("JSON Value: When method is classify, key 'examples' is expected and was not found")
    if not isinstance(held, list):
        raise refuse("JSON Value: Expecting 'examples' value to be an list/array")
    if not held:
        raise refuse("JSON Value: 'examples' value is an empty array")
    stored = load_stubs().input_pb2.Input()
    examples = stored.example_list.examples
    if "context" in document:
        examples = stored.example_list_with_context.examples
        _fill_example(document["context"], stored.example_list_with_context.context)
    for value in held:
        _fill_example(value, examples.add())
    return stored


def is_base64(value: Any) -> bool:
    """Returns whether a JSON value has the form `{"b64": "..."}`."""
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def read_base64(value: Any) -> bytes:
    """Decodes the bytes of `{"b64": ...}`: standard base64 with any white space, and with full padding or none.

    Source: https://github.com/abseil/abseil-cpp/blob/master/absl/strings/escaping.h (Base64Unescape)

    Raises:
        ServingError: INVALID_ARGUMENT if the value has another form or is not valid base64.

    Example:
        >>> read_base64({"b64": "a21t\\n"}), read_base64({"b64": "a20="}), read_base64({"b64": "a20"})
        (b'kmm', b'km', b'km')
    """
    if not is_base64(value):
        raise refuse("JSON Value: {...} not formatted correctly for base64 data")
    try:
        text = value["b64"].encode("ascii").translate(None, _WHITE_SPACE)
        bare = text.rstrip(b"=")
        padding = -len(bare) % 4
        if len(text) - len(bare) not in (0, padding):
            raise binascii.Error("wrong padding")
        return base64.b64decode(bare + b"=" * padding, validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise refuse("Unable to base64 decode") from None


def quote(value: Any) -> str:
    """Quotes a JSON value for an error; objects, lists and strings are abbreviated."""
    if isinstance(value, dict | list | str):
        return {dict: "{...}", list: "[...]", str: '"..."'}[type(value)]
    return json.dumps(value)


def name_type(value: Any) -> str:
    """Names the type of a JSON value as RapidJSON, and so TensorFlow Serving, does."""
    if isinstance(value, bool):
        return str(value)
    return {dict: "Object", list: "Array", str: "String", type(None): "Null"}.get(type(value), "Number")


def _fill_example(value, example):
    if not isinstance(value, dict):
        raise refuse(f"Example must be JSON object but got JSON {name_type(value)}")
    for name, content in value.items():
        feature, elements = example.features.feature[name], content if isinstance(content, list) else [content]
        if elements and set(map(type, elements)) == {float}:  # fast path: there may be millions
            feature.float_list.value.extend(_check_floats(elements))
            continue
        for element in elements:
            kind, element = _read_element(name, element)
            if feature.WhichOneof("kind") not in (None, kind):
                raise refuse(f"Unexpected element type in feature: {name} expecting type: {kind.partition('_')[0]}")
            getattr(feature, kind).value.append(element)


def _read_element(name, value):
    """Returns the name of the list in a feature to which an element belongs, and the element."""
    if isinstance(value, str):
        return "bytes_list", value.encode("utf-8")
    if isinstance(value, dict) and is_base64(value):
        return "bytes_list", read_base64(value)
    if isinstance(value, float):
        return "float_list", _check_floats([value])[0]
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return "int64_list", int(value)
    raise refuse(f"Feature: {name} has element with unexpected JSON type: {name_type(value)}")


def _check_floats(values):
    array = np.array(values)
    large = np.isfinite(array) & (np.abs(array) > np.finfo(np.float32).max)
    if large.any():
        raise refuse(f"Cannot convert JSON value: {array[large][0]} to float without loss of precision.")
    return values
