"""Compressed pixels of DICOM films: which package decodes what, and what a code stream says before it is decoded."""

import struct
from dataclasses import dataclass

from pydicom.pixels import get_decoder
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
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

LIBJPEG = "pylibjpeg pylibjpeg-libjpeg"  # under the GPL, so kmm names it and does not require it
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
LIBJPEG_TURBO = (JPEGBaseline8Bit, JPEGExtended12Bit)  # what Pillow decodes through it, at 8 bits
JPEG_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # markers SOF0 to SOF15, and SOF55 of JPEG-LS
LOSSLESS_FRAMES = {0xC3, 0xC7, 0xCB, 0xCF}


@dataclass(frozen=True)
class CodeStream:
    """What the header of a code stream declares: sizes in pixels, bits per sample, samples per pixel."""

    width: int
    height: int
    bits: int
    samples: int
    lossless_jpeg: bool = False


def require_decoder(syntax, bits_stored, name):
    """Checks that the pixels of a transfer syntax can be decoded here.

    Args:
        syntax: `pydicom.uid.UID`.
        bits_stored: int.
        name: str. The file's name, for the error.

    Returns:
        tuple of str: the plug-ins of pydicom that decode it; empty if it is not compressed.

    Raises:
        ImageError: if none is installed; it names the package that decodes the syntax, where there is one.

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


def check_code_stream(frame, dataset, plugins, name):
    """Checks a compressed frame against the header that describes it, before it is decoded.

    Args:
        frame: bytes of the code stream.
        dataset: `pydicom.Dataset` of the film.
        plugins: what `require_decoder` returned.
        name: str. The file's name, for the error.

    Raises:
        ImageError: if it is no code stream of its transfer syntax, declares colour or another size than the header, is
            a kind of JPEG that needs another package, or is JPEG of 8 bits or RLE that lacks pixels: decoders only warn
            of these.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax == RLELossless:
        _check_rle(frame, dataset.Rows * dataset.Columns, name)
    if syntax not in PACKAGES:
        return
    kind = "JPEG 2000" if PACKAGES[syntax] == OPENJPEG else "JPEG-LS" if PACKAGES[syntax] == "pyjpegls" else "JPEG"
    stream = _read_jpeg_2000(frame) if kind == "JPEG 2000" else _read_jpeg(frame)
    if stream is None:
        raise ImageError(f"{name}: truncated or damaged: its pixels do not begin as {kind} does.")
    if (stream.width, stream.height) != (dataset.Columns, dataset.Rows):
        raise ImageError(
            f"{name}: expected a {kind} frame of {dataset.Columns}x{dataset.Rows} pixels, as the DICOM header says. "
            f"Received: {stream.width}x{stream.height}."
        )
    if stream.samples != 1:
        raise ImageError(f"{name}: expected a gray film. Its code stream has {stream.samples} samples per pixel.")
    if syntax not in LIBJPEG_TURBO:
        return
    if stream.bits == 8 and not stream.lossless_jpeg:
        check_jpeg(frame, name, max_pixels=stream.width * stream.height)
    elif plugins == ("pillow",):
        kind = " without loss" if stream.lossless_jpeg else f" at {stream.bits} bits"
        raise _refuse_syntax(syntax, name, kind, LIBJPEG)


def explain_failure(syntax, plugins, name):
    """The error for a frame whose code stream begins well and could not be decoded.

    Args:
        syntax, plugins, name: as in `check_code_stream`.

    Returns:
        `ImageError`.

    Example:
        >>> print(explain_failure(JPEGLSLossless, ("pyjpegls",), "film.dcm"))
        film.dcm: pyjpegls cannot decode its JPEG-LS Lossless Image Compression pixels. They are truncated, damaged or \
not as the standard wants them.
    """
    said = (
        f"{name}: {' and '.join(plugins)} cannot decode its {syntax.name} pixels. They are truncated, damaged or not as"
    )
    packages = PACKAGES.get(syntax)
    other = packages and not {"pyjpegls", *plugins} & set(packages.split())
    remedy = f" If other software can: pip install {packages}." if other else ""
    return ImageError(f"{said} the standard wants them.{remedy}")


def _refuse_syntax(syntax, name, kind="", packages=None):
    packages = packages or PACKAGES.get(syntax)
    remedy = f"Install one: pip install {packages}" if packages else "Convert the file first"
    return ImageError(f"{name}: no decoder for the transfer syntax {syntax.name} ({syntax}){kind}. {remedy}.")


def _read_jpeg(data):
    """The frame header of a JPEG or JPEG-LS code stream; None if there is none."""
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


def _check_rle(data, pixels, name):
    """Refuses a frame of RLE segments that do not hold exactly one byte for each pixel, but for zeros after them."""
    starts = [start for start in struct.unpack("<15I", data[4:64].ljust(60, b"\0")) if start]
    for start, stop in zip(starts, [*starts[1:], len(data)], strict=True):
        at, decoded = start, 0
        while decoded < pixels and at < stop:
            head = data[at]
            decoded += head + 1 if head < 128 else 257 - head if head > 128 else 0
            at += head + 2 if head < 128 else 2 if head > 128 else 1
        if decoded != pixels or at > stop or any(data[at:stop]):
            raise ImageError(f"{name}: truncated or damaged: its RLE segments do not hold {pixels} pixels.")


def _read_jpeg_2000(data):
    """The image size of a JPEG 2000 code stream, bare or in a JP2 file; None if there is none."""
    at = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or at + 43 > len(data):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, at + 8)
    samples, depth = struct.unpack_from(">H", data, at + 40)[0], data[at + 42]
    return CodeStream(right - left, bottom - top, (depth & 0x7F) + 1, samples)
