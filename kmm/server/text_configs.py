"""Read TensorFlow Serving's configuration files: protocol buffers in text format."""

from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from kmm.errors import InputError

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = {str: _FIELD.TYPE_STRING, bool: _FIELD.TYPE_BOOL, int: _FIELD.TYPE_INT64}

# Messages that tensorflow-serving-api lacks: the fields of each with their types, or the name of a message above.
# Source: https://github.com/tensorflow/serving/tree/master/tensorflow_serving/config
_MESSAGES = {
    "SSLConfig": {"server_key": str, "server_cert": str, "custom_ca": str, "client_verify": bool},
    "PrometheusConfig": {"enable": bool, "path": str},
    "MonitoringConfig": {"prometheus_config": "PrometheusConfig"},
}


def parse_text(kind: type | str, content: bytes, path: Path | str) -> Any:
    """Parses a message in text format.

    Args:
        kind: the class of the message, or its name in `_MESSAGES`.
        content: bytes of the file.
        path: path of the file, for the error.

    Returns:
        the message.

    Raises:
        InputError: if the text is not such a message. The text is not quoted, since it may hold a key.

    Example:
        >>> parse_text("MonitoringConfig", b"prometheus_config { enable: true }", "monitoring.config")
        prometheus_config {
          enable: true
        }
        <BLANKLINE>
    """
    message = (_make_class(kind) if isinstance(kind, str) else kind)()
    try:
        return text_format.Parse(content.decode("utf-8"), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        line = error.GetLine() if isinstance(error, text_format.ParseError) else None
        place = f", line {line}" if line else ""
        raise InputError(f"{path}{place}: expected the text of a {message.DESCRIPTOR.name}.") from None


def _make_class(name):
    file = descriptor_pb2.FileDescriptorProto(name="kmm/text_configs.proto", package="kmm", syntax="proto3")
    for message_name, fields in _MESSAGES.items():
        message = file.message_type.add(name=message_name)
        for number, (field, kind) in enumerate(fields.items(), 1):
            described = message.field.add(name=field, number=number, label=_FIELD.LABEL_OPTIONAL)
            if isinstance(kind, str):
                described.type, described.type_name = _FIELD.TYPE_MESSAGE, f".kmm.{kind}"
            else:
                described.type = _TYPES[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"kmm.{name}"))
