"""JPEG films of a request, decoded strictly: the graph cannot tell every one that lacks bytes."""

from google.protobuf.message import DecodeError

from kmm import signature as names
from kmm.errors import ImageError
from kmm.image.jpeg import JPEG_HEAD, check_jpeg
from kmm.server.status import refuse
from kmm.stubs import load_stubs

EXAMPLES = (names.EXAMPLES, names.CLASSIFY_INPUT)  # inputs that hold serialized tf.Examples


def check_films(servable, arrays):
    """Refuses a request with a JPEG film that is damaged.

    Only models that kmm exported are looked at: what the inputs of others mean is not known.

    Args:
        servable: `kmm.server.models.servable.Servable`.
        arrays: dict of input name to array `(n,)`; of bytes where films or examples are.

    Raises:
        ServingError: INVALID_ARGUMENT, with the number of the film, as the graph would say it.
    """
    if "describe" not in servable.signatures:
        return
    for name, values in arrays.items():
        if name == names.IMAGE_BYTES or name in EXAMPLES:
            for row, value in enumerate(values.ravel()):
                _check_film(value if name == names.IMAGE_BYTES else _read_example(value), row)


def _check_film(data, row):
    if data.startswith(JPEG_HEAD):
        try:
            check_jpeg(data, f"image {row}")
        except ImageError as error:
            raise refuse(str(error)) from None


def _read_example(serialized):
    """The film of a tf.Example; empty where there is none, and where the message is damaged: the graph refuses that."""
    try:
        features = load_stubs().example_pb2.Example.FromString(serialized).features.feature
    except DecodeError:
        return b""
    return b"".join(features[names.IMAGE_BYTES].bytes_list.value[:1]) if names.IMAGE_BYTES in features else b""
