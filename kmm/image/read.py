"""Read PNG, JPEG, TIFF, BMP and DICOM films as arrays.

JPEG is decoded by `kmm.image.jpeg`, DICOM by `kmm.image.dicom`. Gray levels are defined so that an exported graph can
repeat them (`tf.io.decode_png`, and `tf.io.decode_jpeg` with `dct_method="INTEGER_ACCURATE"`, both with `channels=0`):

- 8-bit gray is not changed; 1, 2 and 4 bits are spread over 0..255;
- colour, also from a palette, becomes `0.299 r + 0.587 g + 0.114 b` in float32, not rounded; alpha is ignored;
- 16-bit gray is scaled to 0..255 by `kmm.image.gray_levels.scale_16_bits`: between the 0.5th and 99.5th percentile, or
  exactly if it is an 8-bit film times 257;
- the EXIF orientation is ignored on purpose: the graph cannot read it, and films are stored upright.
"""

import contextlib
import io
import itertools
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL.BmpImagePlugin import BmpImageFile
from PIL.Image import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import (
    JPEGTABLES,
    PHOTOMETRIC_INTERPRETATION,
    STRIPBYTECOUNTS,
    STRIPOFFSETS,
    TILEBYTECOUNTS,
    TILEOFFSETS,
    TiffImageFile,
)

from kmm.errors import ImageError
from kmm.image.gray_levels import STEP, is_calibrated, scale_16_bits
from kmm.image.jpeg import MAX_BYTES, check_tiff_jpeg, decode_jpeg
from kmm.image.limits import MAX_PIXELS, check_film_size, quiet_decoding, silent_libtiff
from kmm.storage.file_kinds import DICOM_SUFFIXES, JPEG_HEAD

IMAGE_FORMATS = {
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"II*\x00": TiffImageFile,
    b"MM\x00*": TiffImageFile,
    b"II+\x00": TiffImageFile,
    b"MM\x00+": TiffImageFile,
    b"BM": BmpImageFile,
}
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B")
STRIP_TAGS = ((STRIPOFFSETS, TILEOFFSETS), (STRIPBYTECOUNTS, TILEBYTECOUNTS))
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def read_image(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads one film of any known format, recognised by its content.

    Args:
        path: str or Path of a PNG, JPEG, TIFF, BMP or DICOM file.
        max_pixels: int. A file that declares more pixels is rejected before it is decoded.

    Returns:
        float32 array `(height, width)`, 0 = black .. 255 = white. An image of one gray level is returned too;
        `require_content` rejects it.

    Raises:
        ImageError: one line with the file's name, if it is missing, empty, truncated, damaged, not an image, too small
            (a side under 16 pixels), too large, or not a single film (CMYK, float, several pages). `kmm.image.jpeg`
            lists the damage to a JPEG that cannot be detected.

    Example:
        >>> import tempfile, pathlib, PIL.Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "film.png")
        ...     PIL.Image.new("L", (32, 24), 100).save(path)
        ...     read_image(path).shape
        (24, 32)
    """
    try:
        with open(path, "rb") as file:
            return _decode(file, str(path), max_pixels)
    except OSError as error:
        raise ImageError(f"{path}: the file cannot be read ({error.strerror or 'read error'}).") from error


def decode_image(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes one film from bytes: `read_image` without a file.

    Args:
        data: bytes of a PNG, JPEG, TIFF, BMP or DICOM file.
        name: str. The file's name, for errors.
        max_pixels: int, as in `read_image`.

    Returns:
        float32 array `(height, width)`, 0..255.

    Raises:
        ImageError: as `read_image`.

    Example:
        >>> decode_image(b"hello", "notes.png")
        Traceback (most recent call last):
        kmm.errors.ImageError: notes.png: expected a PNG, JPEG, TIFF, BMP or DICOM image. The content is none of these.
    """
    return _decode(io.BytesIO(data), name, max_pixels)


def decode_picture(image: Image, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Converts a PIL image in memory to gray levels, as a file of its pixels would be read.

    Args:
        image: `PIL.Image.Image`, one image in gray or colour of 8 to 16 bits; one that was opened from a file is
            decoded by Pillow.
        name: str. Its name in errors.
        max_pixels: int, as in `read_image`.

    Returns:
        float32 array `(height, width)`, 0..255.

    Raises:
        ImageError: if it is too small or too large, has several frames or another mode, or cannot be decoded.

    Example:
        >>> from PIL import Image
        >>> decode_picture(Image.new("L", (32, 16), 100), "film")[0, 0]
        np.float32(100.0)
    """
    try:
        check_film_size(name, *image.size, max_pixels=max_pixels)
        _check_kind(image, name)
        with quiet_decoding:
            image.load()
        return _to_gray(image, calibrated=False)
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds of exception
        raise ImageError(
            f"{name}: the PIL image cannot be decoded. Its file is truncated, damaged or closed."
        ) from error


def compute_luma(rgb: np.ndarray) -> np.ndarray:
    """Converts colour to gray: 0.299 r + 0.587 g + 0.114 b in float32, added in this order, not rounded.

    Args:
        rgb: array `(..., channels)` of 3 channels or more; channels after the third are ignored.

    Returns:
        float32 array `(...)`.

    Example:
        >>> float(compute_luma(np.array([255, 255, 255], np.uint8)))
        255.0
    """
    gray = rgb[..., 0] * LUMA[0]
    gray += rgb[..., 1] * LUMA[1]
    gray += rgb[..., 2] * LUMA[2]
    return gray


def is_blank(image: np.ndarray) -> bool:
    """Returns True if the darkest and the brightest pixel of an image differ by less than one gray level.

    Args:
        image: float array, 0..255.

    Returns:
        bool.

    Example:
        >>> is_blank(np.zeros((16, 16))), is_blank(np.eye(16) * 255)
        (True, False)
    """
    return bool(np.max(image) - np.min(image) < 1)


def require_content(image: np.ndarray, name: str) -> np.ndarray:
    """Rejects an image of a single gray level.

    Args:
        image: float array `(height, width)`, 0..255.
        name: str. The file's name, for the error.

    Returns:
        `image`, unchanged.

    Raises:
        ImageError: if the image is blank.

    Example:
        >>> require_content(np.zeros((16, 16)), "black.png")
        Traceback (most recent call last):
        kmm.errors.ImageError: black.png: expected a film. Every pixel is black (gray level 0 of 255).
    """
    if is_blank(image):
        level = round(float(np.mean(image)))
        shade = {0: "black", 255: "white"}.get(level, "the same gray")
        raise ImageError(f"{name}: expected a film. Every pixel is {shade} (gray level {level} of 255).")
    return image


def _decode(file: BinaryIO, name: str, max_pixels: int) -> np.ndarray:
    head = file.read(256)
    file.seek(0)
    if not head:
        raise ImageError(f"{name}: expected an image. The file is empty (0 bytes).")
    if head[128:132] == b"DICM" or name.lower().endswith(DICOM_SUFFIXES):
        from kmm.image.dicom import read_dicom

        return read_dicom(file, name=name, max_pixels=max_pixels)
    if head.startswith(JPEG_HEAD):
        pixels = decode_jpeg(file.read(MAX_BYTES + 1), name, max_pixels=max_pixels)
        return pixels.astype(np.float32) if pixels.ndim == 2 else compute_luma(pixels)
    image_class = next((known for signature, known in IMAGE_FORMATS.items() if head.startswith(signature)), None)
    if image_class is None:
        raise ImageError(f"{name}: expected a PNG, JPEG, TIFF, BMP or DICOM image. The content is none of these.")
    try:
        # The class is called directly: `PIL.Image.open` warns about large images, which `check_size` rejects.
        with quiet_decoding, _open(image_class, file, name) as image:
            check_film_size(name, *image.size, max_pixels=max_pixels)
            _check_kind(image, name)
            if image.info.get("compression") == "jpeg":
                _check_strips(image, file, name)
            with silent_libtiff() if image.tile[0].codec_name == "libtiff" else contextlib.nullcontext():
                image.load()
            return _to_gray(image, calibrated=is_calibrated(head))
    except ImageError:
        raise
    except Exception as error:  # decoders raise many kinds of exception on damaged files
        raise ImageError(
            f"{name}: expected a complete {image_class.format} image. The file is truncated or damaged."
        ) from error


def _open(image_class, file, name):
    """Opens a Pillow image and reads its header; rejects a pixel mode that Pillow does not know."""
    try:
        return image_class(file)
    except SyntaxError as error:
        if str(error) != "unknown pixel mode":
            raise
        raise ImageError(
            f"{name}: expected gray or RGB of 8 to 16 bits. Received: a kind of {image_class.format} that is "
            "not supported; convert it to PNG."
        ) from error


def _check_kind(image, name):
    """Rejects, before decoding, anything but a single gray or colour image of 8 to 16 bits."""
    frames = getattr(image, "n_frames", 1)
    if frames != 1:
        raise ImageError(f"{name}: expected one image. Received: {frames} pages or frames.")
    if image.mode not in MODES:
        raise ImageError(f'{name}: expected gray or RGB of 8 to 16 bits. Received: pixels of kind "{image.mode}".')
    if ";16" in str(getattr(image, "tile", "")) and not image.mode.startswith("I;16"):
        raise ImageError(f"{name}: expected 16 bits in gray images only. Received: 16-bit colour or alpha.")


def _check_strips(image, file, name):
    """Rejects a JPEG-compressed TIFF film with missing bytes in a strip or tile."""
    tags = image.tag_v2
    places = [tags.get(strips, tags.get(tiles)) for strips, tiles in STRIP_TAGS]
    tables = tags.get(JPEGTABLES, b"")

    def read(start, count):
        file.seek(start)
        return file.read(count)

    check_tiff_jpeg(itertools.starmap(read, zip(*places, strict=True)), tables, name)


def _to_gray(image, *, calibrated):
    """Converts a loaded Pillow image of a known mode to float32 `(height, width)`, 0..255."""
    if image.mode == "P":
        palette = np.zeros((256, 3), np.uint8)
        colours = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
        palette[: len(colours)] = colours
        return compute_luma(palette)[np.asarray(image)]
    pixels = np.asarray(image)
    if image.mode == "1":
        return pixels.astype(np.float32) * 255
    if image.mode.startswith("I;16"):
        pixels = pixels.astype(np.uint16)  # in native byte order
        gray = pixels / np.float32(STEP) if calibrated and image.format == "PNG" else scale_16_bits(pixels)
        white_is_zero = image.format == "TIFF" and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0
        return 255 - gray if white_is_zero else gray
    if image.mode in ("RGB", "RGBA"):
        return compute_luma(pixels)
    return (pixels[..., 0] if image.mode == "LA" else pixels).astype(np.float32)
