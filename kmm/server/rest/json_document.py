"""The JSON that a request's body holds: its object, its bytes, its tf.Examples.

A text of an error never quotes a string of the request: it may be a report.
"""

import base64
import binascii
import json

from kmm.server.status import refuse
from kmm.stubs import load_stubs

MOST_VALUES = 2**22  # of one body: Python's own values take many times the room of their text


def read_document(body):
    """The object that a request's body holds.

    Raises:
        ServingError: INVALID_ARGUMENT if it holds none or too many values, or its `signature_name` is no string.

    Example:
        >>> read_document(b'{"instances": [1.5]}')
        {'instances': [1.5]}
    """
    if not body:
        raise refuse("JSON Parse error: The document is empty")
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise refuse(f"Expected at most {MOST_VALUES} values as JSON. More go over gRPC, and films as files in base64.")
    try:
        document = json.loads(body)
        if rb"\ud" in body or rb"\uD" in body:
            json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise refuse("JSON Parse error: The surrogate pair in string is invalid.") from None
    except json.JSONDecodeError as error:
        raise refuse(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except UnicodeDecodeError as error:
        raise refuse(f"JSON Parse error: Invalid encoding in string. at offset: {error.start}") from None
    except (ValueError, RecursionError):
        raise refuse("JSON Parse error: a number is too long, or lists lie too deep.") from None
    if not isinstance(document, dict):
        raise refuse(f"JSON Value: {quote(document)} Is not object")
    if not isinstance(document.get("signature_name", ""), str):
        raise refuse("JSON Value not formatted correctly. 'signature_name' key must be a string value.")
    return document


def read_examples(document):
    """The examples of a `:classify` or `:regress`.

    Args:
        document: dict with `examples`, a list of objects, and perhaps `context`, an object.

    Returns:
        `Input`.

    Raises:
        ServingError: INVALID_ARGUMENT.
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


def is_base64(value):
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def read_base64(value):
    if not is_base64(value):
        raise refuse("JSON Value: {...} not formatted correctly for base64 data")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise refuse("Unable to base64 decode") from None


def quote(value):
    if isinstance(value, dict | list | str):
        return {dict: "{...}", list: "[...]", str: '"..."'}[type(value)]
    return json.dumps(value)


def name_type(value):
    if isinstance(value, bool):
        return str(value)
    return {dict: "Object", list: "Array", str: "String", type(None): "Null"}.get(type(value), "Number")


def _fill_example(value, example):
    if not isinstance(value, dict):
        raise refuse(f"Example must be JSON object but got JSON {name_type(value)}")
    for name, content in value.items():
        feature = example.features.feature[name]
        for element in content if isinstance(content, list) else [content]:
            kind, element = _read_element(name, element)
            if feature.WhichOneof("kind") not in (None, kind):
                raise refuse(f"Unexpected element type in feature: {name} expecting type: {kind.partition('_')[0]}")
            getattr(feature, kind).value.append(element)


def _read_element(name, value):
    """The list of a feature in which an element belongs, and the element."""
    if isinstance(value, str):
        return "bytes_list", value.encode("utf-8")
    if isinstance(value, dict) and is_base64(value):
        return "bytes_list", read_base64(value)
    if isinstance(value, float):
        return "float_list", value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return "int64_list", int(value)
    raise refuse(f"Feature: {name} has element with unexpected JSON type: {name_type(value)}")
