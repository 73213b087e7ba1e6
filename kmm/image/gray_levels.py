"""Gray levels 0..255 from pixels of more than 8 bits: the one rule for 16-bit files and DICOM films without a window.

`kmm.export.films` repeats it in the graph.
"""

import struct
import zlib

import numpy as np

PERCENTILES = (0.5, 99.5)
STEP = 257  # 65535 / 255: what an 8-bit level is multiplied by when it is stored in 16 bits


def _make_png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


# PNG's own chunk for the meaning of pixel values: 0..65535 are gray levels 0..255. A 16-bit PNG that has it directly
# after its header is divided by 257 and not stretched.
CALIBRATION = _make_png_chunk(b"pCAL", b"gray level\0" + struct.pack(">iiBB", 0, 65535, 0, 2) + b"\0" + b"0\0255")
PNG_HEADER_BYTES = 33  # signature and IHDR


def add_calibration(png):
    """Marks a 16-bit gray PNG as gray levels times 257.

    Args:
        png: bytes of a PNG file.

    Returns:
        bytes of the same file with the chunk `CALIBRATION`.
    """
    return png[:PNG_HEADER_BYTES] + CALIBRATION + png[PNG_HEADER_BYTES:]


def is_calibrated(head):
    """Whether the first bytes of a PNG file, 128 or more, say that its pixels are gray levels times 257."""
    return head.startswith(CALIBRATION, PNG_HEADER_BYTES)


def stretch(values, low, high):
    """Maps `low`..`high` to 0..255 and clips what lies outside.

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


def find_percentiles(pixels):
    """The 0.5th and 99.5th percentile of 16-bit pixels, interpolated as `numpy.percentile` does, from a histogram.

    Args:
        pixels: uint16 array, not empty.

    Returns:
        `(low, high)`, floats.

    Example:
        >>> find_percentiles(np.arange(201, dtype=np.uint16))
        (1.0, 199.0)
    """
    below = np.cumsum(np.bincount(pixels.ravel(), minlength=1))
    found = []
    for percent in PERCENTILES:
        place = (pixels.size - 1) * (percent / 100)
        rank = int(place)
        first, second = np.searchsorted(below, (rank, min(rank + 1, pixels.size - 1)), side="right").tolist()
        gap, part = second - first, place - rank
        found.append(first + gap * part if part < 0.5 else second - gap * (1 - part))  # rounded as numpy does
    return tuple(found)


def scale_16_bits(pixels):
    """Brings 16-bit pixels to gray levels 0..255.

    Pixels that are all multiples of 257 are an 8-bit film stored in 16 bits: its levels come back exactly. Any others
    are stretched between their 0.5th and 99.5th percentile, so that a few burnt-in or dead pixels do not darken the
    film.

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
    if not (pixels % STEP).any():
        return (pixels // STEP).astype(np.float32)
    return stretch(pixels.astype(np.float32), *find_percentiles(pixels))
