"""Scale pixels of more than 8 bits to gray levels 0..255, for 16-bit files and for DICOM films without a window.

`kmm.export.graph.films` implements the same rule in the graph.
"""

import struct
import zlib

import numpy as np

PERCENTILES = (0.5, 99.5)
LEVELS = 1 << 16
BLOCK = 1 << 20  # pixels counted at once
STEP = 257  # 65535 / 255: the factor between an 8-bit level and the same level stored in 16 bits


def _make_png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# PNG's standard chunk for the calibration of pixel values: 0..65535 are gray levels 0..255. A 16-bit PNG that has it
# directly after its header is divided by 257 and not stretched.
CALIBRATION = _make_png_chunk(b"pCAL", b"gray level\0" + struct.pack(">iiBB", 0, 65535, 0, 2) + b"\0" + b"0\0255")
PNG_HEADER_BYTES = 33  # signature and IHDR


def add_calibration(png: bytes) -> bytes:
    """Marks a 16-bit gray PNG as gray levels times 257.

    Args:
        png: bytes of a PNG file.

    Returns:
        bytes of the same file with the chunk `CALIBRATION`.
    """
    return png[:PNG_HEADER_BYTES] + CALIBRATION + png[PNG_HEADER_BYTES:]


def is_calibrated(head: bytes) -> bool:
    """Returns True if a PNG file is marked as gray levels times 257. `head` is its first 128 bytes or more."""
    return head.startswith(CALIBRATION, PNG_HEADER_BYTES)


def stretch(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Maps `low`..`high` to 0..255 and clips values outside.

    Args:
        values: float32 array.
        low, high: float. When `high <= low`, values above `low` become 255 and all others 0.

    Returns:
        float32 array of the same shape.

    Example:
        >>> stretch(np.array([0, 10, 20, 40], np.float32), 10, 30).tolist()
        [0.0, 0.0, 127.5, 255.0]
    """
    if high <= low:
        return np.where(values > low, np.float32(255), np.float32(0))
    gray = values - np.float32(low)
    gray *= np.float32(255 / (high - low))
    return np.clip(gray, 0, 255, out=gray)


def count_levels(pixels: np.ndarray) -> np.ndarray:
    """Computes the histogram of 16-bit pixels block by block, because `numpy.bincount` needs 8 bytes per pixel.

    Args:
        pixels: uint16 array.

    Returns:
        int64 array `(65536,)`.

    Example:
        >>> count_levels(np.array([[3, 0, 3]], np.uint16))[:5].tolist()
        [1, 0, 0, 2, 0]
    """
    flat, counts = pixels.ravel(), np.zeros(LEVELS, np.int64)
    for start in range(0, flat.size, BLOCK):
        counts += np.bincount(flat[start : start + BLOCK], minlength=LEVELS)
    return counts


def find_percentiles(counts: np.ndarray) -> tuple[float, float]:
    """Computes the 0.5th and 99.5th percentile of pixels, interpolated and rounded as in `numpy.percentile`.

    Args:
        counts: int array `(65536,)`, the histogram of at least one pixel.

    Returns:
        `(low, high)`, floats.

    Example:
        >>> find_percentiles(count_levels(np.arange(201, dtype=np.uint16)))
        (1.0, 199.0)
    """
    below = np.cumsum(counts)
    last = int(below[-1]) - 1
    found: list[float] = []
    for percent in PERCENTILES:
        place = last * (percent / 100)
        rank = int(place)
        first, second = np.searchsorted(below, (rank, min(rank + 1, last)), side="right").tolist()
        gap, part = second - first, place - rank
        found.append(first + gap * part if part < 0.5 else second - gap * (1 - part))
    low, high = found
    return low, high


def holds_8_bits(counts: np.ndarray) -> bool:
    """Returns True if every pixel of a histogram `(65536,)` is a multiple of 257: an 8-bit film stored in 16 bits."""
    return int(counts[::STEP].sum()) == int(counts.sum())


def scale_16_bits(pixels: np.ndarray) -> np.ndarray:
    """Scales 16-bit pixels to gray levels 0..255.

    If all pixels are multiples of 257, they are an 8-bit film stored in 16 bits, and its levels are restored exactly.
    Other pixels are stretched between their 0.5th and 99.5th percentile, so that a few burnt-in or dead pixels do not
    darken the film.

    Args:
        pixels: uint16 array `(height, width)`, not empty.

    Returns:
        float32 array `(height, width)`, 0..255.

    Example:
        >>> scale_16_bits(np.array([[50 * 257, 176 * 257]], np.uint16)).tolist()
        [[50.0, 176.0]]
        >>> film = np.full((100, 100), 1000, np.uint16)
        >>> film[50:], film[0, 0] = 3000, 65535
        >>> sorted(set(scale_16_bits(film).ravel().tolist()))
        [0.0, 255.0]
    """
    counts = count_levels(pixels)
    if holds_8_bits(counts):
        return (pixels // STEP).astype(np.float32)
    return stretch(pixels.astype(np.float32), *find_percentiles(counts))
