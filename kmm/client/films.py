"""Encoding of films and reports as the bytes that a served classifier takes."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kmm.errors import ImageError, ReportError
from kmm.storage.file_kinds import JPEG_HEAD, PNG_HEAD

if TYPE_CHECKING:
    from kmm.data.study import Report, Study

Film = Path | str | bytes | np.ndarray
MAX_FILE_BYTES = 500_000_000


def encode_film(film: Film | None) -> bytes:
    """Encodes a film for a request: the bytes of a PNG or JPEG file.

    PNG and JPEG files are sent unchanged; truncated JPEG files are rejected here, because a TensorFlow graph cannot
    detect all of them (see `kmm.image.jpeg`). DICOM, TIFF and BMP files and float arrays are first decoded to gray
    levels 0..255. A film with fractional levels, a minimum of exactly 0 and a maximum of exactly 255 becomes a 16-bit
    PNG of its levels times 257, marked as such (`kmm.image.gray_levels`); its rounding error is at most 1/514, about
    0.002 gray levels. Any other film is rounded to 8 bits, with an error of at most 0.5, or none for whole levels. A
    classifier that rounds films to 8 bits (`kmm.image.prepare.ImagePreparation.rounding`) reads exactly the levels that
    it reads from the file itself: both roundings send a level to the same whole number.

    Args:
        film: path of a PNG, JPEG, DICOM, TIFF or BMP file; the bytes of one; or a numpy array: uint8 gray
            `(height, width)` or RGB `(height, width, 3)`, uint16 gray, which the classifier reads as a 16-bit PNG
            (`kmm.image.gray_levels.scale_16_bits`), or float gray 0..255; gray arrays may be `(height, width, 1)`. A
            PIL image or a `pydicom.Dataset` is sent as its gray levels. None means no film.

    Returns:
        bytes; empty for None.

    Raises:
        ImageError: if the film has another type or shape, cannot be read, or is a damaged JPEG.

    Example:
        >>> encode_film(np.full((16, 16), 99, np.uint8))[1:4]
        b'PNG'
        >>> encode_film(None)
        b''
    """
    if film is None:
        return b""
    if isinstance(film, np.ndarray):
        return _encode_array(film)
    if isinstance(film, bytes | bytearray | memoryview):
        return _encode_bytes(bytes(film), "image bytes")
    if isinstance(film, str | Path):
        return _encode_bytes(_read_file(film), str(film))
    from kmm.image.source import decode_object, name_kind

    if not name_kind(film):
        raise ImageError(f"An image must be a path, bytes or a numpy array. Received: {type(film).__name__}.")
    return _encode_levels(decode_object(film, "image"))


def read_drawable(film: Film) -> np.ndarray:
    """Reads a film as an array to draw on: gray levels, or colour where a colour array was given.

    Args:
        film: as in `encode_film`, but not None.

    Returns:
        uint8 array `(height, width)` or `(height, width, 3)`.

    Raises:
        ImageError: if the film cannot be read.
    """
    if isinstance(film, np.ndarray) and film.dtype == np.uint8:
        return film
    from kmm.image.read import decode_image, read_image

    levels = read_image(film) if isinstance(film, str | Path) else decode_image(encode_film(film), "image")
    return np.rint(levels).astype(np.uint8)


def encode_report(report: "str | Report | Study | None", sections: Sequence[str] = ()) -> bytes:
    """Encodes a report for a request, in UTF-8.

    Args:
        report: str; `kmm.data.study.Report`, or `Study` with one, from which the model's sections are taken; or None.
        sections: sequence of str: the sections that the model reads.

    Returns:
        bytes; empty for None.

    Raises:
        ReportError: if the report has another type or cannot be encoded in UTF-8. The message does not quote it.

    Example:
        >>> encode_report("No mass."), encode_report(None)
        (b'No mass.', b'')
    """
    if report is None:
        return b""
    if isinstance(report, str):
        text = report
    else:
        from kmm.data.study import Report, Study

        parts = report.report or Report() if isinstance(report, Study) else report
        if not isinstance(parts, Report):
            raise ReportError(f"A report must be a str, Report or Study. Received: {type(parts).__name__}.")
        text = parts.text(sections)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ReportError(f"The report cannot be encoded in UTF-8: character {error.start} is invalid.") from None


def _read_file(path):
    try:
        size = Path(path).stat().st_size
        data = Path(path).read_bytes() if size <= MAX_FILE_BYTES else None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid file name"
        raise ImageError(f"{path} cannot be read: {reason}.") from None
    if data is None:
        raise ImageError(
            f"{path} is too large: an image file may have at most {MAX_FILE_BYTES} bytes. Received: {size}."
        )
    return data


def _encode_bytes(data, name):
    if data.startswith(PNG_HEAD):
        return data
    if data.startswith(JPEG_HEAD):
        from kmm.image.jpeg import check_jpeg

        check_jpeg(data, name)
        return data
    from kmm.image.read import decode_image

    return _encode_levels(decode_image(data, name))


def _encode_array(film):
    film = film[..., 0] if film.ndim == 3 and film.shape[2] == 1 else film
    shape, kind = film.shape, film.dtype.name
    if not film.size or not (film.ndim == 2 or (film.ndim == 3 and shape[2] == 3 and kind == "uint8")):
        raise ImageError(
            f"An image array must be (height, width), or (height, width, 3) of uint8. Received: {kind} {shape}."
        )
    if kind in ("uint8", "uint16"):
        return _write_png(film)
    if film.dtype.kind != "f":
        raise ImageError(f"An image array must be of uint8, uint16 or float. Received: {kind}.")
    if not np.isfinite(film).all() or film.min() < 0 or film.max() > 255:
        raise ImageError("A float image has levels that are not finite or outside 0..255. Scale it to 0..255.")
    return _encode_levels(film)


def _encode_levels(film):
    """Encodes gray levels 0..255 as a PNG of 8 or 16 bits."""
    whole = np.rint(film)
    if film.min() == 0 and film.max() == 255 and not np.array_equal(whole, film):
        from kmm.image.gray_levels import STEP, add_calibration

        return add_calibration(_write_png(np.rint(film.astype(np.float64) * STEP).astype(np.uint16)))
    return _write_png(whole.astype(np.uint8))


def _write_png(pixels):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=1)
    return file.getvalue()
