"""Check PNG files without decoding them: the size in the header, and data that would inflate to more than the film.

libpng inflates all data in a file, even data that yields no pixels. 1 MB after the last row or in a comment can inflate
to 1 GB, which takes seconds; 64 MB take minutes.
"""

import struct
import zlib

from kmm.errors import ImageError
from kmm.storage.file_kinds import PNG_HEAD

MOST_CHUNKS = 2**17
MOST_TEXT = 2**16  # bytes of compressed comments
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's color type
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # Adam7
_PIECE = 2**16  # compressed bytes per step; they can inflate to 67 MB
_INFLATED = 2**20  # inflated bytes held at a time


def read_png_size(data: bytes, name: str) -> tuple[int, int]:
    """Reads the size in the header of a PNG file.

    Args:
        data: bytes of the file.
        name: str. Name of the file in errors.

    Returns:
        `(width, height)`, int.

    Raises:
        ImageError: if the file does not begin with its header, since libpng would read a later one.

    Example:
        >>> read_png_size(PNG_HEAD + struct.pack(">I4sII", 13, b"IHDR", 30, 20), "film.png")
        (30, 20)
    """
    if data[12:16] != b"IHDR" or len(data) < 24:
        raise ImageError(f"{name}: expected a complete PNG file whose header comes first.")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def check_png(data: bytes, name: str) -> None:
    """Refuses a PNG file that holds far more than its film. Other damage is left to the decoder.

    Args:
        data: bytes of the file.
        name: str. Name of the file in errors.

    Raises:
        ImageError: if compressed data follow the last row of pixels, compressed comments take more than 65,536 bytes,
            or the file has more than 131,072 chunks.
    """
    pieces, text, view = [], 0, memoryview(data)
    for count, (kind, start, end) in enumerate(_walk_chunks(data)):
        if count == MOST_CHUNKS:
            raise ImageError(f"{name}: expected a PNG file of at most {MOST_CHUNKS} chunks. Save it again.")
        if kind == b"IDAT":
            pieces.append(view[start:end])
        elif kind == b"zTXt" or kind == b"iTXt":
            text += end - start if kind == b"zTXt" or _is_compressed(data[start:end]) else 0
    if text > MOST_TEXT:
        raise ImageError(
            f"{name}: expected at most {MOST_TEXT} bytes of compressed comments in a PNG file. Save it without them."
        )
    size = _count_bytes(data)
    if size is not None and _inflates_beyond(pieces, size):
        raise ImageError(f"{name}: the PNG file has more image data than its rows need. Save it again.")


def _walk_chunks(data):
    """Yields the type of each chunk up to the end of the file, and the start and end of its data."""
    at = len(PNG_HEAD)
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at + 8, at + 8 + size
        at += 12 + size
        if kind == b"IEND":
            return


def _is_compressed(body):
    return body[body.find(b"\0") + 1 :][:1] == b"\1"


def _count_bytes(data):
    """Counts the bytes of the rows of a film before compression; None if the header is invalid."""
    if len(data) < 29:
        return None
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if kind not in CHANNELS or depth not in (1, 2, 4, 8, 16):
        return None
    bits, total = depth * CHANNELS[kind], 0
    for left, top, across, down in PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = max(0, -(-(width - left) // across)), max(0, -(-(height - top) // down))
        total += rows * (1 + -(-columns * bits // 8)) if columns else 0
    return total


def _inflates_beyond(pieces, size):
    """Returns whether compressed data inflate to more than `size` bytes; stops soon after that size."""
    inflate, inflated = zlib.decompressobj(), 0
    try:
        for piece in pieces:
            for start in range(0, len(piece), _PIECE):
                rest = piece[start : start + _PIECE]
                while len(rest) and not inflate.eof:
                    inflated += len(inflate.decompress(rest, _INFLATED))
                    rest = inflate.unconsumed_tail
                    if inflated > size:
                        return True
                if inflate.eof:
                    return False
    except zlib.error:
        return False  # the decoder refuses it
    return False
