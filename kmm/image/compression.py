"""Check the compressed pixels of DICOM films: the package that decodes them, and the header of their code stream."""

import struct
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from kmm.errors import ImageError
from kmm.image.jpeg import check_jpeg

LIBJPEG = "pylibjpeg pylibjpeg-libjpeg"  # licensed under the GPL, so kmm suggests it and does not require it
OPENJPEG = "pylibjpeg pylibjpeg-openjpeg"
PACKAGES = {
    JPEGBaseline8Bit: "pillow",
    JPEGExtended12Bit: LIBJPEG,
    JPEGLossless: LIBJPEG,
    JPEGLosslessSV1: LIBJPEG,
    JPEGLSLossless: "pyjpegls",
    JPEGLSNearLossless: "pyjpegls",
    JPEG2000Lossless: OPENJPEG,
    JPEG2000: OPENJPEG,
    HTJ2K: OPENJPEG,
    HTJ2KLossless: OPENJPEG,
    HTJ2KLosslessRPCL: OPENJPEG,
}
LIBJPEG_TURBO = (JPEGBaseline8Bit, JPEGExtended12Bit)  # decoded by Pillow through libjpeg-turbo, at 8 bits
JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # markers SOF0 to SOF15, and SOF55 of JPEG-LS
LOSSLESS_FRAMES = {0xC3, 0xC7, 0xCB, 0xCF}


@dataclass(frozen=True)
class CodeStream:
    """The header of a code stream: size in pixels, bits per sample, samples per pixel."""

    width: int
    height: int
    bits: int
    samples: int
    lossless_jpeg: bool = False


def require_decoder(syntax: UID, bits_stored: int, name: str) -> tuple[str, ...]:
    """Checks that a decoder for a transfer syntax is installed.

    Args:
        syntax: `pydicom.uid.UID`.
        bits_stored: int.
        name: str. The file's name, for the error.

    Returns:
        tuple of str: the pydicom plug-ins that decode it; empty if the syntax is not compressed.

    Raises:
        ImageError: if no decoder is installed; it names the package that decodes the syntax, if there is one.

    Example:
        >>> from pydicom.uid import ExplicitVRLittleEndian, MPEG2MPML
        >>> require_decoder(ExplicitVRLittleEndian, 12, "film.dcm")
        ()
        >>> require_decoder(MPEG2MPML, 8, "film.dcm")
        Traceback (most recent call last):
        kmm.errors.ImageError: film.dcm: no decoder for the transfer syntax MPEG2 Main Profile / Main Level \
(1.2.840.10008.1.2.4.100). Convert the file first.
    """
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise _refuse_syntax(syntax, name) from None
    if not decoder.is_available:
        raise _refuse_syntax(syntax, name)
    plugins = tuple(decoder.available_plugins) if syntax.is_encapsulated else ()
    if syntax == JPEGExtended12Bit and bits_stored > 8 and plugins == ("pillow",):
        raise _refuse_syntax(syntax, name, f" at {bits_stored} bits")
    return plugins


def check_code_stream(frame: bytes, dataset: Dataset, plugins: tuple[str, ...], name: str) -> None:
    """Checks a compressed frame against its DICOM header, before it is decoded.

    Args:
        frame: bytes of the code stream.
        dataset: `pydicom.Dataset` of the film.
        plugins: the result of `require_decoder`.
        name: str. The file's name, for the error.

    Raises:
        ImageError: if the code stream does not match its transfer syntax, declares colour or a size other than the
            header's, is a kind of JPEG that needs another package, or is 8-bit JPEG or RLE with missing pixels, about
            which decoders only warn.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == RLELossless:
        _check_rle(frame, dataset.Rows * dataset.Columns, name)
    if syntax not in PACKAGES:
        return
    kind = "JPEG 2000" if PACKAGES[syntax] == OPENJPEG else "JPEG-LS" if PACKAGES[syntax] == "pyjpegls" else "JPEG"
    stream = _read_jpeg_2000(frame) if kind == "JPEG 2000" else _read_jpeg(frame)
    if stream is None:
        raise ImageError(f"{name}: truncated or damaged: its pixels do not begin with a {kind} header.")
    if (stream.width, stream.height) != (dataset.Columns, dataset.Rows):
        raise ImageError(
            f"{name}: expected a {kind} frame of {dataset.Columns}x{dataset.Rows} pixels, as in the DICOM header. "
            f"Received: {stream.width}x{stream.height}."
        )
    if stream.samples != 1:
        raise ImageError(f"{name}: expected a gray film. Its code stream has {stream.samples} samples per pixel.")
    if syntax not in LIBJPEG_TURBO:
        return
    if stream.bits == 8 and not stream.lossless_jpeg:
        check_jpeg(frame, name, max_pixels=stream.width * stream.height)
    elif plugins == ("pillow",):
        kind = " with lossless JPEG" if stream.lossless_jpeg else f" at {stream.bits} bits"
        raise _refuse_syntax(syntax, name, kind, LIBJPEG)


def explain_failure(syntax: UID, plugins: tuple[str, ...], name: str) -> ImageError:
    """Returns the error for a frame with a valid header that could not be decoded.

    Args:
        syntax, plugins, name: as in `check_code_stream`.

    Returns:
        `ImageError`.

    Example:
        >>> print(explain_failure(JPEGLSLossless, ("pyjpegls",), "film.dcm"))
        film.dcm: pyjpegls cannot decode its JPEG-LS Lossless Image Compression pixels. They are truncated, damaged or \
not valid.
    """
    packages = PACKAGES.get(syntax)
    other = packages and not {"pyjpegls", *plugins} & set(packages.split())
    remedy = f" If other software can decode them, try: pip install {packages}." if other else ""
    return ImageError(
        f"{name}: {' and '.join(plugins)} cannot decode its {syntax.name} pixels. They are truncated, damaged or not "
        f"valid.{remedy}"
    )


def _refuse_syntax(syntax: UID, name: str, kind: str = "", packages: str | None = None) -> ImageError:
    packages = packages or PACKAGES.get(syntax)
    remedy = f"Install one: pip install {packages}" if packages else "Convert the file first"
    return ImageError(f"{name}: no decoder for the transfer syntax {syntax.name} ({syntax}){kind}. {remedy}.")


def _read_jpeg(data: bytes) -> CodeStream | None:
    """Reads the frame header of a JPEG or JPEG-LS code stream; returns None if there is none."""
    at = 2 if data[:2] == b"\xff\xd8" else len(data)
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = struct.unpack_from(">H", data, at + 2)[0]
        if marker in JPEG_FRAMES and length >= 8:
            bits, height, width, samples = struct.unpack_from(">BHHB", data, at + 4)
            return CodeStream(width, height, bits, samples, marker in LOSSLESS_FRAMES)
        at += 2 + length
    return None


def _check_rle(data: bytes, pixels: int, name: str) -> None:
    """Rejects a frame of RLE segments that do not decode to one byte per pixel. Trailing zeros are allowed."""
    starts = [start for start in struct.unpack("<15I", data[4:64].ljust(60, b"\0")) if start]
    for start, stop in zip(starts, [*starts[1:], len(data)], strict=True):
        at, decoded = start, 0
        while decoded < pixels and at < stop:
            head = data[at]
            decoded += head + 1 if head < 128 else 257 - head if head > 128 else 0
            at += head + 2 if head < 128 else 2 if head > 128 else 1
        if decoded != pixels or at > stop or any(data[at:stop]):
            raise ImageError(f"{name}: truncated or damaged: its RLE segments do not hold {pixels} pixels.")


def _read_jpeg_2000(data: bytes) -> CodeStream | None:
    """Reads the header of a JPEG 2000 code stream, bare or in a JP2 file; returns None if there is none."""
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or at + 43 > len(data):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    samples, depth = struct.unpack_from(">H", data, at + 40)[0], data[at + 42]
    return CodeStream(right - left, bottom - top, (depth & 0x7F) + 1, samples)
