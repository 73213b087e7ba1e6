"""Decode JPEG files strictly: reject damaged files.

libjpeg decodes a damaged file as far as it can and only warns; the rest of the film becomes gray. Here every such
warning is an error. JPEG has no checksums, so the following damage cannot be detected:

- altered bytes, or a few missing bytes, after which the remaining bits can still be decoded: mostly 10 bytes or fewer,
  20 and more in grainy films of high quality, up to about 100 in colour films;
- bytes missing in the last refinement scan of a progressive file, which changes gray levels by less than 1 on average,
  and by up to 3 in grainy films;
- a header whose size is off by less than a block of 8 or 16 pixels.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import simplejpeg

from kmm.errors import ImageError
from kmm.image.limits import MAX_PIXELS, check_film_size

MAX_BYTES = 500_000_000
MAX_SCANS = 32  # each scan, even of 20 bytes, makes a decoder process the whole film; encoders write up to 12
MODES = {1: "GRAY", 3: "RGB"}  # by the number of components
UNSUPPORTED = {
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "hierarchical"),
}
NO_FRAME = (0xC4, 0xC8, 0xCC)  # markers in the range of frames that do not start a frame: DHT, JPG, DAC
EOI, SOS, APP0, APP14 = 0xD9, 0xDA, 0xE0, 0xEE
ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length: TEM, RST0 to RST7, SOI
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # excludes stuffed bytes and restarts inside compressed data
SURPLUS = re.compile(r"Corrupt JPEG data: (\d+) extraneous bytes before marker 0xd9")


@dataclass(frozen=True)
class JpegFrame:
    """The frame header of a JPEG file.

    Attributes:
        marker: int, 0xC0 to 0xCF: the coding of the pixels.
        bits: int. Bits per sample.
        height, width: int. The height is 0 if the header does not state it.
        components: int. 1 for gray, 3 for colour, 4 for CMYK.
    """

    marker: int
    bits: int
    height: int
    width: int
    components: int


def read_frame(data: bytes) -> JpegFrame | None:
    """Reads the frame header of a JPEG file.

    Args:
        data: bytes, from the first byte of the file to the pixels or beyond.

    Returns:
        `JpegFrame`, or None when the header is damaged or ends early.

    Example:
        >>> import numpy as np
        >>> data = simplejpeg.encode_jpeg(np.zeros((16, 24, 1), np.uint8), colorspace="GRAY")
        >>> read_frame(data)
        JpegFrame(marker=192, bits=8, height=16, width=24, components=1)
        >>> read_frame(data[:20]) is None
        True
    """
    for marker, at in _walk_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in NO_FRAME:
            height, width = (int.from_bytes(data[at + start : at + start + 2]) for start in (3, 5))
            return JpegFrame(marker, data[at + 2], height, width, data[at + 7])
    return None


def _walk_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields the marker of each segment up to the first scan, and the position of its length."""
    at, marker = 2, -1
    while marker != SOS and 0 < (at := data.find(b"\xff", at) + 1) < len(data) - 8:
        marker = data[at]
        if marker == EOI:
            return
        if marker not in (0x00, 0xFF, *ALONE):
            yield marker, at + 1
            at += 1 + int.from_bytes(data[at + 1 : at + 3])


def _has_too_many_scans(data: bytes) -> bool:
    """Returns True if the first image of a file has more than `MAX_SCANS` scans."""
    scans, at = 0, 2
    while found := _MARKER.search(data, at):
        marker, at = data[found.end() - 1], found.end()
        scans += marker == SOS
        if marker == EOI or scans > MAX_SCANS:
            break
        if marker not in ALONE:
            at += int.from_bytes(data[at : at + 2])
    return scans > MAX_SCANS


def decode_jpeg(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes a JPEG file, or rejects it if any pixel is missing.

    The levels are those of libjpeg with accurate DCT and smooth upsampling, as in Pillow and in `tf.io.decode_jpeg`
    with `dct_method="INTEGER_ACCURATE"`. Bytes after the end of the image are ignored.

    Args:
        data: bytes of the file.
        name: str. The file's name, for errors.
        max_pixels: int. A file that declares more pixels is rejected before it is decoded.

    Returns:
        uint8 array `(height, width)` or `(height, width, 3)`.

    Raises:
        ImageError: if the file is truncated or damaged, too small or too large, CMYK, lossless, hierarchical, or does
            not have 8 bits per sample.

    Example:
        >>> import numpy as np
        >>> data = simplejpeg.encode_jpeg(np.zeros((64, 48, 1), np.uint8), colorspace="GRAY")
        >>> decode_jpeg(data, "film.jpg").shape
        (64, 48)
        >>> decode_jpeg(b"\\xff\\xd8\\xff", "film.jpg")
        Traceback (most recent call last):
        kmm.errors.ImageError: film.jpg: expected a complete JPEG image. The file is truncated or damaged (no size in \
its header).
    """
    frame = _check_frame(data, name, max_pixels)
    pixels = _decode(data, name, MODES[frame.components])
    return pixels[..., 0] if frame.components == 1 else pixels


def check_jpeg(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> JpegFrame:
    """Checks a JPEG file as `decode_jpeg` does, with less memory: the film is decoded at 1/8 of its size.

    Args:
        data: bytes of the file.
        name: str. The file's name, for errors.
        max_pixels: int. As in `decode_jpeg`.

    Returns:
        `JpegFrame`.

    Raises:
        ImageError: as `decode_jpeg`.
    """
    frame = _check_frame(data, name, max_pixels)
    _decode(data, name, "GRAY", min_height=1, min_width=1, min_factor=8)
    return frame


def check_tiff_jpeg(strips: Iterable[bytes], tables: bytes, name: str) -> None:
    """Rejects a TIFF film with JPEG compression if bytes are missing, about which libtiff only warns.

    Args:
        strips: iterable of bytes, the strips or tiles of the film, each a JPEG image without its tables.
        tables: bytes of the tag JPEGTables; empty if the strips contain their tables.
        name: str. The file's name, for errors.

    Raises:
        ImageError: as `decode_jpeg`, except that strips may have any size.
    """
    for strip in strips:
        _decode(tables[:-2] + strip[2:] if tables else strip, name, "GRAY", min_height=1, min_width=1, min_factor=8)


def _check_frame(data: bytes, name: str, max_pixels: int) -> JpegFrame:
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name}: expected a JPEG file of at most {MAX_BYTES // 1_000_000} MB. Received: more.")
    frame = read_frame(data)
    if frame is None:
        raise ImageError(
            f"{name}: expected a complete JPEG image. The file is truncated or damaged (no size in its header)."
        )
    if frame.marker in UNSUPPORTED:
        kind = UNSUPPORTED[frame.marker]
        raise ImageError(f"{name}: expected a baseline or progressive JPEG. Received: {kind} JPEG; convert it to PNG.")
    if frame.bits != 8:
        raise ImageError(
            f"{name}: expected a JPEG of 8 bits. Received: {frame.bits} bits; convert it to a 16-bit PNG or TIFF."
        )
    if frame.height == 0:
        raise ImageError(f"{name}: expected a JPEG whose header states its height. Received: 0; save it again.")
    if frame.components not in MODES:
        kind = "CMYK" if frame.components == 4 else f"{frame.components} components"
        raise ImageError(f'{name}: expected gray or RGB of 8 to 16 bits. Received: pixels of kind "{kind}".')
    check_film_size(name, frame.width, frame.height, max_pixels=max_pixels)
    if _has_too_many_scans(data):
        raise ImageError(f"{name}: expected a JPEG of at most {MAX_SCANS} scans. Received: more; save it again.")
    return frame


def _decode(data, name, mode, **scale):
    options = {"colorspace": mode, "fastdct": False, "fastupsample": False, **scale}
    try:
        try:
            return simplejpeg.decode_jpeg(data, **options)
        except ValueError as error:
            mended = _mend(data, str(error))
            if mended is None:
                raise
            return simplejpeg.decode_jpeg(mended, **options)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ImageError(
            f"{name}: expected a complete JPEG image. The file is truncated or damaged, or its header states a wrong "
            f"size ({reason})."
        ) from error


def _mend(data: bytes, warning: str) -> bytes | None:
    """Removes a defect that libjpeg warns about, if it does not affect pixels; returns None if it may."""
    places = dict(reversed(list(_walk_segments(data))))  # the first segment of each kind
    scan, surplus = places.get(SOS), SURPLUS.fullmatch(warning.strip())
    if warning.startswith("Warning: unknown JFIF revision number") and APP0 in places:
        return _replace(data, places[APP0] + 7, b"\x01")
    if warning.startswith("Unknown Adobe color transform code") and APP14 in places:
        return _replace(data, places[APP14] + 13, b"\x01")  # YCbCr, which libjpeg assumes
    if warning.startswith("Invalid SOS parameters for sequential JPEG") and scan:
        return _replace(data, scan + int.from_bytes(data[scan : scan + 2]) - 3, b"\x00\x3f\x00")
    if surplus and scan:
        end = data.find(b"\xff\xd9", scan)
        padding = data[end - int(surplus[1]) : end]
        return None if any(padding) else data[: end - len(padding)] + data[end:]
    return None


def _replace(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]
