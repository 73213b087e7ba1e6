"""The films of a request, as files: their sizes by their headers, and what the graph cannot tell of damage."""

from google.protobuf.message import DecodeError

from kmm.errors import ImageError
from kmm.image.jpeg import JPEG_HEAD, check_jpeg, read_frame
from kmm.image.limits import check_size
from kmm.protocol import signatures as names
from kmm.protocol.messages import load_stubs
from kmm.server.requests.admission import check_running
from kmm.server.requests.png_chunks import PNG_HEAD, check_png, read_png_size
from kmm.server.status import refuse

EXAMPLES = (names.EXAMPLES, names.CLASSIFY_INPUT)  # inputs that hold serialized tf.Examples


def list_films(servable, arrays):
    """Lists the films of a request.

    Only models that kmm exported are looked at: what the inputs of others mean is not known.

    Args:
        servable: `kmm.server.models.servable.Servable`.
        arrays: dict of input name to array; of bytes where films or examples are.

    Returns:
        list of bytes, a file for each row, empty where a row has none; an empty list where no input holds films.
    """
    if "describe" not in servable.signatures:
        return []
    if names.IMAGE_BYTES in arrays:
        return arrays[names.IMAGE_BYTES].ravel().tolist()
    return [_read_example(value) for name in EXAMPLES if name in arrays for value in arrays[name].ravel()]


def count_pixels(films):
    """Counts the pixels of films by their headers alone.

    Args:
        films: list of bytes, as of `list_films`.

    Returns:
        list of int: the pixels of each; 0 for what is no PNG or JPEG file, which the graph refuses unread.

    Raises:
        ServingError: INVALID_ARGUMENT, with the number of the film, if it is too small or too large, or a PNG file that
            does not begin with its header.

    Example:
        >>> count_pixels([b"", b"text"])
        [0, 0]
    """
    try:
        return [_count(film, f"image {row}") for row, film in enumerate(films)]
    except ImageError as error:
        raise refuse(str(error)) from None


def check_films(films, call):
    """Refuses a film that is damaged in a way that the graph does not see, or that would keep it at work for long.

    Args:
        films: list of bytes, a slice of a request's.
        call: as of `kmm.server.requests.admission.check_running`, by which the checks end.

    Raises:
        ServingError: INVALID_ARGUMENT, with the number of the film in the slice, as the graph would say it; as
            `check_running`.
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
    check_size(name, width, height)
    return width * height


def _read_example(serialized):
    """The film of a tf.Example; empty where there is none, and where the message is damaged: the graph refuses that."""
    try:
        features = load_stubs().example_pb2.Example.FromString(serialized).features.feature
    except DecodeError:
        return b""
    return b"".join(features[names.IMAGE_BYTES].bytes_list.value[:1]) if names.IMAGE_BYTES in features else b""
