"""Read the film of a study from its file or from memory: an array, the bytes of a file, a PIL image, a DICOM dataset.

A film in memory has the gray levels that a lossless file of the same pixels would have, so that studies give the same
numbers either way:

- an array of uint8 is gray `(height, width)` or `(height, width, 1)`, or RGB `(height, width, 3)`, like an 8-bit PNG;
- an array of uint16 is gray, like a 16-bit PNG: see `kmm.image.gray_levels.scale_16_bits`;
- an array of floats is gray levels 0..255, not rounded;
- a PIL image is what Pillow decoded, in the modes that `kmm.image.read` knows;
- a pydicom dataset is read like its file: modality, window, inversion and pixel aspect are applied.
"""

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from kmm.errors import ImageError
from kmm.image.gray_levels import scale_16_bits
from kmm.image.limits import check_film_size
from kmm.image.pixel_aspect import find_pixel_scale, read_dataset_scale
from kmm.image.read import compute_luma, decode_image, decode_picture, read_image

MAX_IMAGE_BYTES = 500_000_000


class FilmSource(Protocol):
    """The place of a film: `kmm.data.study.ImageFile`."""

    @property
    def path(self) -> Path: ...

    @property
    def memory(self) -> Any: ...


def load_film(film: FilmSource) -> tuple[np.ndarray, str]:
    """Reads a film and its digest; a file is read once.

    Args:
        film: `kmm.data.study.ImageFile`.

    Returns:
        float32 `(height, width)`, 0..255, and the digest of `digest_source`.

    Raises:
        ImageError: if the film cannot be used; it names the file, or the film in memory.
    """
    content = FilmContent(film)
    return content.decode(), content.digest


class FilmContent:
    """The content of a film. Its file is read once, and decoded only when `decode` is called.

    Args:
        film: `kmm.data.study.ImageFile`.

    Raises:
        ImageError: if the film is a file that cannot be read or is too large.

    Example:
        >>> from kmm.data.study import ImageFile
        >>> content = FilmContent(ImageFile(Path("7 (in memory)"), memory=np.zeros((16, 20), np.uint8)))
        >>> len(content.digest), content.decode().shape
        (64, (16, 20))
    """

    def __init__(self, film: FilmSource) -> None:
        self._film = film
        self._data = _read_file(film.path) if film.memory is None else b""

    @property
    def digest(self) -> str:
        """The digest of `digest_source`; raises `ImageError` if a DICOM dataset cannot be encoded."""
        return hashlib.sha256(self._data).hexdigest() if self._film.memory is None else digest_source(self._film)

    def decode(self) -> np.ndarray:
        """Returns the gray levels, float32 `(height, width)`, 0..255; raises `ImageError` as `load_film` does."""
        name, memory = str(self._film.path), self._film.memory
        return decode_image(self._data, name) if memory is None else decode_object(memory, name)


def read_source(film: FilmSource) -> np.ndarray:
    """Reads a film as `load_film` does, without its digest: float32 `(height, width)`, 0..255.

    Raises:
        ImageError: if the film cannot be used.
    """
    return read_image(film.path) if film.memory is None else decode_object(film.memory, str(film.path))


def digest_source(film: FilmSource) -> str:
    """Returns the SHA-256 of a film's content as hexadecimal digits.

    It is that of the bytes of a file, and of the kind, shape and pixels of a film in memory; a film in memory and a
    file of the same pixels have different digests and the same `kmm.image.film_identity.digest_film`.

    Raises:
        OSError: if the file cannot be read.
        ImageError: if a DICOM dataset cannot be encoded.
    """
    if film.memory is None:
        with open(film.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    for part in _list_content(film.memory, str(film.path)):
        total.update(part)
    return total.hexdigest()


def find_source_scale(film: FilmSource) -> tuple[float, float]:
    """Finds the number of pixels of a film, as kmm reads it, per stored pixel: see `find_pixel_scale`.

    Raises:
        ImageError: if the film cannot be read.
    """
    if film.memory is None:
        return find_pixel_scale(film.path)
    return read_dataset_scale(film.memory, str(film.path)) if name_kind(film.memory) == "dicom" else (1.0, 1.0)


def name_kind(value: Any) -> str:
    """Names the kind of a film in memory: `"array"`, `"bytes"`, `"picture"` or `"dicom"`; empty for other objects.

    Example:
        >>> name_kind(np.zeros((16, 16))), name_kind(b"..."), name_kind(7)
        ('array', 'bytes', '')
    """
    if isinstance(value, np.ndarray):
        return "array"
    if isinstance(value, bytes | bytearray | memoryview):
        return "bytes"
    return "dicom" if _is_dataset(value) else "picture" if _is_picture(value) else ""


def decode_object(value: Any, name: str) -> np.ndarray:
    """Converts a film in memory to gray levels.

    Args:
        value: array, bytes, PIL image or pydicom dataset, see the module.
        name: str. Its name in errors.

    Returns:
        float32 array `(height, width)`, 0 = black .. 255 = white; a copy.

    Raises:
        ImageError: if it has another type, shape or range, or cannot be decoded.

    Example:
        >>> decode_object(np.full((16, 20, 1), 7, np.uint8), "film").shape
        (16, 20)
        >>> decode_object(np.full((16, 20), 0.5), "film")
        Traceback (most recent call last):
        kmm.errors.ImageError: film: the array's levels are from 0 to 1. Multiply them by 255.
    """
    kind = name_kind(value)
    if kind == "array":
        return _decode_array(value, name)
    if kind == "bytes":
        return decode_image(bytes(value), name)
    if kind == "picture":
        return decode_picture(value, name)
    if kind == "dicom":
        from kmm.image.dicom import encode_dataset, read_dicom

        return read_dicom(encode_dataset(value, name), name=name)
    raise ImageError(
        f"{name}: a film must be a path, array, PIL image, DICOM dataset or bytes. Received: {type(value).__name__}."
    )


def _decode_array(array, name):
    """Converts an array to float32 `(height, width)`, 0..255."""
    shape, kind = array.shape, array.dtype
    pixels = array[..., 0] if array.ndim == 3 and shape[2] == 1 else array
    if pixels.ndim != 2 and not (kind == np.uint8 and pixels.ndim == 3 and shape[2] == 3):
        raise ImageError(
            f"{name}: an array must be (height, width) or (height, width, 1), or (height, width, 3) of uint8. "
            f"Received: {kind} {shape}."
        )
    check_film_size(name, shape[1], shape[0])
    if kind == np.uint8:
        return pixels.astype(np.float32) if pixels.ndim == 2 else compute_luma(pixels)
    if kind.kind == "u" and kind.itemsize == 2:
        return scale_16_bits(pixels.astype(np.uint16))
    if kind.kind != "f":
        raise ImageError(f"{name}: an array must be of uint8, uint16 or float. Received: {kind}.")
    least, most = float(pixels.min()), float(pixels.max())
    if not (least >= 0 and most <= 255):  # rejects NaN too
        raise ImageError(f"{name}: an array of floats must be gray levels 0..255. Received: {least:g} to {most:g}.")
    if 0 < most <= 1:
        raise ImageError(f"{name}: the array's levels are from 0 to 1. Multiply them by 255.")
    return pixels.astype(np.float32)


def _list_content(value, name):
    """Returns what identifies a film in memory, as a list of bytes."""
    kind = name_kind(value)
    if kind == "array":
        pixels = value[..., 0] if value.ndim == 3 and value.shape[2] == 1 else value
        return [f"{pixels.dtype.str} {pixels.shape}\n".encode(), np.ascontiguousarray(pixels).tobytes()]
    if kind == "picture":
        palette = value.getpalette() if value.mode == "P" else None
        return [f"{value.mode} {value.size} {palette}\n".encode(), value.tobytes()]
    if kind == "dicom":
        from kmm.image.dicom import encode_dataset

        return [encode_dataset(value, name)]
    return [bytes(value)]


def _is_picture(value):
    from PIL.Image import Image

    return isinstance(value, Image)


def _is_dataset(value):
    import pydicom

    return isinstance(value, pydicom.Dataset)


def _read_file(path):
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise ImageError(f"{path}: expected an image file of at most {MAX_IMAGE_BYTES // 1_000_000} MB.")
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: expected a readable image file. Received: {error.strerror}") from None
