"""Check the film files of a request: their sizes, and damage that the graph does not detect."""

from collections.abc import Mapping, Sequence

import numpy as np
from google.protobuf.message import DecodeError

from kmm.errors import ImageError
from kmm.image.jpeg import check_jpeg, read_frame
from kmm.image.limits import check_film_size
from kmm.protocol import signatures as names
from kmm.protocol.messages import load_stubs
from kmm.server.models.servable import Servable
from kmm.server.requests.admission import Caller, check_running
from kmm.server.requests.png_chunks import check_png, read_png_size
from kmm.server.status import refuse
from kmm.storage.file_kinds import JPEG_HEAD, PNG_HEAD

EXAMPLES = (names.EXAMPLES, names.CLASSIFY_INPUT)  # inputs that hold serialized tf.Examples


def list_films(servable: Servable, arrays: Mapping[str, np.ndarray]) -> list[bytes]:
    """Lists the films of a request.

    Only for models that kmm exported, since the meaning of other models' inputs is unknown.

    Args:
        servable: `kmm.server.models.servable.Servable`.
        arrays: dict of input name to array; inputs of films or examples are object arrays of bytes.

    Returns:
        list of bytes, one file per row, empty for a row without a film; an empty list if no input holds films.
    """
    if names.DESCRIBE not in servable.signatures:
        return []
    if names.IMAGE_BYTES in arrays:
        return arrays[names.IMAGE_BYTES].ravel().tolist()
    return [_read_example(value) for name in EXAMPLES if name in arrays for value in arrays[name].ravel()]


def count_pixels(films: Sequence[bytes]) -> list[int]:
    """Counts the pixels of films, from their headers only.

    Args:
        films: list of bytes, as returned by `list_films`.

    Returns:
        list of int: pixels of each film; 0 if it is not a PNG or JPEG file, which the graph refuses without decoding.

    Raises:
        ServingError: INVALID_ARGUMENT, with the number of the film, if a film is too small or too large, or a PNG file
            does not begin with its header.

    Example:
        >>> count_pixels([b"", b"text"])
        [0, 0]
    """
    try:
        return [_count(film, f"image {row}") for row, film in enumerate(films)]
    except ImageError as error:
        raise refuse(str(error)) from None


def check_films(films: Sequence[bytes], call: Caller) -> None:
    """Refuses a film with damage that the graph does not detect, or that would take the graph a long time.

    Args:
        films: list of bytes, a slice of the films of a request.
        call: `Caller`; the checks end early as in `kmm.server.requests.admission.check_running`.

    Raises:
        ServingError: INVALID_ARGUMENT, with the number of the film in the slice, in the same form as an error of the
            graph; also as for `check_running`.
    """
    for row, film in enumerate(films):
        check_running(call)
        try:
            if film.startswith(JPEG_HEAD):
                check_jpeg(film, f"image {row}")
            elif film.startswith(PNG_HEAD):
                check_png(film, f"image {row}")
        except ImageError as error:
            raise refuse(str(error)) from None


def _count(film, name):
    if film.startswith(PNG_HEAD):
        width, height = read_png_size(film, name)
    elif film.startswith(JPEG_HEAD) and (frame := read_frame(film)) is not None:
        width, height = frame.width, frame.height
    else:
        return 0
    check_film_size(name, width, height)
    return width * height


def _read_example(serialized):
    """Returns the film of a tf.Example; empty if it has none or is damaged, which the graph refuses."""
    try:
        features = load_stubs().example_pb2.Example.FromString(serialized).features.feature
    except DecodeError:
        return b""
    return b"".join(features[names.IMAGE_BYTES].bytes_list.value[:1]) if names.IMAGE_BYTES in features else b""
